//! A visitor's connection: how long it lives, in which order it is answered, how many there may be.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::backend::{Backend, Reply};
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::Connection;

fn proxy(backend: &str, server: &str) -> Proxy {
    Proxy::start(backend, &format!("[server]\nlisten = ['127.0.0.1:0']\nworkers = 1\n{server}\n"))
}

#[test]
fn a_connection_is_kept_as_its_visitor_asks() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for (head, version, connection, kept) in [
        ("GET / HTTP/1.1\r\nHost: h", "HTTP/1.1", None, true),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close", "HTTP/1.1", Some("close"), false),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nConnection: keep-alive", "HTTP/1.1", Some("close"), false),
        ("GET / HTTP/1.0", "HTTP/1.0", None, false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive", "HTTP/1.0", Some("keep-alive"), true),
    ] {
        let mut visitor = Connection::open(proxy.address);
        let rounds = if kept { 3 } else { 1 };
        for _ in 0..rounds {
            visitor.write(format!("{head}\r\n\r\n").as_bytes());
            let (first, headers) = visitor.head().unwrap();
            assert_eq!(first, format!("{version} 200 OK"), "{head:?}");
            let line = headers.iter().find(|(name, _)| name == "connection").map(|(_, value)| value.as_str());
            assert_eq!(line, connection, "{head:?}");
            assert_eq!(visitor.read(2).unwrap(), b"ok");
        }
        if !kept {
            assert!(visitor.is_closed(), "{head:?}");
        }
    }
    // Whatever the visitor speaks, the backend is asked in the newer version, over one connection.
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.requests().len(), 9);
}

#[test]
fn an_http_1_0_visitor_gets_no_chunks() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").keep_open()
    });
    let proxy = Proxy::start(&backend.url(), "");
    for lines in ["", "Connection: keep-alive\r\n"] {
        let mut visitor = Connection::open(proxy.address);
        visitor.write(format!("GET / HTTP/1.0\r\n{lines}\r\n").as_bytes());
        let answer = visitor.answer().unwrap();
        assert!(answer.header("transfer-encoding").is_none());
        assert_eq!((answer.status, answer.text().as_str()), (200, "abc"));
        assert!(visitor.is_closed(), "nothing else says where the body ends");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let backend = Backend::start(|seen| Reply::ok(format!("{} {}", seen.target, seen.body.len())));
    let proxy = Proxy::start(&backend.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(
        b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
          GET /3 HTTP/1.1\r\nHost: h\r\n\r\nGET /4 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n\
          GET /never HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    for expected in ["/1 0", "/2 3", "/3 0", "/4 0"] {
        assert_eq!(visitor.answer().unwrap().text(), expected);
    }
    assert!(visitor.is_closed());
    assert_eq!(backend.requests().len(), 4);
}

#[test]
fn a_refusal_of_ours_keeps_the_connection_in_step() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"GET /.. HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(visitor.answer().unwrap().status, 400);
    assert_eq!(visitor.answer().unwrap().status, 200);

    // A body that nobody asked for is no next request.
    let mut visitor = Connection::open(proxy.address);
    visitor
        .write(b"POST /.. HTTP/1.1\r\nHost: h\r\nContent-Length: 35\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n.");
    assert_eq!(visitor.answer().unwrap().status, 400);
    visitor.write(b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    while let Some(answer) = visitor.answer() {
        assert_eq!(answer.status, 200);
        if backend.last().target == "/next" {
            break;
        }
    }
    assert!(backend.requests().iter().all(|seen| seen.target != "/smuggled"));
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let backend = Backend::obedient();
    let proxy = proxy(&backend.url(), "header_timeout = '100ms'");
    for start in ["", "GET / HTTP/1.1\r\nHost: h\r\nA: "] {
        let mut visitor = Connection::open(proxy.address);
        visitor.write(start.as_bytes());
        let said = String::from_utf8(visitor.rest()).unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{start:?}: {said}");
    }
    // So does waiting for the next request. The first must be answered, however slow the machine is.
    let proxy = self::proxy(&backend.url(), "header_timeout = '2s'");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(visitor.answer().unwrap().status, 200);
    assert!(visitor.is_closed());
}

#[test]
fn one_connection_more_than_there_may_be_waits_for_its_turn() {
    let backend = Backend::obedient();
    let proxy = proxy(&backend.url(), "max_connections = 2");
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut first = Connection::open(proxy.address);
    let mut second = Connection::open(proxy.address);
    for visitor in [&mut first, &mut second] {
        visitor.write(request);
        assert_eq!(visitor.answer().unwrap().status, 200);
    }
    let mut third = Connection::open(proxy.address);
    third.write(b"GET /third HTTP/1.1\r\nHost: h\r\n\r\n");
    // Those inside are served all the while.
    for _ in 0..20 {
        first.write(request);
        assert_eq!(first.answer().unwrap().status, 200);
    }
    assert!(backend.requests().iter().all(|seen| seen.target != "/third"));
    drop(second);
    assert_eq!(third.answer().unwrap().status, 200);
    assert_eq!(backend.last().target, "/third");
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let stage = RawBackend::start();
    let proxy = proxy(&stage.url(), "send_timeout = '100ms'");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut backend = stage.accept();
    backend.head().unwrap();
    backend.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let mut chunks = 0;
    while backend.write(chunk.as_bytes()) {
        chunks += 1;
        assert!(chunks < 10_000, "the backend can write for ever");
    }
    drop(visitor);
}

#[test]
fn an_answer_that_is_taken_slowly_but_steadily_is_given_whole() {
    const WHOLE: usize = 16 << 20;
    let backend = Backend::start(|_| Reply::ok("x".repeat(WHOLE)));
    let proxy = proxy(&backend.url(), "send_timeout = '2s'");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // All that waits for this visitor waits on the proxy's side.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&proxy.address.into()).unwrap();
    let mut visitor = Connection::over(TcpStream::from(socket.try_clone().unwrap()));
    visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(visitor.head().unwrap().0, "HTTP/1.1 200 OK");
    // In the time allowed some 300 KiB: much more than what the proxy should wait for, much less than the kernel would
    // hold for it. On a slow machine it is less.
    let mut taken = 0;
    while taken < 1 << 20 {
        thread::sleep(Duration::from_millis(50));
        taken += visitor.read(8 << 10).unwrap().len();
    }
    // The rest at the speed of the machine.
    socket.set_recv_buffer_size(1 << 20).unwrap();
    assert_eq!(taken + visitor.read(WHOLE - taken).expect("the whole answer").len(), WHOLE);
}
