//! Killed between an update and its answer, over and over: every update whose answer was seen is there afterwards.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::backend::Backend;
use crate::mysql_server::MySqlServer;
use crate::postgres_server::PostgresServer;
use crate::process::Process;
use crate::redis_server::RedisServer;
use crate::visitor::{Connection, Visitor};

const ROUNDS: u32 = 12;
const VISITORS: usize = 4;

/// A visitor who counts, and what they may rely on.
struct Counting {
    visitor: Visitor,
    /// Updates whose answer came.
    acknowledged: u64,
    /// Updates of which nobody knows: sent, and not answered well.
    unknown: u64,
}

impl Counting {
    fn new(mut visitor: Visitor) -> Self {
        assert_eq!(visitor.ask(&["X-Session-Set: {\"n\":0}"]).status, 200);
        Self { visitor, acknowledged: 0, unknown: 0 }
    }

    /// Counts up until an answer stays away or is an error; tells of every one that was good.
    fn count(mut self, told: &Sender<()>) -> Self {
        while let Some(mut connection) = connect(self.visitor.proxy) {
            let id = self.visitor.session_id().expect("a session");
            let request = format!(
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCookie: sessionid={id}\r\nReply: X-Session-Incr: n=1\r\n\r\n"
            );
            connection.write(request.as_bytes());
            match connection.answer() {
                Some(answer) if answer.status == 200 => {
                    self.acknowledged += 1;
                    told.send(()).ok();
                }
                _ => {
                    self.unknown += 1;
                    break;
                }
            }
        }
        self
    }

    fn check(&mut self, backend: &Backend) {
        assert_eq!(self.visitor.ask(&[]).status, 200);
        let count = backend.last().session().and_then(|session| session["n"].as_u64()).expect("the session is there");
        let most = self.acknowledged + self.unknown;
        assert!((self.acknowledged..=most).contains(&count), "{count} of {} to {most}", self.acknowledged);
        (self.acknowledged, self.unknown) = (count, 0);
    }
}

fn connect(address: SocketAddr) -> Option<Connection> {
    TcpStream::connect(address).ok().map(Connection::over)
}

/// Lets visitors count until some updates of this round are done, then runs `kill` beside them.
fn counted(visitors: Vec<Counting>, updates: usize, kill: impl FnOnce()) -> Vec<Counting> {
    let (told, done) = channel();
    thread::scope(|scope| {
        let counting: Vec<_> = visitors
            .into_iter()
            .map(|visitor| {
                let told = told.clone();
                scope.spawn(move || visitor.count(&told))
            })
            .collect();
        drop(told);
        assert_eq!(done.iter().take(updates).count(), updates, "nobody counts any more");
        kill();
        counting.into_iter().map(|counting| counting.join().unwrap()).collect()
    })
}

fn the_proxy_is_killed(store: &str) {
    let backend = Backend::obedient();
    let mut process = Process::start(&backend.url(), "", store);
    let mut visitors: Vec<Counting> = (0..VISITORS).map(|_| Counting::new(process.visitor())).collect();
    for round in 0..ROUNDS {
        visitors = counted(visitors, 5 + 3 * round as usize, || process.signal("KILL"));
        process.wait();
        assert!(visitors.iter().any(|counting| counting.unknown > 0), "nothing was under way");
        process = Process::start(&backend.url(), "", store);
        for counting in &mut visitors {
            counting.visitor.proxy = process.address;
            counting.check(&backend);
        }
    }
    assert!(visitors.iter().map(|counting| counting.acknowledged).sum::<u64>() >= 12 * 5);
    assert_eq!(backend.last().session().map(|session| session.as_object().map(serde_json::Map::len)), Some(Some(1)));
}

#[test]
fn the_proxy_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.sqlite3");
    the_proxy_is_killed(&format!("[store]\nengine = 'db'\nurl = 'sqlite://{}'\ntimeout = '20s'\n", path.display()));
}

#[test]
fn the_proxy_on_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    the_proxy_is_killed(&format!("[store]\nengine = 'file'\npath = '{}'\ntimeout = '20s'\n", path.display()));
}

#[test]
fn the_proxy_on_redis() {
    let redis = RedisServer::start();
    the_proxy_is_killed(&format!("[store]\nengine = 'redis'\nurl = '{}'\ntimeout = '20s'\n", redis.tcp_url()));
}

/// A store that is killed under the proxy, which goes on and finds it again.
fn the_store_is_killed(store: &str, mut kill: impl FnMut(), mut restart: impl FnMut()) {
    let backend = Backend::obedient();
    let process = Process::start(&backend.url(), "", store);
    let mut visitors: Vec<Counting> = (0..VISITORS).map(|_| Counting::new(process.visitor())).collect();
    for round in 0..ROUNDS {
        visitors = counted(visitors, 5 + 3 * round as usize, &mut kill);
        restart();
        for counting in &mut visitors {
            // The proxy comes back to the store by itself; until then it answers 503.
            while counting.visitor.ask(&[]).status == 503 {
                thread::yield_now();
            }
            counting.check(&backend);
        }
    }
    assert!(visitors.iter().map(|counting| counting.acknowledged).sum::<u64>() >= 12 * 5);
}

#[test]
fn redis_with_an_append_only_file() {
    let redis = RefCell::new(RedisServer::with_options(&["--appendonly", "yes", "--appendfsync", "always"]));
    let url = redis.borrow().tcp_url();
    the_store_is_killed(
        &format!("[store]\nengine = 'redis'\nurl = '{url}'\n"),
        || redis.borrow_mut().stop(),
        || redis.borrow_mut().restart(),
    );
}

#[test]
fn postgresql_with_all_its_processes() {
    let postgres = RefCell::new(PostgresServer::durable());
    let url = postgres.borrow().url();
    the_store_is_killed(
        &format!("[store]\nengine = 'db'\nurl = '{url}'\ntimeout = '20s'\n"),
        || postgres.borrow_mut().kill(),
        || postgres.borrow_mut().restart(),
    );
}

#[test]
fn mariadb() {
    let mariadb = RefCell::new(MySqlServer::durable());
    let url = mariadb.borrow().url();
    the_store_is_killed(
        &format!("[store]\nengine = 'db'\nurl = '{url}'\ntimeout = '20s'\n"),
        || mariadb.borrow_mut().stop(),
        || mariadb.borrow_mut().restart(),
    );
}
