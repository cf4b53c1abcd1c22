//! The wire between the proxy and a backend, and what went over it towards the backend.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Wire {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    pub fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for proxy in listener.incoming().map_while(Result::ok) {
                let Ok(backend) = TcpStream::connect(backend) else { continue };
                let (Ok(from_proxy), Ok(to_backend)) = (proxy.try_clone(), backend.try_clone()) else { continue };
                let log = Arc::clone(&log);
                thread::spawn(move || carry(from_proxy, to_backend, |bytes| log.lock().unwrap().extend(bytes)));
                thread::spawn(move || carry(backend, proxy, |_| ()));
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that the backend was sent so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }
}

/// Carries bytes until either side has no more, and shows them to `watch` first.
fn carry(mut from: TcpStream, mut to: TcpStream, watch: impl Fn(&[u8])) {
    let mut buffer = [0; 16 << 10];
    let mut step = || -> io::Result<bool> {
        let length = from.read(&mut buffer)?;
        watch(&buffer[..length]);
        to.write_all(&buffer[..length])?;
        Ok(length > 0)
    };
    while step().unwrap_or(false) {}
    to.shutdown(Shutdown::Write).ok();
    from.shutdown(Shutdown::Read).ok();
}
