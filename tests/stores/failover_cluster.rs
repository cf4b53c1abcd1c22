//! Redis Cluster: slots and masters that change under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, Key, SessionStore};
use tokio::task::{JoinSet, block_in_place};

use crate::cases::stored;
use crate::failover::Load;
use crate::fixture::{START, chain, settings};
use crate::races::count;
use crate::redis_topologies::{Cluster, MASTERS, until};

const DAY: Duration = Duration::from_secs(86_400);
/// A prefix that puts all keys into one slot.
const ONE_SLOT: &str = "{session}:";

async fn open(url: &str, more: &str) -> Arc<dyn SessionStore> {
    let settings = settings(&format!("engine = 'redis'\nurl = '{url}'\n{more}"));
    let opened = store::open_engine(&settings, None, Clock::manual(START)).await;
    opened.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn slot(cluster: &Cluster) -> u16 {
    cluster.ask(0, &["KEYSLOT", ONE_SLOT])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_lose_and_double_nothing() {
    const MOVES: usize = 6;

    let cluster = Cluster::start(0, 60_000);
    let store = open(&cluster.url(), &format!("timeout = '30s'\nprefix = '{ONE_SLOT}'")).await;
    let worker = Arc::clone(&store).attach().await.unwrap();
    let deadline = START.plus(DAY);
    let session = Key::new("counter");
    stored(&*store, &session, Expected::Absent, "0", deadline).await;
    let stop = Arc::new(AtomicBool::new(false));
    let counted = Arc::new(AtomicU32::new(0));
    let mut load = JoinSet::new();
    for writer in 0..4 {
        let store = Arc::clone([&store, &worker][writer % 2]);
        let (stop, counted, session) = (Arc::clone(&stop), Arc::clone(&counted), session.clone());
        load.spawn(async move {
            let mut created = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                // Every call must succeed, and what is there must be found.
                count(&*store, &session, 1, deadline).await;
                let number = counted.fetch_add(1, Ordering::SeqCst);
                if created.len() < 100 {
                    let key = Key::new(format!("{writer} {number}"));
                    stored(&*store, &key, Expected::Absent, "new", deadline).await;
                    created.push(key);
                }
                let key = &created[number as usize % created.len()];
                assert!(store.load(key).await.unwrap().is_some(), "a session that is there was said to be absent");
            }
            created
        });
    }
    let progress = || {
        let before = counted.load(Ordering::SeqCst);
        until("the load goes on", || counted.load(Ordering::SeqCst) >= before + 2);
    };
    let slot = slot(&cluster);
    let mut moved = 0;
    block_in_place(|| {
        let mut holder = cluster.master_of(slot, 0);
        for _ in 0..MOVES {
            let next = (holder + 1) % MASTERS;
            let mut steps = 0;
            moved += cluster.move_slot(slot, holder, next, || {
                steps += 1;
                if steps < 10 {
                    progress();
                }
            });
            holder = next;
            progress();
        }
    });
    stop.store(true, Ordering::SeqCst);
    let created: Vec<Key> = load.join_all().await.into_iter().flatten().collect();
    assert!(moved >= MOVES && !created.is_empty());
    for key in &created {
        assert!(store.load(key).await.unwrap().is_some());
        store.delete(key).await.unwrap();
        assert!(worker.load(key).await.unwrap().is_none());
    }
    let total = store.load(&session).await.unwrap().unwrap();
    assert_eq!(total.value, counted.load(Ordering::SeqCst).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_in_good_order_loses_no_acknowledged_update() {
    let cluster = Cluster::start(1, 20_000);
    let store = open(&cluster.url(), "timeout = '2s'\nwait_replicas = 1").await;
    let load = Load::start(&store, START.plus(DAY)).await;
    for master in 0..MASTERS {
        load.acknowledges(50).await;
        let (slot, replica) = (u16::try_from(16_384 * master / MASTERS).unwrap(), MASTERS + master);
        block_in_place(|| {
            let () = cluster.ask(replica, &["FAILOVER"]);
            until("the replica is the master", || cluster.master_of(slot, master) == replica);
        });
        load.acknowledges(50).await;
    }
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_acknowledged_survives_the_end_of_a_master() {
    let mut cluster = Cluster::start(1, 1_000);
    let store = open(&cluster.url(), &format!("timeout = '1s'\nwait_replicas = 1\nprefix = '{ONE_SLOT}'")).await;
    let load = Load::start(&store, START.plus(DAY)).await;
    load.acknowledges(100).await;
    let slot = slot(&cluster);
    let old = cluster.master_of(slot, 0);
    let witness = (old + 1) % MASTERS;
    block_in_place(|| cluster.servers[old].stop());
    load.fails().await;
    block_in_place(|| until("the replica is the master", || cluster.master_of(slot, witness) != old));
    // There is no replica left that could acknowledge, until the old master comes back as one.
    block_in_place(|| cluster.servers[old].restart());
    load.acknowledges(100).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_a_cluster_alone_says_what_to_write() {
    let cluster = Cluster::start(0, 60_000);
    let store = |server: usize| {
        let url = format!("redis://127.0.0.1:{}", cluster.servers[server].port());
        let settings = settings(&format!("engine = 'redis'\nurl = '{url}'\ntimeout = '30s'"));
        async move { store::open_engine(&settings, None, Clock::manual(START)).await }
    };
    let mut refused = 0;
    for server in 0..MASTERS {
        if let Err(error) = store(server).await {
            assert!(chain(&error).contains("redis+cluster://"), "{}", chain(&error));
            refused += 1;
        }
    }
    assert_eq!(refused, MASTERS - 1, "only one has the slot that is asked for at start");
}
