//! One near cache, several workers: whoever asks after a write has ended sees it, or what came after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::sessions::{NearCache, Records};
use cloakroom::store::{Expected, Key, Record, Saved, SessionStore, StoreError, Version, Watcher, open_engine};
use tokio::sync::{Mutex, Notify};

use crate::fixture::{START, settings};
use crate::near::{HOUR, near, records, save, shown};
use crate::redis_server::RedisServer;

const WORKERS: usize = 4;
const KEYS: usize = 3;
const ROUNDS: usize = 300;
const HITS: &str = "cloakroom_near_cache_lookups_total{outcome=\"hit\"} ";

/// How a write ends that was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Answered,
    Failed,
    /// Whoever asked gives up.
    Forgotten,
}

/// Writes, and then ends as it is told to.
struct Ending {
    inner: Arc<dyn SessionStore>,
    end: std::sync::Mutex<End>,
    written: Notify,
}

#[async_trait]
impl SessionStore for Ending {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.load(key).await
    }

    async fn save(&self, key: &Key, expected: Expected, value: Bytes, end: Timestamp) -> Result<Saved, StoreError> {
        let saved = self.inner.save(key, expected, value, end).await?;
        let end = *self.end.lock().unwrap();
        match end {
            End::Answered => Ok(saved),
            End::Failed => Err(StoreError::Timeout),
            End::Forgotten => {
                self.written.notify_one();
                std::future::pending().await
            }
        }
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
}

/// A key, the last number given to a write of it, and the one that no reader may fall behind.
struct Visitor {
    key: Key,
    last: Mutex<i64>,
    floor: AtomicI64,
}

struct Worker {
    store: Arc<Ending>,
    records: Records,
    visitors: Arc<Vec<Visitor>>,
}

impl Worker {
    async fn open(url: &str, clock: &Clock, near: &Arc<NearCache>, visitors: &Arc<Vec<Visitor>>) -> Self {
        let text = format!("engine = 'redis'\nurl = '{url}'\ntimeout = '60s'");
        let store = open_engine(&settings(&text), None, clock.clone()).await.unwrap();
        let inner = store.attach_watched(Arc::clone(near) as Arc<dyn Watcher>).await.unwrap();
        let (end, written) = (std::sync::Mutex::new(End::Answered), Notify::new());
        let store = Arc::new(Ending { inner, end, written });
        let records = records(Arc::clone(&store) as Arc<dyn SessionStore>, Some(Arc::clone(near)), clock);
        Self { store, records, visitors: Arc::clone(visitors) }
    }

    async fn read(&self) {
        for visitor in &*self.visitors {
            let floor = visitor.floor.load(Ordering::SeqCst);
            let shown = shown(&self.records, &visitor.key).await;
            assert!(shown.is_none_or(|shown| shown >= floor), "{shown:?} is over since {floor}");
        }
    }

    async fn save(&self, visitor: &Visitor, end: End) {
        // Who writes first is not what this is about.
        let mut last = visitor.last.lock().await;
        *last += 1;
        let expected = match self.records.find(&visitor.key).await.unwrap() {
            Some(stored) => Expected::Version(stored.version),
            None => Expected::Absent,
        };
        *self.store.end.lock().unwrap() = end;
        tokio::select! {
            saved = save(&self.records, &visitor.key, expected, *last) => match end {
                End::Answered => assert!(matches!(saved.unwrap(), Saved::Stored(_))),
                End::Failed => drop(saved.unwrap_err()),
                End::Forgotten => panic!("it never answers"),
            },
            () = self.store.written.notified() => {}
        }
        *self.store.end.lock().unwrap() = End::Answered;
        visitor.floor.store(*last, Ordering::SeqCst);
    }

    async fn end(&self, visitor: &Visitor) {
        let mut last = visitor.last.lock().await;
        *last += 1;
        self.records.end(std::slice::from_ref(&visitor.key)).await.unwrap();
        visitor.floor.store(*last, Ordering::SeqCst);
    }

    async fn work(&self, number: usize) {
        for round in 0..ROUNDS {
            let visitor = &self.visitors[(number + round / 9) % KEYS];
            match (number + round) % 9 {
                0 => self.save(visitor, End::Answered).await,
                2 => self.save(visitor, End::Failed).await,
                4 => self.save(visitor, End::Forgotten).await,
                6 => self.end(visitor).await,
                _ => {}
            }
            self.read().await;
        }
    }

    /// How often the near cache answered.
    fn hits(&self) -> usize {
        let metrics = self.records.metrics.open_metrics();
        let hits = metrics.lines().find_map(|line| line.strip_prefix(HITS));
        hits.unwrap().parse().unwrap()
    }
}

#[test]
fn nobody_sees_what_was_before_a_write_that_has_ended_however_it_did() {
    let server = RedisServer::start();
    let clock = Clock::manual(START);
    let near = near(HOUR);
    let visitor = |number| Visitor { key: Key::new(format!("{number}")), last: Mutex::new(0), floor: 0.into() };
    let visitors: Arc<Vec<Visitor>> = Arc::new((0..KEYS).map(visitor).collect());
    let (url, hits) = (server.tcp_url(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let (clock, near, visitors, url, hits) = (&clock, &near, &visitors, &url, &hits);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let worker = Worker::open(url, clock, near, visitors).await;
                    worker.work(number).await;
                    hits.fetch_add(worker.hits(), Ordering::SeqCst);
                });
            });
        }
    });
    assert!(visitors.iter().all(|visitor| visitor.floor.load(Ordering::SeqCst) > 50), "there were too few writes");
    assert!(hits.into_inner() > 100, "the near cache hardly ever answered");
}
