//! How long sessions live: time is moved by hand, and the store is asked what is left.

use crate::life_stage::{DAY, HOUR, MINUTE, Stage, attribute, events, forgets, max_age};

#[test]
fn max_age_counts_from_the_last_save_and_not_from_a_read() {
    Stage::each("[session]\nmax_age = '1h'", |stage| {
        let mut visitor = stage.proxy.visitor();
        assert_eq!(max_age(&visitor.ask(&["X-Session-Set: u=1"])), Some(HOUR));
        stage.advance(HOUR - 1);
        assert!(stage.look(&mut visitor).is_some());
        assert_eq!(max_age(&visitor.ask(&["X-Session-Set: u=2"])), Some(HOUR));
        stage.advance(HOUR - 1);
        assert_eq!(visitor.get("/").session_cookie(), None, "a read renews nothing");
        stage.advance(1);
        assert_eq!(stage.look(&mut visitor), None);
    });
}

#[test]
fn the_cookie_says_the_same_age_twice() {
    Stage::each("", |stage| {
        let answer = stage.proxy.visitor().ask(&["X-Session-Set: u=1"]);
        let cookie = answer.session_cookie().unwrap();
        assert_eq!(attribute(cookie, "Max-Age"), Some("1209600"));
        assert_eq!(attribute(cookie, "Expires"), Some("Fri, 29 Jan 2027 08:00:00 GMT"));
    });
}

#[test]
fn c7_no_cookie_lasts_longer_than_browsers_allow() {
    Stage::each("[session]\nmax_age = '500d'", |stage| {
        let mut visitor = stage.proxy.visitor();
        assert_eq!(max_age(&visitor.ask(&["X-Session-Set: u=1"])), Some(400 * DAY));
        stage.advance(499 * DAY);
        assert!(stage.look(&mut visitor).is_some(), "the record itself lives on");
    });
}

#[test]
fn a_session_until_the_browser_closes_has_no_date() {
    Stage::each("[session]\nmax_age = '1h'\nexpire_at_browser_close = true", |stage| {
        let mut visitor = stage.proxy.visitor();
        let answer = visitor.ask(&["X-Session-Set: u=1"]);
        let cookie = answer.session_cookie().unwrap();
        assert_eq!((attribute(cookie, "Max-Age"), attribute(cookie, "Expires")), (None, None));
        assert_eq!(max_age(&visitor.ask(&["X-Session-Expiry: 60"])), Some(60), "unless the backend says how long");
        assert_eq!(max_age(&visitor.ask(&["X-Session-Expiry: default"])), None);
        stage.advance(HOUR);
        assert_eq!(stage.look(&mut visitor), None, "the store does not wait for the browser");
    });
}

#[test]
fn saving_every_request_renews_the_known_and_creates_nothing_for_the_unknown() {
    Stage::each("[session]\nmax_age = '1h'\nsave_every_request = true", |stage| {
        let mut visitor = stage.known();
        for _ in 0..3 {
            stage.advance(HOUR - 1);
            let answer = visitor.get("/");
            assert_eq!(max_age(&answer), Some(HOUR));
        }
        for mut unknown in [stage.proxy.visitor(), stage.proxy.visitor()] {
            assert_eq!(unknown.get("/").session_cookie(), None);
            unknown.jar.insert("sessionid".to_owned(), "a".repeat(32));
            assert_eq!(unknown.get("/").session_cookie(), None);
        }
        assert_eq!(events(&stage.proxy, "created"), 1);
        stage.advance(HOUR);
        assert_eq!(visitor.get("/").session_cookie(), None, "what is over is not renewed");
    });
}

#[test]
fn l1_idle_timeout_is_enforced_by_the_store() {
    Stage::each("[session]\nidle_timeout = '30m'", |stage| {
        let mut visitor = stage.known();
        for _ in 0..4 {
            stage.advance(29 * MINUTE);
            assert!(stage.look(&mut visitor).is_some(), "the last request counts");
        }
        let mut stolen = visitor.clone();
        stage.advance(30 * MINUTE);
        assert_eq!(stage.look(&mut stolen), None, "a cookie kept too long opens nothing");
        assert_eq!(stage.look(&mut visitor), None, "looking did not revive it");
    });
}

#[test]
fn the_cookie_says_the_expiry_age_and_not_the_idle_time() {
    Stage::each("[session]\nidle_timeout = '30m'", |stage| {
        let mut visitor = stage.proxy.visitor();
        assert_eq!(max_age(&visitor.ask(&["X-Session-Set: u=1"])), Some(14 * DAY));
        stage.advance(20 * MINUTE);
        assert_eq!(visitor.get("/").session_cookie(), None, "an idle touch sends no cookie");
        assert_eq!(events(&stage.proxy, "touched"), 1);
    });
}

#[test]
fn l2_absolute_timeout_whatever_happens() {
    Stage::each("[session]\nmax_age = '2h'\nidle_timeout = '20m'\nabsolute_timeout = '3h'", |stage| {
        let mut visitor = stage.known();
        for minute in 1..=17 {
            stage.advance(10 * MINUTE);
            let answer = visitor.ask(&["X-Session-Action: cycle, touch", "X-Session-Incr: n=1"]);
            let left = 3 * HOUR - minute * 10 * MINUTE;
            assert_eq!(max_age(&answer), Some(left.min(2 * HOUR)), "the cookie does not promise more");
        }
        let answer = visitor.ask(&["X-Session-Expiry: 86400"]);
        assert_eq!(max_age(&answer), Some(10 * MINUTE), "nor when the backend asks for more");
        stage.advance(10 * MINUTE - 1);
        assert!(stage.look(&mut visitor).is_some());
        stage.advance(1);
        assert_eq!(stage.look(&mut visitor), None);
    });
}

#[test]
fn l3_every_lifetime_ends_in_the_store_to_the_second() {
    for (rule, seconds) in
        [("max_age = '100s'", 100), ("idle_timeout = '100s'", 100), ("absolute_timeout = '100s'", 100)]
    {
        Stage::each(&format!("[session]\n{rule}"), |stage| {
            let [mut early, mut late] = [stage.known(), stage.known()];
            stage.advance(seconds - 1);
            assert!(stage.look(&mut early).is_some(), "{rule}");
            stage.advance(1);
            assert_eq!(stage.look(&mut late), None, "{rule}");
            let answer = late.ask(&["X-Session-Set: v=1"]);
            assert!(answer.session_cookie().is_some(), "an update starts a new session: {rule}");
            assert_eq!(stage.look(&mut late), Some(serde_json::json!({"v": "1"})), "{rule}");
        });
    }
}

#[test]
fn expiry_in_seconds_counts_from_each_save() {
    Stage::each("", |stage| {
        let mut visitor = stage.known();
        assert_eq!(max_age(&visitor.ask(&["X-Session-Expiry: 300"])), Some(300));
        stage.advance(299);
        assert_eq!(visitor.get("/").session_cookie(), None);
        assert_eq!(max_age(&visitor.ask(&["X-Session-Set: v=1"])), Some(300), "it stays with the session");
        stage.advance(299);
        assert!(stage.look(&mut visitor).is_some());
        stage.advance(1);
        assert_eq!(stage.look(&mut visitor), None);
    });
}

#[test]
fn expiry_zero_and_default() {
    Stage::each("[session]\nmax_age = '1h'", |stage| {
        let mut visitor = stage.known();
        assert_eq!(max_age(&visitor.ask(&["X-Session-Expiry: 0"])), None, "until the browser closes");
        assert_eq!(max_age(&visitor.ask(&["X-Session-Set: v=1"])), None);
        assert_eq!(max_age(&visitor.ask(&["X-Session-Expiry: default"])), Some(HOUR));
        assert_eq!(visitor.get("/").session_cookie(), None);
    });
}

#[test]
fn expiry_at_an_instant_is_not_moved_by_saves() {
    for instant in ["Fri, 15 Jan 2027 09:00:00 GMT", "2027-01-15T09:00:00Z", "2027-01-15T10:00:00+01:00"] {
        Stage::each("", |stage| {
            let mut visitor = stage.known();
            assert_eq!(max_age(&visitor.ask(&[&format!("X-Session-Expiry: {instant}")])), Some(HOUR), "{instant}");
            stage.advance(HOUR - 10);
            assert_eq!(max_age(&visitor.ask(&["X-Session-Action: touch"])), Some(10), "{instant}");
            stage.advance(9);
            assert!(stage.look(&mut visitor).is_some(), "{instant}");
            stage.advance(1);
            assert_eq!(stage.look(&mut visitor), None, "{instant}");
        });
    }
}

#[test]
fn expiry_in_the_past_ends_the_session() {
    for instant in ["Fri, 15 Jan 2027 07:59:59 GMT", "2027-01-15T08:00:00Z", "1970-01-01T00:00:00Z"] {
        Stage::each("", |stage| {
            let mut visitor = stage.known();
            let mut stolen = visitor.clone();
            let expiry = format!("X-Session-Expiry: {instant}");
            assert!(forgets(&visitor.ask(&[&expiry, "X-Session-Set: v=1"])), "{instant}");
            assert_eq!(stage.look(&mut stolen), None, "{instant}");
            let answer = visitor.ask(&[&expiry, "X-Session-Set: v=1"]);
            assert_eq!(answer.session_cookie(), None, "nor does one begin that is over already: {instant}");
            assert_eq!(events(&stage.proxy, "created"), 1);
        });
    }
}

#[test]
fn touch_renews_what_is_unchanged() {
    Stage::each("[session]\nmax_age = '1h'", |stage| {
        let mut visitor = stage.known();
        for _ in 0..3 {
            stage.advance(HOUR - 1);
            assert_eq!(max_age(&visitor.ask(&["X-Session-Action: touch"])), Some(HOUR));
        }
        assert_eq!(stage.proxy.visitor().ask(&["X-Session-Action: touch"]).session_cookie(), None);
    });
}
