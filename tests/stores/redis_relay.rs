//! Between a store and Redis: holds back what Redis says and lets it go in one piece.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Relay {
    pub port: u16,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    holding: bool,
    all: Vec<Line>,
}

/// What one connection has not been given yet.
struct Line {
    to: TcpStream,
    held: Vec<u8>,
    ended: bool,
}

impl Line {
    fn let_go(&mut self) {
        // Whoever hung up does not miss it.
        let _ = self.to.write_all(&std::mem::take(&mut self.held));
        if self.ended {
            let _ = self.to.shutdown(Shutdown::Both);
        }
    }
}

impl Relay {
    pub fn before(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), lines: Arc::default() };
        let lines = Arc::clone(&relay.lines);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                join(connection.unwrap(), TcpStream::connect(("127.0.0.1", redis)).unwrap(), &lines);
            }
        });
        relay
    }

    pub fn hold(&self) {
        self.lines.lock().unwrap().holding = true;
    }

    pub fn release(&self) {
        let mut lines = self.lines.lock().unwrap();
        lines.holding = false;
        lines.all.iter_mut().for_each(Line::let_go);
    }

    /// Waits until these bytes are held back.
    pub async fn holds(&self, bytes: &[u8]) {
        self.until(|line| line.held.windows(bytes.len()).any(|held| held == bytes)).await;
    }

    /// Waits until the end of a connection is held back that something was said on before.
    pub async fn holds_an_end(&self) {
        self.until(|line| line.ended && !line.held.is_empty()).await;
    }

    async fn until(&self, holds: impl Fn(&Line) -> bool) {
        while !self.lines.lock().unwrap().all.iter().any(&holds) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn join(store: TcpStream, redis: TcpStream, lines: &Arc<Mutex<Lines>>) {
    store.set_nodelay(true).unwrap();
    redis.set_nodelay(true).unwrap();
    let number = {
        let mut lines = lines.lock().unwrap();
        lines.all.push(Line { to: store.try_clone().unwrap(), held: Vec::new(), ended: false });
        lines.all.len() - 1
    };
    let (mut from_store, mut to_redis) = (store, redis.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_store, &mut to_redis);
        let _ = to_redis.shutdown(Shutdown::Both);
    });
    let (mut from_redis, lines) = (redis, Arc::clone(lines));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let length = from_redis.read(&mut buffer).unwrap_or(0);
            let mut lines = lines.lock().unwrap();
            let holding = lines.holding;
            let line = &mut lines.all[number];
            line.held.extend(&buffer[..length]);
            line.ended = length == 0;
            if !holding {
                line.let_go();
            }
            if length == 0 {
                return;
            }
        }
    });
}
