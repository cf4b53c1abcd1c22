//! A backend whose every byte the test itself reads and writes.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::SockRef;

use super::visitor::Connection;

pub struct RawBackend {
    listener: TcpListener,
}

impl RawBackend {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Turns a hang into a failure: on Linux it holds for accept too.
        SockRef::from(&listener).set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The proxy's next connection, perhaps before it sent anything.
    pub fn accept(&self) -> Connection {
        Connection::over(self.listener.accept().expect("the proxy connects").0)
    }

    /// Whether no connection waits to be accepted.
    pub fn is_quiet(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        let quiet = self.listener.accept().is_err();
        self.listener.set_nonblocking(false).unwrap();
        quiet
    }
}
