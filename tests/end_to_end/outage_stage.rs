//! Two proxies with a route of each policy, and a Redis that ends or goes deaf with all it has on its disk.

use std::time::Duration;

use cloakroom::clock::Clock;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::life_stage::{START, eventually};
use crate::proxy::{Proxy, Setup};
use crate::redis_server::RedisServer;
use crate::visitor::{Answer, Visitor};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// Redis runs and answers nothing.
    Deaf,
    /// Nobody listens where Redis was.
    Ended,
}

pub struct Stage {
    pub redis: RedisServer,
    pub backend: Backend,
    pub clock: Clock,
    /// The first is the one that visitors of a test come to.
    pub proxies: [Proxy; 2],
}

/// What a visitor got: the status; and if the backend was asked, what it was told: state and session.
pub type Got = (u16, Option<(String, Option<Value>)>);

pub const REFUSED: Got = (503, None);

pub const ROUTES: &str = "
[[routes]]
upstream = 'app'
[[routes]]
path = '/degrade'
upstream = 'app'
on_store_error = 'degrade'
[[routes]]
path = '/stale'
upstream = 'app'
on_store_error = 'stale'
stale_max_age = '1h'
[[routes]]
path = '/short'
upstream = 'app'
on_store_error = 'stale'
stale_max_age = '3s'
[[routes]]
path = '/exact'
upstream = 'app'
on_store_error = 'stale'
near_cache = false
";

impl Stage {
    pub fn new(session: &str) -> Self {
        Self::within(session, "20s")
    }

    /// As [`Stage::new`], with another `store.timeout`.
    pub fn within(session: &str, timeout: &str) -> Self {
        let redis = RedisServer::with_options(&["--appendonly", "yes", "--appendfsync", "always"]);
        let (backend, clock) = (Backend::obedient(), Clock::manual(START));
        let text = format!(
            "[admin]\nlisten = '127.0.0.1:0'\n{ROUTES}\n[session]\n{session}
            [store]\nengine = 'redis'\nurl = '{}'\ntimeout = '{timeout}'\nnear_cache.max_age = '1h'",
            redis.tcp_url()
        );
        let proxies = [(); 2].map(|()| Setup::new(&backend.url(), &text).clock(&clock).start());
        Self { redis, backend, clock, proxies }
    }

    pub fn begin(&mut self, outage: Outage) {
        match outage {
            Outage::Deaf => self.redis.pause(),
            Outage::Ended => self.redis.stop(),
        }
    }

    pub fn end(&mut self, outage: Outage) {
        match outage {
            Outage::Deaf => self.redis.resume(),
            Outage::Ended => self.redis.restart(),
        }
    }

    /// A visitor with a session that only the store has.
    pub fn stored(&self, user: &str) -> Visitor {
        let mut visitor = self.proxies[0].visitor();
        let update = format!("X-Session-Set: user={user}");
        eventually("a session begins", || visitor.ask(&[&update]).session_cookie().is_some());
        visitor
    }

    /// A visitor whose session the first proxy has shown, and so has at hand.
    pub fn known(&self, user: &str) -> Visitor {
        let visitor = self.stored(user);
        self.warm(&visitor, user);
        visitor
    }

    pub fn warm(&self, visitor: &Visitor, user: &str) {
        eventually("it is shown", || self.got(visitor, "/stale") == shown("active", user));
    }

    /// What a visitor gets who only looks, on a connection of their own; never a cookie.
    pub fn got(&self, visitor: &Visitor, path: &str) -> Got {
        let answer = visitor.clone().get(path);
        assert_eq!(answer.session_cookie(), None, "{path}");
        if answer.status == 503 {
            return REFUSED;
        }
        let seen = self.backend.last();
        let state = seen.header("x-session-state").expect("a state").to_owned();
        (answer.status, Some((state, seen.session())))
    }

    /// Waits until the first proxy has noticed the outage; until then it may show what it has as if nothing were.
    pub fn notices(&self, visitor: &Visitor, user: &str) {
        eventually("the outage is noticed", || {
            let got = self.got(visitor, "/stale");
            assert!([shown("active", user), shown("degraded", user)].contains(&got), "{got:?}");
            got == shown("degraded", user)
        });
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// As [`Visitor::ask`], on the route of this path.
pub fn send(visitor: &mut Visitor, path: &str, reply: &str) -> Answer {
    visitor.send("GET", path, &[("Reply", reply)], b"")
}

pub fn shown(state: &str, user: &str) -> Got {
    (200, Some((state.to_owned(), Some(json!({"user": user})))))
}

pub fn without(state: &str) -> Got {
    (200, Some((state.to_owned(), None)))
}
