//! The near cache before real stores: nobody is shown what is known to be over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::config::Config;
use cloakroom::metrics::Metrics;
use cloakroom::session::Session;
use cloakroom::session::data::Data;
use cloakroom::session::expiry::Expiry;
use cloakroom::sessions::{NearCache, Records};
use cloakroom::store::{
    Expected, Key, NearCacheRules, Record, Saved, SessionStore, StoreError, Version, Watcher, open_engine,
};
use tokio::sync::Notify;

use crate::cases::key;
use crate::fixture::{Fixture, START, settings};
use crate::redis_relay::Relay;
use crate::redis_server::RedisServer;

/// Longer than any test takes.
pub const HOUR: Duration = Duration::from_secs(3_600);

pub fn near(max_age: Duration) -> Arc<NearCache> {
    Arc::new(NearCache::new(NearCacheRules { max_age, max_bytes: 1 << 20 }))
}

pub fn records(store: Arc<dyn SessionStore>, near: Option<Arc<NearCache>>, clock: &Clock) -> Records {
    let config = Config::parse("upstreams.app.servers = ['http://127.0.0.1:9']\nstore.engine = 'memory'", "m").unwrap();
    let (metrics, rules) = (Arc::new(Metrics::new()), Arc::new(config.session));
    Records { store, codec: config.codec, clock: clock.clone(), metrics, rules, near }
}

/// A session that lives the longer the higher its number.
pub async fn save(records: &Records, key: &Key, expected: Expected, number: i64) -> Result<Saved, StoreError> {
    let session = Session {
        data: Data::parse(Bytes::from(format!("{{\"number\":{number}}}"))).unwrap(),
        created_at: START,
        saved_at: START,
        expiry: Expiry::Default,
        retired: None,
        predecessors: Vec::new(),
    };
    records.save(key, expected, &session, START.plus(HOUR).plus(Duration::from_millis(number.unsigned_abs()))).await
}

async fn stored(records: &Records, expected: Expected, number: i64) -> Version {
    match save(records, &key(), expected, number).await.unwrap() {
        Saved::Stored(version) => version,
        Saved::Conflict => panic!("{expected:?} was not what was found"),
    }
}

pub fn number(expires_at: Timestamp) -> i64 {
    expires_at.as_millis() - START.plus(HOUR).as_millis()
}

/// What a visitor is shown, by its number.
pub async fn shown(records: &Records, key: &Key) -> Option<i64> {
    records.find_near(key).await.unwrap().map(|stored| number(stored.expires_at))
}

/// How often Redis was asked for a record.
fn asked(server: &RedisServer) -> usize {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut server.look()).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn an_answer_that_comes_together_with_word_of_its_end_is_not_kept() {
    let server = RedisServer::start();
    let relay = Relay::before(server.port());
    let clock = Clock::manual(START);
    let open = async |port: u16| {
        let text = format!("engine = 'redis'\nurl = 'redis://127.0.0.1:{port}'\ntimeout = '60s'");
        open_engine(&settings(&text), None, clock.clone()).await.unwrap()
    };
    let direct = records(open(server.port()).await, None, &clock);
    let near = near(HOUR);
    let behind = open(relay.port).await.attach_watched(Arc::clone(&near) as Arc<dyn Watcher>).await.unwrap();
    let here = Arc::new(records(behind, Some(near), &clock));
    let mut version = stored(&direct, Expected::Absent, 0).await;
    for round in 1..=10 {
        relay.hold();
        let finding = tokio::spawn({
            let here = Arc::clone(&here);
            async move { shown(&here, &key()).await }
        });
        relay.holds(format!("{{\"number\":{}}}", round - 1).as_bytes()).await;
        let cut = round % 2 == 0;
        if cut {
            // Nobody will say what changes after this.
            let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
            redis::cmd("CLIENT").arg(&kill).exec(&mut server.look()).unwrap();
            relay.holds_an_end().await;
        }
        version = stored(&direct, Expected::Version(version), round).await;
        if !cut {
            relay.holds(b"invalidate").await;
        }
        relay.release();
        assert_eq!(finding.await.unwrap(), Some(round - 1), "who asked before");
        let before = asked(&server);
        assert_eq!(shown(&here, &key()).await, Some(round), "who asks after");
        assert_eq!(asked(&server), before + 1);
        assert_eq!(shown(&here, &key()).await, Some(round));
        assert_eq!(asked(&server), before + 1, "that one was kept");
        // One's own write drops it, so that the next round has to ask.
        stored_again(&here, &mut version, round).await;
    }
}

async fn stored_again(records: &Records, version: &mut Version, number: i64) {
    *version = stored(records, Expected::Version(*version), number).await;
}

/// Holds back what it has read until it is let go.
struct Gate {
    inner: Arc<dyn SessionStore>,
    loads: AtomicUsize,
    read: Notify,
    go: Notify,
    watcher: Mutex<Option<Arc<dyn Watcher>>>,
}

#[async_trait]
impl SessionStore for Gate {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let record = self.inner.load(key).await;
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.read.notify_one();
        self.go.notified().await;
        record
    }

    async fn save(&self, key: &Key, expected: Expected, value: Bytes, end: Timestamp) -> Result<Saved, StoreError> {
        self.inner.save(key, expected, value, end).await
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.inner.touch(key, expected, expires_at).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }

    async fn attach_watched(self: Arc<Self>, watcher: Arc<dyn Watcher>) -> Result<Arc<dyn SessionStore>, StoreError> {
        *self.watcher.lock().unwrap() = Some(watcher);
        Ok(self)
    }
}

#[tokio::test]
async fn what_was_read_before_any_word_of_changes_is_not_kept_after_it() {
    let clock = Clock::manual(START);
    let inner = open_engine(&settings("engine = 'memory'"), None, clock.clone()).await.unwrap();
    let direct = records(Arc::clone(&inner), None, &clock);
    let near = near(HOUR);
    let gate = Arc::new(Gate {
        inner,
        loads: AtomicUsize::new(0),
        read: Notify::new(),
        go: Notify::new(),
        watcher: Mutex::default(),
    });
    let store = Arc::clone(&gate).attach_watched(Arc::clone(&near) as Arc<dyn Watcher>).await.unwrap();
    let watcher = gate.watcher.lock().unwrap().clone().unwrap();
    let here = records(store, Some(near), &clock);
    let mut version = stored(&direct, Expected::Absent, 0).await;
    let words: [fn(&dyn Watcher); 3] =
        [|watcher| watcher.changed(&key()), |watcher| watcher.all_changed(), |watcher| watcher.missed()];
    for (round, word) in (1..).zip(words) {
        let meanwhile = async {
            gate.read.notified().await;
            version = stored(&direct, Expected::Version(version), round).await;
            word(&*watcher);
            gate.go.notify_one();
        };
        let visitor = key();
        let (before, ()) = tokio::join!(shown(&here, &visitor), meanwhile);
        assert_eq!(before, Some(round - 1));
        let loads = gate.loads.load(Ordering::SeqCst);
        gate.go.notify_one();
        assert_eq!(shown(&here, &key()).await, Some(round));
        assert_eq!(shown(&here, &key()).await, Some(round));
        assert_eq!(gate.loads.load(Ordering::SeqCst), loads + 1);
        gate.read.notified().await;
        watcher.changed(&key());
    }
}

#[tokio::test]
async fn where_nobody_tells_ones_own_writes_are_seen_at_once_and_others_in_time() {
    for fixture in [Fixture::db(), Fixture::file(), Fixture::memcached(), Fixture::cached_db_memcached()] {
        let engine = fixture.settings.engine;
        let [ours, theirs] = fixture.open_twice().await;
        let near = near(HOUR);
        let ours = ours.attach_watched(Arc::clone(&near) as Arc<dyn Watcher>).await.unwrap();
        let worker = Arc::clone(&ours).attach_watched(Arc::clone(&near) as Arc<dyn Watcher>).await.unwrap();
        let there = records(theirs, None, &fixture.clock);
        let [here, beside] = [ours, worker].map(|store| records(store, Some(Arc::clone(&near)), &fixture.clock));

        let mut version = stored(&here, Expected::Absent, 1).await;
        for round in 1..4 {
            assert_eq!(shown(&beside, &key()).await, Some(round), "{engine:?}");
            stored_again(&here, &mut version, round + 1).await;
            assert_eq!(shown(&beside, &key()).await, Some(round + 1), "{engine:?}");
        }
        stored_again(&there, &mut version, 10).await;
        assert_eq!(shown(&here, &key()).await, Some(4), "{engine:?} was not asked");
        after_max_age().await;
        assert_eq!(shown(&beside, &key()).await, Some(10), "{engine:?}");
        there.end(&[key()]).await.unwrap();
        assert_eq!(shown(&here, &key()).await, Some(10), "{engine:?} was not asked");
        after_max_age().await;
        assert_eq!(shown(&here, &key()).await, None, "{engine:?}");

        stored(&there, Expected::Absent, 11).await;
        assert_eq!(shown(&here, &key()).await, Some(11), "{engine:?}: that there is none is not kept");
        beside.end(&[key()]).await.unwrap();
        assert_eq!(shown(&here, &key()).await, None, "{engine:?}");
    }
}

async fn after_max_age() {
    tokio::time::pause();
    tokio::time::advance(HOUR).await;
    tokio::time::resume();
}
