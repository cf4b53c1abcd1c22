//! The header protocol, to the backend: which headers a request gets, and what they say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::scene::{Scene, session_lines};
use crate::stores::{Fate, Watched, memory};

const ID_KEY: &str = "0123456789abcdef0123456789abcdef";

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_767_225_600_000))
}

/// The names of all lines of the protocol that the last request had.
fn names(scene: &Scene) -> BTreeSet<String> {
    session_lines(&scene.backend.last().headers).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn each_header_is_sent_where_it_is_asked_for() {
    let all = format!("[headers]\nid = true\nid_key = '{ID_KEY}'\nexpires_in = true\nexpose = ['user_id', 'none']");
    let cases: [(&str, &[&str]); 3] = [
        ("", &["x-session-data", "x-session-state"]),
        ("headers.data = false", &["x-session-state"]),
        (
            &all,
            &["x-session-attr-user-id", "x-session-data", "x-session-expires-in", "x-session-id", "x-session-state"],
        ),
    ];
    for (settings, expected) in cases {
        let scene = Scene::new(settings);
        scene.visitor().get("/");
        assert_eq!(names(&scene), BTreeSet::from(["x-session-state".to_owned()]), "no session: {settings}");
        scene.visitor_with(&json!({"user_id": "ann"})).get("/");
        assert_eq!(names(&scene), expected.iter().map(|name| (*name).to_owned()).collect(), "{settings}");
    }
}

#[test]
fn data_is_one_line_of_ascii_json_with_types_kept() {
    let scene = Scene::new("");
    let mut visitor = scene.visitor();
    visitor.ask(&[r#"X-Session-Set: {"n":1.50,"e":1e2,"b":true,"z":null,"s":"a/\u00e9\"","l":[ ],"o":{"x":{}}}"#]);
    visitor.get("/");
    let seen = scene.backend.last();
    let expected = r#"{"n":1.50,"e":1e2,"b":true,"z":null,"s":"a/\u00e9\"","l":[],"o":{"x":{}}}"#;
    assert_eq!(seen.header("X-Session-Data"), Some(expected));
}

#[test]
fn an_empty_session_is_an_active_one() {
    let scene = Scene::new("");
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    visitor.ask(&["X-Session-Action: clear"]);
    assert_eq!(scene.session(&mut visitor), Some(json!({})));
    assert_eq!(scene.backend.last().header("X-Session-State"), Some("active"));
}

#[test]
fn where_the_store_cannot_be_asked_and_the_route_goes_on_the_state_is_degraded() {
    let broken = Arc::new(AtomicBool::new(false));
    let store = {
        let broken = Arc::clone(&broken);
        let rule = move |_, _| if broken.load(Ordering::SeqCst) { Fate::Fail } else { Fate::Pass };
        Watched::new(&memory(&Clock::system()), rule)
    };
    let routes = "[[routes]]\nupstream = 'app'\non_store_error = 'degrade'\n\
                  [[routes]]\npath = '/strict'\nupstream = 'app'\n";
    let settings = format!("headers.expose = ['a']\n{routes}");
    let scene = Scene::with(&settings, |setup| setup.store(store));
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    broken.store(true, Ordering::SeqCst);
    let answer = visitor.get("/");
    assert_eq!((answer.status, answer.session_cookie()), (200, None));
    let lines = session_lines(&scene.backend.last().headers);
    assert_eq!(lines, [("x-session-state".to_owned(), "degraded".to_owned())]);
    let before = scene.backend.requests().len();
    assert_eq!(visitor.get("/strict").status, 503);
    assert_eq!(scene.backend.requests().len(), before, "the backend is not asked");
    scene.visitor().get("/strict");
    assert_eq!(scene.backend.last().header("X-Session-State"), Some("none"), "without a cookie nobody is asked");
}

#[test]
fn exposed_keys_are_strings_as_they_are_and_anything_else_as_json() {
    let cases: [(Value, Option<&str>); 14] = [
        (json!("ann"), Some("ann")),
        (json!(""), Some("")),
        (json!("a b+c"), Some("a b+c")),
        (json!("100%"), Some("100%25")),
        (json!("  x "), Some("%20%20x%20")),
        (json!("   "), Some("%20%20%20")),
        (json!("K\u{f6}ln"), Some("K%C3%B6ln")),
        (json!("a\tb\u{7f}"), Some("a%09b%7F")),
        (json!("null"), Some("null")),
        (json!(7), Some("7")),
        (json!(false), Some("false")),
        (json!([1, "\u{f6}%"]), Some("[1,\"\\u00f6%25\"]")),
        (json!({"a": {"b": null}}), Some("{\"a\":{\"b\":null}}")),
        (Value::Null, None),
    ];
    for (expose, name) in [("['v']", "X-Session-Attr-V"), ("{ v = 'X-Remote-User' }", "X-Remote-User")] {
        let scene = Scene::new(&format!("headers.expose = {expose}"));
        for (value, expected) in &cases {
            let text = json!({"v": value}).to_string().replace('\u{7f}', "\\u007f");
            let mut visitor = scene.visitor();
            visitor.ask(&[&format!("X-Session-Set: {text}")]);
            assert_eq!(scene.session(&mut visitor), Some(json!({"v": value})));
            assert_eq!(scene.backend.last().header(name), *expected, "{value}");
        }
        scene.visitor_with(&json!({"other": 1})).get("/");
        assert_eq!(scene.backend.last().header(name), None, "a missing key");
    }
}

#[test]
fn keys_become_names_and_tables_give_any_name() {
    let scene = Scene::new("headers.expose = ['user_id', 'is.admin', 'Zahl']");
    scene.visitor_with(&json!({"user_id": 1, "is.admin": true, "Zahl": "drei"})).get("/");
    let seen = scene.backend.last();
    for (name, value) in
        [("X-Session-Attr-User-Id", "1"), ("X-Session-Attr-Is-Admin", "true"), ("X-Session-Attr-Zahl", "drei")]
    {
        assert_eq!(seen.header(name), Some(value));
    }
    let scene = Scene::new("headers.expose = { user_id = 'X-Remote-User', role = 'Role', id = 'X-Session-Attr-Who' }");
    scene.visitor_with(&json!({"user_id": 1, "role": "admin", "id": "me"})).get("/");
    let seen = scene.backend.last();
    for (name, value) in [("X-Remote-User", "1"), ("Role", "admin"), ("X-Session-Attr-Who", "me")] {
        assert_eq!(seen.header(name), Some(value));
    }
}

#[test]
fn overflow_leaves_out_the_data_and_only_the_data() {
    let fits = json!({"user": "ann", "x": "y".repeat(40)});
    let too_long = json!({"user": "ann", "x": "y".repeat(41)});
    assert_eq!((fits.to_string().len(), too_long.to_string().len()), (61, 62));
    let scene = Scene::new("[headers]\nexpose = ['user']\nmax_header_bytes = 61\non_overflow = 'announce'");
    let mut visitor = scene.visitor_with(&fits);
    assert_eq!(scene.session(&mut visitor), Some(fits));
    assert_eq!(scene.backend.last().header("X-Session-Overflow"), None);

    let mut visitor = scene.visitor_with(&too_long);
    assert_eq!(scene.session(&mut visitor), None);
    let seen = scene.backend.last();
    assert_eq!(seen.header("X-Session-Overflow"), Some("bytes=62"));
    assert_eq!(seen.header("X-Session-Attr-User"), Some("ann"));
    visitor.ask(&["X-Session-Unset: x"]);
    assert_eq!(scene.session(&mut visitor), Some(json!({"user": "ann"})), "nothing was lost");
}

#[test]
fn overflow_is_refused_by_default_and_cannot_happen_without_the_header() {
    let too_long = format!("X-Session-Set: {}", json!({"x": "y".repeat(60)}));
    let scene = Scene::new("headers.max_header_bytes = 62");
    assert_eq!(scene.visitor().ask(&[&too_long]).session_cookie(), None);
    let scene = Scene::new("[headers]\nmax_header_bytes = 62\ndata = false\nexpose = ['x']");
    let mut visitor = scene.visitor();
    assert!(visitor.ask(&[&too_long]).session_cookie().is_some());
    visitor.get("/");
    assert_eq!(names(&scene), BTreeSet::from(["x-session-attr-x".to_owned(), "x-session-state".to_owned()]));
}

#[test]
fn the_public_id_follows_the_session_key_and_the_server_key() {
    let settings = |key: &str| format!("[headers]\nid = true\nid_key = '{key}'");
    let scene = Scene::new(&settings(ID_KEY));
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    let mut public_id = |asked: &[&str]| {
        visitor.ask(asked);
        visitor.get("/");
        scene.backend.last().header("X-Session-Id").unwrap().to_owned()
    };
    let first = public_id(&[]);
    assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    assert_eq!(public_id(&["X-Session-Set: a=2"]), first, "the same session");
    assert_ne!(public_id(&["X-Session-Action: cycle"]), first, "another key");
    let other = scene.visitor_with(&json!({"a": 1})).get("/");
    assert_eq!(other.status, 200);
    assert_ne!(scene.backend.last().header("X-Session-Id"), Some(first.as_str()), "another visitor");
}

#[test]
fn expires_in_counts_down_to_the_deadline() {
    let clock = clock();
    let scene = Scene::with("[headers]\nexpires_in = true\n[session]\nmax_age = '1h'", |setup| setup.clock(&clock));
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    let mut left = || {
        visitor.get("/");
        scene.backend.last().header("X-Session-Expires-In").map(str::to_owned)
    };
    assert_eq!(left().as_deref(), Some("3600"));
    clock.advance(Duration::from_secs(600));
    assert_eq!(left().as_deref(), Some("3000"));
    clock.advance(Duration::from_millis(2_999_999));
    assert_eq!(left().as_deref(), Some("0"));
    clock.advance(Duration::from_millis(1));
    assert_eq!(left(), None, "it has expired");
}
