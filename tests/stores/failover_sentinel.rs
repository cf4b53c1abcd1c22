//! Redis behind sentinels: masters that end, are replaced, are cut off, or were none.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, Key, SessionStore, StoreError};
use tokio::task::block_in_place;

use crate::cases::stored;
use crate::failover::Load;
use crate::fixture::{START, chain, settings};
use crate::redis_server::RedisServer;
use crate::redis_topologies::{MASTER, Watched, until};

const DAY: Duration = Duration::from_secs(86_400);

async fn try_open(url: &str, more: &str) -> Result<Arc<dyn SessionStore>, StoreError> {
    let settings = settings(&format!("engine = 'redis'\nurl = '{url}'\ntimeout = '1s'\n{more}"));
    store::open_engine(&settings, None, Clock::manual(START)).await
}

async fn open(url: &str, more: &str) -> Arc<dyn SessionStore> {
    try_open(url, more).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_acknowledged_survives_the_end_of_the_master() {
    // Long enough that a slow machine is not taken for a dead one: two masters at once is more than this is about.
    let mut watched = Watched::start(2, 3_000);
    let store = open(&watched.url(), "wait_replicas = 1").await;
    let load = Load::start(&store, START.plus(DAY)).await;
    load.acknowledges(100).await;
    let old = watched.master();
    block_in_place(|| watched.servers[old].stop());
    load.fails().await;
    block_in_place(|| watched.failed_over(old));
    load.acknowledges(100).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_in_good_order_loses_no_acknowledged_update() {
    // A replica that was not chosen could acknowledge what the new master never saw: so there is but one.
    let watched = Watched::start(1, 60_000);
    let store = open(&watched.url(), "wait_replicas = 1").await;
    let load = Load::start(&store, START.plus(DAY)).await;
    for _ in 0..2 {
        load.acknowledges(100).await;
        block_in_place(|| watched.fail_over());
        // The old master has to follow the new one before anything counts again.
        load.acknowledges(100).await;
    }
    load.stop().await;
}

/// A sentinel of our own: it names any port as the master's, with any epoch.
pub struct Puppet {
    pub port: u16,
    named: Arc<AtomicU16>,
    epoch: Arc<AtomicU64>,
    asked: Arc<AtomicUsize>,
}

impl Puppet {
    pub fn naming(master: u16, epoch: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let puppet = Self {
            port: listener.local_addr().unwrap().port(),
            named: Arc::new(master.into()),
            epoch: Arc::new(epoch.into()),
            asked: Arc::default(),
        };
        let (named, epoch, asked) = (Arc::clone(&puppet.named), Arc::clone(&puppet.epoch), Arc::clone(&puppet.asked));
        let said = move || {
            let (port, epoch) = (named.load(Ordering::SeqCst), epoch.load(Ordering::SeqCst));
            let bulk = |text: String| format!("${}\r\n{text}\r\n", text.len());
            let place = format!("*2\r\n{}{}", bulk("127.0.0.1".into()), bulk(port.to_string()));
            format!("{place}*2\r\n{}{}", bulk("config-epoch".into()), bulk(epoch.to_string()))
        };
        let said = Arc::new(Mutex::new(said));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, said, asked) = (connection.unwrap(), Arc::clone(&said), Arc::clone(&asked));
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = connection.read(&mut buffer) {
                        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                        let hello = if text.contains("HELLO") { "%1\r\n+proto\r\n:3\r\n" } else { "" };
                        let greeting = hello.to_owned() + &"+OK\r\n".repeat(text.matches("SETINFO").count());
                        let questions = text.matches("GET-MASTER-ADDR-BY-NAME").count();
                        asked.fetch_add(questions, Ordering::SeqCst);
                        let answer = greeting + &(said.lock().unwrap())().repeat(questions);
                        if connection.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        puppet
    }

    pub fn names(&self, master: u16, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.named.store(master, Ordering::SeqCst);
    }

    pub async fn is_asked(&self, more: usize) {
        let before = self.asked.load(Ordering::SeqCst);
        while self.asked.load(Ordering::SeqCst) < before + more {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn sessions(server: &RedisServer) -> usize {
    redis::cmd("DBSIZE").query(&mut server.look()).unwrap()
}

/// Who is connected in the protocol that only the store speaks here.
fn connections(server: &RedisServer) -> Vec<String> {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.look()).unwrap();
    let ours = list.lines().filter(|line| line.contains("resp=3"));
    ours.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_lies_and_one_that_is_gone_are_not_followed() {
    let watched = Watched::start(1, 60_000);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for lie in [watched.servers[1].port(), gone] {
        let liar = Puppet::naming(lie, 999);
        let honest = watched.sentinels[0].port();
        let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{gone},127.0.0.1:{honest}/{MASTER}", liar.port);
        let store = open(&url, "").await;
        let before = connections(&watched.servers[0]);
        assert_eq!(before.len(), 1);
        liar.is_asked(6).await;
        let key = Key::new(lie.to_string());
        stored(&*store, &key, Expected::Absent, "x", START.plus(DAY)).await;
        assert!(store.load(&key).await.unwrap().is_some());
        assert_eq!(connections(&watched.servers[0]), before, "the connection stays");
        let error = try_open(&format!("redis+sentinel://127.0.0.1:{}/{MASTER}", liar.port), "").await.err().unwrap();
        assert!(matches!(error, StoreError::Unreachable(_)), "{}", chain(&error));
    }
    assert_eq!(sessions(&watched.servers[0]), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_replaced_and_goes_on_answering_is_left() {
    let [old, new] = [RedisServer::start(), RedisServer::start()];
    let sentinel = Puppet::naming(old.port(), 1);
    let store = open(&format!("redis+sentinel://127.0.0.1:{}/{MASTER}", sentinel.port), "").await;
    stored(&*store, &Key::new("before"), Expected::Absent, "x", START.plus(DAY)).await;
    assert_eq!((sessions(&old), sessions(&new)), (1, 0));
    sentinel.names(new.port(), 2);
    block_in_place(|| {
        until("the store is at the new master", || connections(&new).len() == 1);
        // It is asked for its role before the old one is left.
        until("nothing is left at the old one", || connections(&old).is_empty());
    });
    stored(&*store, &Key::new("after"), Expected::Absent, "x", START.plus(DAY)).await;
    assert_eq!((sessions(&old), sessions(&new)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_master_tells_nobody_that_a_session_is_absent() {
    let [demoted, empty] = [RedisServer::start(), RedisServer::start()];
    let sentinel = Puppet::naming(demoted.port(), 1);
    let store = open(&format!("redis+sentinel://127.0.0.1:{}/{MASTER}", sentinel.port), "").await;
    let key = Key::new("visitor");
    stored(&*store, &key, Expected::Absent, "x", START.plus(DAY)).await;
    let port = empty.port().to_string();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(&port).exec(&mut demoted.look()).unwrap();
    block_in_place(|| until("it has forgotten everything", || sessions(&demoted) == 0));
    for _ in 0..20 {
        store.load(&key).await.unwrap_err();
        store.save(&key, Expected::Absent, "y".into(), START.plus(DAY)).await.unwrap_err();
    }
    assert_eq!(sessions(&empty), 0);
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut demoted.look()).unwrap();
    while store.load(&key).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_sentinels_serve_while_one_is_down() {
    let mut watched = Watched::start(2, 3_000);
    watched.sentinels[0].stop();
    let store = open(&watched.url(), "wait_replicas = 1").await;
    let load = Load::start(&store, START.plus(DAY)).await;
    load.acknowledges(20).await;
    let port = watched.servers[0].port();
    block_in_place(|| {
        watched.servers[0].stop();
        until("the two that are left fail over", || {
            watched.named_by(1) != port && watched.named_by(2) == watched.named_by(1)
        });
    });
    load.acknowledges(20).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_no_sentinel_knows_is_told() {
    let watched = Watched::start(0, 60_000);
    let error = try_open(&watched.url().replace(MASTER, "orders"), "").await.err().unwrap();
    assert!(matches!(error, StoreError::Failed(_)) && chain(&error).contains("orders"), "{}", chain(&error));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = try_open(&format!("redis+sentinel://127.0.0.1:{gone}/{MASTER}"), "").await.err().unwrap();
    assert!(matches!(error, StoreError::Unreachable(_)) && chain(&error).contains("sentinel"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_no_replica_has_does_not_count() {
    let server = RedisServer::start();
    let store = open(&server.tcp_url(), "wait_replicas = 1").await;
    let key = Key::new("visitor");
    let deadline = START.plus(DAY);
    let error = store.save(&key, Expected::Absent, "x".into(), deadline).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)) && chain(&error).contains("wait_replicas"), "{}", chain(&error));
    // Its outcome was unknown to who asked; here it was done.
    let record = store.load(&key).await.unwrap().unwrap();
    store.touch(&key, record.version, deadline.plus(DAY)).await.unwrap_err();
    assert_eq!(store.save(&key, Expected::Absent, "y".into(), deadline).await.unwrap(), store::Saved::Conflict);
    store.delete(&key).await.unwrap_err();
    assert_eq!(store.load(&key).await.unwrap(), None);
    let replica = RedisServer::with_options(&["--replicaof", "127.0.0.1", &server.port().to_string()]);
    while crate::redis_topologies::following(&server) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stored(&*store, &key, Expected::Absent, "z", deadline).await;
    store.delete(&key).await.unwrap();
    replica.pause();
    store.save(&key, Expected::Absent, "z".into(), deadline).await.unwrap_err();
    assert!(store.load(&key).await.unwrap().is_some(), "reads do not wait for replicas");
    replica.resume();
}
