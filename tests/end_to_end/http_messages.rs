//! What goes on of a message and what ends here: hop-by-hop headers, informational answers, upgrades, messages that
//! have no body.

use crate::backend::{Backend, Reply};
use crate::proxy::Proxy;
use crate::raw_backend::RawBackend;
use crate::visitor::Connection;

#[test]
fn m11_what_speaks_about_one_connection_ends_here_both_ways() {
    let backend = Backend::start(|_| {
        Reply::ok("ok")
            .header("Connection", "Keep-Alive, X-Named, x-session-set")
            .header("connection", "X-Also, ,x-last")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Connection", "keep-alive")
            .header("Proxy-Authenticate", "Basic")
            .header("Upgrade", "h2c")
            .header("X-Named", "1")
            .header("X-Also", "1")
            .header("X-Last", "1")
            .header("X-Kept", "1")
            .header("X-Session-Set", "a=1")
    });
    let proxy = Proxy::start(&backend.url(), "");
    let mut visitor = proxy.visitor();
    let named = "close, X-Named , x-session-data, host, content-length, te";
    let headers = [
        ("Connection", named),
        ("connection", "x-also"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic secret"),
        ("TE", "gzip, trailers;q=0.5"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("X-Named", "1"),
        ("X-Also", "1"),
        ("X-Kept", "1"),
    ];
    // The second request has a session that `Connection` must not take away.
    for round in 0..2 {
        let answer = visitor.send("POST", "/", &headers, b"body");
        let seen = backend.last();
        for gone in ["connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"] {
            assert!(seen.all(gone).is_empty(), "{gone}: {seen:?}");
        }
        assert!(seen.all("x-named").is_empty() && seen.all("x-also").is_empty(), "{seen:?}");
        assert_eq!((seen.header("host"), seen.header("x-kept")), (Some("shop.example"), Some("1")));
        assert_eq!((seen.header("content-length"), seen.body.as_slice()), (Some("4"), &b"body"[..]));
        assert_eq!(seen.session().is_some(), round == 1);
        for gone in ["keep-alive", "proxy-connection", "proxy-authenticate", "upgrade", "x-named", "x-also", "x-last"] {
            assert!(answer.all(gone).is_empty(), "{gone}: {answer:?}");
        }
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!((answer.header("x-kept"), answer.text().as_str()), (Some("1"), "ok"));
        assert!(answer.session_cookie().is_some());
    }
}

#[test]
fn m11_of_te_only_trailers_go_on() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for (lines, sent) in [
        (&["trailers"][..], Some("trailers")),
        (&["gzip", "deflate, Trailers"], Some("trailers")),
        (&["gzip"], None),
        (&["xtrailers"], None),
        (&[], None),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("TE", *line)).collect();
        proxy.visitor().send("GET", "/", &headers, b"");
        assert_eq!(backend.last().header("te"), sent, "{lines:?}");
    }
}

#[test]
fn m19_informational_answers_are_swallowed() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX-Session-Set: a=early\r\n\r\n\
             HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\nX-Session-Action: flush\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Session-Set: b=1\r\n\r\nfinal",
        )
        .keep_open()
    });
    let proxy = Proxy::start(&backend.url(), "");
    let mut connection = Connection::open(proxy.address);
    connection.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let all = String::from_utf8(connection.rest()).unwrap();
    assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\nfinal"), "{all}");
    assert_eq!(all.matches("HTTP/1.1").count(), 1, "{all}");
    let mut visitor = proxy.visitor();
    visitor.get("/");
    visitor.get("/");
    assert_eq!(backend.last().session(), Some(serde_json::json!({"b": "1"})));
}

#[test]
fn m19_a_101_is_502_whether_the_visitor_asked_or_not() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw bytes")
            .keep_open()
    });
    let proxy = Proxy::start(&backend.url(), "");
    for lines in ["", "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n"] {
        let mut connection = Connection::open(proxy.address);
        connection.write(format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").as_bytes());
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, 502, "{lines:?}");
        assert!(answer.header("upgrade").is_none() && !answer.text().contains("raw bytes"));
        assert!(backend.last().header("upgrade").is_none());
    }
    assert_eq!(backend.connections(), 2, "a connection that changed its protocol is not used again");
}

#[test]
fn m5_bytes_behind_an_upgrade_request_are_a_request_of_their_own() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let mut connection = Connection::open(proxy.address);
    connection.write(
        b"GET /first HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
          GET /second HTTP/1.1\r\nHost: h\r\nX-Session-Data: {\"user\":\"root\"}\r\n\r\n",
    );
    assert_eq!(connection.answer().unwrap().status, 200);
    assert_eq!(connection.answer().unwrap().status, 200);
    let seen = backend.requests();
    let targets: Vec<&str> = seen.iter().map(|seen| seen.target.as_str()).collect();
    assert_eq!(targets, ["/first", "/second"]);
    for seen in &seen {
        assert_eq!((seen.header("upgrade"), seen.header("x-session-data")), (None, None), "{seen:?}");
    }
}

#[test]
fn a_head_request_gets_the_length_and_no_body() {
    let backend = Backend::start(|seen| match seen.target.as_str() {
        "/length" => Reply::ok("four"),
        "/chunked" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").keep_open(),
        _ => Reply::raw("HTTP/1.1 200 OK\r\n\r\n").keep_open(),
    });
    let proxy = Proxy::start(&backend.url(), "");
    let mut connection = Connection::open(proxy.address);
    for (target, length) in [("/length", Some("4")), ("/chunked", None), ("/neither", None), ("/length", Some("4"))] {
        connection.write(format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = connection.answer_to("HEAD").unwrap();
        assert_eq!((answer.status, answer.header("content-length")), (200, length), "{target}");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn statuses_without_a_body_have_none_and_keep_what_describes_it() {
    let backend = Backend::start(|seen| match seen.target.as_str() {
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nContent-Length: 999\r\n\r\n").keep_open(),
        "/304-bare" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: W/\"e\"\r\n\r\n").keep_open(),
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\nETag: \"e\"\r\n\r\n").keep_open(),
        "/204-length" => Reply::raw("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").keep_open(),
        "/205" => Reply::raw("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n").keep_open(),
        _ => Reply::ok("after"),
    });
    let proxy = Proxy::start(&backend.url(), "");
    let mut connection = Connection::open(proxy.address);
    for (target, status, etag, length) in [
        // hyper leaves the length of a 304 out; RFC 9110 section 8.6 leaves that to us.
        ("/304", 304, Some("\"e\""), None),
        ("/304-bare", 304, Some("W/\"e\""), None),
        ("/204", 204, Some("\"e\""), None),
        ("/204-length", 204, None, None),
        ("/205", 205, None, Some("0")),
        ("/after", 200, None, Some("5")),
    ] {
        connection.write(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = connection.answer().unwrap();
        let got = (answer.status, answer.header("etag"), answer.header("content-length"));
        assert_eq!(got, (status, etag, length), "{target}");
        assert!(answer.header("transfer-encoding").is_none(), "{target}");
        assert_eq!(answer.text(), if target == "/after" { "after" } else { "" });
    }
}

#[test]
fn an_answer_without_length_ends_with_its_connection() {
    let backend = Backend::start(|_| Reply::raw("HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil the end"));
    let proxy = Proxy::start(&backend.url(), "");
    let mut connection = Connection::open(proxy.address);
    for _ in 0..2 {
        connection.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "until the end"));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
    assert_eq!(backend.connections(), 2);
}

#[test]
fn what_is_not_ours_passes_as_it_is() {
    let stage = RawBackend::start();
    let proxy = Proxy::start(&stage.url(), "");
    let mut visitor = Connection::open(proxy.address);
    visitor.write(b"PURGE /a?b=%20&c=+;d HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: x\xff\r\nA: 2\r\nEmpty:\r\n\r\n");
    let mut backend = stage.accept();
    let (first, headers) = backend.head().unwrap();
    assert_eq!(first, "PURGE /a?b=%20&c=+;d HTTP/1.1");
    assert_eq!(values(&headers, "a"), ["1", "2"]);
    assert_eq!((values(&headers, "b"), values(&headers, "empty")), (vec!["x\u{fffd}"], vec![""]));
    backend.write(
        b"HTTP/1.1 299 Own Words\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\nSet-Cookie: b=2; Path=/\r\nB: x\xff\r\n\r\n",
    );
    let (first, headers) = visitor.head().unwrap();
    assert_eq!(first, "HTTP/1.1 299 Own Words");
    assert_eq!(values(&headers, "set-cookie"), ["a=1", "b=2; Path=/"]);
    assert_eq!(values(&headers, "b"), ["x\u{fffd}"]);
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_str()).collect()
}
