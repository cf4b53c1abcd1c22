//! The header protocol, to the client: the cookie, and what caches may do.

use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use serde_json::json;

use crate::scene::{OFF_ROUTES, Scene, SetCookie};

fn still(text: &str) -> (Scene, Clock) {
    let clock = Clock::manual(Timestamp::from_millis(1_767_225_600_000));
    (Scene::with(text, |setup| setup.clock(&clock)), clock)
}

#[test]
fn the_cookie_comes_once_when_something_was_stored_and_not_on_a_read() {
    let (scene, _) = still("");
    let mut visitor = scene.visitor();
    for (asked, cookie) in [
        ("X-Other: 1", false),
        ("X-Session-Set: a=1|X-Session-Set: b=1", true),
        ("X-Other: 1", false),
        ("X-Session-Set: a=1", true),
        ("X-Session-Unset: missing", false),
        ("X-Session-Unset: a", true),
        ("X-Session-Patch: {}", false),
        ("X-Session-Set: a=%", false),
        ("X-Session-Expiry: 60", true),
        ("X-Session-Action: touch", true),
        ("X-Session-Action: cycle|X-Session-Set: a=2|X-Session-Expiry: default", true),
        ("X-Session-Action: clear", true),
        ("X-Session-Action: delete", false),
        ("X-Session-Set: a=1", true),
        ("X-Session-Action: flush", true),
        ("X-Session-Action: flush", false),
    ] {
        let answer = visitor.ask(&[asked]);
        assert_eq!(answer.all("set-cookie").len(), usize::from(cookie), "{asked}");
    }
}

#[test]
fn an_idle_touch_moves_the_deadline_and_sends_no_cookie() {
    let (scene, clock) = still("[session]\nidle_timeout = '10m'\n[headers]\nexpires_in = true");
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    for _ in 0..3 {
        clock.advance(Duration::from_mins(9));
        assert_eq!(visitor.get("/").session_cookie(), None);
        assert_eq!(scene.backend.last().session(), Some(json!({"a": 1})));
    }
    clock.advance(Duration::from_mins(10));
    assert_eq!(scene.session(&mut visitor), None);
}

#[test]
fn save_every_request_sends_the_cookie_every_time() {
    let (scene, _) = still("session.save_every_request = true");
    let mut visitor = scene.visitor_with(&json!({"a": 1}));
    assert!(visitor.get("/").session_cookie().is_some());
    assert_eq!(scene.visitor().get("/").session_cookie(), None, "and never to a visitor without a session");
}

#[test]
fn the_cookie_lives_no_longer_than_the_absolute_timeout_leaves() {
    let (scene, clock) = still("session = { max_age = '1h', absolute_timeout = '90m' }");
    let mut visitor = scene.visitor();
    for (minutes, seconds) in [(0, "3600"), (30, "3600"), (20, "2400"), (39, "60")] {
        clock.advance(Duration::from_mins(minutes));
        let answer = visitor.ask(&["X-Session-Set: a=1"]);
        let cookie = SetCookie::parse(answer.session_cookie().unwrap());
        assert_eq!(cookie.attribute("max-age"), Some(seconds));
    }
    clock.advance(Duration::from_mins(1));
    assert_eq!(scene.session(&mut visitor), None);
}

#[test]
fn an_answer_with_our_cookie_is_for_nobody_elses_cache() {
    let scene = Scene::new("");
    let public = "Cache-Control: public, max-age=60|Cache-Control: s-maxage=9|Expires: Thu, 01 Jan 2099 00:00:00 GMT";
    let mut visitor = scene.visitor();
    for asked in ["X-Session-Set: a=1", "X-Session-Action: cycle", "X-Session-Action: flush"] {
        for status in ["200", "304"] {
            visitor.ask(&["X-Session-Set: b=1"]);
            let reply = format!("{public}|{asked}");
            let answer = visitor.send("GET", "/", &[("Reply", &reply), ("Reply-Status", status)], b"");
            assert!(answer.session_cookie().is_some(), "{status} {asked}");
            assert_eq!(answer.header("cache-control"), Some("private, no-store"), "{status} {asked}");
            assert_eq!(answer.header("expires"), None, "{status} {asked}");
        }
    }
    visitor.ask(&["X-Session-Set: b=1"]);
    let untouched = visitor.ask(&[public]);
    assert_eq!(untouched.all("cache-control"), ["public, max-age=60", "s-maxage=9"]);
    assert_eq!(untouched.header("expires"), Some("Thu, 01 Jan 2099 00:00:00 GMT"));
}

#[test]
fn every_answer_of_a_session_route_varies_by_cookie() {
    let scene = Scene::new(OFF_ROUTES);
    let mut visitors = [scene.visitor(), scene.visitor_with(&json!({"a": 1}))];
    for visitor in &mut visitors {
        for status in ["200", "204", "301", "304", "404", "500"] {
            for method in ["GET", "HEAD"] {
                let answer = visitor.send(method, "/", &[("Reply-Status", status)], b"");
                assert_eq!(answer.header("vary"), Some("Cookie"), "{method} {status}");
                let off = visitor.send(method, "/off", &[("Reply-Status", status)], b"");
                assert_eq!(off.header("vary"), None, "{method} {status}");
            }
        }
        for (backend, expected) in [
            ("Vary: Accept", vec!["Accept, Cookie"]),
            ("Vary: Accept|Vary: Origin", vec!["Accept", "Origin", "Cookie"]),
            ("Vary: accept, cookie", vec!["accept, cookie"]),
            ("Vary: Cookie2", vec!["Cookie2, Cookie"]),
            ("Vary: *", vec!["*"]),
            ("Vary:", vec!["", "Cookie"]),
            ("Connection: Vary|Vary: Accept", vec!["Cookie"]),
        ] {
            assert_eq!(visitor.ask(&[backend]).all("vary"), expected, "{backend}");
        }
    }
}

#[test]
fn vary_can_be_switched_off_for_a_route() {
    let scene = Scene::new("[[routes]]\nupstream = 'app'\nvary = false");
    let mut visitor = scene.visitor();
    assert_eq!(visitor.ask(&["X-Session-Set: a=1"]).header("vary"), None);
    assert_eq!(visitor.get("/").header("vary"), None);
    assert_eq!(visitor.ask(&["Vary: Accept"]).header("vary"), Some("Accept"));
}

#[test]
fn our_own_error_pages_vary_by_cookie_too() {
    let scene = Scene::new("");
    scene.answer_next(crate::backend::Reply::hang_up());
    let answer = scene.visitor().send("POST", "/", &[], b"x");
    assert_eq!((answer.status, answer.header("vary")), (502, Some("Cookie")));
}
