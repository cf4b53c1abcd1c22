//! The near cache beside everything else: routes without it, time-outs, and ends that come from outside.

use std::process::Command;
use std::time::Duration;

use cloakroom::clock::Clock;
use serde_json::json;

use crate::backend::Backend;
use crate::life_stage::{Gate, HOUR, MINUTE, START, events, eventually, max_age, metric};
use crate::pair::{Pair, gets, settings};
use crate::proxy::{Proxy, Setup};
use crate::redis_server::RedisServer;
use crate::visitor::{Connection, Visitor};

#[test]
fn a_route_without_the_near_cache_asks_each_time_and_is_exact() {
    const ROUNDS: usize = 200;

    let pair = Pair::start(true);
    let mut visitor = pair.known();
    let mut connections = [0, 1].map(|proxy| Connection::open(pair.proxies[proxy].address));
    let exact = |visitor: &mut Visitor, connection: &mut Connection| {
        assert_eq!(visitor.send_on(connection, "GET", "/exact", &[], b"").status, 200);
        pair.backend.last().session()
    };
    for round in 0..ROUNDS {
        let (first, second) = (round % 2, 1 - round % 2);
        // The other route has it at hand, and may show the old one for a moment.
        visitor.ask_on(&mut connections[second], &[]);
        let answer = visitor.ask_on(&mut connections[first], &[&format!("X-Session-Set: u={round}")]);
        assert!(answer.session_cookie().is_some());
        assert_eq!(exact(&mut visitor, &mut connections[second]), Some(json!({"u": round.to_string()})));
    }
    let gets = pair.gets();
    for _ in 0..50 {
        exact(&mut visitor, &mut connections[0]);
    }
    assert_eq!(pair.gets() - gets, 50);
    visitor.ask_on(&mut connections[1], &["X-Session-Action: flush"]);
    let old = visitor.clone();
    assert_eq!(exact(&mut old.clone(), &mut connections[0]), None);
    pair.hears(0, &old, None);
}

/// Proxies with a clock that a test moves, on one Redis.
struct Stage {
    redis: RedisServer,
    backend: Backend,
    gate: Gate,
    clock: Clock,
    proxies: [Proxy; 2],
}

impl Stage {
    fn new(near: bool, session: &str) -> Self {
        let redis = RedisServer::start();
        let (backend, gate) = Gate::backend();
        let clock = Clock::manual(START);
        let text = settings(&redis.tcp_url(), near).replace("cycle_grace = '10m'", session);
        let proxies = [(); 2].map(|()| Setup::new(&backend.url(), &text).clock(&clock).start());
        Self { redis, backend, gate, clock, proxies }
    }

    fn known(&self) -> Visitor {
        let mut visitor = self.proxies[0].visitor();
        visitor.ask(&["X-Session-Set: u=1"]);
        visitor
    }

    fn is_shown(&self, proxy: usize, visitor: &Visitor) -> bool {
        let mut visitor = Visitor { proxy: self.proxies[proxy].address, jar: visitor.jar.clone() };
        assert_eq!(visitor.get("/").status, 200);
        self.backend.last().session().is_some()
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Touches by this proxy.
    fn touched(&self, proxy: usize) -> u64 {
        events(&self.proxies[proxy], "touched")
    }
}

#[test]
fn l1_an_idle_deadline_moves_with_a_near_cache_as_without() {
    let [without, with] = [false, true].map(|near| {
        let stage = Stage::new(near, "idle_timeout = '30m'\ntouch_interval = '3m'");
        let visitor = stage.known();
        for minutes in [1, 1, 2, 29, 1, 1, 1, 1, 28] {
            stage.advance(minutes * MINUTE);
            for _ in 0..3 {
                assert!(stage.is_shown(0, &visitor), "the last request counts");
            }
        }
        // The other proxy has it with the deadline of then.
        assert!(stage.is_shown(1, &visitor));
        stage.advance(20 * MINUTE);
        assert!(stage.is_shown(0, &visitor));
        stage.advance(20 * MINUTE);
        assert!(stage.is_shown(1, &visitor), "the deadline moved at the other proxy");
        let touched = stage.touched(0);
        stage.advance(30 * MINUTE);
        for proxy in [0, 1] {
            assert!(!stage.is_shown(proxy, &visitor), "over is over, whatever is at hand");
        }
        touched
    });
    assert_eq!((without, with), (5, 5));
}

#[test]
fn l3_every_lifetime_ends_to_the_second_for_what_is_at_hand_too() {
    for (rule, update) in [
        ("max_age = '100s'", "X-Session-Set: v=1"),
        ("idle_timeout = '100s'", "X-Session-Set: v=1"),
        ("absolute_timeout = '100s'", "X-Session-Set: v=1"),
        ("max_age = '1h'", "X-Session-Expiry: 100"),
        ("cycle_grace = '100s'", "X-Session-Action: cycle"),
    ] {
        let stage = Stage::new(true, rule);
        let visitor = stage.known();
        assert!(visitor.clone().ask(&[update]).session_cookie().is_some());
        assert!(stage.is_shown(0, &visitor), "{rule}");
        let before = gets(&stage.redis);
        // Short of what is worth a touch.
        stage.advance(9);
        assert!(stage.is_shown(0, &visitor), "{rule}");
        assert_eq!(gets(&stage.redis), before, "it is at hand: {rule}");
        stage.advance(91);
        assert!(!stage.is_shown(0, &visitor), "{rule}");
    }
}

#[test]
fn l12_a_touch_with_a_near_cache_makes_no_neighbours_update_conflict() {
    let stage = Stage::new(true, "idle_timeout = '30m'\ntouch_interval = '1s'");
    let visitor = stage.known();
    for proxy in [0, 1] {
        assert!(stage.is_shown(proxy, &visitor));
    }
    let held = stage.gate.hold(&visitor, &["X-Session-Incr: n=1"]);
    for proxy in [0, 1] {
        stage.advance(60);
        assert!(stage.is_shown(proxy, &visitor));
        assert_eq!(stage.touched(proxy), 1);
    }
    let (answer, mut visitor) = held.release();
    assert!(answer.session_cookie().is_some());
    let conflicts = "cloakroom_store_operations_total{operation=\"save\",outcome=\"conflict\"}";
    assert_eq!(stage.proxies[0].metric(conflicts), None);
    visitor.get("/");
    assert_eq!(stage.backend.last().session(), Some(json!({"u": "1", "n": 1})));
}

#[test]
fn saving_every_request_renews_with_a_near_cache_as_without() {
    for near in [false, true] {
        let stage = Stage::new(near, "max_age = '1h'\nsave_every_request = true");
        let mut visitor = stage.known();
        for round in 0..6 {
            stage.advance(HOUR - 1);
            visitor.proxy = stage.proxies[round % 2].address;
            assert_eq!(max_age(&visitor.get("/")), Some(HOUR), "near cache: {near}");
            assert!(stage.backend.last().session().is_some());
        }
        stage.advance(HOUR);
        for proxy in [0, 1] {
            assert!(!stage.is_shown(proxy, &visitor), "near cache: {near}");
        }
    }
}

#[test]
fn what_a_backend_with_the_cookie_wrote_itself_the_next_page_knows() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::obedient();
    // An engine that tells nobody of changes: whatever is not dropped here stays for an hour.
    let url = format!("sqlite://{}", directory.path().join("sessions.sqlite3").display());
    let text = |near: bool| {
        format!(
            "[[routes]]\nupstream = 'app'\n[[routes]]\npath = '/django'\nupstream = 'app'\npass_cookie = true
            [store]\nengine = 'db'\nurl = '{url}'\nformat = 'django'\ndjango.secret_key = 'key'\ntimeout = '60s'
            near_cache = {{ enabled = {near}, max_age = '1h' }}"
        )
    };
    let [proxy, elsewhere] = [true, false].map(|near| Proxy::start(&backend.url(), &text(near)));
    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Set: n=0"]);
    let id = visitor.session_id().unwrap().to_owned();
    let look = || {
        visitor.clone().get("/");
        backend.last().session().map(|session| session["n"].clone())
    };
    let write = |lines: &[&str]| {
        Visitor { proxy: elsewhere.address, jar: visitor.jar.clone() }.ask(lines);
    };
    let django = |line: &str| {
        assert_eq!(visitor.clone().send("GET", "/django", &[("Reply", line)], b"").status, 200);
    };
    assert_eq!(look(), Some(json!("0")));
    write(&["X-Session-Set: n=1"]);
    assert_eq!(look(), Some(json!("0")), "nobody told of it");
    django("Set-Cookie: other=1");
    assert_eq!(look(), Some(json!("0")), "it only read");
    django(&format!("Set-Cookie: sessionid={id}; Path=/"));
    assert_eq!(look(), Some(json!("1")));
    write(&["X-Session-Action: flush"]);
    assert_eq!(look(), Some(json!("1")), "what a near cache means where nobody tells");
    django("Set-Cookie: sessionid=\"\"; Max-Age=0; Path=/");
    assert_eq!(look(), None);
}

#[test]
fn a_session_ended_from_the_command_line_is_gone_from_the_near_cache() {
    let stage = Stage::new(true, "");
    let [ended, left] = [stage.known(), stage.known()];
    let hits = "cloakroom_near_cache_lookups_total{outcome=\"hit\"}";
    for visitor in [&ended, &left] {
        assert!(stage.is_shown(0, visitor) && stage.is_shown(0, visitor));
    }
    assert_eq!(metric(&stage.proxies[0], hits), 2, "it is at hand");
    let folder = tempfile::tempdir().unwrap();
    let url = stage.redis.tcp_url();
    let text = format!("[upstreams.app]\nservers = ['http://127.0.0.1:9']\n[store]\nengine = 'redis'\nurl = '{url}'\n");
    std::fs::write(folder.path().join("cloakroom.toml"), text).unwrap();
    // The proxy's clock is ahead of the command's, which finds the session all the same.
    let output = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
        .args(["sessions", "--config", "cloakroom.toml", "delete", ended.session_id().unwrap()])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually("it is gone", || !stage.is_shown(0, &ended));
    for _ in 0..5 {
        assert!(!stage.is_shown(0, &ended));
    }
    assert!(stage.is_shown(0, &left));
}
