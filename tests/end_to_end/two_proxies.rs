//! Two proxies on one Redis: what one acknowledged, the other knows.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::life_stage::forgets;
use crate::pair::Pair;
use crate::visitor::Connection;

/// Longer than any proxy takes to hear of a change; it only turns never into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn f1_parallel_writers_of_different_keys_lose_nothing() {
    Pair::each(|pair| {
        let visitor = pair.known();
        let start = Barrier::new(25);
        thread::scope(|scope| {
            for writer in 0..25 {
                let (mut visitor, start) = (pair.at(writer % 2, &visitor), &start);
                scope.spawn(move || {
                    start.wait();
                    let answer = visitor.ask(&[&format!("X-Session-Set: key{writer}={writer}")]);
                    assert!(answer.status == 200 && answer.session_cookie().is_some());
                });
            }
        });
        let mut expected = json!({"u": "1"});
        (0..25).for_each(|writer| expected[format!("key{writer}")] = json!(writer.to_string()));
        for proxy in [0, 1] {
            let seen = pair.look(proxy, &visitor).unwrap();
            let own = (proxy..25).step_by(2);
            assert!(own.into_iter().all(|writer| seen.get(format!("key{writer}")).is_some()), "{proxy}: {seen}");
            pair.hears(proxy, &visitor, Some(&expected));
        }
    });
}

#[test]
fn a_thousand_increments_count_a_thousand() {
    Pair::each(|pair| {
        let visitor = pair.known();
        thread::scope(|scope| {
            for writer in 0..4 {
                let mut visitor = pair.at(writer % 2, &visitor);
                scope.spawn(move || {
                    let mut connection = Connection::open(visitor.proxy);
                    for _ in 0..250 {
                        assert_eq!(visitor.ask_on(&mut connection, &["X-Session-Incr: n=1"]).status, 200);
                    }
                });
            }
        });
        for proxy in [0, 1] {
            pair.hears(proxy, &visitor, Some(&json!({"u": "1", "n": 1000})));
        }
    });
}

#[test]
fn f2_the_page_after_a_login_knows_the_visitor_at_the_other_proxy() {
    const ROUNDS: usize = 10_000;

    let pair = Pair::start(false);
    let mut visitors = [0, 1].map(|proxy| pair.at(proxy, &pair.known()));
    let mut connections = [0, 1].map(|proxy| Connection::open(pair.proxies[proxy].address));
    let before = pair.backend.requests().len();
    for round in 0..ROUNDS {
        let (first, second) = (round % 2, 1 - round % 2);
        let login = format!("X-Session-Set: round={round}");
        let headers = [("Reply-Status", "302"), ("Reply", "Location: /"), ("Reply", login.as_str())];
        let answer = visitors[first].send_on(&mut connections[first], "POST", "/", &headers, b"");
        assert!(answer.status == 302 && answer.session_cookie().is_some(), "round {round}");
        visitors[second].jar = visitors[first].jar.clone();
        assert_eq!(visitors[second].ask_on(&mut connections[second], &[]).status, 200);
        assert_eq!(pair.backend.last().session().unwrap()["round"], round.to_string());
    }
    assert_eq!(pair.backend.requests().len(), before + 2 * ROUNDS);
}

#[test]
fn f2_with_near_caches_the_other_proxy_is_late_for_a_moment_and_then_never_again() {
    const ROUNDS: usize = 2_000;

    let pair = Pair::start(true);
    let mut visitor = pair.known();
    let mut connections = [0, 1].map(|proxy| Connection::open(pair.proxies[proxy].address));
    let (requests, gets) = (pair.backend.requests().len(), pair.gets());
    let (mut late, mut latest) = (0, Duration::ZERO);
    for round in 0..ROUNDS {
        let (first, second) = (round % 2, 1 - round % 2);
        let login = format!("X-Session-Set: round={round}");
        let headers = [("Reply-Status", "302"), ("Reply", "Location: /"), ("Reply", login.as_str())];
        let answer = visitor.send_on(&mut connections[first], "POST", "/", &headers, b"");
        assert!(answer.status == 302 && answer.session_cookie().is_some(), "round {round}");
        let answered = Instant::now();
        let mut look = |proxy: usize| {
            assert_eq!(visitor.ask_on(&mut connections[proxy], &[]).status, 200);
            pair.backend.last().session().unwrap()["round"].as_str().map(|seen| seen.parse::<usize>().unwrap())
        };
        let mut stale = 0;
        loop {
            let seen = look(second);
            if seen == Some(round) {
                break;
            }
            assert_eq!(seen, round.checked_sub(1), "nothing older than what it has shown");
            assert!(answered.elapsed() < PATIENCE, "it was never told");
            stale += 1;
        }
        if stale > 0 {
            (late, latest) = (late + stale, latest.max(answered.elapsed()));
        }
        assert_eq!([look(second), look(first)], [Some(round); 2]);
    }
    let (requests, gets) = (pair.backend.requests().len() - requests, pair.gets() - gets);
    println!("{requests} requests, {late} of them behind, for {latest:?} at most; {gets} GETs");
    assert!(gets < requests as u64 * 3 / 4, "the near caches were of no use: {gets} of {requests}");
}

#[test]
fn l5_a_long_request_through_one_does_not_revive_a_logout_through_the_other() {
    Pair::each(|pair| {
        for update in
            ["X-Session-Set: late=1", "X-Session-Incr: n=1", "X-Session-Action: cycle", "X-Session-Action: touch"]
        {
            let visitor = pair.known();
            let late = pair.gate.hold(&visitor, &[update]);
            assert!(forgets(&pair.at(1, &visitor).ask(&["X-Session-Action: flush"])));
            let (answer, late) = late.release();
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "{update}");
            assert_eq!(pair.look(1, &late), None, "{update}");
            pair.hears(0, &late, None);
            assert_eq!(pair.records(), 0, "not even a part of a record: {update}");
        }
    });
}

#[test]
fn l6_what_ended_at_one_proxy_is_gone_at_the_other_at_once() {
    Pair::each(|pair| {
        for (end, action) in [(0, "flush"), (1, "flush"), (0, "delete"), (1, "delete")] {
            let other = 1 - end;
            let mut visitor = pair.known();
            let old = visitor.clone();
            // Both know it, over connections that stay open.
            let mut connections = [0, 1].map(|proxy| Connection::open(pair.proxies[proxy].address));
            for connection in &mut connections {
                visitor.ask_on(connection, &[]);
                assert_eq!(pair.backend.last().session(), Some(json!({"u": "1"})));
            }
            assert_eq!(visitor.ask_on(&mut connections[end], &[&format!("X-Session-Action: {action}")]).status, 200);
            assert_eq!(pair.look(end, &old), None);
            pair.hears(other, &old, None);
            for proxy in [other, end] {
                let answer = old.clone().ask_on(&mut connections[proxy], &[]);
                let seen = pair.backend.last();
                assert_eq!((answer.status, seen.session(), seen.header("x-session-state")), (200, None, Some("none")));
            }
            assert_eq!(pair.records(), 0, "{action} at {end}: not even a part of a record");
            // Who comes with the old cookie begins anew, under another key and with nothing of what ended.
            let mut stale = old.clone();
            stale.ask_on(&mut connections[other], &["X-Session-Set: v=2"]);
            assert!(stale.session_id().is_some() && stale.session_id() != old.session_id());
            assert_eq!([pair.look(end, &stale), pair.look(other, &stale)], [(); 2].map(|()| Some(json!({"v": "2"}))));
            assert_eq!([pair.look(0, &old), pair.look(1, &old)], [None, None]);
            stale.ask_on(&mut connections[other], &["X-Session-Action: flush"]);
        }
    });
}

#[test]
fn l6_an_update_of_what_the_other_proxy_just_ended_revives_nothing() {
    const ROUNDS: usize = 100;

    Pair::each(|pair| {
        let mut began = 0;
        for round in 0..ROUNDS {
            let (end, other) = (round % 2, 1 - round % 2);
            let old = pair.known();
            let update = ["X-Session-Set: late=1", "X-Session-Action: cycle", "X-Session-Incr: n=1"][round % 3];
            assert!(forgets(&pair.at(end, &old).ask(&["X-Session-Action: flush"])));
            // It may not have heard of the end, and then the update is dropped, or begins a session of its own.
            let mut late = pair.at(other, &old);
            let answer = late.ask(&[update]);
            assert_eq!(answer.status, 200);
            let begins = answer.session_cookie().is_some();
            assert!(!begins || late.session_id() != old.session_id(), "{update}");
            assert_eq!(pair.records(), usize::from(begins), "{update}");
            if begins {
                assert_eq!(pair.look(other, &late).unwrap().get("u"), None, "nothing of what ended: {update}");
                late.ask(&["X-Session-Action: flush"]);
                began += 1;
            }
            assert_eq!(pair.look(end, &old), None);
            pair.hears(other, &old, None);
        }
        println!("{began} of {ROUNDS} began a session");
    });
}

#[test]
fn a_new_key_logs_no_parallel_request_out_and_loses_no_update() {
    const ROUNDS: usize = 20;
    const PARALLEL: usize = 20;

    Pair::each(|pair| {
        let (mut kept, mut dropped) = (0, 0);
        for round in 0..ROUNDS {
            let visitor = pair.known();
            // One is stored before the new key, one comes too late for it; the others race with it.
            assert!(pair.at(round % 2, &visitor).ask(&["X-Session-Set: early=1"]).session_cookie().is_some());
            let late = pair.gate.hold(&pair.at(1 - round % 2, &visitor), &["X-Session-Set: late=1"]);
            let seen = pair.backend.requests().len();
            let start = Barrier::new(PARALLEL + 1);
            let (new, acknowledged) = thread::scope(|scope| {
                let login = {
                    let (mut visitor, start) = (pair.at(round % 2, &visitor), &start);
                    scope.spawn(move || {
                        start.wait();
                        let answer = visitor.ask(&["X-Session-Set: login=7", "X-Session-Action: cycle"]);
                        assert!(answer.session_cookie().is_some());
                        visitor
                    })
                };
                let writers: Vec<_> = (0..PARALLEL)
                    .map(|writer| {
                        let (mut visitor, start) = (pair.at(writer % 2, &visitor), &start);
                        scope.spawn(move || {
                            start.wait();
                            let answer = visitor.ask(&[&format!("X-Session-Set: key{writer}=1")]);
                            assert_eq!(answer.status, 200);
                            answer.session_cookie().is_some()
                        })
                    })
                    .collect();
                let acknowledged: Vec<bool> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
                (login.join().unwrap(), acknowledged)
            });
            let requests = &pair.backend.requests()[seen..];
            assert_eq!(requests.len(), PARALLEL + 1);
            assert!(requests.iter().all(|request| request.header("x-session-state") == Some("active")));
            let old = pair.look(0, &visitor).expect("the grace has not ended");
            assert_eq!(old.get("login"), None, "whoever has the old key learns nothing of the login");
            let data = pair.look(1, &new).unwrap();
            assert_eq!((&data["login"], &data["early"]), (&json!("7"), &json!("1")));
            let (answer, _) = late.release();
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "too late");
            assert_eq!(pair.look(0, &new).as_ref(), Some(&data), "the late one changed nothing");
            for (writer, acknowledged) in acknowledged.into_iter().enumerate() {
                assert_eq!(data.get(format!("key{writer}")).is_some(), acknowledged, "round {round}, writer {writer}");
                *if acknowledged { &mut kept } else { &mut dropped } += 1;
            }
        }
        println!("{kept} stored before the new key, {dropped} too late");
    });
}

#[test]
fn a_logout_at_the_moment_of_a_cycle_wins() {
    const ROUNDS: usize = 200;

    Pair::each(|pair| {
        let mut won = 0;
        for round in 0..ROUNDS {
            let old = pair.known();
            let mut new = old.clone();
            new.ask(&["X-Session-Action: cycle"]);
            // The logout comes through the key that cycles, or through the one before it.
            let ends = if round % 4 < 2 { &old } else { &new };
            let start = Barrier::new(2);
            let cycled = thread::scope(|scope| {
                let cycle = {
                    let (mut visitor, start) = (pair.at(round % 2, &new), &start);
                    scope.spawn(move || {
                        start.wait();
                        // It changes the data, and begins no session if the logout was there first.
                        let answer = visitor.ask(&["X-Session-Unset: u", "X-Session-Action: cycle"]);
                        assert_eq!(answer.status, 200);
                        answer.session_cookie().is_some().then_some(visitor)
                    })
                };
                let (mut visitor, start) = (pair.at(1 - round % 2, ends), &start);
                start.wait();
                assert!(forgets(&visitor.ask(&["X-Session-Action: flush"])));
                cycle.join().unwrap()
            });
            won += usize::from(cycled.is_some());
            for key in [&old, &new].into_iter().chain(&cycled) {
                assert_eq!(pair.look(1 - round % 2, key), None, "round {round}");
                pair.hears(round % 2, key, None);
            }
            assert_eq!(pair.records(), 0, "round {round}");
        }
        println!("{won} of {ROUNDS} cycles were stored before the logout");
    });
}

#[test]
fn updates_at_the_moment_of_a_logout_revive_nothing() {
    const ROUNDS: usize = 60;

    Pair::each(|pair| {
        for round in 0..ROUNDS {
            let visitor = pair.known();
            let start = Barrier::new(5);
            thread::scope(|scope| {
                for writer in 0..4 {
                    let (mut visitor, start) = (pair.at(writer % 2, &visitor), &start);
                    scope.spawn(move || {
                        start.wait();
                        // Both write, and neither begins a session of its own if the logout was there first.
                        let update = if writer < 2 { "X-Session-Action: touch" } else { "X-Session-Action: cycle" };
                        assert_eq!(visitor.ask(&[update]).status, 200);
                    });
                }
                start.wait();
                assert!(forgets(&pair.at(round % 2, &visitor).ask(&["X-Session-Action: flush"])));
            });
            assert_eq!(pair.look(round % 2, &visitor), None, "round {round}");
            pair.hears(1 - round % 2, &visitor, None);
            assert_eq!(pair.records(), 0, "round {round}");
        }
    });
}

#[test]
fn f8_a_slow_page_locks_no_other_request_out() {
    Pair::each(|pair| {
        let visitor = pair.known();
        let slow = pair.gate.hold(&visitor, &["X-Session-Set: slow=1"]);
        for proxy in [0, 1] {
            assert!(pair.at(proxy, &visitor).ask(&["X-Session-Incr: n=1"]).session_cookie().is_some());
        }
        slow.release();
        let all = json!({"u": "1", "n": 2, "slow": "1"});
        assert_eq!(pair.look(0, &visitor), Some(all.clone()));
        pair.hears(1, &visitor, Some(&all));
    });
}
