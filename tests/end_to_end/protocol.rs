//! The header protocol, over the wire: the examples its description gives.

use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::{Value, json};

use crate::backend::{Backend, Reply, obey};
use crate::proxy::Proxy;

/// The response lines, the session before and after; `None` for no session.
fn examples() -> Vec<(&'static [&'static str], Value, Option<Value>)> {
    vec![
        (&["X-Session-Set: a=1", "X-Session-Set: b=2"], json!({}), Some(json!({"a": "1", "b": "2"}))),
        (&["X-Session-Set: a=1, b=2"], json!({}), Some(json!({"a": "1", "b": "2"}))),
        (&["X-Session-Set: city=K%C3%B6ln%2C+DE"], json!({}), Some(json!({"city": "Köln, DE"}))),
        (&["X-Session-Set: a="], json!({"a": "1"}), Some(json!({"a": ""}))),
        (&["X-Session-Set: a=b=c"], json!({}), Some(json!({"a": "b=c"}))),
        (
            &[r#"X-Session-Set: {"n":1,"l":[1,{"x":null}]}"#],
            json!({"n": 0}),
            Some(json!({"n": 1, "l": [1, {"x": null}]})),
        ),
        (&["X-Session-Set: a=%zz&b=2"], json!({"b": "1"}), Some(json!({"b": "1"}))),
        (
            &[r#"X-Session-Patch: {"c":{"x":null,"y":[1]}}"#],
            json!({"c": {"x": 1, "z": 2}}),
            Some(json!({"c": {"z": 2, "y": [1]}})),
        ),
        (&[r#"X-Session-Patch: {"a":1}, {"a":2}"#], json!({}), Some(json!({"a": 2}))),
        (&["X-Session-Unset: a, b%2Cc"], json!({"a": 1, "b,c": 2, "d": 3}), Some(json!({"d": 3}))),
        (&["X-Session-Action: flush", "X-Session-Set: m=bye"], json!({"u": 1}), Some(json!({"m": "bye"}))),
        (&["X-Session-Action: flush"], json!({"u": 1}), None),
    ]
}

#[test]
fn the_examples_of_the_description_hold() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let examples = examples();
    assert_eq!(examples.len(), 12);
    for (lines, before, after) in examples {
        let mut visitor = proxy.visitor();
        if before != json!({}) {
            visitor.ask(&[&format!("X-Session-Set: {before}")]);
            visitor.get("/");
            assert_eq!(backend.last().session(), Some(before));
        }
        let id = visitor.session_id().map(str::to_owned);
        let answer = visitor.ask(lines);
        assert_eq!(answer.status, 200);
        assert!(answer.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("x-session")));
        if lines.iter().any(|line| line.contains("flush")) {
            assert_ne!(visitor.session_id().map(str::to_owned), id, "{lines:?}");
        } else if id.is_some() {
            assert_eq!(visitor.session_id().map(str::to_owned), id, "{lines:?}");
        }
        visitor.get("/");
        assert_eq!(backend.last().session(), after, "{lines:?}");
    }
}

#[test]
fn two_increments_at_once_are_both_kept() {
    // Both requests are at the backend before either is answered, so both saw a session without hits.
    let both = Arc::new(Barrier::new(2));
    let meeting = Arc::clone(&both);
    let backend = Backend::start(move |seen| {
        if seen.target == "/hit" {
            meeting.wait();
            return Reply::ok("ok").header("X-Session-Incr", "hits=1");
        }
        obey(seen)
    });
    let proxy = Proxy::start(&backend.url(), "");
    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Set: user=ann"]);
    let hits = [visitor.clone(), visitor.clone()].map(|mut visitor| thread::spawn(move || visitor.get("/hit").status));
    assert_eq!(hits.map(|hit| hit.join().unwrap()), [200, 200]);
    let hits = backend.requests().into_iter().filter(|seen| seen.target == "/hit");
    assert_eq!(
        hits.map(|seen| seen.session().unwrap()["hits"].clone()).collect::<Vec<_>>(),
        [Value::Null, Value::Null]
    );
    visitor.get("/");
    assert_eq!(backend.last().session(), Some(json!({"user": "ann", "hits": 2})));
}

#[test]
fn on_a_500_data_is_dropped_and_a_flush_is_obeyed() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let mut visitor = proxy.visitor();
    let answer = visitor.send("GET", "/", &[("Reply", "X-Session-Set: a=1"), ("Reply-Status", "500")], b"");
    assert_eq!((answer.status, answer.session_cookie()), (500, None));
    visitor.get("/");
    assert_eq!(backend.last().session(), None);

    visitor.ask(&["X-Session-Set: {\"u\":1}"]);
    let replay = visitor.clone();
    let answer = visitor.send("GET", "/", &[("Reply", "X-Session-Action: flush"), ("Reply-Status", "500")], b"");
    assert_eq!((answer.status, visitor.session_id()), (500, None));
    for mut visitor in [visitor, replay] {
        visitor.get("/");
        assert_eq!(backend.last().header("X-Session-State"), Some("none"));
    }
}
