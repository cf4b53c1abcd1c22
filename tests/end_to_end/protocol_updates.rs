//! The header protocol, from the backend: what each header means, in which order, and when.

use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::backend::Reply;
use crate::scene::{Scene, SetCookie};

type Case = (&'static [&'static str], Value, Option<Value>);

/// The response lines, the session before and after; `None` for no session.
fn assert_cases(scene: &Scene, cases: Vec<Case>) {
    for (lines, before, after) in cases {
        let mut visitor = scene.visitor_with(&before);
        let answer = visitor.ask(lines);
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{lines:?}");
        assert_eq!(scene.session(&mut visitor), after, "{lines:?} on {before}");
    }
}

#[test]
fn set_as_a_form() {
    assert_cases(
        &Scene::new(""),
        vec![
            (&["X-Session-Set: a=1&b=2"], json!({}), Some(json!({"a": "1", "b": "2"}))),
            (&["X-Session-Set: a=1,b=2 , c=3"], json!({}), Some(json!({"a": "1", "b": "2", "c": "3"}))),
            (&["X-Session-Set: a=1&b=2,c=3"], json!({}), Some(json!({"a": "1", "b": "2", "c": "3"}))),
            (&["X-Session-Set: ,,a=1,&&,b=2&"], json!({}), Some(json!({"a": "1", "b": "2"}))),
            (&["X-Session-Set: a=1&a=2"], json!({}), Some(json!({"a": "2"}))),
            (&["X-Session-Set: a+b=c+d%2Be"], json!({}), Some(json!({"a b": "c d+e"}))),
            (&["X-Session-Set: a%3Db=%26%2C%25"], json!({}), Some(json!({"a=b": "&,%"}))),
            (&["X-Session-Set: n=007"], json!({"n": 1}), Some(json!({"n": "007"}))),
            (&["X-Session-Set: a="], json!({}), Some(json!({"a": ""}))),
            (&["x-SESSION-set: a=1"], json!({}), Some(json!({"a": "1"}))),
            (&["X_Session_Set: a=1", "X-Session.Set: b=1"], json!({}), None),
            (&["X-Session-Set: =1"], json!({}), None),
            (&["X-Session-Set: a"], json!({}), None),
            (&["X-Session-Set: a=%e9"], json!({}), None),
            (&["X-Session-Set: a%00b=1"], json!({}), None),
            (&["X-Session-Set: a=1,{\"b\":2}"], json!({}), None),
        ],
    );
}

#[test]
fn set_as_json() {
    assert_cases(
        &Scene::new(""),
        vec![
            (
                &[r#"X-Session-Set: {"a":null,"b":[1.0],"c":{}}"#],
                json!({}),
                Some(json!({"a": null, "b": [1.0], "c": {}})),
            ),
            (&[r#"X-Session-Set: {"a":{"y":2}}"#], json!({"a": {"x": 1}}), Some(json!({"a": {"y": 2}}))),
            (&[r#"X-Session-Set: {"a":1}, {"b":2},{"a":3}"#], json!({}), Some(json!({"a": 3, "b": 2}))),
            (&["X-Session-Set: {}"], json!({"a": 1}), Some(json!({"a": 1}))),
            (&["X-Session-Set: {}"], json!({}), None),
            (&[r#"X-Session-Set: {"a":1},b=2"#], json!({}), None),
            (&[r#"X-Session-Set: {"a":1}&{"b":2}"#], json!({}), None),
            (&["X-Session-Set: {'a':1}"], json!({}), None),
            (&[r#"X-Session-Set: {"a":"\ud800"}"#], json!({}), None),
            (&[r#"X-Session-Set: {"a":NaN}"#], json!({}), None),
            (&[r#"X-Session-Set: {"":1}"#], json!({}), None),
        ],
    );
}

#[test]
fn patch_unset_and_incr() {
    assert_cases(
        &Scene::new(""),
        vec![
            (&[r#"X-Session-Patch: {"a":{"y":2}}"#], json!({"a": {"x": 1}}), Some(json!({"a": {"x": 1, "y": 2}}))),
            (&[r#"X-Session-Patch: {"a":null}"#], json!({"a": 1, "b": 2}), Some(json!({"b": 2}))),
            (&[r#"X-Session-Patch: {"a":[null]}"#], json!({"a": [1, 2]}), Some(json!({"a": [null]}))),
            (&[r#"X-Session-Patch: {"a":{"b":{"c":null}}}"#], json!({"a": 1}), Some(json!({"a": {"b": {}}}))),
            (&["X-Session-Unset: a,b , missing"], json!({"a": 1, "b": 2, "c": 3}), Some(json!({"c": 3}))),
            (&["X-Session-Unset: a+b%2C%26"], json!({"a b,&": 1, "c": 3}), Some(json!({"c": 3}))),
            (&["X-Session-Unset: a&b"], json!({"a": 1, "a&b": 2}), Some(json!({"a": 1}))),
            (&["X-Session-Unset: a"], json!({"a": 1}), Some(json!({}))),
            (&["X-Session-Unset: missing"], json!({}), None),
            (&["X-Session-Incr: n=2&m=-3"], json!({"n": 40}), Some(json!({"n": 42, "m": -3}))),
            (&["X-Session-Incr: n=1, n=1"], json!({}), Some(json!({"n": 2}))),
            (&["X-Session-Incr: n=1", "X-Session-Incr: n=1"], json!({}), Some(json!({"n": 2}))),
            (&["X-Session-Incr: n=1"], json!({"n": 1.5}), Some(json!({"n": 2.5}))),
            (
                &["X-Session-Incr: n=1"],
                json!({"n": 9_223_372_036_854_775_806_i64}),
                Some(json!({"n": 9_223_372_036_854_775_807_i64})),
            ),
            (
                &["X-Session-Incr: n=1", "X-Session-Set: b=1"],
                json!({"n": 9_223_372_036_854_775_807_i64}),
                Some(json!({"n": 9_223_372_036_854_775_807_i64})),
            ),
            (&["X-Session-Incr: n=1", "X-Session-Set: b=1"], json!({"n": "1"}), Some(json!({"n": "1"}))),
            (&["X-Session-Incr: n=1", "X-Session-Set: b=1"], json!({"n": null}), Some(json!({"n": null}))),
            (&["X-Session-Incr: n=one"], json!({"n": 1}), Some(json!({"n": 1}))),
        ],
    );
}

#[test]
fn lines_count_in_the_order_of_the_protocol_whatever_their_own() {
    assert_cases(
        &Scene::new(""),
        vec![
            (
                &["X-Session-Unset: a", "X-Session-Incr: a=1", r#"X-Session-Patch: {"a":2}"#, "X-Session-Set: a=x,b=y"],
                json!({}),
                Some(json!({"b": "y"})),
            ),
            (
                &["X-Session-Incr: n=1", r#"X-Session-Patch: {"n":10}"#, "X-Session-Set: n=x"],
                json!({}),
                Some(json!({"n": 11})),
            ),
            (&["X-Session-Set: a=1", "X-Session-Action: clear"], json!({"b": 1}), Some(json!({"a": "1"}))),
            (&["X-Session-Set: a=1", "X-Session-Action: delete"], json!({"b": 1}), Some(json!({"a": "1"}))),
            (&["X-Session-Incr: n=1", "X-Session-Action: flush"], json!({"n": 1}), Some(json!({"n": 1}))),
            (&["X-Session-Action: clear, flush, delete"], json!({"b": 1}), None),
            (&["X-Session-Action: clear", "X-Session-Action: delete"], json!({"b": 1}), None),
        ],
    );
}

#[test]
fn raw_utf8_is_text_and_any_other_byte_is_malformed() {
    let scene = Scene::new("");
    for (line, after) in [
        (&b"{\"caf\xc3\xa9\":\"\xe2\x82\xac\"}"[..], Some(json!({"café": "€"}))),
        (b"caf\xc3\xa9=\xe2\x82\xac", Some(json!({"café": "€"}))),
        (b"a=\xe9", None),
        (b"{\"a\":\"\xc3\"}", None),
        (b"a=\xed\xa0\x80", None),
    ] {
        let mut visitor = scene.visitor();
        scene.answer_next(Reply::ok("ok").header("X-Session-Set", line));
        assert_eq!(visitor.get("/").status, 200);
        assert_eq!(scene.session(&mut visitor), after, "{line:?}");
    }
}

/// Which key and which cookie are left after an action.
#[test]
fn actions_say_what_becomes_of_record_key_and_cookie() {
    let scene = Scene::new("");
    // The action; whether the id stays, whether the cookie goes, and what the session holds then.
    let cases: [(&str, bool, bool, Option<Value>); 8] = [
        ("X-Session-Action: flush", false, true, None),
        ("X-Session-Action: flush|X-Session-Set: m=bye", false, false, Some(json!({"m": "bye"}))),
        ("X-Session-Action: delete", true, false, None),
        ("X-Session-Action: delete|X-Session-Set: m=bye", false, false, Some(json!({"m": "bye"}))),
        ("X-Session-Action: clear", true, false, Some(json!({}))),
        ("X-Session-Action: cycle", false, false, Some(json!({"u": 1}))),
        ("X-Session-Action: touch", true, false, Some(json!({"u": 1}))),
        ("X-Session-Action: Touch,CYCLE", false, false, Some(json!({"u": 1}))),
    ];
    for (asked, same_id, gone, after) in cases {
        let mut visitor = scene.visitor_with(&json!({"u": 1}));
        let old = visitor.session_id().unwrap().to_owned();
        visitor.ask(&[asked]);
        assert_eq!(visitor.session_id().is_none(), gone, "{asked}");
        assert_eq!(visitor.session_id() == Some(old.as_str()), same_id, "{asked}");
        assert_eq!(scene.session(&mut visitor), after, "{asked}");
        let ended = asked.contains("flush") || asked.contains("delete");
        if ended {
            let replayed = scene.seen("/", &[("Cookie", &format!("sessionid={old}"))]);
            assert_eq!(replayed.header("X-Session-State"), Some("none"), "{asked}");
        }
    }
}

#[test]
fn expiry_takes_seconds_browser_sessions_dates_and_default() {
    // 2026-01-01T00:00:00Z; the default of max_age is 14 days.
    let clock = Clock::manual(Timestamp::from_millis(1_767_225_600_000));
    let scene = Scene::with("headers.expires_in = true", |setup| setup.clock(&clock));
    let cases: [(&str, Option<&str>, &str); 12] = [
        ("60", Some("60"), "60"),
        ("default", Some("1209600"), "1209600"),
        ("60, default", Some("1209600"), "1209600"),
        ("default, 60", Some("60"), "60"),
        ("0", None, "1209600"),
        ("2026-01-01T01:00:00Z", Some("3600"), "3600"),
        ("2026-01-01T02:00:00+01:00", Some("3600"), "3600"),
        ("Thu, 01 Jan 2026 01:00:00 GMT", Some("3600"), "3600"),
        ("60, Thu, 01 Jan 2026 01:00:00 GMT", Some("3600"), "3600"),
        ("DEFAULT", Some("1209600"), "1209600"),
        ("Thursday, 01-Jan-26 01:00:00 GMT", Some("3600"), "3600"),
        ("Thu Jan  1 01:00:00 2026", Some("3600"), "3600"),
    ];
    for (expiry, max_age, expires_in) in cases {
        let mut visitor = scene.visitor_with(&json!({"a": 1}));
        let answer = visitor.ask(&[&format!("X-Session-Expiry: {expiry}")]);
        let cookie = SetCookie::parse(answer.session_cookie().unwrap_or_else(|| panic!("no cookie: {expiry}")));
        assert_eq!(cookie.attribute("max-age"), max_age, "{expiry}");
        assert_eq!(cookie.attribute("expires").is_some(), max_age.is_some(), "{expiry}");
        visitor.get("/");
        let seen = scene.backend.last();
        assert_eq!(seen.header("X-Session-Expires-In"), Some(expires_in), "{expiry}");
        assert_eq!(seen.session(), Some(json!({"a": 1})), "the expiry is no data");
    }
    for expiry in ["-1", "1.5", "1e3", "tomorrow", "2026-01-01", "2026-13-01T00:00:00Z", "Thu 01 Jan 2026"] {
        let answer = scene.visitor_with(&json!({"a": 1})).ask(&[&format!("X-Session-Expiry: {expiry}")]);
        assert_eq!(answer.session_cookie(), None, "{expiry}");
    }
}

#[test]
fn a_relative_expiry_counts_from_each_save_and_clear_removes_it() {
    let clock = Clock::manual(Timestamp::from_millis(1_767_225_600_000));
    let scene = Scene::with("headers.expires_in = true", |setup| setup.clock(&clock));
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    let mut left_after = |asked: &str| {
        visitor.ask(&[asked]);
        visitor.get("/");
        scene.backend.last().header("X-Session-Expires-In").unwrap().to_owned()
    };
    assert_eq!(left_after("X-Session-Expiry: 100"), "100");
    clock.advance(Duration::from_secs(40));
    assert_eq!(left_after("X-Nothing: 1"), "60", "a mere read renews nothing");
    assert_eq!(left_after("X-Session-Set: a=2"), "100", "a save does");
    clock.advance(Duration::from_secs(40));
    assert_eq!(left_after("X-Session-Action: touch"), "100", "and so does a touch");
    assert_eq!(left_after("X-Session-Action: clear"), "1209600");
}

#[test]
fn an_expiry_in_the_past_ends_the_session() {
    let scene = Scene::new("");
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    let answer = visitor.ask(&["X-Session-Expiry: Thu, 01 Jan 2015 00:00:00 GMT"]);
    assert!(answer.session_cookie().is_some_and(|line| line.contains("Max-Age=0")));
    assert_eq!(scene.session(&mut visitor), None);
}

/// A session to be updated, with the status the update comes with; what is left.
fn updated(scene: &Scene, method: &str, status: &str, asked: &str) -> Option<Value> {
    let mut visitor = scene.visitor_with(&json!({"a": "0"}));
    let answer = visitor.send(method, "/", &[("Reply", asked), ("Reply-Status", status)], b"");
    assert_eq!(answer.status.to_string(), status);
    scene.session(&mut visitor)
}

#[test]
fn updates_count_below_500_and_the_rest_is_dropped() {
    let scene = Scene::new("");
    for status in ["200", "204", "206", "302", "304", "400", "401", "404", "499"] {
        for method in ["GET", "HEAD", "POST"] {
            let after = updated(&scene, method, status, "X-Session-Set: a=1");
            assert_eq!(after, Some(json!({"a": "1"})), "{method} {status}");
        }
    }
    for status in ["500", "501", "502", "503", "504", "599"] {
        for asked in ["X-Session-Set: a=1", "X-Session-Unset: a", "X-Session-Incr: n=1", "X-Session-Expiry: 1"] {
            assert_eq!(updated(&scene, "GET", status, asked), Some(json!({"a": "0"})), "{status} {asked}");
        }
        let created =
            scene.visitor().send("GET", "/", &[("Reply", "X-Session-Set: a=1"), ("Reply-Status", status)], b"");
        assert_eq!(created.session_cookie(), None, "{status}");
    }
}

#[test]
fn save_on_5xx_keeps_updates_but_no_new_key() {
    let scene = Scene::new("[[routes]]\nupstream = 'app'\nsave_on_5xx = true");
    assert_eq!(updated(&scene, "GET", "500", "X-Session-Set: a=1"), Some(json!({"a": "1"})));
    for settings in ["", "[[routes]]\nupstream = 'app'\nsave_on_5xx = true"] {
        let scene = Scene::new(settings);
        let mut visitor = scene.visitor_with(&json!({"a": "0"}));
        let id = visitor.session_id().unwrap().to_owned();
        visitor.send("GET", "/", &[("Reply", "X-Session-Action: cycle"), ("Reply-Status", "500")], b"");
        assert_eq!(visitor.session_id(), Some(id.as_str()), "{settings}");
    }
}

#[test]
fn on_a_5xx_a_flush_with_a_set_is_only_a_flush() {
    for (settings, after) in
        [("", None), ("[[routes]]\nupstream = 'app'\nsave_on_5xx = true", Some(json!({"m": "bye"})))]
    {
        let asked = "X-Session-Action: flush|X-Session-Set: m=bye";
        assert_eq!(updated(&Scene::new(settings), "GET", "500", asked), after, "{settings}");
    }
}

#[test]
fn an_update_through_an_old_key_is_dropped_or_an_error_as_the_route_says() {
    for (policy, status) in [("drop", 200), ("error", 400)] {
        let scene = Scene::new(&format!("[[routes]]\nupstream = 'app'\non_interrupted = '{policy}'"));
        let mut visitor = scene.visitor_with(&json!({"a": "0"}));
        let mut late = visitor.clone();
        visitor.ask(&["X-Session-Action: cycle"]);
        let answer = late.ask(&["X-Session-Set: a=1"]);
        assert_eq!((answer.status, answer.session_cookie()), (status, None), "{policy}");
        assert_eq!(late.get("/").status, 200, "{policy}: reading is no update");
        assert_eq!(scene.session(&mut visitor), Some(json!({"a": "0"})), "{policy}");
    }
}

#[test]
fn nothing_comes_into_being_for_a_visitor_for_whom_nothing_was_stored() {
    let scene = Scene::new("");
    for asked in [
        "X-Other: 1",
        "X-Session-Set: {}",
        "X-Session-Patch: {}",
        "X-Session-Patch: {\"a\":null}",
        "X-Session-Unset: a",
        "X-Session-Set: a=1|X-Session-Unset: a",
        "X-Session-Expiry: 60",
        "X-Session-Action: touch",
        "X-Session-Action: cycle",
        "X-Session-Action: clear",
        "X-Session-Action: delete",
        "X-Session-Action: flush",
    ] {
        let mut visitor = scene.visitor();
        assert_eq!(visitor.ask(&[asked]).all("set-cookie"), [""; 0], "{asked}");
        visitor.get("/");
        assert_eq!(scene.backend.last().header("X-Session-State"), Some("none"), "{asked}");
    }
}
