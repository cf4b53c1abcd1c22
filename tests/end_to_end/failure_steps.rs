//! A store that fails, or is changed by others, between the steps of one update.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::clock::Clock;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::life_stage::{START, eventually, forgets, metric};
use crate::proxy::{Proxy, Setup};
use crate::stores::{Call, Fate, Watched, memory};
use crate::visitor::Visitor;

type Deed = Box<dyn FnOnce() + Send>;

/// Two proxies on one store; what the first one's store does a test decides.
struct Stage {
    first: Proxy,
    second: Proxy,
    backend: Backend,
    clock: Clock,
    watched: Arc<Watched>,
    /// What happens right before so many more saves of the first proxy.
    deed: Arc<Mutex<Option<(usize, Deed)>>>,
    /// What becomes of the first proxy's saves from the n-th on, n as counted from when it was said, and for how many.
    failing: Arc<Mutex<Failing>>,
}

struct Failing {
    after: usize,
    count: usize,
    fate: Fate,
}

impl Stage {
    fn new(text: &str) -> Self {
        let clock = Clock::manual(START);
        let store = memory(&clock);
        let deed: Arc<Mutex<Option<(usize, Deed)>>> = Arc::default();
        let failing = Arc::new(Mutex::new(Failing { after: 0, count: 0, fate: Fate::Pass }));
        let watched = {
            let (deed, failing) = (Arc::clone(&deed), Arc::clone(&failing));
            Watched::new(&store, move |call, _| {
                if call != Call::Save {
                    return Fate::Pass;
                }
                let due = {
                    let mut deed = deed.lock().unwrap();
                    match &mut *deed {
                        Some((0, _)) => deed.take(),
                        Some((left, _)) => {
                            *left -= 1;
                            None
                        }
                        None => None,
                    }
                };
                if let Some((_, deed)) = due {
                    deed();
                }
                let mut failing = failing.lock().unwrap();
                if failing.after > 0 {
                    failing.after -= 1;
                    return Fate::Pass;
                }
                if failing.count == 0 {
                    return Fate::Pass;
                }
                failing.count -= 1;
                failing.fate
            })
        };
        let backend = Backend::obedient();
        let text = format!("{text}\n[admin]\nlisten = '127.0.0.1:0'");
        let first = Setup::new(&backend.url(), &text).clock(&clock).store(watched.clone()).start();
        let second = Setup::new(&backend.url(), &text).clock(&clock).store(store).start();
        Self { first, second, backend, clock, watched, deed, failing }
    }

    /// A visitor of the first proxy, whose session the second one has made.
    fn known(&self) -> Visitor {
        let mut visitor = self.second.visitor();
        visitor.ask(&["X-Session-Set: u=1"]);
        Visitor { proxy: self.first.address, ..visitor }
    }

    /// Lets the visitor ask the second proxy right before the first proxy's save number `after + 1` from here on; whom
    /// that has made of them.
    fn meanwhile(&self, after: usize, visitor: &Visitor, reply: &str) -> Arc<Mutex<Option<Visitor>>> {
        let (mut visitor, reply) = (self.at_second(visitor), reply.to_owned());
        let became = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&became);
        let deed = move || {
            assert_eq!(visitor.ask(&[&reply]).status, 200);
            *tell.lock().unwrap() = Some(visitor);
        };
        *self.deed.lock().unwrap() = Some((after, Box::new(deed)));
        became
    }

    fn fail(&self, after: usize, count: usize, fate: Fate) {
        *self.failing.lock().unwrap() = Failing { after, count, fate };
    }

    fn at_second(&self, visitor: &Visitor) -> Visitor {
        Visitor { proxy: self.second.address, jar: visitor.jar.clone() }
    }

    fn look(&self, visitor: &Visitor) -> Option<Value> {
        self.at_second(visitor).get("/");
        self.backend.last().session()
    }

    fn pending(&self) -> u64 {
        metric(&self.first, "cloakroom_flushes_pending")
    }

    fn settle(&self) {
        eventually("nothing is pending", || self.pending() == 0);
    }
}

const LOGIN: [&str; 2] = ["X-Session-Set: login=7", "X-Session-Action: cycle"];

#[test]
fn a_logout_between_the_steps_of_a_cycle_wins() {
    for grace in [0, 10] {
        for step in [0, 1] {
            let stage = Stage::new(&format!("[session]\ncycle_grace = {grace}"));
            let mut visitor = stage.known();
            let old = visitor.clone();
            let ended = stage.meanwhile(step, &visitor, "X-Session-Action: flush");
            let answer = visitor.ask(&LOGIN);
            assert!(ended.lock().unwrap().is_some(), "the logout did not happen");
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "step {step}");
            assert_eq!(stage.look(&old), None);
            assert_eq!(
                (stage.watched.calls(Call::Save), stage.watched.calls(Call::Delete)),
                (2, 1),
                "the new record went"
            );
        }
    }
}

#[test]
fn an_update_between_the_steps_of_a_cycle_is_kept() {
    for step in [0, 1] {
        let stage = Stage::new("");
        let mut visitor = stage.known();
        let old = visitor.clone();
        let updated = stage.meanwhile(step, &visitor, "X-Session-Incr: n=1");
        assert!(visitor.ask(&LOGIN).session_cookie().is_some());
        assert!(updated.lock().unwrap().is_some());
        assert_eq!(stage.look(&visitor), Some(json!({"u": "1", "n": 1, "login": "7"})), "step {step}");
        assert_eq!(stage.look(&old), Some(json!({"u": "1", "n": 1})), "step {step}");
        assert_eq!(stage.watched.calls(Call::Save), 4, "once more, from the newer record");
        visitor.ask(&["X-Session-Action: flush"]);
        assert_eq!([stage.look(&visitor), stage.look(&old)], [None, None]);
    }
}

#[test]
fn a_cycle_between_the_steps_of_a_cycle_leaves_one_session() {
    for step in [0, 1] {
        let stage = Stage::new("");
        let mut visitor = stage.known();
        let other = stage.meanwhile(step, &visitor, "X-Session-Action: cycle");
        let answer = visitor.ask(&LOGIN);
        assert_eq!((answer.status, answer.session_cookie()), (200, None));
        let other = other.lock().unwrap().clone().unwrap();
        assert_eq!(stage.look(&other), Some(json!({"u": "1"})));
        assert_eq!(stage.watched.calls(Call::Delete), 1);
    }
}

#[test]
fn what_happens_between_the_steps_of_a_logout_is_ended_with_it() {
    for grace in [0, 10] {
        for meanwhile in ["X-Session-Set: v=1", "X-Session-Action: cycle", "X-Session-Action: flush"] {
            for (step, through_old) in [(0, false), (0, true), (1, true)] {
                let stage = Stage::new(&format!("[session]\ncycle_grace = {grace}"));
                let old = stage.known();
                let mut new = stage.at_second(&old);
                new.ask(&["X-Session-Action: cycle"]);
                if grace == 0 && through_old {
                    continue; // Without grace the old key opens nothing.
                }
                let became = stage.meanwhile(step, &new, meanwhile);
                let through = if through_old { &old } else { &new };
                let mut through = Visitor { proxy: stage.first.address, ..through.clone() };
                assert!(forgets(&through.ask(&["X-Session-Action: flush"])));
                let became = became.lock().unwrap().clone().expect("something happened meanwhile");
                for key in [&old, &new, &became] {
                    assert_eq!(stage.look(key), None, "{meanwhile}, step {step}");
                }
            }
        }
    }
}

#[test]
fn a_cycle_whose_first_step_fails_changes_nothing() {
    for fate in [Fate::Fail, Fate::FailAfterwards] {
        let stage = Stage::new("");
        let mut visitor = stage.known();
        stage.fail(0, 1, fate);
        let answer = visitor.ask(&LOGIN);
        assert_eq!((answer.status, answer.session_cookie()), (503, None), "f4: no cookie for what was not stored");
        assert_eq!(stage.look(&visitor), Some(json!({"u": "1"})));
        assert!(visitor.ask(&LOGIN).session_cookie().is_some(), "and the next try succeeds");
    }
}

#[test]
fn a_cycle_whose_second_step_fails_keeps_the_session_and_retires_the_old_key_later() {
    for fate in [Fate::Fail, Fate::FailAfterwards] {
        for grace in [0, 10] {
            let stage = Stage::new(&format!("[session]\ncycle_grace = {grace}"));
            let mut visitor = stage.known();
            let old = visitor.clone();
            stage.fail(1, 3, fate);
            let answer = visitor.ask(&LOGIN);
            assert!(answer.status == 200 && answer.session_cookie().is_some());
            assert_eq!(stage.look(&visitor), Some(json!({"u": "1", "login": "7"})));
            stage.settle();
            let read_only = stage.at_second(&old).ask(&["X-Session-Set: v=1"]);
            assert_eq!(read_only.session_cookie().is_some(), grace == 0, "an ended key is like none");
            assert_eq!(stage.look(&old), (grace > 0).then(|| json!({"u": "1"})));
            stage.clock.advance(Duration::from_secs(10));
            assert_eq!(stage.look(&old), None);
            assert_eq!(stage.look(&visitor), Some(json!({"u": "1", "login": "7"})));
        }
    }
}

#[test]
fn a_logout_before_a_late_retirement_ends_the_new_key_too() {
    for fate in [Fate::Fail, Fate::FailAfterwards] {
        for grace in [0, 10] {
            for through_new in [false, true] {
                let stage = Stage::new(&format!("[session]\ncycle_grace = {grace}"));
                let mut visitor = stage.known();
                let old = visitor.clone();
                stage.fail(1, usize::MAX, fate);
                assert!(visitor.ask(&LOGIN).session_cookie().is_some());
                assert_eq!(stage.pending(), 1);
                let through = if through_new { &visitor } else { &old };
                // Where the retirement was stored all the same, and without grace, the old key opens nothing any more.
                if stage.look(through).is_none() {
                    assert!(grace == 0 && !through_new && fate == Fate::FailAfterwards);
                    continue;
                }
                assert!(forgets(&stage.at_second(through).ask(&["X-Session-Action: flush"])));
                stage.fail(0, 0, Fate::Pass);
                stage.settle();
                let left = [stage.look(&old), stage.look(&visitor)];
                assert_eq!(left, [None, None], "{fate:?}, grace {grace}, through the new key: {through_new}");
            }
        }
    }
}

#[test]
fn a_logout_and_a_retirement_of_one_key_may_both_be_pending() {
    let stage = Stage::new("");
    let mut visitor = stage.known();
    let mut old = visitor.clone();
    stage.fail(1, usize::MAX, Fate::Fail);
    assert!(visitor.ask(&LOGIN).session_cookie().is_some());
    let answer = old.clone().ask(&["X-Session-Action: flush"]);
    assert!(answer.status == 503 && forgets(&answer));
    assert_eq!(stage.pending(), 2);
    stage.fail(0, 0, Fate::Pass);
    stage.settle();
    assert_eq!([stage.look(&old), stage.look(&visitor)], [None, None]);
    assert_eq!(old.get("/").status, 200);
}

#[test]
fn a_logout_that_the_store_cannot_take_is_retried_until_it_succeeds() {
    for action in ["flush", "delete", "flush, cycle", "flush, no-such-thing"] {
        let stage = Stage::new("");
        let mut visitor = stage.known();
        let stolen = visitor.clone();
        stage.fail(0, usize::MAX, Fate::Fail);
        for _ in 0..3 {
            let answer = visitor.clone().ask(&[&format!("X-Session-Action: {action}")]);
            assert_eq!((answer.status, forgets(&answer)), (503, action != "delete"), "{action}");
            assert_eq!(stage.pending(), 1, "one logout is one, however often it is said");
        }
        assert!(stage.look(&stolen).is_some(), "where nobody knows of the logout");
        stage.fail(0, 0, Fate::Pass);
        stage.settle();
        assert_eq!(stage.look(&stolen), None);
        assert_eq!(visitor.get("/").status, 200);
    }
}

#[test]
fn a_logout_through_an_old_key_is_not_lost_in_a_long_outage() {
    let stage = Stage::new("");
    let mut new = stage.known();
    let mut old = new.clone();
    new.ask(&["X-Session-Action: cycle"]);
    stage.fail(0, usize::MAX, Fate::Fail);
    let answer = old.ask(&["X-Session-Action: flush"]);
    assert!(answer.status == 503 && forgets(&answer));
    stage.clock.advance(Duration::from_secs(3600));
    assert!(stage.look(&new).is_some(), "it is still to be ended");
    stage.fail(0, 0, Fate::Pass);
    stage.settle();
    assert_eq!(stage.look(&new), None);
}

#[test]
fn conflicts_are_retried_a_hundred_times() {
    let clock = Clock::manual(START);
    let store = memory(&clock);
    let backend = Backend::obedient();
    let rival = Setup::new(&backend.url(), "").clock(&clock).store(Arc::clone(&store)).start();
    let mut visitor = rival.visitor();
    visitor.ask(&["X-Session-Set: u=1"]);
    let (rounds, other) = (Arc::new(AtomicUsize::new(0)), Mutex::new(visitor.clone()));
    let count = Arc::clone(&rounds);
    let watched = Watched::new(&store, move |call, number| {
        if call == Call::Save && number <= 100 {
            count.fetch_add(1, Ordering::SeqCst);
            assert_eq!(other.lock().unwrap().ask(&["X-Session-Incr: n=1"]).status, 200);
        }
        Fate::Pass
    });
    let proxy = Setup::new(&backend.url(), "").clock(&clock).store(watched.clone()).start();
    visitor.proxy = proxy.address;
    let answer = visitor.ask(&["X-Session-Incr: n=1000"]);
    assert_eq!(rounds.load(Ordering::SeqCst), 100);
    assert_eq!((answer.status, watched.calls(Call::Save)), (200, 101));
    visitor.get("/");
    assert_eq!(backend.last().session(), Some(json!({"u": "1", "n": 1100})));
}
