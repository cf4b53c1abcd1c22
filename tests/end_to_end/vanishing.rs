//! Visitors who go while their request is under way: what the backend did is stored all the same, and half an upload is
//! never taken for a whole one.

use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;

use crate::backend::{Backend, Reply};
use crate::life_stage::eventually;
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::Connection;

/// How a visitor goes.
#[derive(Clone, Copy, Debug)]
enum Going {
    Closes,
    HalfCloses,
    Resets,
}

/// Keeps a half-closed socket open for the rest of the test.
fn go(visitor: Connection, going: Going) -> Option<Connection> {
    let socket = visitor.into_socket();
    match going {
        Going::Closes => return None,
        Going::HalfCloses => socket.shutdown(Shutdown::Write).unwrap(),
        Going::Resets => {
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            return None;
        }
    }
    Some(Connection::over(socket))
}

const ALL: [Going; 3] = [Going::Closes, Going::HalfCloses, Going::Resets];

#[test]
fn half_an_upload_reaches_the_backend_as_half() {
    for going in ALL {
        for (length, part) in [
            ("Content-Length: 9", "abc"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n3\r\nde"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\nX-Sum: 7\r\n"),
        ] {
            let stage = RawBackend::start();
            let proxy = Proxy::start(&stage.url(), "");
            let mut visitor = Connection::open(proxy.address);
            visitor.write(format!("POST / HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\n{part}").as_bytes());
            let mut backend = stage.accept();
            backend.head().unwrap();
            let first = if length.starts_with('C') { "abc" } else { "3\r\nabc\r\n" };
            assert_eq!(backend.read(first.len()).unwrap(), first.as_bytes());
            let _half_open = go(visitor, going);
            let rest = String::from_utf8(backend.rest()).unwrap();
            assert!(!rest.contains("0\r\n"), "{going:?} {part:?}: ended as if whole: {rest:?}");
        }
    }
}

#[test]
fn half_an_upload_stays_half_when_the_answer_was_under_way() {
    for going in ALL {
        let stage = RawBackend::start();
        let proxy = Proxy::start(&stage.url(), "");
        let mut visitor = Connection::open(proxy.address);
        visitor.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        let mut backend = stage.accept();
        backend.head().unwrap();
        assert_eq!(backend.read(8).unwrap(), b"3\r\nabc\r\n");
        backend.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        assert_eq!(visitor.head().unwrap().0, "HTTP/1.1 200 OK");
        let _half_open = go(visitor, going);
        let rest = String::from_utf8(backend.rest()).unwrap();
        assert!(!rest.contains("0\r\n"), "{going:?}: ended as if whole: {rest:?}");
    }
}

#[test]
fn an_upload_that_the_backend_does_not_read_stays_half_when_its_visitor_resets() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "admin.listen = '127.0.0.1:0'\n");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut backend = stage.accept();
    backend.head().unwrap();
    backend.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    assert_eq!(visitor.head().unwrap().0, "HTTP/1.1 200 OK");
    // Until no more fits: from then on the proxy reads nothing of the visitor's, and meets their end when it writes.
    let socket = visitor.into_socket();
    socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut writer = &socket;
    while std::io::Write::write_all(&mut writer, chunk.as_bytes()).is_ok() {}
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    // The proxy learns of it by handing on these.
    backend.write(&b"2\r\nok\r\n".repeat(10));
    wait_for_no_connections(&proxy);
    let rest = backend.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "ended as if whole");
}

#[test]
fn half_an_upload_stays_half_when_the_answer_was_whole() {
    for (length, part) in [("Content-Length: 9", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")] {
        for going in ALL {
            let stage = RawBackend::start();
            let proxy = Proxy::start(&stage.url(), "admin.listen = '127.0.0.1:0'\n");
            let mut visitor = Connection::open(proxy.address);
            visitor.write(format!("POST / HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\n{part}").as_bytes());
            let mut backend = stage.accept();
            backend.head().unwrap();
            assert_eq!(backend.read(part.len()).unwrap(), part.as_bytes());
            backend.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(visitor.answer().unwrap().status, 413);
            let _half_open = go(visitor, going);
            let rest = String::from_utf8(backend.rest()).unwrap();
            assert!(!rest.contains("0\r\n"), "{going:?} {length}: ended as if whole: {rest:?}");
        }
    }
}

#[test]
fn an_answer_by_half_an_upload_is_applied_all_the_same() {
    let backend = Backend::obedient();
    let stage = RawBackend::start();
    let text = format!(
        "upstreams.stage.servers = ['{}']\nroutes = [{{ upstream = 'app' }}, {{ path = '/stage', upstream = 'stage' }}]\n",
        stage.url()
    );
    let proxy = Proxy::start(&backend.url(), &text);
    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Set: user=1"]);
    let id = visitor.session_id().unwrap().to_owned();
    let mut uploading = Connection::open(proxy.address);
    let cookie = format!("Cookie: sessionid={id}");
    uploading.write(format!("POST /stage HTTP/1.1\r\nHost: h\r\n{cookie}\r\nContent-Length: 9\r\n\r\nabc").as_bytes());
    let mut staged = stage.accept();
    staged.head().unwrap();
    staged.read(3).unwrap();
    staged.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Session-Action: flush\r\n\r\n");
    // Headers come after the store has acted.
    assert_eq!(uploading.head().unwrap().0, "HTTP/1.1 200 OK");
    drop(uploading);
    visitor.get("/");
    assert_eq!(backend.last().session(), None);
}

/// What a backend answers to a visitor who has gone by then, and the session afterwards.
#[test]
fn what_the_backend_did_is_stored_though_its_visitor_has_gone() {
    for going in ALL {
        for (update, after) in [
            ("X-Session-Action: flush", None),
            ("X-Session-Set: user=2", Some(json!({"user": "2"}))),
            ("X-Session-Incr: n=1", Some(json!({"user": "1", "n": 1}))),
        ] {
            let (arrive, arrived) = channel();
            let (let_answer, may_answer) = channel::<()>();
            let (arrive, may_answer) = (Mutex::new(arrive), Mutex::new(may_answer));
            let backend = Backend::start(move |seen| {
                let (name, value) = update.split_once(": ").unwrap();
                match seen.target.as_str() {
                    "/act" => {
                        arrive.lock().unwrap().send(()).unwrap();
                        may_answer.lock().unwrap().recv().unwrap();
                        Reply::ok("done").header(name, value)
                    }
                    "/start" => Reply::ok("ok").header("X-Session-Set", "user=1"),
                    _ => Reply::ok("ok"),
                }
            });
            let mut proxy = Proxy::start(&backend.url(), "admin.listen = '127.0.0.1:0'\n");
            let mut visitor = proxy.visitor();
            visitor.get("/start");
            let id = visitor.session_id().unwrap();
            let mut acting = Connection::open(proxy.address);
            acting.write(format!("GET /act HTTP/1.1\r\nHost: h\r\nCookie: sessionid={id}\r\n\r\n").as_bytes());
            arrived.recv().unwrap();
            let _half_open = go(acting, going);
            wait_for_no_connections(&proxy);
            let_answer.send(()).unwrap();
            wait_for_request(&proxy, 2);
            visitor.get("/look");
            assert_eq!(backend.last().session(), after, "{going:?} {update}");
            proxy.stop();
        }
    }
}

#[test]
fn the_drain_waits_for_what_is_to_be_stored() {
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
    let folder = tempfile::tempdir().unwrap();
    let store = format!("[store]\nengine = 'db'\nurl = 'sqlite://{}'\n", folder.path().join("s.sqlite3").display());
    let mut proxy = Proxy::start(&backend.url(), &format!("admin.listen = '127.0.0.1:0'\n{store}"));
    let mut visitor = proxy.visitor();
    visitor.get("/start");
    let id = visitor.session_id().unwrap().to_owned();
    let mut acting = Connection::open(proxy.address);
    acting.write(format!("GET /act HTTP/1.1\r\nHost: h\r\nCookie: sessionid={id}\r\n\r\n").as_bytes());
    arrived.recv().unwrap();
    drop(acting);
    wait_for_no_connections(&proxy);
    proxy.begin_stop();
    let_answer.send(()).unwrap();
    proxy.stop();

    let proxy = Proxy::start(&backend.url(), &store);
    visitor.proxy = proxy.address;
    visitor.get("/look");
    assert_eq!(backend.last().session(), Some(json!({"at": "act"})));
}

/// Waits until the proxy has noticed that its visitors went.
fn wait_for_no_connections(proxy: &Proxy) {
    eventually("no connection is open", || proxy.metric("cloakroom_connections_open") == Some(0));
}

/// Waits until so many requests have ended.
fn wait_for_request(proxy: &Proxy, count: u64) {
    eventually("the request ends", || proxy.metric("cloakroom_requests_total") >= Some(count));
}
