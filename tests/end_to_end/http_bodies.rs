//! Bodies stream both ways: nothing waits for the end, nothing is held back or piled up, and a body's length and trailers
//! stay what they were.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::backend::{Backend, Reply};
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::Connection;

const MEBIBYTE: usize = 1 << 20;
/// More than the kernel's buffers of two connections ever hold.
const MUCH: usize = 96 * MEBIBYTE;
const HELD_AT_MOST: usize = 48 * MEBIBYTE;

/// Writes until all is taken or nothing more is for a while; how much was taken.
fn push(socket: &mut TcpStream, from: usize) -> usize {
    // On a machine so slow that this is mistaken for a stop, the test is weaker, not broken.
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let bytes = vec![b'x'; 64 << 10];
    let mut taken = from;
    while taken < MUCH {
        match socket.write(&bytes[..bytes.len().min(MUCH - taken)]) {
            Ok(count) => taken += count,
            Err(_) => break,
        }
    }
    taken
}

/// Reads the body that `push` writes on another thread, to its end.
fn drain_while_pushing(mut writer: TcpStream, mut from: usize, reader: &mut impl FnMut(usize)) {
    let pushing = std::thread::spawn(move || {
        while from < MUCH {
            from = push(&mut writer, from);
        }
        writer
    });
    reader(MUCH);
    pushing.join().unwrap();
}

#[test]
fn a_backend_that_does_not_read_stops_the_upload() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {MUCH}\r\n\r\n").as_bytes());
    let mut socket = visitor.into_socket();
    let mut backend = stage.accept();
    backend.head().unwrap();
    let taken = push(&mut socket, 0);
    assert!(taken < HELD_AT_MOST, "{taken} bytes were taken that nobody reads");
    let mut answers = Connection::over(socket.try_clone().unwrap());
    drain_while_pushing(socket, taken, &mut |count| {
        assert!(backend.read(count).unwrap().iter().all(|byte| *byte == b'x'));
    });
    backend.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answers.answer().unwrap().status, 200);
}

#[test]
fn a_visitor_who_does_not_read_stops_the_backend() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut backend = stage.accept();
    backend.head().unwrap();
    backend.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n").as_bytes());
    visitor.head().unwrap();
    let mut socket = backend.into_socket();
    let taken = push(&mut socket, 0);
    assert!(taken < HELD_AT_MOST, "{taken} bytes were taken that nobody reads");
    drain_while_pushing(socket, taken, &mut |count| {
        assert!(visitor.read(count).unwrap().iter().all(|byte| *byte == b'x'));
    });
}

#[test]
fn bytes_go_on_before_the_body_has_ended_both_ways() {
    for (length, chunk) in [("Content-Length: 6", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")] {
        let stage = RawBackend::start();
        let proxy = Proxy::start(&stage.url(), "");
        let mut visitor = Connection::open(proxy.address);
        visitor.write(format!("POST / HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\n{chunk}").as_bytes());
        let mut backend = stage.accept();
        backend.head().unwrap();
        assert_eq!(backend.read(chunk.len()).unwrap(), chunk.as_bytes());
        // The answer too begins while the request is still under way, and each side sees the other's bytes in turn.
        backend.write(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n{chunk}").as_bytes());
        assert_eq!(visitor.head().unwrap().0, "HTTP/1.1 200 OK", "{length}");
        assert_eq!(visitor.read(chunk.len()).unwrap(), chunk.as_bytes());
        visitor.write(chunk.as_bytes());
        assert_eq!(backend.read(chunk.len()).unwrap(), chunk.as_bytes());
        backend.write(chunk.as_bytes());
        assert_eq!(visitor.read(chunk.len()).unwrap(), chunk.as_bytes());
    }
}

#[test]
fn lengths_and_chunks_stay_what_they_were() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let backend = Backend::start(move |seen| match seen.header("transfer-encoding") {
        Some(_) => Reply::raw(chunked).keep_open(),
        None => Reply::ok(seen.body.clone()),
    });
    let proxy = Proxy::start(&backend.url(), "");
    let answer = proxy.visitor().send("PUT", "/", &[], b"xyz");
    let seen = backend.last();
    assert_eq!((seen.header("content-length"), seen.body.as_slice()), (Some("3"), &b"xyz"[..]));
    assert_eq!((answer.header("content-length"), answer.text().as_str()), (Some("3"), "xyz"));

    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n");
    let answer = visitor.answer().unwrap();
    let seen = backend.last();
    assert_eq!((seen.header("content-length"), seen.body.as_slice()), (None, &b"xyz"[..]));
    assert_eq!((answer.header("content-length"), answer.text().as_str()), (None, "abc"));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
}

#[test]
fn a_request_without_a_body_is_sent_without() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for (method, length) in [("GET", None), ("DELETE", None), ("POST", Some("0"))] {
        proxy.visitor().send(method, "/", &[], b"");
        let seen = backend.last();
        assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), (length, None), "{method}");
    }
}

#[test]
fn trailers_go_on_both_ways_without_ours() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Session-Set, X_Session_Data\r\n\r\n\
             2\r\nab\r\n0\r\nX-Sum: 7\r\nX-Session-Set: a=1\r\nX_Session_Data: {}\r\n\r\n",
        )
        .keep_open()
    });
    let proxy = Proxy::start(&backend.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(
        b"POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
          Trailer: X-Sum, X-Session-Data, X_Session_State\r\n\r\n\
          2\r\nab\r\n0\r\nX-Sum: 9\r\nX-Session-Data: {\"admin\":1}\r\nX_Session_State: active\r\n\r\n",
    );
    let answer = visitor.answer().unwrap();
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!((answer.text().as_str(), answer.header("trailer")), ("ab", Some("X-Sum")));
    assert_eq!(answer.trailers, [line("x-sum", "7")]);
    assert!(answer.session_cookie().is_none());
    let seen = backend.last();
    assert_eq!((seen.body.as_slice(), seen.header("trailer")), (&b"ab"[..], Some("X-Sum")));
    assert_eq!(seen.trailers, [line("x-sum", "9")]);
}

#[test]
fn a_100_comes_when_the_body_is_wanted() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(visitor.head().unwrap().0, "HTTP/1.1 100 Continue");
    let mut backend = stage.accept();
    let (_, headers) = backend.head().unwrap();
    assert!(headers.iter().all(|(name, _)| name != "expect"), "{headers:?}");
    visitor.write(b"body");
    assert_eq!(backend.read(4).unwrap(), b"body");
    backend.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(visitor.head().unwrap().0, "HTTP/1.1 200 OK");
}

const LIMITED: &str = "[server]\nlisten = ['127.0.0.1:0']\nworkers = 1\nmax_body_bytes = 10\n";

#[test]
fn a_body_that_is_refused_gets_no_100() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), LIMITED);
    for (head, status) in [
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11", "413"),
        ("POST /.. HTTP/1.1\r\nHost: h\r\nContent-Length: 4", "400"),
        ("TRACE / HTTP/1.1\r\nHost: h\r\nContent-Length: 4", "405"),
    ] {
        let mut visitor = Connection::open(proxy.address);
        visitor.write(format!("{head}\r\nExpect: 100-continue\r\n\r\n").as_bytes());
        let (first, _) = visitor.head().unwrap();
        assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {first}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn a_body_beyond_the_limit_is_413_declared_or_not() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), LIMITED);
    let ten = "Content-Length: 10\r\n\r\n0123456789";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let cases = [
        (ten.to_owned(), 200),
        ("Content-Length: 11\r\n\r\n0123456789a".to_owned(), 413),
        (format!("{chunked}4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"), 200),
        (format!("{chunked}4\r\n0123\r\n7\r\n456789a\r\n0\r\n\r\n"), 413),
        (format!("{chunked}b\r\n0123456789a\r\n"), 413),
    ];
    let mut whole = 0;
    for (request, status) in cases {
        let mut visitor = Connection::open(proxy.address);
        visitor.write(format!("POST / HTTP/1.1\r\nHost: h\r\n{request}").as_bytes());
        assert_eq!(visitor.answer().unwrap().status, status, "{request:?}");
        whole += usize::from(status == 200);
        assert_eq!(backend.requests().len(), whole, "{request:?}");
    }
    assert_eq!(whole, 2);
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_visitor_too() {
    for (head, whole) in [
        ("Content-Length: 10\r\n\r\nabc", "Content-Length: 3\r\n\r\nabc"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let backend = Backend::start(move |seen| {
            let rest = if seen.target == "/whole" { whole } else { head };
            Reply::raw(format!("HTTP/1.1 200 OK\r\n{rest}"))
        });
        let proxy = Proxy::start(&backend.url(), "");
        assert_eq!(proxy.visitor().get("/whole").text(), "abc");
        let mut visitor = Connection::open(proxy.address);
        visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(visitor.answer().is_none(), "{head:?} looked whole");
    }
}

#[test]
fn a_large_body_comes_back_as_it_was() {
    let backend = Backend::start(|seen| Reply::ok(seen.body.clone()));
    let proxy = Proxy::start(&backend.url(), "");
    let body: Vec<u8> = (0..8 * MEBIBYTE).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let mut visitor = Connection::open(proxy.address);
    visitor.write(
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes(),
    );
    let mut socket = visitor.into_socket();
    let mut writer = socket.try_clone().unwrap();
    let sent = body.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    writing.join().unwrap();
    assert!(all.ends_with(&body), "{} bytes came back", all.len());
}
