//! The guard around a store that does whatever a test wants. Time stands still here and moves only when nobody else can.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom::clock::Timestamp;
use cloakroom::metrics::Metrics;
use cloakroom::store::{Expected, Guarded, Key, Record, Saved, SessionStore, StoreError, Version};
use tokio::time::{Instant, advance};

const LIMIT: Duration = Duration::from_millis(250);
const DEADLINE: Timestamp = Timestamp::from_millis(1);

#[derive(Clone, Copy)]
enum Mood {
    Answers,
    Fails,
    Hangs,
    Refuses,
}

/// Finds nothing, conflicts always, and counts how often it was asked.
struct Moody {
    mood: Mutex<Mood>,
    asked: AtomicU32,
}

impl Moody {
    async fn ask<T>(&self, answer: T) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Answers => Ok(answer),
            Mood::Fails => Err(StoreError::Failed("as a test wants it".into())),
            Mood::Hangs => std::future::pending().await,
            Mood::Refuses => Err(StoreError::TooLarge),
        }
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// What several workers see of one [`Moody`].
struct Worker(Arc<Moody>);

#[async_trait]
impl SessionStore for Worker {
    async fn load(&self, _: &Key) -> Result<Option<Record>, StoreError> {
        self.0.ask(None).await
    }

    async fn save(&self, _: &Key, _: Expected, _: Bytes, _: Timestamp) -> Result<Saved, StoreError> {
        self.0.ask(Saved::Conflict).await
    }

    async fn touch(&self, _: &Key, _: Version, _: Timestamp) -> Result<bool, StoreError> {
        self.0.ask(false).await
    }

    async fn delete(&self, _: &Key) -> Result<(), StoreError> {
        self.0.ask(()).await
    }

    async fn sweep(&self) -> Result<u64, StoreError> {
        tokio::time::sleep(LIMIT * 10).await;
        self.0.ask(3).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(Arc::new(Self(Arc::clone(&self.0))))
    }
}

fn guarded(mood: Mood) -> (Arc<Moody>, Arc<dyn SessionStore>) {
    let moody = Arc::new(Moody { mood: Mutex::new(mood), asked: AtomicU32::new(0) });
    let guarded = Guarded::new(Arc::new(Worker(Arc::clone(&moody))), LIMIT, Arc::new(Metrics::new()));
    (moody, Arc::new(guarded))
}

fn key() -> Key {
    Key::new("visitor")
}

async fn is_open(store: &dyn SessionStore) -> bool {
    matches!(store.load(&key()).await, Err(StoreError::Open))
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_costs_the_limit_and_five_of_them_open_the_breaker() {
    let (moody, store) = guarded(Mood::Hangs);
    for call in 0..5 {
        let start = Instant::now();
        let outcome = match call {
            0 => store.load(&key()).await.map(drop),
            1 => store.save(&key(), Expected::Absent, Bytes::new(), DEADLINE).await.map(drop),
            2 => store.touch(&key(), Version(1), DEADLINE).await.map(drop),
            _ => store.delete(&key()).await,
        };
        assert!(matches!(outcome, Err(StoreError::Timeout)), "{outcome:?}");
        let spent = start.elapsed();
        assert!(spent >= LIMIT && spent < LIMIT + Duration::from_millis(2), "{spent:?}");
    }
    let start = Instant::now();
    assert!(is_open(&*store).await);
    assert!(matches!(store.save(&key(), Expected::Absent, Bytes::new(), DEADLINE).await, Err(StoreError::Open)));
    assert!(matches!(store.touch(&key(), Version(1), DEADLINE).await, Err(StoreError::Open)));
    assert!(matches!(store.delete(&key()).await, Err(StoreError::Open)));
    assert!(matches!(store.sweep().await, Err(StoreError::Open)));
    assert_eq!((start.elapsed(), moody.asked()), (Duration::ZERO, 5));
}

#[tokio::test(start_paused = true)]
async fn failures_keep_their_error_and_open_it_for_every_worker() {
    let (moody, store) = guarded(Mood::Fails);
    let workers = [Arc::clone(&store).attach().await.unwrap(), Arc::clone(&store).attach().await.unwrap()];
    for call in 0..5 {
        assert!(matches!(workers[call % 2].load(&key()).await, Err(StoreError::Failed(_))));
    }
    for worker in workers.iter().chain([&store]) {
        assert!(is_open(&**worker).await);
    }
    moody.becomes(Mood::Answers);
    advance(Duration::from_millis(100)).await;
    assert!(workers[0].load(&key()).await.unwrap().is_none());
    assert!(workers[1].load(&key()).await.unwrap().is_none());
    assert_eq!(moody.asked(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_no_failure() {
    let (moody, store) = guarded(Mood::Answers);
    for _ in 0..10 {
        assert_eq!(store.load(&key()).await.unwrap(), None);
        assert_eq!(store.save(&key(), Expected::Absent, Bytes::new(), DEADLINE).await.unwrap(), Saved::Conflict);
        assert!(!store.touch(&key(), Version(1), DEADLINE).await.unwrap());
    }
    assert_eq!(moody.asked(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_session_too_large_for_the_store_is_no_outage() {
    let (moody, store) = guarded(Mood::Refuses);
    for _ in 0..10 {
        let outcome = store.save(&key(), Expected::Absent, Bytes::new(), DEADLINE).await;
        assert!(matches!(outcome, Err(StoreError::TooLarge)), "{outcome:?}");
    }
    moody.becomes(Mood::Answers);
    assert!(!is_open(&*store).await);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up_leaves_the_next_to_another() {
    let (moody, store) = guarded(Mood::Fails);
    for _ in 0..5 {
        store.delete(&key()).await.unwrap_err();
    }
    advance(Duration::from_millis(100)).await;
    moody.becomes(Mood::Hangs);
    let trial = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.delete(&key()).await })
    };
    while moody.asked() < 6 {
        tokio::task::yield_now().await;
    }
    assert!(is_open(&*store).await, "one trial at a time");
    trial.abort();
    assert!(trial.await.unwrap_err().is_cancelled());
    moody.becomes(Mood::Answers);
    assert_eq!(store.load(&key()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_takes_the_time_it_needs_and_counts_for_nothing() {
    let (moody, store) = guarded(Mood::Answers);
    assert_eq!(store.sweep().await.unwrap(), 3);
    moody.becomes(Mood::Fails);
    for _ in 0..10 {
        assert!(matches!(store.sweep().await, Err(StoreError::Failed(_))));
    }
    moody.becomes(Mood::Answers);
    assert_eq!(store.load(&key()).await.unwrap(), None);
}
