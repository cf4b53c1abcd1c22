//! Two proxies on one Redis, with near caches and without.

use serde_json::Value;

use crate::backend::Backend;
use crate::life_stage::{Gate, eventually};
use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::visitor::Visitor;

pub struct Pair {
    pub proxies: [Proxy; 2],
    pub backend: Backend,
    pub gate: Gate,
    pub redis: RedisServer,
    near: bool,
}

impl Pair {
    /// Runs `test` without near caches, then with them.
    pub fn each(test: impl Fn(&Self)) {
        for near in [false, true] {
            println!("near caches: {near}");
            test(&Self::start(near));
        }
    }

    pub fn start(near: bool) -> Self {
        let redis = RedisServer::start();
        let (backend, gate) = Gate::backend();
        let text = settings(&redis.tcp_url(), near);
        let proxies = [(); 2].map(|()| Proxy::start(&backend.url(), &text));
        Self { proxies, backend, gate, redis, near }
    }

    /// The same visitor at the other proxy.
    pub fn at(&self, proxy: usize, visitor: &Visitor) -> Visitor {
        Visitor { proxy: self.proxies[proxy].address, jar: visitor.jar.clone() }
    }

    /// A visitor with a session that both proxies have shown, and so have at hand if they keep any.
    pub fn known(&self) -> Visitor {
        let mut visitor = self.proxies[0].visitor();
        visitor.ask(&["X-Session-Set: u=1"]);
        for proxy in [0, 1] {
            assert!(self.look(proxy, &visitor).is_some());
        }
        visitor
    }

    /// What a session is at a proxy, by a connection of its own.
    pub fn look(&self, proxy: usize, visitor: &Visitor) -> Option<Value> {
        self.at(proxy, visitor).get("/");
        self.backend.last().session()
    }

    /// A change that the other proxy acknowledged is seen at this one: without near caches at once, with them after a
    /// while; and then for good.
    pub fn hears(&self, proxy: usize, visitor: &Visitor, expected: Option<&Value>) {
        if self.near {
            eventually("the other proxy has heard of it", || self.look(proxy, visitor).as_ref() == expected);
        }
        for _ in 0..3 {
            assert_eq!(self.look(proxy, visitor).as_ref(), expected);
        }
    }

    pub fn records(&self) -> usize {
        redis::cmd("DBSIZE").query(&mut self.redis.look()).unwrap()
    }

    pub fn gets(&self) -> u64 {
        gets(&self.redis)
    }
}

/// How often this Redis was asked for a session.
pub fn gets(redis: &RedisServer) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut redis.look()).unwrap();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// A proxy on the Redis at `url`. No test of these is about speed: a slow machine may take its time. Nothing in a near
/// cache ends by its age, so that whoever hears of a change was told.
pub fn settings(url: &str, near: bool) -> String {
    format!(
        "[admin]\nlisten = '127.0.0.1:0'
        [server]\nlisten = ['127.0.0.1:0']\nworkers = 2
        [[routes]]\nupstream = 'app'
        [[routes]]\npath = '/exact'\nupstream = 'app'\nnear_cache = false
        [session]\ncycle_grace = '10m'
        [store]\nengine = 'redis'\nurl = '{url}'\ntimeout = '20s'
        near_cache = {{ enabled = {near}, max_age = '1h' }}"
    )
}
