//! Writers and readers who go on while the servers under them change their roles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cloakroom::clock::Timestamp;
use cloakroom::store::{Expected, Key, Record, Saved, SessionStore};
use tokio::task::JoinHandle;

use crate::cases::stored;

const WRITERS: usize = 4;

/// What happened so far.
#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    failed: AtomicUsize,
}

pub struct Load {
    counts: Arc<Counts>,
    store: Arc<dyn SessionStore>,
    writers: Vec<JoinHandle<Written>>,
}

/// What one writer knows in the end.
struct Written {
    counter: Key,
    /// The highest count that was acknowledged, and the highest that was tried.
    bounds: (u32, u32),
    created: Vec<Key>,
}

impl Load {
    /// Every writer has a session in which it counts, and begins new ones.
    pub async fn start(store: &Arc<dyn SessionStore>, deadline: Timestamp) -> Self {
        let counts = Arc::new(Counts::default());
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let (store, counts) = (Arc::clone(store), Arc::clone(&counts));
            let counter = Key::new(format!("counter {writer}"));
            stored(&*store, &counter, Expected::Absent, "0", deadline).await;
            writers.push(tokio::spawn(async move { write(&*store, counter, deadline, &counts).await }));
        }
        Self { counts, store: Arc::clone(store), writers }
    }

    /// Waits until so many more writes were acknowledged.
    pub async fn acknowledges(&self, more: usize) {
        rises(&self.counts.acknowledged, more).await;
    }

    pub async fn fails(&self) {
        rises(&self.counts.failed, 1).await;
    }

    /// Ends it: everything acknowledged is there, and nothing was done twice.
    pub async fn stop(self) {
        self.counts.stop.store(true, Ordering::SeqCst);
        for writer in self.writers {
            let Written { counter, bounds: (acknowledged, tried), created } = writer.await.unwrap();
            let count = number(&found(&*self.store, &counter).await);
            assert!((acknowledged..=tried).contains(&count), "{acknowledged} <= {count} <= {tried}");
            assert!(acknowledged > 0 && !created.is_empty());
            for key in created {
                assert_eq!(found(&*self.store, &key).await.value, "new");
            }
        }
    }
}

async fn rises(counter: &AtomicUsize, by: usize) {
    let before = counter.load(Ordering::SeqCst);
    while counter.load(Ordering::SeqCst) < before + by {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn write(store: &dyn SessionStore, counter: Key, deadline: Timestamp, counts: &Counts) -> Written {
    let (mut acknowledged, mut tried, mut created) = (0, 0, Vec::new());
    let mut round = 0;
    while !counts.stop.load(Ordering::SeqCst) {
        round += 1;
        let record = match store.load(&counter).await {
            Ok(record) => record.expect("a session that is there was said to be absent"),
            Err(_) => {
                counts.failed.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        let next = number(&record) + 1;
        tried = tried.max(next);
        match store.save(&counter, Expected::Version(record.version), next.to_string().into(), deadline).await {
            Ok(Saved::Stored(_)) => {
                acknowledged = acknowledged.max(next);
                counts.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            // What was stored without our knowing.
            Ok(Saved::Conflict) => {}
            Err(_) => {
                counts.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
        let key = Key::new(format!("{} {round}", counter.as_str()));
        if let Ok(Saved::Stored(_)) = store.save(&key, Expected::Absent, "new".into(), deadline).await {
            created.push(key);
        }
    }
    Written { counter, bounds: (acknowledged, tried), created }
}

fn number(record: &Record) -> u32 {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

/// A record that must be there, as soon as the store answers.
async fn found(store: &dyn SessionStore, key: &Key) -> Record {
    loop {
        match store.load(key).await {
            Ok(record) => return record.unwrap_or_else(|| panic!("{:?} is lost", key.as_str())),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
