//! Heads that are malformed, too large or not for us; and answers that are malformed.

use crate::backend::{Backend, Reply};
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::{Answer, Connection};

/// The first answer to these bytes, and the connection behind it.
fn exchange(proxy: &Proxy, bytes: &[u8]) -> (Answer, Connection) {
    let mut connection = Connection::open(proxy.address);
    connection.write(bytes);
    let answer = connection.answer().unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(bytes)));
    (answer, connection)
}

#[test]
fn m6_m7_a_malformed_head_is_400_and_ends_the_connection() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: h\r\nA: one\r\n two\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: one\r\n\ttwo\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA : v\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: one\rtwo\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: one\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\rA: one\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: o\0ne\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA(b): v\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA\xc3\xa9: v\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        b"GET / http/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        b"GET /\r\nHost: h\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /\x1b[2J HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for head in heads {
        let (answer, mut connection) = exchange(&proxy, head);
        let shown = String::from_utf8_lossy(head);
        assert_eq!(answer.status, 400, "{shown:?}");
        assert!(connection.is_closed(), "{shown:?}");
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
}

#[test]
fn m7_a_bare_line_feed_ends_a_line_and_goes_on_as_two_bytes() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"\r\nGET /lf HTTP/1.1\nHost: h\nA: v\n\n");
    let mut backend = stage.accept();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(backend.read(1).unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /lf HTTP/1.1\r\n") && head.contains("\r\na: v\r\n"), "{head:?}");
    assert_eq!(head.matches('\n').count(), head.matches("\r\n").count(), "{head:?}");
    backend.write(b"HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(visitor.answer().unwrap().status, 204);
}

#[test]
fn m12_one_host_or_400() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let refused = [
        "GET / HTTP/1.1\r\nA: v\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\"b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: b\u{e9}\r\n\r\n",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in refused {
        assert_eq!(exchange(&proxy, request.as_bytes()).0.status, 400, "{request:?}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn m12_the_target_says_the_host_in_absolute_form() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let cases = [
        ("GET /p?q HTTP/1.1\r\nHost: Shop.example:81", "/p?q", "Shop.example:81"),
        ("GET http://a.example:82/p?q HTTP/1.1\r\nHost: b.example", "/p?q", "a.example:82"),
        ("GET http://a.example/ HTTP/1.1", "/", "a.example"),
        ("GET http://a.example HTTP/1.1\r\nHost: b.example", "/", "a.example"),
        ("GET http://a.example?q HTTP/1.1\r\nHost: b.example", "/?q", "a.example"),
        ("GET / HTTP/1.1\r\nHost: [::1]:80", "/", "[::1]:80"),
        ("GET / HTTP/1.0", "/", ""),
    ];
    for (head, target, host) in cases {
        let (answer, _) = exchange(&proxy, format!("{head}\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(answer.status, 200, "{head:?}");
        let seen = backend.last();
        assert_eq!((seen.target.as_str(), seen.header("host")), (target, Some(host)), "{head:?}");
        // The backend is told of no other host than the request was routed by.
        assert_eq!(seen.header("x-forwarded-host").unwrap_or_default(), host, "{head:?}");
        let forwarded = seen.header("forwarded").unwrap();
        assert_eq!(forwarded.split("host=").nth(1).unwrap_or_default().trim_matches('"'), host, "{head:?}");
    }
}

#[test]
fn m13_a_head_beyond_a_limit_is_refused_whole() {
    let backend = Backend::obedient();
    let limits = "max_uri_bytes = 100\nmax_header_bytes = 1000\nmax_headers = 20";
    let proxy = Proxy::start(&backend.url(), &format!("[server]\nlisten = ['127.0.0.1:0']\nworkers = 1\n{limits}\n"));
    let uri = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "u".repeat(bytes - 1));
    // The line of the host is 9 bytes with its end, and the other has 5 besides its value.
    let headers = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "v".repeat(bytes - 14));
    let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: v\r\n".repeat(count - 1));
    let mut served = 0;
    for (request, status) in [
        (uri(100), 200),
        (uri(101), 414),
        (uri(60_000), 414),
        // Too much to look for the end of the target.
        (uri(200_000), 431),
        (headers(1000), 200),
        (headers(1001), 431),
        (headers(60_000), 431),
        (headers(1_000_000), 431),
        (many(20), 200),
        (many(21), 431),
        (many(10_000), 431),
    ] {
        let (answer, _) = exchange(&proxy, request.as_bytes());
        assert_eq!(answer.status, status, "{} bytes: {}", request.len(), &request[..40]);
        served += usize::from(status == 200);
        assert_eq!(backend.requests().len(), served);
    }
    assert_eq!(served, 3);
}

#[test]
fn m14_trace_and_connect_are_refused_and_echo_nothing() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for line in ["TRACE / HTTP/1.1", "CONNECT h:443 HTTP/1.1", "CONNECT / HTTP/1.1"] {
        let mut connection = Connection::open(proxy.address);
        connection
            .write(format!("{line}\r\nHost: h\r\nCookie: sessionid=secret-cookie\r\nA: echoed\r\n\r\n").as_bytes());
        let answer = connection.answer().unwrap();
        if line.contains(" / ") && line.starts_with("CONNECT") {
            assert!([400, 405].contains(&answer.status), "{line}: {}", answer.status);
        } else {
            assert_eq!(answer.status, 405, "{line}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        let all = format!("{:?}{}", answer.headers, answer.text());
        assert!(!all.contains("secret-cookie") && !all.contains("echoed"), "{all}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn m6_m7_m18_a_malformed_answer_is_502_and_none_of_it_gets_out() {
    let answers: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nA: one\r\n two\r\n",
        b"HTTP/1.1 200 OK\r\nA: one\rSet-Cookie: evil=1\r\n",
        b"HTTP/1.1 200 OK\r\nA: one\r\r\n",
        b"HTTP/1.1 200 OK\r\nA: o\0ne\r\n",
        b"HTTP/1.1 200 OK\r\nA : one\r\n",
        b"HTTP/1.1 200 OK\r\nevil\r\n",
        b"HTTP/1.1 2x0 OK\r\n",
        b"HTTP/1.1 99 Low\r\n",
        b"HTTP/3.0 200 OK\r\n",
        b"ICY 200 OK\r\n",
        b"evil\r\n",
    ];
    for head in answers {
        let backend = Backend::start(|_| Reply::raw([head, &b"Content-Length: 4\r\n\r\nevil"[..]].concat()));
        let proxy = Proxy::start(&backend.url(), "");
        let answer = proxy.visitor().get("/");
        let shown = String::from_utf8_lossy(head);
        assert_eq!(answer.status, 502, "{shown:?}");
        assert!(!format!("{:?}{}", answer.headers, answer.text()).contains("evil"), "{shown:?}");
    }
}

#[test]
fn an_answer_with_a_head_beyond_the_limit_is_502() {
    let backend = Backend::start(|seen| Reply::ok("ok").header("Filler", "f".repeat(seen.target.len() * 1000)));
    let proxy = Proxy::start(&backend.url(), "upstreams.app.max_header_bytes = '16KiB'\n");
    assert_eq!(proxy.visitor().get("/234567890").status, 200);
    assert_eq!(proxy.visitor().get("/234567890123456789").status, 502);
}
