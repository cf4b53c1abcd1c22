//! Memory is bounded: who goes when there is no more room.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom::clock::Clock;
use cloakroom::store::{Expected, Key, SessionStore, open_engine};

use crate::cases::stored;
use crate::fixture::{START, settings};

/// Room for four of these and not for five, whatever a record costs beside its value.
const LARGE: usize = 10_000;

async fn small_memory() -> Arc<dyn SessionStore> {
    let settings = settings(&format!("engine = 'memory'\nmax_bytes = {}", LARGE * 9 / 2));
    open_engine(&settings, None, Clock::manual(START)).await.unwrap()
}

#[tokio::test]
async fn the_least_recently_used_goes_first() {
    let store = small_memory().await;
    let deadline = START.plus(Duration::from_secs(60));
    let keep = async |name: &str| stored(&*store, &Key::new(name), Expected::Absent, vec![0; LARGE], deadline).await;
    let [_, version, ..] = [keep("a").await, keep("b").await, keep("c").await, keep("d").await];
    store.load(&Key::new("a")).await.unwrap().unwrap();
    stored(&*store, &Key::new("b"), Expected::Version(version), vec![1; LARGE], deadline).await;
    keep("e").await;
    keep("f").await;
    for (name, left) in [("a", true), ("b", true), ("c", false), ("d", false), ("e", true), ("f", true)] {
        assert_eq!(store.load(&Key::new(name)).await.unwrap().is_some(), left, "{name}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_evicts_nothing() {
    let store = small_memory().await;
    let deadline = START.plus(Duration::from_secs(60));
    let version = stored(&*store, &Key::new("visitor"), Expected::Absent, "small", deadline).await;
    for (name, expected) in [("other", Expected::Absent), ("visitor", Expected::Version(version))] {
        let large = Bytes::from(vec![0; LARGE * 5]);
        store.save(&Key::new(name), expected, large, deadline).await.unwrap_err();
    }
    assert_eq!(store.load(&Key::new("visitor")).await.unwrap().unwrap().value, "small");
}
