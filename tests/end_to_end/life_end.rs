//! How sessions begin and end: lazily, and for good.

use cloakroom::clock::Clock;
use serde_json::json;

use crate::backend::Backend;
use crate::life_stage::{START, Stage, events, forgets, max_age};
use crate::proxy::Setup;
use crate::stores::{Call, Fate, Watched, memory};
use crate::visitor::Connection;

/// Everything that may come too late.
const UPDATES: [&str; 8] = [
    "X-Session-Set: late=1",
    "X-Session-Patch: {\"late\":1}",
    "X-Session-Incr: late=1",
    "X-Session-Unset: u",
    "X-Session-Expiry: 60",
    "X-Session-Action: clear",
    "X-Session-Action: cycle",
    "X-Session-Action: touch",
];

#[test]
fn l4_a_logout_ends_the_session_on_the_server() {
    Stage::each("", |stage| {
        let mut visitor = stage.known();
        let mut stolen = visitor.clone();
        assert!(forgets(&visitor.ask(&["X-Session-Action: flush"])));
        assert_eq!(visitor.session_id(), None);
        let (id, answer) = (stolen.session_id().map(str::to_owned), stolen.get("/"));
        assert_eq!(answer.session_cookie(), None);
        assert_eq!(stage.backend.last().header("x-session-state"), Some("none"));
        stolen.ask(&["X-Session-Set: v=1"]);
        assert_ne!(stolen.session_id().map(str::to_owned), id, "an id that was ended is not adopted");
        assert_eq!(stage.look(&mut stolen), Some(json!({"v": "1"})));
    });
}

#[test]
fn l5_a_late_update_does_not_revive_a_logout() {
    Stage::each("", |stage| {
        for (number, update) in UPDATES.iter().enumerate() {
            let mut visitor = stage.known();
            let late = stage.gate.hold(&visitor, &[update]);
            assert!(forgets(&visitor.ask(&["X-Session-Action: flush"])));
            let (answer, mut late) = late.release();
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "{update}");
            assert_eq!(stage.look(&mut late), None, "{update}");
            assert_eq!(events(&stage.proxy, "interrupted"), number as u64 + 1, "{update}");
        }
    });
}

#[test]
fn l5_a_late_read_revives_nothing() {
    for rule in ["idle_timeout = '30m'\ntouch_interval = 0", "save_every_request = true"] {
        Stage::each(&format!("[session]\n{rule}"), |stage| {
            let mut visitor = stage.known();
            let late = stage.gate.hold(&visitor, &[]);
            stage.advance(1);
            visitor.ask(&["X-Session-Action: flush"]);
            let (answer, mut late) = late.release();
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "{rule}");
            assert_eq!(stage.look(&mut late), None, "{rule}");
        });
    }
}

#[test]
fn l7_a_late_update_gets_no_new_session_either() {
    Stage::each("", |stage| {
        for ending in ["X-Session-Action: flush", "X-Session-Action: delete", "X-Session-Expiry: 1970-01-01T00:00:00Z"]
        {
            let mut visitor = stage.known();
            let created = events(&stage.proxy, "created");
            let late = stage.gate.hold(&visitor, &["X-Session-Set: late=1"]);
            visitor.ask(&[ending]);
            let (answer, mut late) = late.release();
            assert_eq!(answer.session_cookie(), None, "{ending}");
            assert_eq!(stage.look(&mut late), None, "{ending}");
            assert_eq!(events(&stage.proxy, "created"), created, "{ending}");
        }
    });
}

#[test]
fn a_late_update_of_an_expired_session_is_dropped_too() {
    Stage::each("[session]\nmax_age = '1m'", |stage| {
        let visitor = stage.known();
        let late = stage.gate.hold(&visitor, &["X-Session-Set: late=1"]);
        stage.advance(60);
        let (answer, mut late) = late.release();
        assert_eq!((answer.status, answer.session_cookie()), (200, None));
        assert_eq!(stage.look(&mut late), None);
    });
}

#[test]
fn an_interrupted_update_is_an_error_where_the_route_says_so() {
    let route = "[[routes]]\npath = '/'\nupstream = 'app'\non_interrupted = 'error'";
    Stage::each(route, |stage| {
        for update in UPDATES {
            let mut visitor = stage.known();
            let late = stage.gate.hold(&visitor, &[update]);
            visitor.ask(&["X-Session-Action: flush"]);
            let (answer, mut late) = late.release();
            assert_eq!((answer.status, answer.session_cookie()), (400, None), "{update}");
            assert_eq!(stage.look(&mut late), None, "{update}");
        }
        let mut visitor = stage.known();
        let late = stage.gate.hold(&visitor, &["X-Session-Action: flush"]);
        visitor.ask(&["X-Session-Action: flush"]);
        let (answer, _) = late.release();
        assert!(answer.status == 200 && forgets(&answer), "a second logout is no error");
    });
}

#[test]
fn l13_ten_thousand_visitors_without_data_cost_the_store_nothing() {
    let clock = Clock::manual(START);
    let watched = Watched::new(&memory(&clock), |_, _| Fate::Pass);
    let backend = Backend::obedient();
    let proxy = Setup::new(&backend.url(), "").clock(&clock).store(watched.clone()).start();
    let mut visitor = proxy.visitor();
    let mut connection = Connection::open(proxy.address);
    // What changes nothing when there is nothing.
    let replies =
        ["X-Session-Unset: a", "X-Session-Action: cycle, touch", "X-Session-Set: a=%zz", "X-Session-Patch: {}"];
    for number in 0..10_000 {
        let answer = visitor.ask_on(&mut connection, &replies[..number % (replies.len() + 1)]);
        assert_eq!((answer.status, answer.session_cookie()), (200, None));
    }
    assert_eq!(backend.requests().len(), 10_000);
    for call in [Call::Delete, Call::Load, Call::Save, Call::Touch] {
        assert_eq!(watched.calls(call), 0, "{call:?}");
    }
    visitor.ask_on(&mut connection, &["X-Session-Set: a=1"]);
    assert_eq!((watched.calls(Call::Load), watched.calls(Call::Save)), (0, 1), "the store is watched");
}

#[test]
fn l12_an_idle_deadline_is_moved_only_when_that_is_worth_a_write() {
    let clock = Clock::manual(START);
    let watched = Watched::new(&memory(&clock), |_, _| Fate::Pass);
    let backend = Backend::obedient();
    let text = "[session]\nidle_timeout = '30m'\ntouch_interval = '3m'";
    let proxy = Setup::new(&backend.url(), text).clock(&clock).store(watched.clone()).start();
    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Set: u=1"]);
    for minute in 1..=60 {
        clock.advance(std::time::Duration::from_secs(60));
        for _ in 0..5 {
            assert_eq!(visitor.get("/").session_cookie(), None);
        }
        assert_eq!(watched.calls(Call::Touch), minute / 3, "after {minute} minutes");
    }
    assert!(backend.last().session().is_some());
    assert_eq!((watched.calls(Call::Save), watched.calls(Call::Load)), (1, 300));
}

#[test]
fn flush_with_data_begins_a_new_session() {
    Stage::each("", |stage| {
        for ending in ["flush", "delete"] {
            let mut visitor = stage.known();
            visitor.ask(&["X-Session-Expiry: 60"]);
            let mut old = visitor.clone();
            let answer = visitor.ask(&[&format!("X-Session-Action: {ending}"), "X-Session-Set: m=bye"]);
            assert_eq!(max_age(&answer), Some(14 * 86_400), "of the old one nothing stays, {ending}");
            assert_ne!(visitor.session_id(), old.session_id());
            assert_eq!(stage.look(&mut visitor), Some(json!({"m": "bye"})));
            assert_eq!(stage.look(&mut old), None);
        }
    });
}

#[test]
fn delete_leaves_the_cookie() {
    Stage::each("", |stage| {
        let mut visitor = stage.known();
        let id = visitor.session_id().map(str::to_owned);
        assert_eq!(visitor.ask(&["X-Session-Action: delete"]).session_cookie(), None);
        assert_eq!(visitor.session_id().map(str::to_owned), id);
        assert_eq!(stage.look(&mut visitor), None);
    });
}

#[test]
fn clear_keeps_the_key_and_drops_data_and_expiry() {
    Stage::each("", |stage| {
        let mut visitor = stage.known();
        visitor.ask(&["X-Session-Expiry: 60"]);
        let id = visitor.session_id().map(str::to_owned);
        assert_eq!(max_age(&visitor.ask(&["X-Session-Action: clear"])), Some(14 * 86_400));
        assert_eq!(stage.look(&mut visitor), Some(json!({})));
        let answer = visitor.ask(&["X-Session-Action: clear", "X-Session-Expiry: 90", "X-Session-Set: v=1"]);
        assert_eq!(max_age(&answer), Some(90));
        assert_eq!(stage.look(&mut visitor), Some(json!({"v": "1"})));
        assert_eq!(visitor.session_id().map(str::to_owned), id);
    });
}

#[test]
fn u13_a_logout_is_obeyed_whatever_else_is_wrong() {
    Stage::each("", |stage| {
        for ending in ["flush", "delete", "clear"] {
            let mut visitor = stage.known();
            let mut old = visitor.clone();
            let action = format!("X-Session-Action: {ending}, no-such-thing");
            let headers = [("Reply", action.as_str()), ("Reply", "X-Session-Set: a=%zz"), ("Reply-Status", "503")];
            let answer = visitor.send("GET", "/", &headers, b"");
            assert_eq!((answer.status, forgets(&answer)), (503, ending == "flush"));
            let left = if ending == "clear" { Some(json!({})) } else { None };
            assert_eq!(stage.look(&mut old), left, "{ending}");
        }
    });
}

#[test]
fn f9_a_failed_page_changes_no_data() {
    Stage::each("", |stage| {
        let mut visitor = stage.known();
        for action in ["cycle", "touch"] {
            let action = format!("X-Session-Action: {action}");
            let headers = [("Reply-Status", "500"), ("Reply", "X-Session-Set: v=1"), ("Reply", action.as_str())];
            let answer = visitor.send("GET", "/", &headers, b"");
            assert_eq!((answer.status, answer.session_cookie()), (500, None));
            assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1"})));
        }
        let answer = visitor.send("GET", "/", &[("Reply-Status", "404"), ("Reply", "X-Session-Set: v=1")], b"");
        assert!(answer.status == 404 && answer.session_cookie().is_some());
    });
    Stage::each("[[routes]]\npath = '/'\nupstream = 'app'\nsave_on_5xx = true", |stage| {
        let mut visitor = stage.known();
        let id = visitor.session_id().map(str::to_owned);
        let headers = [("Reply-Status", "500"), ("Reply", "X-Session-Set: v=1|X-Session-Action: cycle")];
        assert!(visitor.send("GET", "/", &headers, b"").session_cookie().is_some());
        assert_eq!(visitor.session_id().map(str::to_owned), id, "cycle is not obeyed even then");
        assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1", "v": "1"})));
    });
}

#[test]
fn a_session_larger_than_max_bytes_is_not_stored() {
    Stage::each("[session]\nmax_bytes = 100", |stage| {
        let mut visitor = stage.known();
        let fits = format!("X-Session-Set: v={}", "x".repeat(100 - r#"{"u":"1","v":""}"#.len()));
        let large = format!("X-Session-Set: v={}", "x".repeat(101 - r#"{"u":"1","v":""}"#.len()));
        assert_eq!(visitor.ask(&[&large, "X-Session-Set: w=1"]).session_cookie(), None);
        assert_eq!(stage.look(&mut visitor), Some(json!({"u": "1"})), "refused whole");
        assert!(visitor.ask(&[&fits]).session_cookie().is_some());
        let huge = format!("X-Session-Set: v={}", "x".repeat(200));
        assert!(forgets(&visitor.ask(&[&huge, "X-Session-Action: flush"])));
        assert_eq!(stage.look(&mut visitor), None);
    });
}
