//! New keys for old sessions: who may still read what, for how long, and that a logout finds every key.

use serde_json::json;

use crate::life_stage::{HOUR, Stage, attribute, events, forgets};
use crate::visitor::Visitor;

/// A visitor whose session has moved `hops` times, and who they were before each.
fn moved(stage: &Stage, hops: usize) -> (Visitor, Vec<Visitor>) {
    let mut visitor = stage.known();
    let mut before = Vec::new();
    for hop in 0..hops {
        before.push(visitor.clone());
        visitor.ask(&[&format!("X-Session-Set: hop={hop}"), "X-Session-Action: cycle"]);
        assert_ne!(visitor.session_id(), before[hop].session_id());
    }
    (visitor, before)
}

#[test]
fn i6_cycle_keeps_the_data_and_ends_the_old_key() {
    Stage::each("[session]\nmax_age = '1h'", |stage| {
        let (mut new, mut old) = moved(stage, 1);
        assert_eq!(stage.look(&mut new), Some(json!({"u": "1", "hop": "0"})));
        stage.clock.advance(std::time::Duration::from_millis(9_999));
        assert_eq!(stage.look(&mut old[0]), Some(json!({"u": "1"})), "the values from before");
        stage.clock.advance(std::time::Duration::from_millis(1));
        assert_eq!(stage.look(&mut old[0]), None);
        assert_eq!(stage.look(&mut new), Some(json!({"u": "1", "hop": "0"})));
        let answer = old[0].ask(&["X-Session-Action: flush"]);
        assert!(forgets(&answer), "the browser at least forgets");
        assert!(stage.look(&mut new).is_some(), "a key past its grace has no power left");
    });
}

#[test]
fn i7_the_old_key_is_read_only() {
    Stage::each("[session]\nidle_timeout = '1h'\ntouch_interval = 0", |stage| {
        let (mut new, mut old) = moved(stage, 1);
        let old = &mut old[0];
        let updates =
            ["Set: v=1", "Unset: u", "Incr: n=1", "Expiry: 3600", "Action: clear", "Action: cycle", "Action: touch"];
        for (number, update) in updates.iter().enumerate() {
            stage.advance(1);
            let answer = old.ask(&[&format!("X-Session-{update}")]);
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "{update}");
            assert_eq!(stage.look(old), Some(json!({"u": "1"})), "{update}");
            assert_eq!(events(&stage.proxy, "interrupted"), number as u64 + 1, "{update}");
        }
        assert_eq!(stage.look(&mut new), Some(json!({"u": "1", "hop": "0"})), "nor does it reach the new one");
        stage.advance(3);
        assert_eq!(stage.look(old), None, "no request moved the end");
    });
}

#[test]
fn no_cookie_goes_out_for_an_old_key_though_every_request_saves() {
    Stage::each("[session]\nsave_every_request = true", |stage| {
        let (mut new, mut old) = moved(stage, 1);
        assert_eq!(old[0].get("/").session_cookie(), None);
        assert_eq!(events(&stage.proxy, "interrupted"), 0, "reading is no late update");
        assert!(new.get("/").session_cookie().is_some());
    });
}

#[test]
fn an_update_through_an_old_key_is_an_error_where_the_route_says_so() {
    Stage::each("[[routes]]\npath = '/'\nupstream = 'app'\non_interrupted = 'error'", |stage| {
        let (_, mut old) = moved(stage, 1);
        let answer = old[0].ask(&["X-Session-Set: v=1"]);
        assert_eq!((answer.status, answer.session_cookie()), (400, None));
        assert_eq!(old[0].get("/").status, 200);
    });
}

#[test]
fn without_grace_the_old_key_ends_at_once() {
    Stage::each("[session]\ncycle_grace = 0", |stage| {
        let (mut new, mut old) = moved(stage, 2);
        for old in &mut old {
            assert_eq!(stage.look(old), None);
        }
        assert!(stage.look(&mut new).is_some());
    });
}

#[test]
fn an_old_key_does_not_outlive_what_it_had_left() {
    Stage::each("[session]\nmax_age = '1h'\n[headers]\nexpires_in = true", |stage| {
        let mut new = stage.known();
        let mut old = new.clone();
        stage.advance(HOUR - 4);
        new.ask(&["X-Session-Action: cycle"]);
        assert!(stage.look(&mut old).is_some());
        assert_eq!(stage.backend.last().header("x-session-expires-in"), Some("4"));
        stage.advance(4);
        assert_eq!(stage.look(&mut old), None);
        assert!(stage.look(&mut new).is_some());
    });
}

#[test]
fn the_backend_is_told_when_the_grace_ends() {
    Stage::each("[headers]\nexpires_in = true", |stage| {
        let (_, mut old) = moved(stage, 1);
        stage.advance(3);
        stage.look(&mut old[0]);
        assert_eq!(stage.backend.last().header("x-session-expires-in"), Some("7"));
    });
}

#[test]
fn i5_a_login_gets_a_new_key_by_itself() {
    Stage::each("[session]\ncycle_on_change = ['user_id']", |stage| {
        let mut visitor = stage.known();
        let mut planted = visitor.clone();
        assert_eq!(visitor.ask(&["X-Session-Set: other=1"]).session_cookie().map(|_| ()), Some(()));
        assert_eq!(visitor.session_id(), planted.session_id(), "other keys do not count");
        for user in ["7", "8"] {
            let before = visitor.clone();
            visitor.ask(&[&format!("X-Session-Set: user_id={user}")]);
            assert_ne!(visitor.session_id(), before.session_id());
        }
        let id = visitor.session_id().map(str::to_owned);
        visitor.ask(&["X-Session-Set: user_id=8"]);
        visitor.ask(&["X-Session-Unset: user_id"]);
        assert_eq!(visitor.session_id().map(str::to_owned), id, "the same value and none are no login");
        let seen = stage.look(&mut planted).unwrap();
        assert_eq!(seen, json!({"u": "1", "other": "1"}), "whoever planted the key learns nothing of the login");
        stage.advance(10);
        assert_eq!(stage.look(&mut planted), None);
    });
}

#[test]
fn a_logout_through_an_old_key_ends_the_session() {
    for hops in [1, 2, 3] {
        for ending in ["flush", "delete"] {
            Stage::each("", |stage| {
                let (new, old) = moved(stage, hops);
                let answer = old[0].clone().ask(&[&format!("X-Session-Action: {ending}")]);
                assert_eq!((answer.status, forgets(&answer)), (200, ending == "flush"));
                for mut key in old.into_iter().chain([new]) {
                    assert_eq!(stage.look(&mut key), None, "{hops} {ending}");
                }
            });
        }
    }
}

#[test]
fn a_logout_through_the_new_key_ends_every_key_in_grace() {
    for hops in [1, 2, 3] {
        for ending in ["flush", "delete"] {
            Stage::each("", |stage| {
                let (new, old) = moved(stage, hops);
                new.clone().ask(&[&format!("X-Session-Action: {ending}")]);
                for mut key in old.into_iter().chain([new]) {
                    assert_eq!(stage.look(&mut key), None, "{hops} {ending}");
                }
            });
        }
    }
}

#[test]
fn more_keys_in_grace_than_are_kept_end_early_and_none_outlives_a_logout() {
    Stage::each("", |stage| {
        let (mut new, mut old) = moved(stage, 20);
        let alive = old.iter_mut().filter_map(|old| stage.look(old)).count();
        assert_eq!(alive, 16, "the oldest ended early");
        new.ask(&["X-Session-Action: flush"]);
        for old in &mut old {
            assert_eq!(stage.look(old), None);
        }
    });
}

#[test]
fn a_logout_under_way_while_the_grace_ends_is_not_lost() {
    for grace in ["10s", "0s"] {
        Stage::each(&format!("[session]\ncycle_grace = '{grace}'"), |stage| {
            let mut visitor = stage.known();
            let logout = stage.gate.hold(&visitor, &["X-Session-Action: flush"]);
            visitor.ask(&["X-Session-Action: cycle"]);
            stage.advance(30);
            assert!(stage.look(&mut visitor).is_some());
            let (answer, _) = logout.release();
            assert!(forgets(&answer));
            assert_eq!(stage.look(&mut visitor), None, "{grace}");
        });
    }
}

#[test]
fn a_cycle_keeps_what_was_stored_while_its_page_was_made() {
    Stage::each("", |stage| {
        let mut visitor = stage.known();
        let login = stage.gate.hold(&visitor, &["X-Session-Set: user=7", "X-Session-Action: cycle"]);
        visitor.ask(&["X-Session-Set: v=1", "X-Session-Unset: u"]);
        let (answer, mut login) = login.release();
        assert!(answer.session_cookie().is_some());
        assert_eq!(stage.look(&mut login), Some(json!({"v": "1", "user": "7"})));
        assert_eq!(stage.look(&mut visitor), Some(json!({"v": "1"})));
    });
}

#[test]
fn of_two_cycles_at_once_one_wins() {
    Stage::each("", |stage| {
        let mut first = stage.known();
        let second = stage.gate.hold(&first, &["X-Session-Set: v=1", "X-Session-Action: cycle"]);
        first.ask(&["X-Session-Action: cycle"]);
        let (answer, mut second) = second.release();
        assert_eq!((answer.status, answer.session_cookie()), (200, None));
        assert_eq!(stage.look(&mut second), Some(json!({"u": "1"})));
        assert_eq!(stage.look(&mut first), Some(json!({"u": "1"})));
    });
}

#[test]
fn a_new_key_keeps_the_custom_expiry() {
    Stage::each("", |stage| {
        let mut visitor = stage.known();
        visitor.ask(&["X-Session-Expiry: 300"]);
        let answer = visitor.ask(&["X-Session-Action: cycle"]);
        assert_eq!(attribute(answer.session_cookie().unwrap(), "Max-Age"), Some("300"));
    });
}
