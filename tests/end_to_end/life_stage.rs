//! What the tests of a session's life share: a proxy whose time a test moves, on every embedded engine.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use crate::backend::{Backend, obey};
use crate::proxy::{Proxy, Setup};
use crate::visitor::{Answer, Visitor};

/// 15 January 2027, 08:00:00 UTC.
pub const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub const MINUTE: u64 = 60;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

pub struct Stage {
    pub engine: &'static str,
    pub clock: Clock,
    pub backend: Backend,
    pub gate: Gate,
    pub proxy: Proxy,
    _directory: TempDir,
}

impl Stage {
    /// Runs `test` with the sessions in memory, then with the sessions in a database; `settings` configures the proxy.
    pub fn each(settings: &str, test: impl Fn(&Self)) {
        for engine in ["memory", "db"] {
            println!("engine {engine}");
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("sessions.sqlite3");
            let url = if engine == "db" { format!("url = 'sqlite://{}'\n", file.display()) } else { String::new() };
            // No test here is about speed: a slow disk may take its time.
            let configuration = format!(
                "{settings}\n[admin]\nlisten = '127.0.0.1:0'\n[store]\nengine = '{engine}'\ntimeout = '60s'\n{url}"
            );
            let clock = Clock::manual(START);
            let (backend, gate) = Gate::backend();
            let proxy = Setup::new(&backend.url(), &configuration).clock(&clock).start();
            test(&Self { engine, clock, backend, gate, proxy, _directory: directory });
        }
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// A visitor whose session holds `{"u":"1"}`.
    pub fn known(&self) -> Visitor {
        let mut visitor = self.proxy.visitor();
        assert!(visitor.ask(&["X-Session-Set: u=1"]).session_cookie().is_some());
        visitor
    }

    /// What the backend is told about the session of a visitor who only looks.
    pub fn look(&self, visitor: &mut Visitor) -> Option<Value> {
        looks(visitor, &self.backend).1
    }
}

/// Holds back the answers that a test asks an obedient backend to hold back.
pub struct Gate {
    pub arrived: Receiver<()>,
    pub open: Sender<()>,
}

impl Gate {
    pub fn backend() -> (Backend, Self) {
        let (tell, arrived) = channel();
        let (open, opened) = channel();
        let opened = Mutex::new(opened);
        let backend = Backend::start(move |seen| {
            if seen.header("wait").is_some() {
                tell.send(()).unwrap();
                opened.lock().unwrap().recv().unwrap();
            }
            obey(seen)
        });
        (backend, Self { arrived, open })
    }

    /// Sends a request as [`Visitor::ask`] does, and returns when the backend has it; the answer waits.
    pub fn hold(&self, visitor: &Visitor, replies: &[&str]) -> Held<'_> {
        let mut visitor = visitor.clone();
        let replies: Vec<String> = replies.iter().map(|&reply| reply.to_owned()).collect();
        let request = spawn(move || {
            let mut headers = vec![("Wait", "1")];
            headers.extend(replies.iter().map(|reply| ("Reply", reply.as_str())));
            let answer = visitor.send("GET", "/", &headers, b"");
            (answer, visitor)
        });
        self.arrived.recv().unwrap();
        Held { gate: self, request }
    }
}

/// A request whose backend has not answered yet.
pub struct Held<'a> {
    gate: &'a Gate,
    request: JoinHandle<(Answer, Visitor)>,
}

impl Held<'_> {
    /// Lets the backend answer; the answer, and the visitor who got it.
    pub fn release(self) -> (Answer, Visitor) {
        self.gate.open.send(()).unwrap();
        self.request.join().unwrap()
    }
}

/// The answer to a visitor who only looks, and what the backend was told.
pub fn looks(visitor: &mut Visitor, backend: &Backend) -> (Answer, Option<Value>) {
    let answer = visitor.get("/");
    assert_eq!(answer.status, 200);
    (answer, backend.last().session())
}

/// The value of an attribute of a cookie.
pub fn attribute<'a>(cookie: &'a str, name: &str) -> Option<&'a str> {
    let attributes = cookie.split(';').map(str::trim);
    attributes
        .filter_map(|attribute| attribute.split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// `Max-Age` of the cookie in an answer that must have one.
pub fn max_age(answer: &Answer) -> Option<u64> {
    let cookie = answer.session_cookie().expect("a cookie");
    attribute(cookie, "Max-Age").map(|age| age.parse().unwrap())
}

/// Whether the answer makes the browser forget the cookie.
pub fn forgets(answer: &Answer) -> bool {
    answer.session_cookie().is_some_and(|cookie| cookie.starts_with("sessionid=;") && cookie.contains("Max-Age=0"))
}

/// The value of one line of `/metrics`, named as it stands there.
pub fn metric(proxy: &Proxy, name: &str) -> u64 {
    proxy.metric(name).unwrap_or_else(|| panic!("no {name} in {}", proxy.metrics()))
}

pub fn events(proxy: &Proxy, event: &str) -> u64 {
    metric(proxy, &format!("cloakroom_session_events_total{{event=\"{event}\"}}"))
}

/// Waits for what must come true, and fails the test if it never does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
