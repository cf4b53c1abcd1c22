//! Sessions that visitors carry in their cookies (`engine = "signed_cookies"`), from the first to the last.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom::clock::Clock;
use serde_json::{Value, json};

use crate::backend::{Backend, obey};
use crate::life_stage::{DAY, HOUR, START, attribute, events, forgets, looks, max_age};
use crate::proxy::{Proxy, Setup};
use crate::visitor::{Answer, Connection, Visitor};

const A: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const B: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

struct Stage {
    clock: Clock,
    backend: Backend,
    proxy: Proxy,
}

impl Stage {
    fn new(settings: &str) -> Self {
        let (clock, backend) = (Clock::manual(START), Backend::start(obey));
        let proxy = proxy(&backend, &clock, &[A], settings);
        Self { clock, backend, proxy }
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// A visitor whose session holds `{"u":"1"}`.
    fn known(&self) -> Visitor {
        let mut visitor = self.proxy.visitor();
        assert!(visitor.ask(&["X-Session-Set: u=1"]).session_cookie().is_some());
        visitor
    }

    fn look(&self, visitor: &mut Visitor) -> Option<Value> {
        looks(visitor, &self.backend).1
    }

    /// What the backend is told of a visitor with this cookie.
    fn session_in(&self, cookie: &str) -> Option<Value> {
        let mut visitor = self.proxy.visitor();
        visitor.jar.insert("sessionid".to_owned(), cookie.to_owned());
        self.look(&mut visitor)
    }
}

fn proxy(backend: &Backend, clock: &Clock, keys: &[&str], settings: &str) -> Proxy {
    let configuration =
        format!("{settings}\n[admin]\nlisten = '127.0.0.1:0'\n[store]\nengine = 'signed_cookies'\nkeys = {keys:?}\n");
    Setup::new(&backend.url(), &configuration).clock(clock).start()
}

/// Text that does not compress to less than three quarters.
fn noise(length: usize) -> String {
    let bytes: Vec<u8> = std::iter::repeat_with(rand::random).take(length).collect();
    URL_SAFE_NO_PAD.encode(bytes)[..length].to_owned()
}

#[test]
fn a_session_lives_in_its_cookie_from_the_first_set_to_the_logout() {
    let stage = Stage::new("");
    let mut visitor = stage.proxy.visitor();
    for nothing in ["X-Session-Unset: a", "X-Session-Action: clear", "X-Session-Action: touch", "X-Session-Set: a=%zz"]
    {
        assert_eq!(visitor.ask(&[nothing]).session_cookie(), None, "{nothing}");
    }
    assert_eq!(stage.look(&mut visitor), None);

    let answer = visitor.ask(&["X-Session-Set: {\"user\":\"ann\",\"n\":1}"]);
    let cookie = answer.session_cookie().unwrap();
    assert_eq!(max_age(&answer), Some(14 * DAY));
    assert!(cookie.contains("; HttpOnly") && !cookie.contains("ann"), "{cookie}");
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    assert_eq!(stage.look(&mut visitor), Some(json!({"user": "ann", "n": 1})));
    assert!(!stage.backend.last().headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("cookie")));
    assert_eq!(visitor.get("/").session_cookie(), None, "reading sends no cookie");

    visitor.ask(&["X-Session-Incr: n=2", "X-Session-Unset: user"]);
    assert_eq!(stage.look(&mut visitor), Some(json!({"n": 3})));

    let before = visitor.session_id().map(str::to_owned);
    visitor.ask(&["X-Session-Action: cycle"]);
    assert_ne!(visitor.session_id().map(str::to_owned), before);
    assert_eq!(stage.look(&mut visitor), Some(json!({"n": 3})));

    let failed = visitor.send("GET", "/", &[("Reply", "X-Session-Set: late=1"), ("Reply-Status", "500")], b"");
    assert_eq!((failed.status, failed.session_cookie()), (500, None));
    visitor.ask(&["X-Session-Action: clear"]);
    assert_eq!(stage.look(&mut visitor), Some(json!({})));

    assert!(forgets(&visitor.ask(&["X-Session-Action: flush"])));
    assert_eq!(stage.look(&mut visitor), None);
    for (event, count) in [("created", 1), ("saved", 2), ("cycled", 1), ("forgotten", 1), ("unknown", 0)] {
        assert_eq!(events(&stage.proxy, event), count, "{event}");
    }
}

#[test]
fn the_record_is_the_cookie_so_delete_takes_it_away() {
    let stage = Stage::new("");
    let mut visitor = stage.known();
    assert!(forgets(&visitor.ask(&["X-Session-Action: delete"])));
    for ending in ["flush", "delete"] {
        assert_eq!(
            visitor.ask(&[&format!("X-Session-Action: {ending}")]).session_cookie(),
            None,
            "{ending} of nothing"
        );
        let mut visitor = stage.known();
        let action = format!("X-Session-Action: {ending}");
        assert!(!forgets(&visitor.ask(&[&action, "X-Session-Set: v=2"])), "{ending}");
        assert_eq!(stage.look(&mut visitor), Some(json!({"v": "2"})), "{ending}");
    }
}

#[test]
fn i14_a_cookie_replayed_after_its_deadline_is_no_session() {
    for (settings, expiry, seconds, age) in [
        ("", "X-Session-Action: touch", 14 * DAY, Some(14 * DAY)),
        ("[session]\nmax_age = '1h'", "X-Session-Action: touch", HOUR, Some(HOUR)),
        ("", "X-Session-Expiry: 60", 60, Some(60)),
        ("", "X-Session-Expiry: 0", 14 * DAY, None),
        ("[session]\nexpire_at_browser_close = true", "X-Session-Action: touch", 14 * DAY, None),
        ("[session]\nabsolute_timeout = '30m'", "X-Session-Action: touch", HOUR / 2, Some(HOUR / 2)),
    ] {
        let stage = Stage::new(settings);
        let mut visitor = stage.known();
        let answer = visitor.ask(&[expiry]);
        assert_eq!(max_age(&answer), age, "{settings} {expiry}");
        assert_eq!(attribute(answer.session_cookie().unwrap(), "Expires").is_some(), age.is_some());
        stage.advance(seconds - 1);
        assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1"})), "{settings} {expiry}");
        stage.advance(1);
        let (answer, session) = looks(&mut visitor, &stage.backend);
        assert_eq!((session, answer.session_cookie()), (None, None), "{settings} {expiry}");
        assert_eq!(stage.backend.last().header("x-session-state"), Some("none"));
    }
}

#[test]
fn every_save_renews_and_an_instant_that_has_passed_ends() {
    let stage = Stage::new("[session]\nmax_age = '1h'");
    let mut visitor = stage.known();
    stage.advance(HOUR - 1);
    assert_eq!(max_age(&visitor.ask(&["X-Session-Set: v=2"])), Some(HOUR));
    stage.advance(HOUR - 1);
    assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1", "v": "2"})));
    assert!(forgets(&visitor.ask(&["X-Session-Expiry: Thu, 01 Jan 1970 00:00:00 GMT"])));
}

#[test]
fn i13_what_is_not_ours_is_no_session_and_is_counted() {
    let stage = Stage::new("");
    let visitor = stage.known();
    let good = visitor.session_id().unwrap().to_owned();
    let other = proxy(&stage.backend, &stage.clock, &[B], "");
    let mut foreign = other.visitor();
    foreign.ask(&["X-Session-Set: u=1"]);
    let flipped = |at: usize| {
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let id = "a".repeat(32);
    let bad: Vec<String> = [2, 10, 40, 60, good.len() - 2]
        .map(flipped)
        .into_iter()
        .chain([
            foreign.session_id().unwrap().to_owned(),
            good[2..].to_owned(),
            format!("\"{good}\""),
            good.replacen('1', "2", 1),
            format!("1.{}", noise(3000)),
            "1.".to_owned(),
            "e30:1r31eq:C1MoQFOaRta9riRjwlGIBsBxykSWHZ_895ozptQH8x8".to_owned(),
            id,
        ])
        .collect();
    for (count, cookie) in bad.iter().enumerate() {
        assert_eq!(stage.session_in(cookie), None, "{cookie}");
        assert_eq!(stage.backend.last().header("x-session-state"), Some("none"));
        assert_eq!(events(&stage.proxy, "unknown"), count as u64 + 1, "{cookie}");
    }
    assert_eq!(stage.session_in(&good), Some(json!({"u": "1"})));
}

#[test]
fn c9_of_several_cookies_the_first_that_opens_wins() {
    let stage = Stage::new("");
    let good = stage.known().session_id().unwrap().to_owned();
    let with = |others: usize| {
        let bad: Vec<String> = (0..others).map(|number| format!("sessionid=1.{number}{}", noise(80))).collect();
        let cookies = format!("sessionid=; sessionid=x; {}; sessionid={good}; a=1", bad.join("; "));
        stage.proxy.visitor().send("GET", "/", &[("Cookie", &cookies)], b"");
        assert_eq!(stage.backend.last().header("cookie"), Some("a=1"));
        stage.backend.last().session()
    };
    assert_eq!(with(7), Some(json!({"u": "1"})));
    assert_eq!(with(8), None);
}

#[test]
fn i13_an_older_key_opens_and_the_cookie_comes_back_under_the_new_one() {
    let stage = Stage::new("[session]\nmax_age = '1h'");
    let both = proxy(&stage.backend, &stage.clock, &[B, A], "[session]\nmax_age = '1h'");
    let new = proxy(&stage.backend, &stage.clock, &[B], "[session]\nmax_age = '1h'");
    let mut visitor = stage.known();
    stage.advance(HOUR / 2);
    visitor.proxy = both.address;
    let (answer, session) = looks(&mut visitor, &stage.backend);
    assert_eq!(session, Some(json!({"u": "1"})));
    assert_eq!(max_age(&answer), Some(HOUR / 2), "what is left, and no more");
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    assert_eq!(visitor.get("/").session_cookie(), None, "once is enough");
    visitor.proxy = new.address;
    stage.advance(HOUR / 2 - 1);
    assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1"})));
    stage.advance(1);
    assert_eq!(stage.look(&mut visitor), None, "the deadline was not moved");
}

#[test]
fn i13_a_browser_session_under_an_older_key_stays_one() {
    let stage = Stage::new("");
    let both = proxy(&stage.backend, &stage.clock, &[B, A], "");
    let mut visitor = stage.known();
    visitor.ask(&["X-Session-Expiry: 0"]);
    visitor.proxy = both.address;
    assert_eq!(max_age(&visitor.get("/")), None);
}

#[test]
fn i14_what_does_not_fit_is_refused_whole_and_the_old_cookie_stays() {
    let stage = Stage::new("[headers]\nmax_header_bytes = '16KiB'");
    let refused = || stage.proxy.metric("cloakroom_refused_total{reason=\"cookie_too_large\"}").unwrap_or(0);
    let large = format!("X-Session-Set: v={}", noise(6000));
    let mut visitor = stage.proxy.visitor();
    assert_eq!(visitor.ask(&[&large]).session_cookie(), None);
    assert_eq!((stage.look(&mut visitor), refused()), (None, 1));

    let mut visitor = stage.known();
    for (count, with) in ["X-Session-Set: w=1", "X-Session-Action: cycle", "X-Session-Expiry: 60"].iter().enumerate() {
        let before = visitor.jar.clone();
        assert_eq!(visitor.ask(&[&large, with]).session_cookie(), None, "{with}");
        assert_eq!((&visitor.jar, refused()), (&before, count as u64 + 2));
        assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1"})), "{with}");
    }
    // What compresses well may be longer than a cookie.
    assert!(visitor.ask(&[&format!("X-Session-Set: v={}", "x".repeat(6000))]).session_cookie().is_some());
    assert_eq!(stage.look(&mut visitor).unwrap()["v"], "x".repeat(6000));
    // An ending is obeyed all the same.
    visitor.ask(&[&large, "X-Session-Action: clear"]);
    assert_eq!(stage.look(&mut visitor), Some(json!({})));
    assert!(forgets(&visitor.ask(&[&large, "X-Session-Action: flush"])));
}

#[test]
fn c8_a_cookie_is_never_longer_than_browsers_take() {
    let stage = Stage::new("[headers]\nmax_header_bytes = '16KiB'");
    let (mut taken, mut refused, mut longest) = (0, 0, 0);
    for length in (3_600..4_400).step_by(50) {
        let answer: Answer = stage.proxy.visitor().ask(&[&format!("X-Session-Set: v={}", noise(length))]);
        match answer.session_cookie() {
            Some(line) => {
                taken += 1;
                longest = longest.max(line.split(';').next().unwrap().len() - "=".len());
            }
            None => refused += 1,
        }
    }
    assert!(taken > 2 && refused > 2 && (3_900..=4_096).contains(&longest), "{taken} {refused} {longest}");
}

#[test]
fn i14_a_cookie_of_one_hosts_route_is_refused_on_anothers() {
    let routes = "
        [[routes]]
        host = ['shop.example']
        upstream = 'app'
        [[routes]]
        host = ['bank.example']
        upstream = 'app'
    ";
    let stage = Stage::new(routes);
    let cookie = stage.known().session_id().unwrap().to_owned();
    for (host, session) in [("shop.example", Some(json!({"u": "1"}))), ("bank.example", None)] {
        let mut connection = Connection::open(stage.proxy.address);
        connection.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: sessionid={cookie}\r\n\r\n").as_bytes());
        assert_eq!(connection.answer().unwrap().status, 200);
        assert_eq!(stage.backend.last().session(), session, "{host}");
    }
}

#[test]
fn there_is_no_store_to_wait_for_and_proxies_with_the_same_keys_share_sessions() {
    let stage = Stage::new("");
    let mut operator = Visitor::new(stage.proxy.admin.unwrap());
    assert_eq!(operator.get("/readyz").status, 200);
    let mut visitor = stage.known();
    let other = proxy(&stage.backend, &stage.clock, &[A], "");
    visitor.proxy = other.address;
    assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1"})));
}

#[test]
fn saving_every_request_renews_the_cookie_and_a_login_cycles_it() {
    let stage = Stage::new("[session]\nsave_every_request = true\ncycle_on_change = ['user']\nmax_age = '1h'");
    assert_eq!(stage.proxy.visitor().get("/").session_cookie(), None);
    let mut visitor = stage.known();
    for _ in 0..3 {
        stage.advance(HOUR - 1);
        assert_eq!(max_age(&visitor.get("/")), Some(HOUR));
    }
    assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1"})));
    visitor.ask(&["X-Session-Set: user=ann"]);
    assert_eq!(events(&stage.proxy, "cycled"), 1);
}
