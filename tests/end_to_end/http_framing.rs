//! Where a message ends: requests that two parsers could read differently are refused, and end their connection.

use crate::backend::{Backend, Reply};
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::Connection;

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// Sends each of the requests, with a smuggled one behind, and expects a 400, a closed connection, and a backend that
/// heard of none.
fn assert_refused(requests: &[String]) {
    assert!(!requests.is_empty());
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for request in requests {
        let mut connection = Connection::open(proxy.address);
        connection.write(format!("{request}{SMUGGLED}").as_bytes());
        let answer = connection.answer().unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(answer.status, 400, "{request:?}");
        assert!(connection.is_closed(), "{request:?}");
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
}

fn post(version: &str, lines: &[&str], body: &str) -> String {
    format!("POST /a HTTP/{version}\r\nHost: h\r\n{}\r\n\r\n{body}", lines.join("\r\n"))
}

#[test]
fn m1_two_lengths_close_the_connection() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let cases = [
        ["Content-Length: 6", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 6"],
        ["Content-Length: 0", "Transfer-Encoding: chunked"],
        ["transfer-encoding: CHUNKED", "content-length: 99999"],
    ];
    for (index, lines) in cases.iter().enumerate() {
        let mut connection = Connection::open(proxy.address);
        connection.write(format!("{}{SMUGGLED}", post("1.1", lines, "2\r\nab\r\n0\r\n\r\n")).as_bytes());
        assert_eq!(connection.answer().unwrap().status, 200, "{lines:?}");
        assert!(connection.is_closed(), "{lines:?}");
        let seen = backend.requests();
        assert_eq!(seen.len(), index + 1, "{lines:?}");
        let seen = &seen[index];
        assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/a", &b"ab"[..]), "{lines:?}");
        assert!(seen.header("content-length").is_none(), "{lines:?}");
    }
}

#[test]
fn m2_a_length_that_is_not_one_number_is_refused() {
    let lines: &[&[&str]] = &[
        &["Content-Length: 5", "Content-Length: 6"],
        &["Content-Length: 5, 6"],
        &["Content-Length: 5, 5"],
        &["Content-Length: +5"],
        &["Content-Length: -5"],
        &["Content-Length: 5 5"],
        &["Content-Length: 0x5"],
        &["Content-Length: 5."],
        &["Content-Length:"],
        &["Content-Length: five"],
        &["Content-Length: 18446744073709551616"],
    ];
    assert_refused(&lines.iter().map(|lines| post("1.1", lines, "abcde")).collect::<Vec<_>>());
}

#[test]
fn m2_the_same_length_twice_is_forwarded_once() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let mut connection = Connection::open(proxy.address);
    connection.write(post("1.1", &["Content-Length: 5", "Content-Length: 5 "], "abcde").as_bytes());
    assert_eq!(connection.answer().unwrap().status, 200);
    let seen = backend.last();
    assert_eq!((seen.header("content-length"), seen.body.as_slice()), (Some("5"), &b"abcde"[..]));
}

#[test]
fn m3_a_transfer_coding_other_than_chunked_alone_is_refused() {
    let lines: &[&[&str]] = &[
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding: gzip"],
        &["Transfer-Encoding: chunked, identity"],
        &["Transfer-Encoding: identity, chunked"],
        &["Transfer-Encoding: gzip, chunked"],
        &["Transfer-Encoding: chunked, chunked"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        &["Transfer-Encoding: identity", "Transfer-Encoding: chunked"],
        &["Transfer-Encoding: xchunked"],
        &["Transfer-Encoding: x chunked"],
        &["Transfer-Encoding: chunked;q=1"],
        &["Transfer-Encoding: \"chunked\""],
        &["Transfer-Encoding: ,chunked"],
        &["Transfer-Encoding: chunked,"],
        &["Transfer-Encoding:"],
        &["Transfer-Encoding: chunked\u{b}"],
        &["Transfer-Encoding : chunked"],
        &["Transfer-Encoding:", " chunked"],
    ];
    assert_refused(&lines.iter().map(|lines| post("1.1", lines, "0\r\n\r\n")).collect::<Vec<_>>());
}

#[test]
fn m4_http_1_0_has_no_transfer_coding() {
    let lines: &[&[&str]] = &[
        &["Transfer-Encoding: chunked"],
        &["Transfer-Encoding: chunked", "Connection: keep-alive"],
        &["Transfer-Encoding: chunked", "Content-Length: 5"],
    ];
    assert_refused(&lines.iter().map(|lines| post("1.0", lines, "0\r\n\r\n")).collect::<Vec<_>>());
}

#[test]
fn m10_chunk_extensions_end_here() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut visitor = Connection::open(proxy.address);
    let body = "2;name=value\r\nab\r\n003 ; x=\"q\"\r\ncde\r\n0;last\r\n\r\n";
    visitor.write(post("1.1", &["Transfer-Encoding: chunked"], body).as_bytes());
    let mut backend = stage.accept();
    backend.head().unwrap();
    let mut body = Vec::new();
    loop {
        let size = backend.line().unwrap();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("more than a size: {size:?}"));
        body.extend(backend.read(size).unwrap());
        assert_eq!(backend.line().unwrap(), "");
        if size == 0 {
            break;
        }
    }
    assert_eq!(body, b"abcde");
    backend.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(visitor.answer().unwrap().status, 200);
}

#[test]
fn m10_chunks_that_are_none_break_the_request_and_the_connection() {
    let chunks = [
        "10000000000000000\r\nab",
        "fffffffffffffffff\r\nab",
        "-1\r\nab\r\n0\r\n\r\n",
        "+2\r\nab\r\n0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "2 2\r\nab\r\n0\r\n\r\n",
        "g\r\nab\r\n0\r\n\r\n",
        "\r\nab\r\n0\r\n\r\n",
        "2\nab\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "2\r\nab0\r\n\r\n",
        "2;a\nb\r\nab\r\n0\r\n\r\n",
    ];
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for chunks in chunks {
        let mut connection = Connection::open(proxy.address);
        let good = "1\r\nx\r\n";
        let request = post("1.1", &["Transfer-Encoding: chunked"], &format!("{good}{chunks}{SMUGGLED}"));
        connection.write(request.as_bytes());
        assert_eq!(connection.answer().map(|answer| answer.status), Some(400), "{chunks:?}");
        assert!(connection.is_closed(), "{chunks:?}");
        assert!(backend.requests().is_empty(), "{chunks:?}: {:?}", backend.requests());
    }
}

#[test]
fn of_two_lengths_of_an_answer_the_chunks_count() {
    for lines in ["Content-Length: 2\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 99"]
    {
        let backend = Backend::start(move |_| {
            Reply::raw(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")).keep_open()
        });
        let proxy = Proxy::start(&backend.url(), "");
        let mut visitor = Connection::open(proxy.address);
        visitor.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = visitor.answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "abcde"), "{lines:?}");
        assert!(answer.header("content-length").is_none(), "{lines:?}");
    }
}

#[test]
fn an_answer_of_uncertain_length_is_502() {
    for lines in ["Content-Length: 2\r\nContent-Length: 3", "Content-Length: x", "Content-Length: +2"] {
        let backend = Backend::start(move |_| Reply::raw(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nabc")));
        let proxy = Proxy::start(&backend.url(), "");
        assert_eq!(proxy.visitor().get("/").status, 502, "{lines:?}");
    }
}
