//! The program as a process: told to stop, it lets what is under way end, takes nothing new, and goes.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::backend::{Backend, Reply};
use crate::process::Process;
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::Connection;

/// Waits until nobody listens there any more.
fn wait_until_refused(process: &Process) {
    let start = Instant::now();
    while !matches!(TcpStream::connect(process.address), Err(error) if error.kind() == ErrorKind::ConnectionRefused) {
        assert!(start.elapsed() < Duration::from_secs(30), "connections are still taken");
    }
}

#[test]
fn a_stop_lets_requests_under_way_end_and_takes_no_others() {
    for signal in ["TERM", "INT"] {
        let stage = RawBackend::start();
        let mut process = Process::start(&stage.url(), "", "");
        let mut idle = Connection::open(process.address);
        let mut unspoken = Connection::open(process.address);
        idle.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut backend = stage.accept();
        backend.head().unwrap();
        backend.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(idle.answer().unwrap().status, 200);

        let mut waiting = Connection::open(process.address);
        waiting.write(b"GET /waiting HTTP/1.1\r\nHost: h\r\n\r\n");
        backend.head().unwrap();
        let mut streaming = Connection::open(process.address);
        streaming.write(b"POST /streaming HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
        let mut other = stage.accept();
        other.head().unwrap();
        other.read(3).unwrap();
        other.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
        assert_eq!(streaming.head().unwrap().0, "HTTP/1.1 200 OK");

        process.signal(signal);
        wait_until_refused(&process);
        assert!(idle.is_closed() && unspoken.is_closed(), "{signal}");
        assert!(!process.has_ended());
        streaming.write(b"def");
        assert_eq!(other.read(3).unwrap(), b"def");
        other.write(b"def");
        assert_eq!(streaming.read(6).unwrap(), b"abcdef");
        backend.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast");
        let answer = waiting.answer().unwrap();
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("last", Some("close")));
        assert!(waiting.is_closed() && streaming.is_closed());
        assert!(process.wait().success(), "{signal}: {:?}", process.seen);
        assert!(process.seen.iter().any(|line| line.contains("\"stopped\"")), "{signal}: {:?}", process.seen);
    }
}

#[test]
fn updates_under_way_are_stored_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("[store]\nengine = 'db'\nurl = 'sqlite://{}'\n", folder.path().join("s.sqlite3").display());
    let (arrive, arrived) = channel();
    let (let_answer, may_answer) = channel::<()>();
    let (arrive, may_answer) = (Mutex::new(arrive), Mutex::new(may_answer));
    let backend = Backend::start(move |seen| {
        if seen.target == "/act" {
            arrive.lock().unwrap().send(()).unwrap();
            may_answer.lock().unwrap().recv().unwrap();
        }
        Reply::ok("ok").header("X-Session-Set", seen.target.replace('/', "at="))
    });
    let mut process = Process::start(&backend.url(), "", &store);
    let mut visitor = process.visitor();
    visitor.get("/start");
    // One waits for the answer, another has gone.
    let mut gone = process.visitor();
    gone.get("/start");
    let mut leaving = Connection::open(process.address);
    let id = gone.session_id().unwrap();
    leaving.write(format!("GET /act HTTP/1.1\r\nHost: h\r\nCookie: sessionid={id}\r\n\r\n").as_bytes());
    arrived.recv().unwrap();
    drop(leaving);
    let acting = std::thread::spawn(move || {
        let answer = visitor.get("/act");
        (answer.status, visitor)
    });
    arrived.recv().unwrap();
    process.signal("TERM");
    wait_until_refused(&process);
    let_answer.send(()).unwrap();
    let_answer.send(()).unwrap();
    let (status, mut visitor) = acting.join().unwrap();
    assert_eq!(status, 200);
    assert!(process.wait().success());

    let proxy = Proxy::start(&backend.url(), &store);
    for visitor in [&mut visitor, &mut gone] {
        visitor.proxy = proxy.address;
        visitor.get("/look");
        assert_eq!(backend.last().session(), Some(json!({"at": "act"})));
    }
}

#[test]
fn what_does_not_end_is_cut_off_after_the_grace() {
    let stage = RawBackend::start();
    let mut process = Process::start(&stage.url(), "shutdown_grace = '100ms'", "");
    let mut visitor = Connection::open(process.address);
    visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut backend = stage.accept();
    backend.head().unwrap();
    process.signal("TERM");
    assert!(process.wait().success());
    assert!(visitor.is_closed());
    assert!(process.seen.iter().any(|line| line.contains("shutdown_grace")), "{:?}", process.seen);
}

#[test]
fn nothing_under_way_ends_at_once() {
    let backend = Backend::obedient();
    // Long enough that waiting for it would run into the harness's own patience.
    let mut process = Process::start(&backend.url(), "shutdown_grace = '1h'", "[admin]\nlisten = '127.0.0.1:0'\n");
    let mut idle = Connection::open(process.address);
    idle.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(idle.answer().unwrap().status, 200);
    process.signal("TERM");
    assert!(process.wait().success());
    assert!(idle.is_closed());
}
