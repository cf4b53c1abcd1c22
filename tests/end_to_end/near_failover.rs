//! Near caches of two proxies when another master takes over, or keys go to another one.

use crate::backend::Backend;
use crate::life_stage::eventually;
use crate::pair::settings;
use crate::proxy::Proxy;
use crate::redis_topologies::{Cluster, MASTERS, Watched};
use crate::visitor::Visitor;

struct Pair {
    backend: Backend,
    proxies: [Proxy; 2],
}

impl Pair {
    fn start(url: &str, store: &str) -> Self {
        let backend = Backend::obedient();
        let text = settings(url, true).replace("timeout = '20s'", store);
        let proxies = [(); 2].map(|()| Proxy::start(&backend.url(), &text));
        Self { backend, proxies }
    }

    /// The number in the session, as this proxy shows it; `None` if there is no session, or no answer.
    fn look(&self, proxy: usize, visitor: &Visitor) -> Option<u64> {
        let mut visitor = Visitor { proxy: self.proxies[proxy].address, jar: visitor.jar.clone() };
        if visitor.get("/").status == 200 { self.backend.last().session()?["n"].as_u64() } else { None }
    }

    /// A visitor whose session both proxies have at hand.
    fn known(&self) -> Visitor {
        let mut visitor = self.proxies[0].visitor();
        eventually("a session begins", || visitor.ask(&["X-Session-Set: {\"n\":1}"]).session_cookie().is_some());
        for proxy in [0, 1] {
            eventually("both have it at hand", || self.look(proxy, &visitor) == Some(1));
        }
        visitor
    }

    /// What one proxy acknowledges from now on the other one hears of.
    fn assert_they_hear(&self, visitor: &Visitor) {
        for number in 2..8_u64 {
            let writer = usize::from(number % 2 == 0);
            let mut visitor = Visitor { proxy: self.proxies[writer].address, jar: visitor.jar.clone() };
            let update = format!("X-Session-Set: {{\"n\":{number}}}");
            eventually("an update is taken", || visitor.ask(&[&update]).session_cookie().is_some());
            assert!(self.backend.last().session().is_some(), "nobody was logged out");
            eventually("its own proxy shows it", || self.look(writer, &visitor) == Some(number));
            eventually("the other proxy hears of it", || self.look(1 - writer, &visitor) == Some(number));
            for _ in 0..5 {
                assert!([Some(number), None].contains(&self.look(1 - writer, &visitor)), "the old state came back");
            }
        }
        let mut visitor = Visitor { proxy: self.proxies[0].address, jar: visitor.jar.clone() };
        eventually("the logout is taken", || visitor.clone().ask(&["X-Session-Action: flush"]).status == 200);
        visitor.proxy = self.proxies[1].address;
        eventually("the other proxy hears of the logout", || {
            visitor.get("/").status == 200 && self.backend.last().session().is_none()
        });
    }
}

#[test]
fn after_a_failover_the_other_proxy_still_hears_of_every_change() {
    let watched = Watched::start(1, 60_000);
    let pair = Pair::start(&watched.url(), "timeout = '2s'\nwait_replicas = 1");
    for _ in 0..2 {
        let visitor = pair.known();
        watched.fail_over();
        pair.assert_they_hear(&visitor);
    }
}

#[test]
fn after_slots_have_moved_the_other_proxy_still_hears_of_every_change() {
    let cluster = Cluster::start(0, 60_000);
    let pair = Pair::start(&cluster.url(), "timeout = '2s'");
    let visitors: Vec<Visitor> = (0..6).map(|_| pair.known()).collect();
    let keys: Vec<(usize, String)> = (0..MASTERS)
        .flat_map(|server| {
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut cluster.servers[server].look()).unwrap();
            keys.into_iter().map(move |key| (server, key))
        })
        .collect();
    assert_eq!(keys.len(), visitors.len());
    for (server, key) in keys {
        let slot = cluster.ask(server, &["KEYSLOT", &key]);
        if cluster.master_of(slot, server) == server {
            cluster.move_slot(slot, server, (server + 1) % MASTERS, || ());
        }
    }
    for visitor in &visitors {
        pair.assert_they_hear(visitor);
    }
}
