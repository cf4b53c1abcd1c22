//! A session id: nobody guesses it, nobody chooses it, and nobody sees it but the visitor's browser.

use std::collections::HashSet;
use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::session::id::SessionId;
use serde_json::json;

use crate::backend::{Backend, Reply, obey};
use crate::process::Process;
use crate::scene::{Scene, raw};
use crate::stores::{Fate, Watched, memory};
use crate::visitor::Connection;

const ADMIN: &str = "[admin]\nlisten = '127.0.0.1:0'\n";
/// The default of `session.cycle_grace`.
const GRACE: Duration = Duration::from_secs(10);

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_767_225_600_000))
}

/// A scene whose time stands still, and its clock.
fn still(text: &str) -> (Scene, Clock) {
    let clock = clock();
    (Scene::with(text, |setup| setup.clock(&clock)), clock)
}

#[test]
fn i1_ids_are_32_small_letters_and_digits_and_never_the_same() {
    let scene = Scene::new("");
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let visitor = scene.visitor_with(&json!({"a": 1}));
        let id = visitor.session_id().unwrap().to_owned();
        assert_eq!(id.len(), 32, "165 bits");
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
        assert!(ids.insert(id));
    }
    assert_eq!(ids.len(), 100);
}

#[test]
fn i2_an_unknown_id_is_never_adopted() {
    let scene = Scene::new("");
    let planted = "a".repeat(32);
    let cookie = format!("sessionid={planted}");
    for asked in [
        "X-Session-Set: user=ann",
        "X-Session-Patch: {\"user\":1}",
        "X-Session-Incr: n=1",
        "X-Session-Set: a=1|X-Session-Action: cycle",
        "X-Session-Set: a=1|X-Session-Action: flush",
    ] {
        let mut visitor = scene.visitor();
        visitor.jar.insert("sessionid".to_owned(), planted.clone());
        visitor.ask(&[asked]);
        assert_ne!(visitor.session_id(), Some(planted.as_str()), "{asked}");
        assert!(scene.session(&mut visitor).is_some(), "{asked}");
        assert_eq!(scene.seen("/", &[("Cookie", &cookie)]).header("X-Session-State"), Some("none"), "{asked}");
    }
    for asked in ["X-Session-Action: touch", "X-Session-Action: cycle", "X-Session-Expiry: 60", "X-Session-Unset: a"] {
        let mut visitor = scene.visitor();
        visitor.jar.insert("sessionid".to_owned(), planted.clone());
        assert_eq!(visitor.ask(&[asked]).session_cookie(), None, "{asked}");
    }
}

#[test]
fn i3_a_malformed_id_is_none_and_asks_no_store() {
    let store = Watched::new(&memory(&Clock::system()), |_, _| Fate::Pass);
    let scene = Scene::with("", |setup| setup.store(store.clone()));
    let long = "a".repeat(10_000);
    let short = "a".repeat(31);
    let longer = "a".repeat(33);
    let upper = "A".repeat(32);
    let nul = format!("{}%00", "a".repeat(29));
    let break_out = format!("{}\r", "a".repeat(31)).replace('\r', "%0d");
    let tag = format!("{{tag}}{}", "a".repeat(27));
    let path = format!("../../etc/passwd{}", "a".repeat(16));
    let values = [
        "", "../..", "a b", "*", "{tag}", "%00", "\"\"", "é", &long, &short, &longer, &upper, &nul, &break_out, &tag,
        &path,
    ];
    for value in values {
        for cookie in [format!("sessionid={value}"), format!("a=1; sessionid={value}; sessionid={value}")] {
            let answer = scene.visitor().send("GET", "/", &[("Cookie", &cookie)], b"");
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "{value}");
            assert_eq!(scene.backend.last().header("X-Session-State"), Some("none"), "{value}");
        }
    }
    assert_eq!(store.take_calls(), []);
    scene.seen("/", &[("Cookie", &format!("sessionid={}", "a".repeat(32)))]);
    assert_eq!(store.take_calls().len(), 1, "what has the form is looked up");
}

#[test]
fn i4_an_id_counts_in_the_cookie_alone() {
    let scene = Scene::new("");
    let visitor = scene.visitor_with(&json!({"user": "ann"}));
    let id = visitor.session_id().unwrap();
    let targets = ["/?sessionid=ID", "/;sessionid=ID", "/;jsessionid=ID", "/page;sessionid=ID?sessionid=ID", "/ID"];
    for target in targets {
        let target = target.replace("ID", id);
        let seen = scene.seen(&target, &[]);
        assert_eq!((seen.header("X-Session-State"), &seen.target), (Some("none"), &target));
    }
    for name in ["X-Session-Id", "Authorization", "sessionid", "Cookie2", "Set-Cookie", "X-Cookie"] {
        let seen = scene.seen("/", &[(name, &format!("sessionid={id}")), (name, id)]);
        assert_eq!(seen.header("X-Session-State"), Some("none"), "{name}");
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("sessionid={id}");
    scene.visitor().send("POST", "/", &form, body.as_bytes());
    let seen = scene.backend.last();
    assert_eq!((seen.header("X-Session-State"), seen.body.as_slice()), (Some("none"), body.as_bytes()));
}

#[test]
fn i5_a_new_id_comes_by_itself_when_a_configured_key_appears_or_changes() {
    let (scene, clock) = still("session.cycle_on_change = ['user_id']");
    let mut visitor = scene.visitor_with(&json!({"cart": 3}));
    for (asked, cycles) in [
        ("X-Session-Set: lang=de", false),
        ("X-Session-Set: user_id=7", true),
        ("X-Session-Set: user_id=7", false),
        ("X-Session-Set: cart=4", false),
        ("X-Session-Patch: {\"user_id\":\"8\"}", true),
        ("X-Session-Incr: visits=1", false),
        ("X-Session-Set: {\"user_id\":8}", true),
        ("X-Session-Incr: user_id=1", true),
        ("X-Session-Unset: user_id", false),
        ("X-Session-Set: user_id=7", true),
    ] {
        let old = visitor.session_id().unwrap().to_owned();
        assert!(visitor.ask(&[asked]).session_cookie().is_some(), "{asked}");
        assert_eq!(visitor.session_id() != Some(old.as_str()), cycles, "{asked}");
        clock.advance(GRACE);
        let seen = scene.seen("/", &[("Cookie", &format!("sessionid={old}"))]);
        let expected = if cycles { "none" } else { "active" };
        assert_eq!(seen.header("X-Session-State"), Some(expected), "the old id after {asked}");
    }
    assert_eq!(scene.session(&mut visitor), Some(json!({"cart": "4", "lang": "de", "user_id": "7", "visits": 1})));
}

#[test]
fn i6_cycle_keeps_the_data_and_ends_the_old_id() {
    let (scene, clock) = still("");
    let mut visitor = scene.visitor_with(&json!({"cart": [1, 2]}));
    let old = visitor.session_id().unwrap().to_owned();
    visitor.ask(&["X-Session-Action: cycle"]);
    assert_ne!(visitor.session_id(), Some(old.as_str()));
    assert_eq!(scene.session(&mut visitor), Some(json!({"cart": [1, 2]})));
    clock.advance(GRACE);
    assert_eq!(scene.seen("/", &[("Cookie", &format!("sessionid={old}"))]).session(), None);
    assert_eq!(scene.session(&mut visitor), Some(json!({"cart": [1, 2]})));
}

#[test]
fn i6_without_grace_the_old_id_is_dead_at_once() {
    let (scene, _) = still("session.cycle_grace = 0");
    let mut visitor = scene.visitor_with(&json!({"cart": 1}));
    let old = visitor.session_id().unwrap().to_owned();
    visitor.ask(&["X-Session-Action: cycle"]);
    assert_eq!(scene.seen("/", &[("Cookie", &format!("sessionid={old}"))]).session(), None);
    assert_eq!(scene.session(&mut visitor), Some(json!({"cart": 1})));
}

#[test]
fn i7_in_its_grace_an_old_id_reads_the_past_and_does_nothing_else() {
    let (scene, clock) = still(ADMIN);
    let mut visitor = scene.visitor_with(&json!({"cart": 1}));
    let mut late = visitor.clone();
    visitor.ask(&["X-Session-Action: cycle", "X-Session-Set: user=ann"]);
    assert_eq!(scene.session(&mut late), Some(json!({"cart": 1})), "what came with the login is not told");
    let interrupted = || scene.counter("cloakroom_session_events_total{event=\"interrupted\"}");
    for asked in [
        "X-Session-Set: cart=2",
        "X-Session-Patch: {\"cart\":null}",
        "X-Session-Incr: n=1",
        "X-Session-Action: cycle",
        "X-Session-Action: touch",
        "X-Session-Action: clear",
        "X-Session-Expiry: 600",
    ] {
        let before = interrupted();
        let answer = late.ask(&[asked]);
        assert_eq!((answer.status, answer.session_cookie()), (200, None), "{asked}");
        assert_eq!(interrupted(), before + 1, "{asked}");
        assert_eq!(scene.session(&mut late), Some(json!({"cart": 1})), "{asked}");
    }
    assert_eq!(scene.session(&mut visitor), Some(json!({"cart": 1, "user": "ann"})));
    clock.advance(Duration::from_millis(9_999));
    assert!(scene.session(&mut late).is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(scene.session(&mut late), None);
    assert_eq!(scene.session(&mut visitor), Some(json!({"cart": 1, "user": "ann"})));
}

#[test]
fn i7_a_logout_wins_over_the_grace_on_either_side() {
    for action in ["flush", "delete"] {
        for through_the_old in [true, false] {
            let (scene, _) = still("");
            let mut new = scene.visitor_with(&json!({"user": "ann"}));
            let mut old = new.clone();
            new.ask(&["X-Session-Action: cycle"]);
            // A copy says it, for either's own jar keeps the cookie to be replayed.
            let mut one = if through_the_old { old.clone() } else { new.clone() };
            one.ask(&[&format!("X-Session-Action: {action}")]);
            assert_eq!(scene.session(&mut new), None, "{action} {through_the_old}");
            assert_eq!(scene.session(&mut old), None, "{action} {through_the_old}");
        }
    }
}

#[test]
fn i9_the_store_never_learns_the_cookies_value() {
    let store = Watched::new(&memory(&Clock::system()), |_, _| Fate::Pass);
    let scene = Scene::with("", |setup| setup.store(store.clone()));
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    let mut ids = vec![visitor.session_id().unwrap().to_owned()];
    visitor.get("/");
    visitor.ask(&["X-Session-Set: a=1"]);
    visitor.ask(&["X-Session-Action: cycle"]);
    ids.push(visitor.session_id().unwrap().to_owned());
    visitor.ask(&["X-Session-Action: flush"]);
    let calls = store.take_calls();
    assert!(calls.len() >= 8, "{calls:?}");
    let keys: HashSet<String> =
        ids.iter().map(|id| SessionId::parse(id.as_bytes()).unwrap().digest().as_str().to_owned()).collect();
    for (call, key) in calls {
        assert!(keys.contains(&key), "{call:?} of a key that is no digest of an id");
        assert!(ids.iter().all(|id| !key.contains(id.as_str())), "{call:?} {key}");
        assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{call:?} {key}");
    }
}

/// Everything that leaves a trace, and the ids that were in use.
fn lead_a_life(address: std::net::SocketAddr) -> Vec<String> {
    let mut visitor = crate::visitor::Visitor::new(address);
    let mut ids = Vec::new();
    for asked in [
        "X-Session-Set: user=ann",
        "X-Session-Set: a=%zz",
        "X-Session-Action: explode",
        "X-Session-Expiry: 60",
        "X-Session-Action: cycle",
        "X-Session-Action: touch",
        "Hang-Up: 1",
    ] {
        let answer = visitor.ask(&[asked]);
        let id = visitor.session_id().unwrap().to_owned();
        if asked.starts_with("Hang-Up") {
            assert_eq!(answer.status, 502);
            assert!(!answer.text().contains(&id), "the page tells the id");
        }
        ids.push(id);
    }
    // An old id in its grace, a path that is refused, a target too long, and an id nobody has.
    let mut old = visitor.clone();
    old.jar.insert("sessionid".to_owned(), ids[0].clone());
    old.ask(&["X-Session-Set: late=1"]);
    let cookie = format!("sessionid={}", ids[0]);
    for target in ["/../x", "/nowhere", &format!("/{}", "x".repeat(9000))] {
        let answer = old.send("GET", target, &[("Cookie", &cookie)], b"");
        assert!(!answer.text().contains(&ids[0]), "the page tells the id");
    }
    let guessed = "g".repeat(32);
    old.jar.insert("sessionid".to_owned(), guessed.clone());
    old.get("/");
    ids.push(guessed);
    visitor.ask(&["X-Session-Action: flush"]);
    assert_eq!(visitor.session_id(), None);
    ids
}

fn life_backend() -> Backend {
    Backend::start(|seen| {
        if seen.all("reply").iter().any(|reply| reply.starts_with("Hang-Up")) { Reply::hang_up() } else { obey(seen) }
    })
}

fn secrets(ids: &[String]) -> Vec<String> {
    let key = |id: &String| SessionId::parse(id.as_bytes()).unwrap().digest().as_str().to_owned();
    ids.iter().map(key).chain(ids.iter().cloned()).collect()
}

#[test]
fn i10_no_log_tells_an_id_or_a_key() {
    for format in ["text", "json"] {
        let backend = life_backend();
        let mut served = Process::serve(&format!(
            "server = {{ listen = ['127.0.0.1:0'], workers = 1 }}\nstore.engine = 'memory'\n\
             upstreams.app.servers = ['{}']\nlog.format = '{format}'\n",
            backend.url()
        ));
        let ids = lead_a_life(served.address);
        let log = served.stop();
        for event in ["created", "cycled", "ended", "refused", "interrupted"] {
            assert!(log.contains(event), "{format}: no {event} in\n{log}");
        }
        assert!(log.matches("/nowhere").count() >= 1, "the access log is on: {log}");
        for secret in secrets(&ids) {
            assert!(!log.contains(&secret), "{format}: {secret} in\n{log}");
        }
    }
}

#[test]
fn i10_no_metric_tells_an_id_or_a_key() {
    let backend = life_backend();
    let proxy = crate::proxy::Proxy::start(&backend.url(), ADMIN);
    let ids = lead_a_life(proxy.address);
    let metrics = proxy.metrics();
    assert!(metrics.contains("cloakroom_session_events_total{event=\"cycled\"} 1"), "{metrics}");
    for secret in secrets(&ids) {
        assert!(!metrics.contains(&secret), "{secret}");
    }
}

#[test]
fn i11_an_id_appears_in_set_cookie_and_nowhere_else() {
    let key = "k".repeat(32);
    let scene = Scene::new(&format!("[headers]\nid = true\nid_key = '{key}'\nexpires_in = true\nexpose = ['user']\n"));
    let mut visitor = scene.visitor();
    let mut cookies = 0;
    for asked in ["X-Session-Set: user=ann", "X-Session-Action: cycle", "X-Session-Set: a=1", "X-Other: 1"] {
        let answer = visitor.ask(&[asked]);
        let id = visitor.session_id().unwrap().to_owned();
        for (name, value) in &answer.headers {
            if name.eq_ignore_ascii_case("set-cookie") {
                cookies += 1;
            } else {
                assert!(!value.contains(&id), "{name} tells the id");
            }
        }
        assert!(!answer.text().contains(&id));
    }
    assert_eq!(cookies, 3);
    visitor.get("/");
    let id = visitor.session_id().unwrap();
    let seen = scene.backend.last();
    assert_eq!(seen.header("X-Session-Id").map(str::len), Some(64), "a public id instead");
    let secrets = secrets(&[id.to_owned()]);
    for (name, value) in &seen.headers {
        assert!(secrets.iter().all(|secret| !value.contains(secret)), "{name} tells the id");
    }
    assert!(!seen.target.contains(id));
}

#[test]
fn i12_guessing_is_counted() {
    let scene = Scene::new(ADMIN);
    let unknown = || scene.counter("cloakroom_session_events_total{event=\"unknown\"}");
    raw(&scene.proxy, b"GET / HTTP/1.1\r\nHost: h\r\nCookie: sessionid=malformed\r\nConnection: close\r\n\r\n");
    assert_eq!(unknown(), 0, "what has not the form of an id is no guess");
    let mut connection = Connection::open(scene.proxy.address);
    for guess in 0..1000 {
        connection.write(format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: sessionid={guess:032}\r\n\r\n").as_bytes());
        assert_eq!(connection.answer().map(|answer| answer.status), Some(200));
    }
    assert_eq!(unknown(), 1000);
}
