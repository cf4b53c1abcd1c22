//! What the near cache shows of sessions while the store is silent, and what it never shows.

use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::life_stage::{eventually, forgets, metric};
use crate::outage_stage::{Outage, REFUSED, ROUTES, Stage, send, shown, without};
use crate::pair::gets;
use crate::process::Process;
use crate::redis_server::RedisServer;
use crate::visitor::Visitor;

const STALE: &str = "cloakroom_near_cache_lookups_total{outcome=\"stale\"}";

#[test]
fn f5_an_outage_is_bridged_for_reading_only_and_where_the_route_says_so() {
    for outage in [Outage::Deaf, Outage::Ended] {
        println!("{outage:?}");
        let mut stage = Stage::within("", "250ms");
        let mut ann = stage.known("ann");
        let bob = stage.stored("bob");
        assert_eq!(metric(&stage.proxies[0], STALE), 0);
        stage.begin(outage);
        stage.notices(&ann, "ann");
        assert!(metric(&stage.proxies[0], STALE) > 0);

        assert_eq!(stage.got(&ann, "/exact"), shown("degraded", "ann"), "it was asked, and did not answer");
        assert_eq!(stage.got(&ann, "/"), REFUSED, "though it is at hand");
        assert_eq!(stage.got(&ann, "/degrade"), without("degraded"));
        for path in ["/", "/stale", "/exact"] {
            assert_eq!(stage.got(&bob, path), REFUSED, "it was never shown: {path}");
        }
        assert_eq!(stage.got(&bob, "/degrade"), without("degraded"));
        assert_eq!(stage.got(&stage.proxies[0].visitor(), "/stale"), without("none"));

        for update in ["Set: v=1", "Incr: n=1", "Unset: user", "Action: clear", "Action: cycle", "Action: touch"] {
            for path in ["/stale", "/exact"] {
                let answer = send(&mut ann, path, &format!("X-Session-{update}"));
                assert_eq!((answer.status, answer.session_cookie()), (503, None), "{update}");
                assert_eq!(stage.got(&ann, path), shown("degraded", "ann"), "reading goes on: {update}");
            }
        }

        stage.end(outage);
        for path in ["/stale", "/", "/degrade", "/exact"] {
            eventually("the store is asked again", || stage.got(&ann, path) == shown("active", "ann"));
        }
        eventually("an update is taken", || {
            send(&mut ann, "/stale", "X-Session-Set: user=anna").session_cookie().is_some()
        });
        for path in ["/stale", "/", "/degrade", "/exact"] {
            eventually("the store answers", || stage.got(&ann, path) != REFUSED);
            let got = stage.got(&ann, path);
            assert!([shown("active", "anna"), without("degraded"), REFUSED].contains(&got), "{path}: {got:?}");
        }
    }
}

#[test]
fn f5_who_logs_out_in_an_outage_is_not_shown_again() {
    for outage in [Outage::Deaf, Outage::Ended] {
        for (action, path) in [("flush", "/stale"), ("delete", "/stale"), ("flush", "/exact"), ("flush", "/degrade")] {
            println!("{outage:?} {action} {path}");
            let mut stage = Stage::within("", "250ms");
            let (ann, mut bob) = (stage.known("ann"), stage.known("bob"));
            let stolen = bob.clone();
            stage.begin(outage);
            stage.notices(&ann, "ann");
            assert_eq!(stage.got(&stolen, "/stale"), shown("degraded", "bob"));
            let answer = send(&mut bob, path, &format!("X-Session-Action: {action}"));
            assert_eq!((answer.status, forgets(&answer)), (503, action == "flush"));
            for path in ["/stale", "/exact", "/short", "/", "/degrade"] {
                assert_eq!(stage.got(&stolen, path), without("none"), "{path}");
            }
            assert_eq!(stage.got(&ann, "/stale"), shown("degraded", "ann"), "nobody else was meant");
            stage.end(outage);
            eventually("the logout is done", || metric(&stage.proxies[0], "cloakroom_flushes_pending") == 0);
            for path in ["/", "/stale", "/exact"] {
                eventually("the store is asked again", || stage.got(&stolen, path) == without("none"));
            }
        }
    }
}

#[test]
fn f5_a_logout_in_an_outage_ends_every_key_that_the_session_has() {
    for through in 0..3 {
        let mut stage = Stage::new("cycle_grace = '10m'");
        let mut keys = vec![stage.known("ann")];
        for _ in 0..2 {
            let mut visitor = keys.last().unwrap().clone();
            assert!(visitor.ask(&["X-Session-Action: cycle"]).session_cookie().is_some());
            keys.push(visitor);
        }
        for key in &keys {
            stage.warm(key, "ann");
        }
        stage.begin(Outage::Ended);
        for key in &keys {
            stage.notices(key, "ann");
        }
        let answer = send(&mut keys[through].clone(), "/stale", "X-Session-Action: flush");
        assert!(answer.status == 503 && forgets(&answer));
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(stage.got(key, "/stale"), without("none"), "key {number}, logged out through key {through}");
        }
    }
}

#[test]
fn f5_a_logout_that_still_waits_for_the_store_counts_in_the_next_outage() {
    let mut stage = Stage::new("");
    let (ann, bob) = (stage.known("ann"), stage.known("bob"));
    // Redis is read from, and refuses writes.
    let mut look = stage.redis.look();
    redis::cmd("CONFIG").arg("SET").arg("min-replicas-to-write").arg(1).exec(&mut look).unwrap();
    let answer = send(&mut bob.clone(), "/stale", "X-Session-Action: flush");
    assert!(answer.status == 503 && forgets(&answer));
    assert_eq!(stage.got(&bob, "/stale"), without("none"), "though the store has it still");
    stage.begin(Outage::Ended);
    stage.notices(&ann, "ann");
    assert_eq!(stage.got(&bob, "/stale"), without("none"));
}

#[test]
fn l6_f5_what_is_known_to_have_ended_is_not_shown_in_an_outage() {
    let mut stage = Stage::new("");
    let here = &stage.proxies[0];
    let [ann, bob, cid, dan] = ["ann", "bob", "cid", "dan"].map(|user| stage.known(user));
    // Ended here.
    assert!(forgets(&bob.clone().ask(&["X-Session-Action: flush"])));
    // Ended at the other proxy. Redis tells of changes in their order: who knows of the second knows of the first.
    let mut elsewhere = cid.clone();
    elsewhere.proxy = stage.proxies[1].address;
    assert!(forgets(&elsewhere.ask(&["X-Session-Action: flush"])));
    let mut mark = ann.clone();
    mark.proxy = stage.proxies[1].address;
    assert!(mark.ask(&["X-Session-Set: user=anna"]).session_cookie().is_some());
    eventually("it is told", || stage.got(&ann, "/stale") == shown("active", "anna"));
    // Ended at the other proxy while nobody could tell, and then found to be gone by a route that always asks.
    let look = || stage.redis.look();
    let killed: usize = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("NORMAL").query(&mut look()).unwrap();
    assert!(killed > 1);
    let mut elsewhere = dan.clone();
    elsewhere.proxy = stage.proxies[1].address;
    eventually("the logout is taken", || elsewhere.clone().ask(&["X-Session-Action: flush"]).status == 200);
    eventually("it is asked for", || stage.got(&dan, "/exact") == without("none"));
    assert_eq!(here.visitor().get("/").status, 200);
    stage.warm(&ann, "anna");

    stage.begin(Outage::Ended);
    stage.notices(&ann, "anna");
    for (user, visitor) in [("bob", bob), ("cid", cid), ("dan", dan)] {
        assert_eq!(stage.got(&visitor, "/stale"), REFUSED, "{user}");
    }
}

#[test]
fn f5_what_expires_in_an_outage_is_not_shown() {
    for rule in ["max_age = '10m'", "idle_timeout = '10m'", "absolute_timeout = '10m'"] {
        let mut stage = Stage::new(rule);
        let ann = stage.known("ann");
        stage.begin(Outage::Ended);
        stage.notices(&ann, "ann");
        stage.advance(599);
        assert_eq!(stage.got(&ann, "/stale"), shown("degraded", "ann"), "{rule}");
        stage.advance(1);
        assert_eq!(stage.got(&ann, "/stale"), REFUSED, "{rule}");
    }
}

#[test]
fn f5_an_old_key_is_shown_in_an_outage_until_the_end_of_its_grace() {
    let mut stage = Stage::new("cycle_grace = '10s'");
    let old = stage.known("ann");
    let mut new = old.clone();
    assert!(new.ask(&["X-Session-Action: cycle", "X-Session-Set: user=anna"]).session_cookie().is_some());
    stage.warm(&old, "ann");
    stage.warm(&new, "anna");
    stage.begin(Outage::Ended);
    stage.notices(&new, "anna");
    assert_eq!(stage.got(&old, "/stale"), shown("degraded", "ann"), "never what came with the login");
    stage.advance(10);
    assert_eq!(stage.got(&old, "/stale"), REFUSED);
    assert_eq!(stage.got(&new, "/stale"), shown("degraded", "anna"));
}

#[test]
fn f5_what_the_store_answered_too_long_ago_is_not_shown() {
    let mut stage = Stage::new("");
    let asked = Instant::now();
    let ann = stage.known("ann");
    stage.begin(Outage::Ended);
    stage.notices(&ann, "ann");
    eventually("it is too old", || stage.got(&ann, "/short") == REFUSED);
    assert!(asked.elapsed() >= Duration::from_secs(3), "not before that");
    assert_eq!(stage.got(&ann, "/stale"), shown("degraded", "ann"), "each route has an age of its own");
}

#[test]
fn the_access_log_says_what_was_old() {
    let mut redis = RedisServer::start();
    let backend = Backend::obedient();
    let store = format!("[store]\nengine = 'redis'\nurl = '{}'\ntimeout = '20s'\n", redis.tcp_url());
    let mut process = Process::start(&backend.url(), "", &format!("{ROUTES}{store}"));
    let mut visitor = process.visitor();
    visitor.ask(&["X-Session-Set: a=1"]);
    let state = |process: &mut Process| {
        process.event(|line| line["target"] == "cloakroom::access")["session"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(&mut process), "none");
    visitor.get("/stale");
    assert_eq!(state(&mut process), "active");
    redis.stop();
    eventually("the outage is noticed", || {
        assert_eq!(visitor.get("/stale").status, 200);
        state(&mut process) == "stale"
    });
}

#[test]
fn f5_who_logs_out_while_the_store_takes_no_writes_is_logged_out_here_at_once() {
    for action in ["flush", "delete"] {
        let stage = Stage::new("");
        let (ann, mut bob) = (stage.known("ann"), stage.known("bob"));
        let stolen = bob.clone();
        let must_replicate = |replicas: u8| {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg("min-replicas-to-write").arg(replicas).exec(&mut stage.redis.look()).unwrap();
        };
        must_replicate(1);
        assert_eq!(send(&mut bob, "/", &format!("X-Session-Action: {action}")).status, 503);
        for path in ["/", "/stale", "/exact", "/degrade"] {
            assert_eq!(stage.got(&stolen, path), without("none"), "{action} {path}");
        }
        assert_eq!(stage.got(&ann, "/"), shown("active", "ann"), "nobody else was meant");
        must_replicate(0);
        eventually("the logout is done", || metric(&stage.proxies[0], "cloakroom_flushes_pending") == 0);
        assert_eq!(stage.got(&stolen, "/exact"), without("none"));
    }
}

#[test]
fn f5_what_was_in_doubt_when_the_store_answered_again_is_not_shown_in_the_next_outage() {
    let mut stage = Stage::within("", "250ms");
    let (ann, bob) = (stage.known("ann"), stage.known("bob"));
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("NORMAL").exec(&mut stage.redis.look()).unwrap();
    // Asked again, and with that answer the doubt about everybody else's is more than doubt.
    eventually("it was asked again", || {
        let (before, got) = (gets(&stage.redis), stage.got(&ann, "/stale"));
        assert!([shown("active", "ann"), shown("degraded", "ann")].contains(&got), "{got:?}");
        got == shown("active", "ann") && gets(&stage.redis) > before
    });
    let mut elsewhere = Visitor { proxy: stage.proxies[1].address, jar: bob.jar.clone() };
    eventually("the other proxy takes a logout", || forgets(&send(&mut elsewhere, "/", "X-Session-Action: flush")));
    stage.begin(Outage::Deaf);
    eventually("the outage is noticed", || stage.got(&ann, "/stale") == shown("degraded", "ann"));
    assert_eq!(stage.got(&bob, "/stale"), REFUSED);
}
