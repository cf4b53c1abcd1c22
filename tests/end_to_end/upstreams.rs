//! Backends that are several, slow, gone or rude: who is asked, how often, and what the visitor gets.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde_json::json;

use crate::backend::{Backend, Reply};
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::{Connection, Visitor};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An address that refuses connections: nobody listens, and while the socket lives nobody else gets it.
struct Refusing(socket2::Socket);

impl Refusing {
    fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap().as_socket().unwrap())
    }
}

fn in_the_background(mut visitor: Visitor, method: &'static str) -> std::thread::JoinHandle<(u16, Visitor)> {
    std::thread::spawn(move || (visitor.send(method, "/", &[], b"").status, visitor))
}

/// A backend's connection over which one request was answered, so that the proxy keeps it.
fn used_connection(stage: &RawBackend, proxy: &Proxy) -> Connection {
    let asking = in_the_background(proxy.visitor(), "GET");
    let mut backend = stage.accept();
    backend.head().unwrap();
    backend.write(OK);
    assert_eq!(asking.join().unwrap().0, 200);
    backend
}

#[test]
fn connections_to_a_backend_are_used_again() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for _ in 0..10 {
        assert_eq!(proxy.visitor().get("/").status, 200);
    }
    assert_eq!((backend.requests().len(), backend.connections()), (10, 1));
    let proxy = Proxy::start(&backend.url(), "upstreams.app.keepalive = 0\n");
    for _ in 0..10 {
        assert_eq!(proxy.visitor().get("/").status, 200);
    }
    assert_eq!((backend.requests().len(), backend.connections()), (20, 11));
}

#[test]
fn several_servers_are_asked_in_turn() {
    let servers = [1, 2, 3].map(|_| Backend::obedient());
    let list = format!("\", \"{}\", \"{}", servers[1].url(), servers[2].url());
    let proxy = Proxy::start(&format!("{}{list}", servers[0].url()), "");
    for round in 1..=4 {
        for _ in &servers {
            assert_eq!(proxy.visitor().get("/").status, 200);
        }
        assert!(servers.iter().all(|server| server.requests().len() == round));
    }
}

#[test]
fn a_server_that_refuses_is_passed_over_for_any_method() {
    let (gone, backend) = (Refusing::new(), Backend::obedient());
    let proxy = Proxy::start(&format!("{}\", \"{}", gone.url(), backend.url()), "");
    for method in ["GET", "POST", "PUT", "DELETE"] {
        for _ in 0..2 {
            assert_eq!(proxy.visitor().send(method, "/", &[], b"body").status, 200, "{method}");
            assert_eq!(backend.last().body, b"body");
        }
    }
    assert_eq!(backend.requests().len(), 8);
}

#[test]
fn no_server_that_answers_is_502() {
    let (one, two) = (Refusing::new(), Refusing::new());
    let proxy = Proxy::start(&format!("{}\", \"{}", one.url(), two.url()), "");
    for _ in 0..2 {
        assert_eq!(proxy.visitor().get("/").status, 502);
    }
}

#[test]
fn a_server_that_does_not_take_connections_in_time_is_502() {
    // A full backlog: the kernel answers no further attempt to connect.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the backlog does not fill");
    }
    let proxy = Proxy::start(&format!("http://{address}"), "upstreams.app.connect_timeout = '50ms'\n");
    assert_eq!(proxy.visitor().get("/").status, 502);
}

#[test]
fn an_answer_that_does_not_begin_in_time_is_504() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "upstreams.app.response_timeout = '50ms'\n");
    for head in ["", "HTTP/1.1 200 OK\r\nA: "] {
        let asking = in_the_background(proxy.visitor(), "GET");
        let mut backend = stage.accept();
        backend.head().unwrap();
        backend.write(head.as_bytes());
        assert_eq!(asking.join().unwrap().0, 504, "{head:?}");
        // Not kept, for the answer may still come.
        assert!(backend.is_closed());
    }
}

#[test]
fn a_visitor_who_stops_sending_is_408() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "upstreams.app.response_timeout = '50ms'\n");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
    let mut backend = stage.accept();
    backend.head().unwrap();
    assert_eq!(visitor.answer().unwrap().status, 408);
    assert_eq!(backend.rest(), b"abc");
}

#[test]
fn an_answer_that_pauses_too_long_breaks_off() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "upstreams.app.idle_timeout = '50ms'\n");
    for body in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut visitor = Connection::open(proxy.address);
        visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut backend = stage.accept();
        backend.head().unwrap();
        backend.write(format!("HTTP/1.1 200 OK\r\n{body}").as_bytes());
        assert!(visitor.answer().is_none(), "{body:?} looked whole");
        assert!(backend.is_closed());
    }
}

#[test]
fn a_kept_connection_that_closes_unanswered_is_tried_again_for_what_is_safe() {
    for (method, tried_again) in [("GET", true), ("HEAD", true), ("OPTIONS", true), ("POST", false), ("DELETE", false)]
    {
        let stage = RawBackend::start();
        let proxy = Proxy::start(&stage.url(), "");
        let mut kept = used_connection(&stage, &proxy);
        let asking = std::thread::spawn({
            let mut connection = Connection::open(proxy.address);
            move || {
                let lines = "Host: h:80\r\nCookie: a=1; b=2\r\nX: 1\r\nX:\r\nX: a:b\r\nTE: trailers\r\n";
                connection.write(format!("{method} /a//b?c=%20 HTTP/1.1\r\n{lines}\r\n").as_bytes());
                connection.answer_to(method).unwrap().status
            }
        });
        let first = kept.head().unwrap();
        assert!(first.0.starts_with(method) && first.1.len() > 6, "{first:?}");
        drop(kept);
        if tried_again {
            let mut fresh = stage.accept();
            assert_eq!(fresh.head().unwrap(), first, "the same again");
            fresh.write(b"HTTP/1.1 204 No Content\r\n\r\n");
            assert_eq!(asking.join().unwrap(), 204, "{method}");
        } else {
            assert_eq!(asking.join().unwrap(), 502, "{method}");
            assert!(stage.is_quiet(), "{method} was sent again");
        }
    }
}

#[test]
fn one_byte_of_an_answer_and_nothing_is_tried_again() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut kept = used_connection(&stage, &proxy);
    let asking = in_the_background(proxy.visitor(), "GET");
    kept.head().unwrap();
    kept.write(b"H");
    drop(kept);
    assert_eq!(asking.join().unwrap().0, 502);
    assert!(stage.is_quiet());
}

#[test]
fn a_fresh_connection_that_closes_unanswered_is_502() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let asking = in_the_background(proxy.visitor(), "GET");
    let mut fresh = stage.accept();
    fresh.head().unwrap();
    drop(fresh);
    assert_eq!(asking.join().unwrap().0, 502);
    assert!(stage.is_quiet());
}

#[test]
fn a_second_try_is_the_last() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut kept = used_connection(&stage, &proxy);
    let asking = in_the_background(proxy.visitor(), "GET");
    kept.head().unwrap();
    drop(kept);
    let mut fresh = stage.accept();
    fresh.head().unwrap();
    drop(fresh);
    assert_eq!(asking.join().unwrap().0, 502);
    assert!(stage.is_quiet());
}

#[test]
fn a_connection_that_the_backend_closed_in_peace_costs_nobody_an_error() {
    let closed = Backend::start(|_| Reply::ok("ok").close());
    let announced = Backend::start(|_| Reply::ok("ok").header("Connection", "close").close());
    for backend in [closed, announced] {
        let proxy = Proxy::start(&backend.url(), "");
        for _ in 0..20 {
            assert_eq!(proxy.visitor().get("/").status, 200);
        }
        assert_eq!(backend.requests().len(), 20);
    }
}

#[test]
fn f11_an_update_is_applied_once_through_a_second_try() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let increment = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Session-Incr: n=1\r\n\r\n";
    let asking = in_the_background(proxy.visitor(), "GET");
    let mut kept = stage.accept();
    kept.head().unwrap();
    kept.write(increment);
    let (_, visitor) = asking.join().unwrap();

    let asking = in_the_background(visitor, "GET");
    kept.head().unwrap();
    drop(kept);
    let mut fresh = stage.accept();
    let session = |headers: &[(String, String)]| {
        let data = headers.iter().find(|(name, _)| name == "x-session-data").map(|(_, data)| data.clone());
        serde_json::from_str::<serde_json::Value>(&data.unwrap()).unwrap()
    };
    assert_eq!(session(&fresh.head().unwrap().1), json!({"n": 1}));
    fresh.write(increment);
    let (status, visitor) = asking.join().unwrap();
    assert_eq!(status, 200);

    let asking = in_the_background(visitor, "GET");
    assert_eq!(session(&fresh.head().unwrap().1), json!({"n": 2}));
    fresh.write(OK);
    assert_eq!(asking.join().unwrap().0, 200);
}

#[test]
fn an_early_answer_keeps_nobody_else_waiting_for_the_upload() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut uploading = Connection::open(proxy.address);
    uploading.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
    let mut busy = stage.accept();
    busy.head().unwrap();
    busy.read(3).unwrap();
    busy.write(OK);
    assert_eq!(uploading.answer().unwrap().status, 200);
    // The upload still holds the first connection.
    let asking = in_the_background(proxy.visitor(), "GET");
    let mut fresh = stage.accept();
    fresh.head().unwrap();
    fresh.write(OK);
    assert_eq!(asking.join().unwrap().0, 200);
    drop(uploading);
}

#[test]
fn requests_at_once_have_connections_of_their_own() {
    let (arrive, arrived) = channel();
    let (go, wait) = channel::<()>();
    let (arrive, wait) = (std::sync::Mutex::new(arrive), std::sync::Mutex::new(wait));
    let count = AtomicUsize::new(0);
    let backend = Backend::start(move |_| {
        arrive.lock().unwrap().send(()).unwrap();
        if count.fetch_add(1, Ordering::Relaxed) < 4 {
            wait.lock().unwrap().recv().unwrap();
        }
        Reply::ok("ok")
    });
    let proxy = Proxy::start(&backend.url(), "");
    let asking: Vec<_> = (0..4).map(|_| in_the_background(proxy.visitor(), "GET")).collect();
    for _ in 0..4 {
        arrived.recv().unwrap();
    }
    assert_eq!(backend.connections(), 4);
    for _ in 0..4 {
        go.send(()).unwrap();
    }
    for asking in asking {
        assert_eq!(asking.join().unwrap().0, 200);
    }
}

#[test]
fn informational_answers_without_end_are_cut_off_and_hold_up_nobody_else() {
    let backend = Backend::start(|seen| match seen.target.as_str() {
        "/flood" => Reply::raw("HTTP/1.1 103 Early\r\nA: b\r\n\r\n".repeat(4000) + "HTTP/1.1 200 OK\r\n\r\nlate"),
        "/some" => Reply::raw("HTTP/1.1 103 Early\r\nA: b\r\n\r\n".repeat(100) + "HTTP/1.1 200 OK\r\n\r\nfine"),
        _ => Reply::ok("ok"),
    });
    let proxy = Proxy::start(&backend.url(), "upstreams.app.max_header_bytes = '8KiB'");
    let mut visitor = proxy.visitor();
    assert_eq!(visitor.get("/flood").status, 502);
    assert_eq!(visitor.get("/some").text(), "fine");
    assert_eq!(visitor.get("/other").text(), "ok");
}
