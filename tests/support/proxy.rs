//! A whole proxy inside the test's process, on free ports.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use cloakroom::clock::Clock;
use cloakroom::config::Config;
use cloakroom::server::Server;
use cloakroom::store::SessionStore;
use tokio::sync::oneshot;

use super::visitor::Visitor;

/// A running proxy; stopped and waited for when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How a proxy is started.
pub struct Setup {
    text: String,
    clock: Clock,
    store: Option<Arc<dyn SessionStore>>,
}

impl Setup {
    /// Everything to `backend`, one worker, sessions in memory. `text` is added to the configuration; it must not
    /// repeat `[upstreams.app]`. `[server]` and `[store]` get their usual lines unless `text` has a section of its own.
    pub fn new(backend: &str, text: &str) -> Self {
        let mut all = format!("upstreams.app.servers = [\"{backend}\"]\n");
        if !text.contains("[server]") {
            all.push_str("server = { listen = [\"127.0.0.1:0\"], workers = 1 }\n");
        }
        if !text.contains("[store]") {
            all.push_str("store = { engine = \"memory\" }\n");
        }
        if !text.contains("[log]") {
            all.push_str("log = { access = false }\n");
        }
        Self::whole(&(all + text))
    }

    /// With this configuration and nothing else.
    pub fn whole(text: &str) -> Self {
        Self { text: text.to_owned(), clock: Clock::system(), store: None }
    }

    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Sessions in a store of the test's own, without time limit or circuit breaker.
    pub fn store(mut self, store: Arc<dyn SessionStore>) -> Self {
        self.store = Some(store);
        self
    }

    pub fn start(self) -> Proxy {
        let Self { text, clock, store } = self;
        let config = Config::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = match store {
                    Some(store) => Server::with_store(config, clock, store).unwrap(),
                    None => Server::open(config, clock).await.unwrap(),
                };
                tell.send((server.addresses()[0], server.admin_address())).unwrap();
                server.run(async { stopped.await.unwrap_or(()) }).await.unwrap();
            });
        });
        let (address, admin) = told.recv().expect("the proxy starts");
        Proxy { address, admin, stop: Some(stop), thread: Some(thread) }
    }
}

impl Proxy {
    pub fn start(backend: &str, text: &str) -> Self {
        Setup::new(backend, text).start()
    }

    pub fn visitor(&self) -> Visitor {
        Visitor::new(self.address)
    }

    /// The text of `/metrics`. Needs an `[admin]` section.
    pub fn metrics(&self) -> String {
        Visitor::new(self.admin.expect("an [admin] section")).get("/metrics").text()
    }

    /// The value of a metric, named as it stands in `/metrics`; without labels the sum over all that it has there.
    /// `None` if it never moved.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let text = self.metrics();
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let lines = lines.filter(|rest| rest.starts_with([' ', '{']));
        lines.map(|rest| rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).reduce(|sum, value| sum + value)
    }

    /// Asks the proxy to stop; it drains.
    pub fn begin_stop(&mut self) {
        self.stop.take();
    }

    /// Stops and waits until everything has ended.
    pub fn stop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            // The test has its verdict; a second panic here would hide it.
            thread.join().ok();
        }
    }
}
