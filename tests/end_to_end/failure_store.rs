//! A store that cannot be asked: what each route's policy is, and what never happens whatever the policy.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloakroom::clock::Clock;
use cloakroom::metrics::Metrics;
use cloakroom::store::Guarded;
use serde_json::json;

use crate::backend::{Backend, Reply, obey};
use crate::life_stage::{Gate, START, events, eventually, forgets, looks, metric};
use crate::proxy::{Proxy, Setup};
use crate::stores::{Call, Fate, Watched, memory};
use crate::visitor::Visitor;

/// A proxy with a route of each policy, and a store that fails on demand.
struct Stage {
    proxy: Proxy,
    backend: Backend,
    watched: Arc<Watched>,
    clock: Clock,
    /// By [`Call`]: how many calls to fail.
    failing: Arc<[AtomicUsize; 4]>,
}

const ROUTES: &str = "
[admin]
listen = '127.0.0.1:0'
[[routes]]
path = '/fail'
upstream = 'app'
[[routes]]
path = '/degrade'
upstream = 'app'
on_store_error = 'degrade'
[session]
idle_timeout = '30m'
";

impl Stage {
    fn new() -> Self {
        let clock = Clock::manual(START);
        let failing: Arc<[AtomicUsize; 4]> = Arc::default();
        let watched = {
            let failing = Arc::clone(&failing);
            Watched::new(&memory(&clock), move |call, _| {
                let left =
                    failing[call as usize].fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if left.is_ok() { Fate::Fail } else { Fate::Pass }
            })
        };
        let backend = Backend::obedient();
        let proxy = Setup::new(&backend.url(), ROUTES).clock(&clock).store(watched.clone()).start();
        Self { proxy, backend, watched, clock, failing }
    }

    fn fail(&self, call: Call, count: usize) {
        self.failing[call as usize].store(count, Ordering::SeqCst);
    }

    fn fail_all(&self, count: usize) {
        self.failing.iter().for_each(|failing| failing.store(count, Ordering::SeqCst));
    }

    fn known(&self) -> Visitor {
        let mut visitor = self.proxy.visitor();
        assert!(visitor.send("GET", "/fail", &[("Reply", "X-Session-Set: u=1")], b"").session_cookie().is_some());
        visitor
    }

    fn data(&self, visitor: &mut Visitor) -> Option<serde_json::Value> {
        assert_eq!(visitor.get("/fail").status, 200);
        self.backend.last().session()
    }
}

#[test]
fn f3_a_store_that_cannot_be_asked_is_not_a_logout() {
    let stage = Stage::new();
    let mut visitor = stage.known();
    let asked = stage.backend.requests().len();
    stage.fail_all(usize::MAX);
    for reply in ["X-Session-Set: v=1", "X-Session-Action: flush", "Other: 1"] {
        let answer = visitor.send("GET", "/fail", &[("Reply", reply)], b"");
        assert_eq!((answer.status, answer.session_cookie()), (503, None));
        assert!(!answer.text().contains("on purpose"), "o4: why is nobody's business");
    }
    assert_eq!(stage.backend.requests().len(), asked, "the backend is not asked without a session");
    stage.fail_all(0);
    assert_eq!(stage.data(&mut visitor), Some(json!({"u": "1"})));
}

#[test]
fn f5_degraded_means_without_privileges() {
    let stage = Stage::new();
    let mut visitor = stage.known();
    stage.fail_all(usize::MAX);
    let answer = visitor.get("/degrade");
    assert_eq!((answer.status, answer.session_cookie()), (200, None));
    let seen = stage.backend.last();
    assert_eq!((seen.header("x-session-state"), seen.session()), (Some("degraded"), None));
    stage.fail_all(0);
    visitor.get("/degrade");
    assert_eq!(stage.backend.last().header("x-session-state"), Some("active"));
}

#[test]
fn a_visitor_without_a_cookie_never_needs_the_store() {
    let stage = Stage::new();
    stage.fail_all(usize::MAX);
    for route in ["/fail", "/degrade"] {
        for cookie in [None, Some(""), Some("not-an-id"), Some("A2345678901234567890123456789012")] {
            let mut visitor = stage.proxy.visitor();
            visitor.jar.extend(cookie.map(|cookie| ("sessionid".to_owned(), cookie.to_owned())));
            for reply in ["Other: 1", "X-Session-Action: flush", "X-Session-Action: delete, cycle, touch"] {
                let answer = visitor.send("GET", route, &[("Reply", reply)], b"");
                assert_eq!((answer.status, answer.session_cookie()), (200, None), "{route} {cookie:?} {reply}");
            }
            assert_eq!(stage.backend.last().header("x-session-state"), Some("none"));
        }
    }
    for call in [Call::Delete, Call::Load, Call::Save, Call::Touch] {
        assert_eq!(stage.watched.calls(call), 0);
    }
}

#[test]
fn f4_there_is_no_cookie_for_an_unsaved_session() {
    let stage = Stage::new();
    for route in ["/fail", "/degrade"] {
        let mut visitor = stage.proxy.visitor();
        stage.fail(Call::Save, 1);
        let answer = visitor.send("GET", route, &[("Reply", "X-Session-Set: v=1")], b"");
        assert_eq!((answer.status, answer.session_cookie()), (503, None), "{route}");
        let mut visitor = stage.known();
        stage.fail(Call::Save, 1);
        let answer = visitor.send("GET", route, &[("Reply", "X-Session-Set: v=1")], b"");
        assert_eq!((answer.status, answer.session_cookie()), (503, None), "{route}");
        assert_eq!(stage.data(&mut visitor), Some(json!({"u": "1"})));
    }
}

#[test]
fn f4_a_flush_whose_new_session_cannot_be_stored_is_still_a_logout() {
    let stage = Stage::new();
    let mut visitor = stage.known();
    let mut stolen = visitor.clone();
    stage.fail(Call::Save, usize::MAX);
    let answer = visitor.send("GET", "/fail", &[("Reply", "X-Session-Action: flush|X-Session-Set: m=bye")], b"");
    assert!(answer.status == 503 && forgets(&answer));
    stage.fail(Call::Save, 1);
    eventually("the old session ends", || metric(&stage.proxy, "cloakroom_flushes_pending") == 0);
    assert_eq!(stage.data(&mut stolen), None);
}

#[test]
fn a_degraded_update_counts_if_the_session_is_found_at_commit() {
    let stage = Stage::new();
    let updates =
        ["Set: v=1", "Incr: n=1", "Action: touch", "Action: clear", "Action: cycle", "Expiry: 60", "Action: flush"];
    for update in updates {
        let mut visitor = stage.known();
        let mut old = visitor.clone();
        stage.fail(Call::Load, 1);
        let answer = visitor.send("GET", "/degrade", &[("Reply", &format!("X-Session-{update}"))], b"");
        assert_eq!(stage.backend.last().header("x-session-state"), Some("degraded"));
        assert!(answer.status == 200 && answer.session_cookie().is_some(), "{update}");
        let gone = update.contains("flush");
        assert_eq!((forgets(&answer), stage.data(&mut old).is_none()), (gone, gone), "{update}");
    }
}

#[test]
fn a_degraded_update_creates_nothing() {
    let stage = Stage::new();
    let mut visitor = stage.proxy.visitor();
    visitor.jar.insert("sessionid".to_owned(), "a".repeat(32));
    for (number, reply) in ["X-Session-Set: v=1", "X-Session-Incr: n=1"].iter().enumerate() {
        stage.fail(Call::Load, 1);
        let answer = visitor.send("GET", "/degrade", &[("Reply", reply)], b"");
        assert_eq!((answer.status, answer.session_cookie()), (200, None));
        assert_eq!(events(&stage.proxy, "interrupted"), number as u64 + 1);
    }
    // Nor does what comes with a logout begin a session.
    for ending in ["flush", "delete"] {
        stage.fail(Call::Load, 1);
        let reply = format!("X-Session-Action: {ending}|X-Session-Set: m=bye");
        let mut visitor = visitor.clone();
        let answer = visitor.send("GET", "/degrade", &[("Reply", &reply)], b"");
        assert_eq!((answer.status, forgets(&answer)), (200, ending == "flush"));
    }
    assert_eq!((events(&stage.proxy, "created"), stage.watched.calls(Call::Save)), (0, 0));
}

#[test]
fn a_logout_after_a_failed_load_finds_the_new_key_though_the_grace_is_over() {
    let clock = Clock::manual(START);
    let fails = Arc::new(AtomicBool::new(false));
    let watched = {
        let fails = Arc::clone(&fails);
        Watched::new(&memory(&clock), move |call, _| {
            if call == Call::Load && fails.swap(false, Ordering::SeqCst) { Fate::Fail } else { Fate::Pass }
        })
    };
    // While the backend works on the logout the grace ends.
    let backend = {
        let clock = clock.clone();
        Backend::start(move |seen| {
            if seen.target == "/degrade/slow" {
                clock.advance(Duration::from_secs(11));
            }
            obey(seen)
        })
    };
    let proxy = Setup::new(&backend.url(), ROUTES).clock(&clock).store(watched).start();
    let mut old = proxy.visitor();
    old.send("GET", "/fail", &[("Reply", "X-Session-Set: u=1")], b"");
    let mut new = old.clone();
    assert!(new.send("GET", "/fail", &[("Reply", "X-Session-Action: cycle")], b"").session_cookie().is_some());
    fails.store(true, Ordering::SeqCst);
    let answer = old.send("GET", "/degrade/slow", &[("Reply", "X-Session-Action: flush")], b"");
    assert!(answer.status == 200 && forgets(&answer));
    assert_eq!(new.get("/fail").status, 200);
    assert_eq!(backend.last().session(), None);
}

#[test]
fn a_degraded_update_that_the_store_cannot_take_is_a_503() {
    let stage = Stage::new();
    let mut visitor = stage.known();
    stage.fail_all(usize::MAX);
    for reply in
        ["X-Session-Set: v=1", "X-Session-Action: touch", "X-Session-Action: clear", "X-Session-Action: delete"]
    {
        let answer = visitor.send("GET", "/degrade", &[("Reply", reply)], b"");
        assert_eq!((answer.status, answer.session_cookie()), (503, None), "{reply}");
        assert_eq!(visitor.get("/degrade").status, 200, "reading goes on");
    }
    let mut stolen = visitor.clone();
    let answer = visitor.send("GET", "/degrade", &[("Reply", "X-Session-Action: flush")], b"");
    assert!(answer.status == 503 && forgets(&answer));
    assert_eq!(metric(&stage.proxy, "cloakroom_flushes_pending"), 1);
    stage.fail_all(0);
    eventually("the session ends", || metric(&stage.proxy, "cloakroom_flushes_pending") == 0);
    assert_eq!(stage.data(&mut stolen), None);
}

#[test]
fn a_failed_touch_is_no_503() {
    let stage = Stage::new();
    let mut visitor = stage.known();
    stage.fail(Call::Touch, 1);
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(visitor.get("/fail").status, 200);
    assert_eq!((stage.watched.calls(Call::Touch), events(&stage.proxy, "touched")), (1, 0));
    assert_eq!(visitor.get("/fail").status, 200);
    assert_eq!(events(&stage.proxy, "touched"), 1);
}

#[test]
fn an_open_breaker_keeps_calls_from_the_store() {
    for fate in [Fate::Fail, Fate::Hang] {
        let clock = Clock::manual(START);
        let broken = Arc::new(AtomicBool::new(false));
        let watched = {
            let broken = Arc::clone(&broken);
            Watched::new(&memory(&clock), move |_, _| if broken.load(Ordering::SeqCst) { fate } else { Fate::Pass })
        };
        let guarded = Guarded::new(watched.clone(), Duration::from_millis(300), Arc::new(Metrics::new()));
        let backend = Backend::obedient();
        let proxy = Setup::new(&backend.url(), "").clock(&clock).store(Arc::new(guarded)).start();
        let mut visitor = proxy.visitor();
        visitor.ask(&["X-Session-Set: u=1"]);
        broken.store(true, Ordering::SeqCst);
        let before = watched.calls(Call::Load);
        let mut opened = Instant::now();
        for _ in 0..5 {
            // The breaker opens somewhere in the fifth of them; not before it.
            opened = Instant::now();
            assert_eq!(visitor.get("/").status, 503);
        }
        assert_eq!(watched.calls(Call::Load), before + 5);
        for _ in 0..300 {
            let answer = visitor.get("/");
            assert_eq!((answer.status, answer.session_cookie()), (503, None));
        }
        // One trial after each pause, and no pause is shorter than 50 ms.
        let trials = opened.elapsed().as_millis() / 50;
        let calls = watched.calls(Call::Load) - before - 5;
        assert!(calls as u128 <= trials && calls < 300, "{calls} calls, {trials} trials");
        broken.store(false, Ordering::SeqCst);
        eventually("the breaker closes", || visitor.get("/").status == 200);
        assert_eq!(backend.last().session(), Some(json!({"u": "1"})));
    }
}

#[test]
fn f10_a_visitor_who_hangs_up_has_logged_in_all_the_same() {
    let (backend, gate) = Gate::backend();
    let proxy = Setup::new(&backend.url(), "").start();
    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Set: u=1"]);
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    let id = visitor.session_id().unwrap();
    let head =
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: sessionid={id}\r\nWait: 1\r\nReply: X-Session-Set: v=1\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    gate.arrived.recv().unwrap();
    drop(stream);
    gate.open.send(()).unwrap();
    eventually("the update is stored", || looks(&mut visitor, &backend).1 == Some(json!({"u": "1", "v": "1"})));
}

#[test]
fn f11_a_request_sent_twice_counts_once() {
    let hung_up = AtomicBool::new(false);
    let backend = Backend::start(move |seen| {
        let first = seen.target == "/dies" && !hung_up.swap(true, Ordering::SeqCst);
        if first { Reply::hang_up() } else { obey(seen) }
    });
    let proxy = Setup::new(&backend.url(), "").start();
    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Incr: n=1"]);
    let answer = visitor.send("GET", "/dies", &[("Reply", "X-Session-Incr: n=1")], b"");
    assert_eq!(answer.status, 200);
    assert_eq!(backend.requests().iter().filter(|seen| seen.target == "/dies").count(), 2);
    assert_eq!(looks(&mut visitor, &backend).1, Some(json!({"n": 2})));
}
