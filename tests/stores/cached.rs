//! A cache before a database: never older than what was acknowledged, and never missed when it fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::store::{CachedDb, Expected, Key, Saved, SessionStore, Version, open_engine};

use crate::cases::{stored, value};
use crate::fixture::{Fixture, START, settings};
use crate::foreign::Stub;
use crate::watched::{Call, Fate, Watched};

pub const MAX_AGE: Duration = Duration::from_secs(300);
pub const LIMIT: Duration = Duration::from_secs(20);

pub fn key() -> Key {
    Key::new("visitor")
}

/// A database and a cache, both in memory, and any number of proxies that have them.
pub struct House {
    pub clock: Clock,
    pub rows: Arc<dyn SessionStore>,
    pub cache: Arc<dyn SessionStore>,
}

impl House {
    pub async fn new() -> Self {
        let clock = Clock::manual(START);
        let memory = settings("engine = 'memory'");
        let rows = open_engine(&memory, None, clock.clone()).await.unwrap();
        let cache = open_engine(&memory, None, clock.clone()).await.unwrap();
        Self { clock, rows, cache }
    }

    pub fn proxy(&self) -> Arc<CachedDb> {
        self.proxy_of(&self.rows, &self.cache)
    }

    pub fn proxy_of(&self, rows: &Arc<dyn SessionStore>, cache: &Arc<dyn SessionStore>) -> Arc<CachedDb> {
        let (rows, cache) = (Arc::clone(rows), Arc::clone(cache));
        Arc::new(CachedDb::new(rows, cache, LIMIT, MAX_AGE, None, self.clock.clone()))
    }

    /// A proxy whose calls to the cache meet what the rule says.
    pub fn before(&self, rule: impl Fn(Call, usize) -> Fate + Send + Sync + 'static) -> (Arc<Watched>, Arc<CachedDb>) {
        let cache = Watched::new(&self.cache, rule);
        let watched: Arc<dyn SessionStore> = cache.clone();
        (cache, self.proxy_of(&self.rows, &watched))
    }

    pub fn later(&self) -> Timestamp {
        self.clock.now().plus(Duration::from_secs(36_000))
    }

    pub async fn keep(&self, store: &dyn SessionStore, expected: Expected, value: &'static str) -> Version {
        stored(store, &key(), expected, value, self.later()).await
    }
}

#[tokio::test]
async fn what_the_cache_has_is_not_asked_for_again() {
    let house = House::new().await;
    let rows = Watched::new(&house.rows, |_, _| Fate::Pass);
    let watched: Arc<dyn SessionStore> = rows.clone();
    let [one, other] = [house.proxy_of(&watched, &house.cache), house.proxy_of(&watched, &house.cache)];
    let version = house.keep(&*one, Expected::Absent, "x").await;
    for proxy in [&one, &other, &one, &other] {
        let record = proxy.load(&key()).await.unwrap().unwrap();
        assert_eq!((&record.value[..], record.version, record.expires_at), (&b"x"[..], version, house.later()));
    }
    assert_eq!(rows.calls(Call::Load), 1);
    // What is not there is not remembered, and leaves nothing behind.
    for _ in 0..2 {
        assert_eq!(one.load(&Key::new("nobody")).await.unwrap(), None);
        assert_eq!(house.cache.load(&Key::new("nobody")).await.unwrap(), None);
    }
    assert_eq!(rows.calls(Call::Load), 3);
}

/// Holds the call of that number until it is let go.
struct Hold {
    reached: Mutex<mpsc::Receiver<()>>,
    go: mpsc::Sender<()>,
}

impl Hold {
    fn new(call: Call, number: usize) -> (Self, impl Fn(Call, usize) -> Fate + Send + Sync + 'static) {
        let ((tell, reached), (go, wait)) = (mpsc::channel(), mpsc::channel());
        let wait = Mutex::new(wait);
        let rule = move |asked, count| {
            if (asked, count) == (call, number) {
                tell.send(()).unwrap();
                wait.lock().unwrap().recv().unwrap();
            }
            Fate::Pass
        };
        (Self { reached: Mutex::new(reached), go }, rule)
    }

    fn reached(&self) {
        self.reached.lock().unwrap().recv().unwrap();
    }

    fn go(&self) {
        self.go.send(()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_row_read_before_a_write_does_not_come_to_the_cache_after_it() {
    for somebody_asks_in_between in [false, true] {
        let house = House::new().await;
        let writer = house.proxy();
        let version = house.keep(&*writer, Expected::Absent, "old").await;
        // The reader's second save is the one that replaces its mark.
        let (hold, rule) = Hold::new(Call::Save, 2);
        let (_, reader) = house.before(rule);
        let late = tokio::spawn(async move { reader.load(&key()).await.unwrap().unwrap().value });
        hold.reached();
        house.keep(&*writer, Expected::Version(version), "new").await;
        if somebody_asks_in_between {
            assert_eq!(value(&*house.proxy(), &key()).await.unwrap(), "new");
        }
        hold.go();
        assert_eq!(late.await.unwrap(), "old");
        for proxy in [house.proxy(), writer] {
            assert_eq!(value(&*proxy, &key()).await.unwrap(), "new");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn while_one_fills_the_cache_others_ask_the_database() {
    let house = House::new().await;
    house.keep(&*house.proxy(), Expected::Absent, "x").await;
    let (hold, rule) = Hold::new(Call::Save, 2);
    let (_, slow) = house.before(rule);
    let slow = tokio::spawn(async move { slow.load(&key()).await.unwrap().unwrap().value });
    hold.reached();
    let (cache, quick) = house.before(|_, _| Fate::Pass);
    assert_eq!(value(&*quick, &key()).await.unwrap(), "x");
    assert_eq!((cache.calls(Call::Load), cache.calls(Call::Save)), (1, 0));
    hold.go();
    assert_eq!(slow.await.unwrap(), "x");
}

#[tokio::test]
async fn a_mark_that_nobody_replaced_ends_soon() {
    let house = House::new().await;
    let down = Arc::new(AtomicBool::new(true));
    let rule = {
        let down = Arc::clone(&down);
        move |_: Call, _: usize| if down.load(Ordering::SeqCst) { Fate::Fail } else { Fate::Pass }
    };
    let rows: Arc<dyn SessionStore> = Watched::new(&house.rows, rule);
    house.keep(&*house.rows, Expected::Absent, "x").await;
    let proxy = house.proxy_of(&rows, &house.cache);
    proxy.load(&key()).await.unwrap_err();
    down.store(false, Ordering::SeqCst);
    let filled = async || {
        proxy.load(&key()).await.unwrap().unwrap();
        house.cache.load(&key()).await.unwrap().is_some_and(|entry| !entry.value.is_empty())
    };
    assert!(!filled().await);
    house.clock.advance(Duration::from_secs(10));
    assert!(filled().await);
}

#[tokio::test]
async fn a_row_that_something_else_changed_is_seen_when_the_copy_ends() {
    let house = House::new().await;
    let proxy = house.proxy();
    let version = house.keep(&*proxy, Expected::Absent, "old").await;
    assert_eq!(value(&*proxy, &key()).await.unwrap(), "old");
    house.keep(&*house.rows, Expected::Version(version), "new").await;
    house.clock.advance(Duration::from_millis(299_999));
    assert_eq!(value(&*proxy, &key()).await.unwrap(), "old");
    house.clock.advance(Duration::from_millis(1));
    assert_eq!(value(&*proxy, &key()).await.unwrap(), "new");
    house.rows.delete(&key()).await.unwrap();
    house.clock.advance(MAX_AGE);
    assert_eq!(value(&*proxy, &key()).await, None);
}

#[tokio::test]
async fn a_conflict_or_a_touch_that_missed_makes_the_next_look_go_to_the_row() {
    for touch in [false, true] {
        let house = House::new().await;
        let proxy = house.proxy();
        let old = house.keep(&*proxy, Expected::Absent, "old").await;
        assert_eq!(value(&*proxy, &key()).await.unwrap(), "old");
        house.keep(&*house.rows, Expected::Version(old), "new").await;
        if touch {
            assert!(!proxy.touch(&key(), old, house.later()).await.unwrap());
        } else {
            let saved = proxy.save(&key(), Expected::Version(old), "late".into(), house.later()).await.unwrap();
            assert_eq!(saved, Saved::Conflict);
        }
        assert_eq!(value(&*proxy, &key()).await.unwrap(), "new");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_proxies_read_what_either_was_told_is_written() {
    const ROUNDS: usize = 150;
    for fixture in [Fixture::cached_db_memcached(), Fixture::cached_db_redis()] {
        let proxies = fixture.open_twice().await;
        let mut version = stored(&*proxies[0], &key(), Expected::Absent, "0", fixture.later(3_600_000)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = proxies
            .iter()
            .map(|proxy| {
                let (proxy, stop) = (Arc::clone(proxy), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut reads = 0;
                    while !stop.load(Ordering::SeqCst) {
                        proxy.load(&key()).await.unwrap().unwrap();
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for round in 1..=ROUNDS {
            let [writer, reader] = [&proxies[round % 2], &proxies[(round + 1) % 2]];
            let deadline = fixture.later(3_600_000);
            version = stored(&**writer, &key(), Expected::Version(version), round.to_string(), deadline).await;
            for proxy in [reader, writer] {
                let record = proxy.load(&key()).await.unwrap().unwrap();
                assert_eq!((record.value, record.version), (round.to_string().into(), version));
            }
        }
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.await.unwrap() > 0);
        }
        proxies[0].delete(&key()).await.unwrap();
        assert_eq!(value(&*proxies[1], &key()).await, None);
    }
}

#[tokio::test]
async fn in_a_foreign_layout_a_copy_is_translated_and_is_no_ground_to_write_on() {
    let fixture = Fixture::file_foreign();
    let rows = fixture.open().await;
    let memory = open_engine(&settings("engine = 'memory'"), None, fixture.clock.clone()).await.unwrap();
    let (clock, stub) = (fixture.clock.clone(), Arc::new(Stub));
    let proxy = CachedDb::new(Arc::clone(&rows), Arc::clone(&memory), LIMIT, MAX_AGE, Some(stub), clock);
    let deadline = fixture.later(3_600_000);
    // As the other program does: the row, and a copy that lives as long.
    stored(&*rows, &key(), Expected::Absent, "row", deadline).await;
    stored(&*memory, &key(), Expected::Absent, "cached copy", deadline).await;
    let copy = proxy.load(&key()).await.unwrap().unwrap();
    assert_eq!((&copy.value[..], copy.expires_at), (&b"copy"[..], deadline));
    let saved = proxy.save(&key(), Expected::Version(copy.version), "new".into(), deadline).await.unwrap();
    assert_eq!(saved, Saved::Conflict);
    let row = proxy.load(&key()).await.unwrap().unwrap();
    assert_eq!(row.value, "row");
    let entry = memory.load(&key()).await.unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.expires_at), (&b"cached row"[..], fixture.clock.now().plus(MAX_AGE)));
    stored(&proxy, &key(), Expected::Version(row.version), "unwritable", deadline).await;
    assert_eq!(memory.load(&key()).await.unwrap(), None);
    // What the cache cannot have leaves nothing there, and what it has that is no session is not ours to replace.
    assert_eq!(value(&proxy, &key()).await.unwrap(), "unwritable");
    assert_eq!(memory.load(&key()).await.unwrap(), None);
    stored(&*memory, &key(), Expected::Absent, "garbage", deadline).await;
    assert_eq!(value(&proxy, &key()).await.unwrap(), "unwritable");
    assert_eq!(memory.load(&key()).await.unwrap().unwrap().value, "garbage");
}
