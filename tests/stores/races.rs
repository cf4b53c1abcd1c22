//! What every store promises to many at once.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom::clock::Timestamp;
use cloakroom::store::{Expected, Key, Saved, SessionStore, Version};
use tokio::task::JoinSet;

use crate::cases::{HOUR, key, stored, value};
use crate::fixture::Fixture;

pub async fn touch_and_save_at_the_same_time_lose_nothing(fixture: &Fixture) {
    let [saver, toucher] = fixture.open_twice().await;
    let mut version = stored(&*saver, &key(), Expected::Absent, "0", fixture.later(HOUR)).await;
    for round in 1..=50_u64 {
        let touch = {
            let (toucher, deadline) = (Arc::clone(&toucher), fixture.later(HOUR + round));
            tokio::spawn(async move { toucher.touch(&key(), version, deadline).await.unwrap() })
        };
        version = stored(&*saver, &key(), Expected::Version(version), round.to_string(), fixture.later(HOUR)).await;
        touch.await.unwrap();
        let record = saver.load(&key()).await.unwrap().unwrap();
        let expected = (round.to_string().into(), version, fixture.later(HOUR));
        assert_eq!((record.value, record.version, record.expires_at), expected);
    }
}

pub async fn of_many_who_create_one_wins(fixture: &Fixture) {
    let handles = fixture.open_twice().await;
    for round in 0..20 {
        let key = Key::new(format!("round{round}"));
        let winners = race(&handles, &key, Expected::Absent, fixture.later(HOUR)).await;
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(value(&*handles[0], &key).await.unwrap(), winners[0].0);
    }
}

pub async fn of_many_who_replace_one_wins(fixture: &Fixture) {
    let handles = fixture.open_twice().await;
    let mut version = stored(&*handles[0], &key(), Expected::Absent, "start", fixture.later(HOUR)).await;
    for round in 0..20 {
        let winners = race(&handles, &key(), Expected::Version(version), fixture.later(HOUR)).await;
        assert_eq!(winners.len(), 1, "round {round}");
        let record = handles[1].load(&key()).await.unwrap().unwrap();
        assert_eq!((record.value, record.version), winners[0]);
        version = record.version;
    }
}

/// Eight at once through both handles: the values that were stored, with their versions.
async fn race(
    handles: &[Arc<dyn SessionStore>; 2],
    key: &Key,
    expected: Expected,
    expires_at: Timestamp,
) -> Vec<(Bytes, Version)> {
    let mut tasks = JoinSet::new();
    for (racer, store) in handles.iter().cycle().take(8).enumerate() {
        let (store, key) = (Arc::clone(store), key.clone());
        tasks.spawn(async move {
            let value = Bytes::from(racer.to_string());
            match store.save(&key, expected, value.clone(), expires_at).await.unwrap() {
                Saved::Conflict => None,
                Saved::Stored(version) => Some((value, version)),
            }
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

pub async fn a_counter_loses_nothing(fixture: &Fixture) {
    let handles = fixture.open_twice().await;
    stored(&*handles[0], &key(), Expected::Absent, "0", fixture.later(HOUR)).await;
    let mut tasks = JoinSet::new();
    for store in handles.iter().cycle().take(6).cloned() {
        let expires_at = fixture.later(HOUR);
        tasks.spawn(async move { count(&*store, &key(), 15, expires_at).await });
    }
    tasks.join_all().await;
    assert_eq!(value(&*handles[0], &key()).await.unwrap(), "90");
}

/// Adds one so many times, each time by compare-and-save until it wins.
pub async fn count(store: &dyn SessionStore, key: &Key, times: u32, expires_at: Timestamp) {
    for _ in 0..times {
        loop {
            let record = store.load(key).await.unwrap().unwrap();
            let number: u32 = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
            let next = Bytes::from((number + 1).to_string());
            match store.save(key, Expected::Version(record.version), next, expires_at).await.unwrap() {
                Saved::Stored(_) => break,
                Saved::Conflict => tokio::task::yield_now().await,
            }
        }
    }
}
