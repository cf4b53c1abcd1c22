//! What caches, visitors, operators and logs are told, and what a fault may touch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloakroom::clock::Clock;

use crate::backend::{Backend, Reply};
use crate::process::Process;
use crate::proxy::{Proxy, Setup};
use crate::stores::{Fate, Watched, memory};
use crate::visitor::{Answer, Connection, Visitor};

/// A store in memory, and what makes it fail for as long as it is set, and panic once.
fn faulty() -> (Arc<Watched>, Arc<AtomicBool>, Arc<AtomicBool>) {
    let (fails, panics): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let store = {
        let (fails, panics) = (Arc::clone(&fails), Arc::clone(&panics));
        Watched::new(&memory(&Clock::system()), move |_, _| {
            assert!(!panics.swap(false, Ordering::SeqCst), "a fault that the test asked for");
            if fails.load(Ordering::SeqCst) { Fate::Fail } else { Fate::Pass }
        })
    };
    (store, fails, panics)
}

#[test]
fn o1_an_answer_with_our_cookie_is_nobody_elses() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let public =
        ["Cache-Control: public, max-age=60", "Cache-Control: s-maxage=9", "Expires: Thu, 01 Jan 2099 00:00:00 GMT"];
    let answer = proxy.visitor().ask(&public);
    assert!(answer.session_cookie().is_none());
    assert_eq!(answer.all("cache-control"), ["public, max-age=60", "s-maxage=9"]);
    assert!(answer.header("expires").is_some());
    let mut visitor = proxy.visitor();
    for update in ["X-Session-Set: a=1", "X-Session-Action: cycle", "X-Session-Action: flush"] {
        let answer = visitor.ask(&[&public[..], &[update]].concat());
        assert!(answer.session_cookie().is_some(), "{update}");
        assert_eq!(answer.header("cache-control"), Some("private, no-store"), "{update}");
        assert!(answer.header("expires").is_none(), "{update}");
    }
}

#[test]
fn o2_vary_names_the_cookie_unless_switched_off() {
    let backend = Backend::obedient();
    let routes = "routes = [
      { upstream = 'app' },
      { path = '/static', upstream = 'app', session = false },
      { path = '/cached', upstream = 'app', vary = false },
    ]\n";
    let proxy = Proxy::start(&backend.url(), routes);
    for (target, given, vary) in [
        ("/", "", &["Cookie"][..]),
        ("/", "Vary: Accept-Encoding", &["Accept-Encoding, Cookie"]),
        ("/", "Vary: Accept, cookie", &["Accept, cookie"]),
        ("/", "Vary: *", &["*"]),
        ("/", "Vary: Accept|Vary: Origin", &["Accept", "Origin", "Cookie"]),
        ("/static", "", &[]),
        ("/static", "Vary: Accept", &["Accept"]),
        ("/cached", "", &[]),
        ("/..", "", &[]),
    ] {
        let headers = if given.is_empty() { vec![] } else { vec![("Reply", given)] };
        let answer = proxy.visitor().send("GET", target, &headers, b"");
        assert_eq!(answer.all("vary"), vary, "{target} {given}");
    }
}

#[test]
fn o3_a_304_carries_nobodys_cookie_but_its_own_visitors() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let mut ann = proxy.visitor();
    ann.ask(&["X-Session-Set: user=ann", "ETag: \"e\""]);
    let not_modified = [("Reply-Status", "304"), ("Reply", "ETag: \"e\""), ("If-None-Match", "\"e\"")];
    for mut visitor in [ann.clone(), proxy.visitor()] {
        let answer = visitor.send("GET", "/", &not_modified, b"");
        assert_eq!((answer.status, answer.header("etag")), (304, Some("\"e\"")));
        assert!(answer.all("set-cookie").is_empty());
        assert_eq!(answer.header("vary"), Some("Cookie"));
        assert_eq!(backend.last().header("if-none-match"), Some("\"e\""));
    }
    let mut bob = proxy.visitor();
    let answer = bob.send("GET", "/", &[&not_modified[..], &[("Reply", "X-Session-Set: user=bob")]].concat(), b"");
    assert_eq!((answer.status, answer.header("cache-control")), (304, Some("private, no-store")));
    assert_ne!(bob.session_id().unwrap(), ann.session_id().unwrap());
}

/// A page of ours in the form asked for: no cause, no address, no name of the program.
fn assert_is_our_page(answer: &Answer, status: u16, json: bool) {
    let text = answer.text();
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(answer.status, status, "{text}");
    assert!(text.contains(id) && text.contains(&status.to_string()), "{text}");
    if json {
        let page: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((page["status"].as_u64(), page["request_id"].as_str()), (Some(u64::from(status)), Some(id)));
    } else {
        assert!(text.starts_with("<!doctype html>"), "{text}");
    }
    let kind = if json { "application/json" } else { "text/html; charset=utf-8" };
    assert_eq!(answer.header("content-type"), Some(kind));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let all = format!("{:?}{text}", answer.headers).to_lowercase();
    for inner in ["127.0.0.1", "redis", "6379", "session:", "refused", "connect", "cloakroom", "hyper", "panic", "src/"]
    {
        let all = all.replace("(\"connection\", \"close\")", "");
        assert!(!all.contains(inner), "{inner}: {all}");
    }
}

#[test]
fn o4_o5_error_pages_are_html_or_json_and_say_nothing_of_the_inside() {
    let (store, fails, panics) = faulty();
    let backend = Backend::start(|seen| match seen.target.as_str() {
        "/update" => Reply::ok("").header("X-Session-Set", "a=1"),
        "/gone" => Reply::hang_up(),
        _ => Reply::ok("ok"),
    });
    let proxy = Setup::new(&backend.url(), "").store(store).start();
    let cases = [
        ("", false),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
        ("text/html, application/json", false),
        ("*/*", false),
        ("application/json", true),
        ("application/json, text/html;q=0.5", true),
        ("application/problem+json", true),
    ];
    for (accept, json) in cases {
        let mut visitor = proxy.visitor();
        let mut ask = |target: &str| visitor.send("GET", target, &[("Accept", accept)], b"");
        fails.store(false, Ordering::SeqCst);
        assert_is_our_page(&ask("/.."), 400, json);
        assert_is_our_page(&ask("/gone"), 502, json);
        assert_eq!(ask("/update").status, 200);
        panics.store(true, Ordering::SeqCst);
        assert_is_our_page(&ask("/"), 500, json);
        fails.store(true, Ordering::SeqCst);
        assert_is_our_page(&ask("/"), 503, json);
        let mut stranger = proxy.visitor();
        assert_is_our_page(&stranger.send("GET", "/update", &[("Accept", accept)], b""), 503, json);
        assert!(stranger.jar.is_empty());
    }
}

#[test]
fn o5_nothing_tells_the_program_or_its_version() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let answer = proxy.visitor().get("/");
    assert!(
        answer.header("server").is_none() && answer.header("via").is_none() && answer.header("x-powered-by").is_none()
    );
    assert!(proxy.visitor().get("/..").header("server").is_none());
    // Before there is a request to answer, too.
    let mut connection = Connection::open(proxy.address);
    connection.write(b"nonsense\r\n\r\n");
    let all = String::from_utf8(connection.rest()).unwrap().to_lowercase();
    assert!(all.starts_with("http/1.1 400 ") && !all.contains("server:") && !all.contains("cloakroom"), "{all}");
}

#[test]
fn o15_a_panic_ends_one_request_and_nothing_else() {
    let (store, _, panics) = faulty();
    let backend = Backend::obedient();
    let proxy = Setup::new(&backend.url(), "").store(store).start();
    let mut ann = proxy.visitor();
    let mut bob = proxy.visitor();
    ann.ask(&["X-Session-Set: user=ann"]);
    bob.ask(&["X-Session-Set: user=bob"]);
    let mut other = Connection::open(proxy.address);
    let mut same = Connection::open(proxy.address);
    let plain = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    other.write(plain);
    assert_eq!(other.answer().unwrap().status, 200);
    for _ in 0..3 {
        panics.store(true, Ordering::SeqCst);
        let cookie = format!("Cookie: sessionid={}", ann.session_id().unwrap());
        same.write(format!("GET / HTTP/1.1\r\nHost: h\r\n{cookie}\r\n\r\n").as_bytes());
        assert_eq!(same.answer().unwrap().status, 500);
        same.write(plain);
        assert_eq!(same.answer().unwrap().status, 200);
        assert_eq!(backend.last().session(), None);
        other.write(plain);
        assert_eq!(other.answer().unwrap().status, 200);
        for (visitor, name) in [(&mut ann, "ann"), (&mut bob, "bob")] {
            visitor.get("/");
            assert_eq!(backend.last().session().unwrap()["user"], name);
        }
    }
}

fn ask_operators(proxy: &Proxy, path: &str) -> Answer {
    let open_metrics = [("Accept", "application/openmetrics-text;version=1.0.0")];
    Visitor::new(proxy.admin.unwrap()).send("GET", path, &open_metrics, b"")
}

#[test]
fn operators_have_pages_of_their_own_that_visitors_do_not_see() {
    let (store, fails, _) = faulty();
    let backend = Backend::obedient();
    let proxy = Setup::new(&backend.url(), "admin.listen = '127.0.0.1:0'\n").store(store).start();
    assert_eq!(proxy.visitor().get("/").status, 200);
    assert_eq!(ask_operators(&proxy, "/healthz").status, 200);
    assert_eq!(ask_operators(&proxy, "/readyz").status, 200);
    let metrics = ask_operators(&proxy, "/metrics").text();
    assert!(metrics.contains("\ncloakroom_requests_total{") && metrics.ends_with("# EOF\n"), "{metrics}");
    let metrics = proxy.metrics();
    assert!(metrics.contains("\ncloakroom_requests_total{") && !metrics.contains("# EOF"), "{metrics}");
    fails.store(true, Ordering::SeqCst);
    assert_eq!(ask_operators(&proxy, "/readyz").status, 503);
    assert!(!ask_operators(&proxy, "/readyz").text().contains("redis"));
    assert_eq!(ask_operators(&proxy, "/healthz").status, 200);
    assert_eq!(ask_operators(&proxy, "/").status, 404);
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = proxy.visitor().get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(backend.last().target, path);
    }
}

#[test]
fn without_a_section_for_operators_there_is_no_such_listener() {
    let backend = Backend::obedient();
    assert!(Proxy::start(&backend.url(), "").admin.is_none());
}

#[test]
fn o7_what_a_visitor_sends_forges_no_line_and_no_field() {
    let backend = Backend::obedient();
    let mut process = Process::start(&backend.url(), "trusted_proxies = ['127.0.0.1']", "");
    let forged = "\"}\u{1b}[31m";
    for (request, path) in [
        ("GET /a%0d%0a{\"level\":\"ERROR\"} HTTP/1.1\r\nHost: h", "/a%0d%0a{\"level\":\"ERROR\"}"),
        ("GET /%1b[2J\",\"status\":200 HTTP/1.1\r\nHost: h", "/%1b[2J\",\"status\":200"),
        ("GET /caf\u{e9}\u{9b}K HTTP/1.1\r\nHost: h", "/caf\u{e9}\u{9b}K"),
        ("GET /agent HTTP/1.1\r\nHost: h\r\nUser-Agent: \u{9b}\"}{", "/agent"),
        ("GET /id HTTP/1.1\r\nHost: h\r\nX-Request-Id: a\"}{", "/id"),
        ("GET /for HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: \"},1.1.1.1\n.x", "/for"),
        ("G\"T /method HTTP/1.1\r\nHost: h", "/method"),
    ] {
        let mut connection = Connection::open(process.address);
        connection.write(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes());
        let answer = connection.answer().unwrap();
        if answer.status != 200 {
            // Refused before there was a request to log.
            assert_eq!(answer.status, 400, "{request:?}");
            continue;
        }
        let line = process.event(|line| line["target"] == "cloakroom::access");
        assert_eq!((line["path"].as_str(), line["status"].as_u64()), (Some(path), Some(200)), "{line}");
        assert_eq!(line["level"], "INFO");
    }
    let served = process.seen.iter().filter(|line| line.contains("cloakroom::access")).count();
    assert!(served >= 4, "{:#?}", process.seen);
    process.signal("TERM");
    assert!(process.wait().success());
    for line in &process.seen {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        assert!(!line.contains(|c: char| c.is_ascii_control()) && !line.contains(forged), "{line:?}");
    }
}

#[test]
fn o8_the_life_of_a_session_is_in_the_log_and_its_key_is_not() {
    let backend = Backend::obedient();
    let text = "[store]\nengine = 'memory'\nclear_interval = '1s'\n";
    let mut process = Process::start(&backend.url(), "", text);
    let mut visitor = process.visitor();
    let mut ids = Vec::new();
    let mut tags = Vec::new();
    for (update, event) in [
        ("X-Session-Set: a=1", "created"),
        ("X-Session-Action: cycle", "cycled"),
        ("X-Session-Set: a", "refused"),
        ("X-Session-Action: flush", "ended"),
    ] {
        let answer = visitor.ask(&[update]);
        assert_eq!(answer.status, 200);
        let line = process.event(|line| line["event"] == event);
        assert_eq!(line["target"], "cloakroom::session");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        let access = process.event(|line| line["target"] == "cloakroom::access");
        assert_eq!(line["request"], access["request"], "one request, one id");
        ids.extend(visitor.session_id().map(str::to_owned));
        if event == "cycled" {
            assert_eq!(line["previous"].as_str(), tags.last().map(String::as_str), "{line}");
        }
        tags.push(line["session"].as_str().expect("a tag").to_owned());
    }
    // The session that was cycled is the one that was refused an update and ended.
    assert_ne!(tags[0], tags[1]);
    assert_eq!([&tags[2], &tags[3]], [&tags[1]; 2]);
    process.visitor().ask(&["X-Session-Set: a=1", "X-Session-Expiry: 1"]);
    process.event(|line| line["event"] == "expired" && line["count"].as_u64() > Some(0));
    assert!(ids.len() >= 2);
    let log = process.seen.join("\n");
    for id in &ids {
        let key = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(id.as_bytes()));
        assert!(!log.contains(id.as_str()) && !log.contains(&key), "{log}");
    }
}

#[test]
fn o8_a_store_that_fails_is_in_the_log_with_its_request() {
    let backend = Backend::obedient();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.sqlite3");
    let store = format!("[store]\nengine = 'db'\nurl = 'sqlite://{}'\n", file.display());
    let mut process = Process::start(&backend.url(), "", &store);
    // Nobody else can write while this transaction is open.
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = process.visitor().ask(&["X-Session-Set: a=1"]);
    assert_is_our_page(&answer, 503, false);
    let line = process.event(|line| line["level"] == "ERROR");
    assert_eq!(line["request"].as_str(), answer.header("x-request-id"));
    assert!(line["error"].as_str().unwrap().contains("the store could not take the update: "), "{line}");
    assert_eq!(line["status"], 503);
}
