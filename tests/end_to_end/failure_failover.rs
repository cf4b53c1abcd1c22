//! Masters that change and slots that move under the proxy.

use crate::backend::Backend;
use crate::failure_redis::{Load, under_load};
use crate::proxy::Proxy;
use crate::redis_topologies::{Cluster, MASTERS, Watched};

/// Without near caches, then with them.
const NEAR: [bool; 2] = [false, true];

fn start(backend: &Backend, store: &str, near: bool) -> Proxy {
    let text = format!(
        "[[routes]]\npath = '/'\nupstream = 'app'
        [[routes]]\npath = '/degrade'\nupstream = 'app'\non_store_error = 'degrade'
        [store]\nengine = 'redis'\nnear_cache = {{ enabled = {near}, max_age = '1h' }}\n{store}"
    );
    Proxy::start(&backend.url(), &text)
}

#[test]
fn o10_a_master_that_ends_and_is_replaced_logs_nobody_out_and_loses_nothing_acknowledged() {
    for near in NEAR {
        let mut watched = Watched::start(2, 3_000);
        let backend = Backend::obedient();
        let store = format!("url = '{}'\nwait_replicas = 1\ntimeout = '500ms'", watched.url());
        let proxy = start(&backend, &store, near);
        let old = watched.master();
        under_load(&proxy, &backend, |load| {
            Load::await_more("answers", &load.fine);
            watched.servers[old].stop();
            Load::await_more("refusals", &load.refused);
            watched.failed_over(old);
            Load::await_more("answers again, by the new master", &load.fine);
        });
    }
}

#[test]
fn o10_a_failover_in_good_order_logs_nobody_out_and_loses_nothing_acknowledged() {
    let watched = Watched::start(1, 60_000);
    let backend = Backend::obedient();
    let store = format!("url = '{}'\nwait_replicas = 1\ntimeout = '500ms'", watched.url());
    for near in NEAR {
        let proxy = start(&backend, &store, near);
        under_load(&proxy, &backend, |load| {
            Load::await_more("answers", &load.fine);
            watched.fail_over();
            Load::await_more("answers again, by the new master", &load.fine);
        });
    }
}

#[test]
fn o10_slots_that_move_log_nobody_out_and_lose_nothing() {
    let cluster = Cluster::start(0, 60_000);
    let backend = Backend::obedient();
    for near in NEAR {
        let proxy = start(&backend, &format!("url = '{}'\ntimeout = '20s'", cluster.url()), near);
        under_load(&proxy, &backend, |load| {
            let mut moved = 0;
            for _ in 0..4 {
                Load::await_more("answers", &load.fine);
                let keys = (0..MASTERS).flat_map(|server| {
                    let keys: Vec<String> =
                        redis::cmd("KEYS").arg("*").query(&mut cluster.servers[server].look()).unwrap();
                    keys.into_iter().map(move |key| (server, key))
                });
                for (server, key) in keys.collect::<Vec<_>>() {
                    let slot = cluster.ask(server, &["KEYSLOT", &key]);
                    // Two keys of one slot go together.
                    if cluster.master_of(slot, server) == server {
                        let between = || Load::await_more("answers while the slot is on its way", &load.fine);
                        moved += cluster.move_slot(slot, server, (server + 1) % MASTERS, between);
                    }
                }
            }
            assert!(moved >= 12, "{moved} sessions moved");
            assert_eq!(
                load.refused.load(std::sync::atomic::Ordering::SeqCst),
                0,
                "moving slots costs nobody an answer"
            );
        });
    }
}
