//! When word of changes may have been lost: connections that end, servers that stop, masters that are replaced.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, Key, SessionStore};
use tokio::task::block_in_place;

use crate::cases::{HOUR, key, stored};
use crate::failover_sentinel::Puppet;
use crate::fixture::{START, chain, settings};
use crate::redis_server::RedisServer;
use crate::redis_topologies::{Cluster, MASTER, MASTERS, Watched, until};
use crate::words::{Word, Words, changed};

async fn open(url: &str, more: &str) -> Arc<dyn SessionStore> {
    let settings = settings(&format!("engine = 'redis'\nurl = '{url}'\n{more}"));
    let opened = store::open_engine(&settings, None, Clock::manual(START)).await;
    opened.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn tell(server: &RedisServer, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut server.look()).unwrap();
}

async fn put(store: &dyn SessionStore, key: &Key) {
    stored(store, key, Expected::Absent, "x", START.plus(Duration::from_millis(HOUR))).await;
}

/// Reads until the store answers, and then hears what `change` does to what was read.
async fn is_told(reader: &dyn SessionStore, words: &mut Words, mut change: impl FnMut()) {
    while reader.load(&key()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    words.so_far();
    change();
    words.until(&changed("visitor")).await;
}

#[tokio::test]
async fn a_connection_that_ends_is_told_and_the_next_one_tells_again() {
    let mut server = RedisServer::start();
    let store = open(&server.tcp_url(), "timeout = '60s'").await;
    let (reader, mut words) = Words::of(&store).await;
    let set = |server: &RedisServer| tell(server, &["SET", "session:visitor", "x"]);
    for _ in 0..3 {
        is_told(&*reader, &mut words, || set(&server)).await;
        assert_eq!(words.so_far(), []);
        // Nobody asks anything meanwhile.
        tell(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(words.next().await, Word::Missed);
    }
    is_told(&*reader, &mut words, || set(&server)).await;
    server.stop();
    assert_eq!(words.next().await, Word::Missed);
    for _ in 0..3 {
        reader.load(&key()).await.unwrap_err();
    }
    assert_eq!(words.so_far(), [], "an attempt to connect that fails is no loss");
    server.restart();
    is_told(&*reader, &mut words, || set(&server)).await;
    drop(reader);
    assert_eq!(words.next().await, Word::Missed, "nobody listens any more");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_though_nobody_asks_it() {
    let server = RedisServer::start();
    let store = open(&server.tcp_url(), "timeout = '500ms'").await;
    let (reader, mut words) = Words::of(&store).await;
    is_told(&*reader, &mut words, || tell(&server, &["SET", "session:visitor", "x"])).await;
    server.pause();
    assert_eq!(words.next().await, Word::Missed);
    server.resume();
    is_told(&*reader, &mut words, || tell(&server, &["DEL", "session:visitor"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_held_up_is_not_taken_for_one_that_cannot_tell() {
    let server = RedisServer::with_options(&["--busy-reply-threshold", "1"]);
    let store = open(&server.tcp_url(), "timeout = '60s'").await;
    let (mut endless, mut other) = (server.look(), server.look());
    let script = std::thread::spawn(move || redis::cmd("EVAL").arg(&["while true do end", "0"]).exec(&mut endless));
    block_in_place(|| {
        until("the script holds it up", || {
            let answer = redis::cmd("GET").arg("x").exec(&mut other);
            answer.is_err_and(|error| error.code() == Some("BUSY"))
        });
    });
    let (held_up, _) = Words::try_of(&store).await;
    assert!(held_up.is_err(), "it says later whether it can");
    redis::cmd("SCRIPT").arg("KILL").exec(&mut other).unwrap();
    script.join().unwrap().unwrap_err();
    let (reader, mut words) = Words::of(&store).await;
    is_told(&*reader, &mut words, || tell(&server, &["SET", "session:visitor", "x"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_sentinels_is_told_and_changes_at_the_new_master_are() {
    let watched = Watched::start(1, 60_000);
    let store = open(&watched.url(), "timeout = '20s'").await;
    let (reader, mut words) = Words::of(&store).await;
    let master = watched.master();
    is_told(&*reader, &mut words, || tell(&watched.servers[master], &["SET", "session:visitor", "x"])).await;
    reader.load(&key()).await.unwrap();
    let master = block_in_place(|| watched.fail_over());
    words.until(&Word::Missed).await;
    is_told(&*reader, &mut words, || tell(&watched.servers[master], &["SET", "session:visitor", "y"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_goes_on_answering_after_it_was_replaced_is_told_and_a_liar_is_not() {
    let [old, new] = [RedisServer::start(), RedisServer::start()];
    let replica = RedisServer::with_options(&["--replicaof", "127.0.0.1", &old.port().to_string()]);
    let [honest, liar] = [Puppet::naming(old.port(), 1), Puppet::naming(replica.port(), 999)];
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/{MASTER}", honest.port, liar.port);
    let store = open(&url, "timeout = '20s'").await;
    let (reader, mut words) = Words::of(&store).await;
    is_told(&*reader, &mut words, || tell(&old, &["SET", "session:visitor", "x"])).await;
    words.so_far();
    // Both handles ask; that one is named which is no master is nothing new.
    liar.is_asked(8).await;
    assert_eq!(words.so_far(), []);
    honest.names(new.port(), 1000);
    assert_eq!(words.next().await, Word::Missed);
    is_told(&*reader, &mut words, || tell(&new, &["SET", "session:visitor", "y"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_a_reader_is_told_and_changes_at_its_new_master_are() {
    let cluster = Cluster::start(0, 60_000);
    let store = open(&cluster.url(), "timeout = '30s'").await;
    put(&*store, &key()).await;
    let (reader, mut words) = Words::of(&store).await;
    let slot = cluster.ask(0, &["KEYSLOT", "session:visitor"]);
    let mut holder = cluster.master_of(slot, 0);
    for _ in 0..MASTERS {
        assert!(reader.load(&key()).await.unwrap().is_some());
        words.so_far();
        let next = (holder + 1) % MASTERS;
        let moved = block_in_place(|| cluster.move_slot(slot, holder, next, || {}));
        assert_eq!(moved, 1);
        words.until(&changed("visitor")).await;
        // Whether or not anybody asks.
        words.until(&Word::Missed).await;
        holder = next;
        let set = || tell(&cluster.servers[holder], &["EXPIRE", "session:visitor", "1000"]);
        is_told(&*reader, &mut words, set).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_while_its_slot_is_on_its_way_is_told_wherever_it_is() {
    let cluster = Cluster::start(0, 60_000);
    let store = open(&cluster.url(), "timeout = '30s'").await;
    put(&*store, &key()).await;
    let (reader, mut words) = Words::of(&store).await;
    let slot: u16 = cluster.ask(0, &["KEYSLOT", "session:visitor"]);
    let from = cluster.master_of(slot, 0);
    let to = (from + 1) % MASTERS;
    let (number, source, target) = (slot.to_string(), cluster.id(from), cluster.id(to));
    let () = cluster.ask(to, &["SETSLOT", &number, "IMPORTING", &source]);
    let () = cluster.ask(from, &["SETSLOT", &number, "MIGRATING", &target]);
    is_told(&*reader, &mut words, || tell(&cluster.servers[from], &["EXPIRE", "session:visitor", "1000"])).await;
    let port = cluster.servers[to].port().to_string();
    let migrate = || tell(&cluster.servers[from], &["MIGRATE", "127.0.0.1", &port, "session:visitor", "0", "10000"]);
    is_told(&*reader, &mut words, migrate).await;
    // One is sent there to ask.
    assert!(reader.load(&key()).await.unwrap().is_some());
    let change = || {
        let mut asking = redis::pipe();
        asking.cmd("ASKING").ignore().cmd("EXPIRE").arg(&["session:visitor", "2000"]);
        let (done,): (bool,) = asking.query(&mut cluster.servers[to].look()).unwrap();
        assert!(done);
    };
    is_told(&*reader, &mut words, change).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_in_a_cluster_is_told_though_nobody_asks_and_changes_at_the_new_master_are() {
    let mut cluster = Cluster::start(1, 5_000);
    let store = open(&cluster.url(), "timeout = '5s'").await;
    put(&*store, &key()).await;
    let (reader, mut words) = Words::of(&store).await;
    let slot = cluster.ask(0, &["KEYSLOT", "session:visitor"]);
    let old = cluster.master_of(slot, 0);
    let (witness, replica) = ((old + 1) % MASTERS, MASTERS + old);
    is_told(&*reader, &mut words, || tell(&cluster.servers[old], &["EXPIRE", "session:visitor", "1000"])).await;
    // In good order: the old master keeps its connections.
    block_in_place(|| {
        let () = cluster.ask(replica, &["FAILOVER"]);
        until("the replica is the master", || cluster.master_of(slot, witness) == replica);
    });
    words.until(&Word::Missed).await;
    is_told(&*reader, &mut words, || tell(&cluster.servers[replica], &["EXPIRE", "session:visitor", "2000"])).await;
    // And at once.
    block_in_place(|| {
        until("the old master follows", || crate::redis_topologies::following(&cluster.servers[replica]) == 1);
        cluster.servers[replica].stop();
    });
    words.until(&Word::Missed).await;
    block_in_place(|| until("the old master is the master", || cluster.master_of(slot, witness) == old));
    is_told(&*reader, &mut words, || tell(&cluster.servers[old], &["EXPIRE", "session:visitor", "3000"])).await;
}
