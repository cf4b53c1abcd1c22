//! What every store promises, a case each; see the contract in `src/store/mod.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom::clock::Timestamp;
use cloakroom::store::{Expected, Key, Saved, SessionStore, Version};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, START};

pub const HOUR: u64 = 3_600_000;

pub fn key() -> Key {
    Key::new("visitor")
}

/// Saves what must be stored.
pub async fn stored(
    store: &dyn SessionStore,
    key: &Key,
    expected: Expected,
    value: impl Into<Bytes>,
    expires_at: Timestamp,
) -> Version {
    match store.save(key, expected, value.into(), expires_at).await.unwrap() {
        Saved::Stored(version) => version,
        Saved::Conflict => panic!("{expected:?} was not what was found"),
    }
}

async fn conflicts(store: &dyn SessionStore, expected: Expected, expires_at: Timestamp) -> bool {
    store.save(&key(), expected, "late".into(), expires_at).await.unwrap() == Saved::Conflict
}

pub async fn value(store: &dyn SessionStore, key: &Key) -> Option<Bytes> {
    store.load(key).await.unwrap().map(|record| record.value)
}

pub async fn absent_is_not_found(fixture: &Fixture) {
    let store = fixture.open().await;
    let never = Version(7);
    assert_eq!(store.load(&key()).await.unwrap(), None);
    assert!(!store.touch(&key(), never, fixture.later(HOUR)).await.unwrap());
    assert!(conflicts(&*store, Expected::Version(never), fixture.later(HOUR)).await);
    store.delete(&key()).await.unwrap();
    assert_eq!(store.sweep().await.unwrap(), 0);
    assert_eq!(store.load(&key()).await.unwrap(), None);
}

pub async fn a_saved_record_comes_back(fixture: &Fixture) {
    let store = fixture.open().await;
    let version = stored(&*store, &key(), Expected::Absent, "one", fixture.later(HOUR)).await;
    let record = store.load(&key()).await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.version, record.expires_at), (&b"one"[..], version, fixture.later(HOUR)));

    let version = stored(&*store, &key(), Expected::Version(version), "two", fixture.later(HOUR / 2)).await;
    let record = store.load(&key()).await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.version, record.expires_at), (&b"two"[..], version, fixture.later(HOUR / 2)));
}

pub async fn save_absent_over_a_living_record_conflicts(fixture: &Fixture) {
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "first", fixture.later(1)).await;
    assert!(conflicts(&*store, Expected::Absent, fixture.later(HOUR)).await);
    assert_eq!(value(&*store, &key()).await.unwrap(), "first");
}

pub async fn save_over_another_version_conflicts(fixture: &Fixture) {
    let store = fixture.open().await;
    let old = stored(&*store, &key(), Expected::Absent, "old", fixture.later(HOUR)).await;
    let new = stored(&*store, &key(), Expected::Version(old), "new", fixture.later(HOUR)).await;
    for wrong in [old, Version(new.0.wrapping_add(1)), Version(0), Version(u64::MAX)] {
        assert!(conflicts(&*store, Expected::Version(wrong), fixture.later(HOUR)).await, "{wrong:?}");
    }
    assert_eq!(value(&*store, &key()).await.unwrap(), "new");
}

pub async fn every_save_has_a_version_of_its_own(fixture: &Fixture) {
    let store = fixture.open().await;
    let mut versions = std::collections::HashSet::new();
    for _ in 0..20 {
        let first = stored(&*store, &key(), Expected::Absent, "same", fixture.later(HOUR)).await;
        let second = stored(&*store, &key(), Expected::Version(first), "same", fixture.later(HOUR)).await;
        store.delete(&key()).await.unwrap();
        assert!(versions.insert(first.0) && versions.insert(second.0), "a version came twice");
    }
}

pub async fn deleted_stays_deleted(fixture: &Fixture) {
    let store = fixture.open().await;
    let version = stored(&*store, &key(), Expected::Absent, "gone", fixture.later(HOUR)).await;
    for _ in 0..2 {
        store.delete(&key()).await.unwrap();
        assert_eq!(store.load(&key()).await.unwrap(), None);
        assert!(conflicts(&*store, Expected::Version(version), fixture.later(HOUR)).await);
        assert!(!store.touch(&key(), version, fixture.later(HOUR)).await.unwrap());
        assert_eq!(store.load(&key()).await.unwrap(), None);
    }
    stored(&*store, &key(), Expected::Absent, "another", fixture.later(HOUR)).await;
    assert!(conflicts(&*store, Expected::Version(version), fixture.later(HOUR)).await);
}

pub async fn a_record_ends_at_its_deadline(fixture: &Fixture) {
    let store = fixture.open().await;
    let version = stored(&*store, &key(), Expected::Absent, "short", fixture.later(60_000)).await;
    fixture.clock.advance(Duration::from_millis(59_999));
    assert!(store.load(&key()).await.unwrap().is_some(), "a millisecond before");
    assert!(store.touch(&key(), version, fixture.later(1)).await.unwrap(), "a millisecond before");
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(store.load(&key()).await.unwrap(), None, "at the deadline");
}

pub async fn an_expired_record_gives_way_to_a_new_one_only(fixture: &Fixture) {
    let [store, other] = fixture.open_twice().await;
    let version = stored(&*store, &key(), Expected::Absent, "short", fixture.later(1_000)).await;
    fixture.clock.advance(Duration::from_secs(1));
    assert!(!other.touch(&key(), version, fixture.later(HOUR)).await.unwrap());
    assert!(conflicts(&*other, Expected::Version(version), fixture.later(HOUR)).await);
    assert_eq!(store.load(&key()).await.unwrap(), None);
    stored(&*other, &key(), Expected::Absent, "new", fixture.later(HOUR)).await;
    assert_eq!(value(&*store, &key()).await.unwrap(), "new");
    assert!(conflicts(&*store, Expected::Absent, fixture.later(HOUR)).await);
}

pub async fn a_deadline_far_away_or_long_gone_is_kept(fixture: &Fixture) {
    let store = fixture.open().await;
    let never = Timestamp::from_millis(i64::MAX);
    let version = stored(&*store, &key(), Expected::Absent, "for ever", never).await;
    assert_eq!(store.load(&key()).await.unwrap().unwrap().expires_at, never);
    assert!(store.touch(&key(), version, never).await.unwrap());
    for past in [0, -1, i64::MIN, START.as_millis()] {
        let key = Key::new(format!("past {past}"));
        stored(&*store, &key, Expected::Absent, "over", Timestamp::from_millis(past)).await;
        assert_eq!(store.load(&key).await.unwrap(), None, "{past}");
    }
    fixture.clock.advance(Duration::from_secs(3_600_000_000));
    assert_eq!(value(&*store, &key()).await.unwrap(), "for ever");
}

pub async fn touch_moves_the_deadline_forward_only(fixture: &Fixture) {
    let store = fixture.open().await;
    let first = fixture.later(2_000);
    let version = stored(&*store, &key(), Expected::Absent, "value", first).await;
    for (asked, held) in [
        (fixture.later(1_000), first),
        (first, first),
        (fixture.later(2_001), fixture.later(2_001)),
        (fixture.later(2_000), fixture.later(2_001)),
        (Timestamp::from_millis(i64::MIN), fixture.later(2_001)),
        (fixture.later(HOUR), fixture.later(HOUR)),
    ] {
        assert!(store.touch(&key(), version, asked).await.unwrap());
        assert_eq!(store.load(&key()).await.unwrap().unwrap().expires_at, held);
    }
    fixture.clock.advance(Duration::from_millis(HOUR - 1));
    assert!(store.load(&key()).await.unwrap().is_some());
    fixture.clock.advance(Duration::from_millis(1));
    assert!(store.load(&key()).await.unwrap().is_none());
}

pub async fn touch_keeps_version_and_value(fixture: &Fixture) {
    let [store, neighbour] = fixture.open_twice().await;
    let version = stored(&*store, &key(), Expected::Absent, "value", fixture.later(1_000)).await;
    assert!(neighbour.touch(&key(), version, fixture.later(5_000)).await.unwrap());
    let record = store.load(&key()).await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.version), (&b"value"[..], version));
    stored(&*store, &key(), Expected::Version(version), "next", fixture.later(1_000)).await;
    assert_eq!(store.load(&key()).await.unwrap().unwrap().expires_at, fixture.later(1_000));
}

pub async fn touch_needs_the_version(fixture: &Fixture) {
    let store = fixture.open().await;
    let old = stored(&*store, &key(), Expected::Absent, "old", fixture.later(1_000)).await;
    stored(&*store, &key(), Expected::Version(old), "new", fixture.later(1_000)).await;
    assert!(!store.touch(&key(), old, fixture.later(HOUR)).await.unwrap());
    assert_eq!(store.load(&key()).await.unwrap().unwrap().expires_at, fixture.later(1_000));
}

pub async fn attached_handles_see_one_store(fixture: &Fixture) {
    let store = fixture.open().await;
    let worker = Arc::clone(&store).attach().await.unwrap();
    let another = Arc::clone(&worker).attach().await.unwrap();
    let version = stored(&*worker, &key(), Expected::Absent, "shared", fixture.later(HOUR)).await;
    drop(worker);
    assert_eq!(value(&*store, &key()).await.unwrap(), "shared");
    stored(&*another, &key(), Expected::Version(version), "still", fixture.later(HOUR)).await;
    drop(store);
    assert_eq!(value(&*another, &key()).await.unwrap(), "still");
}

pub async fn any_bytes_come_back(fixture: &Fixture) {
    let store = fixture.open().await;
    let all: Vec<u8> = (0..=255).collect();
    let values = [Vec::new(), all.clone(), b"\n\0\r\n".to_vec(), all.repeat(4096)];
    for (number, value) in values.into_iter().enumerate() {
        let key = Key::new(number.to_string());
        stored(&*store, &key, Expected::Absent, value.clone(), fixture.later(HOUR)).await;
        let record = store.load(&key).await.unwrap().unwrap();
        assert!(record.value == value, "{} bytes", value.len());
        assert!(store.touch(&key, record.version, fixture.later(2 * HOUR)).await.unwrap());
        assert!(store.load(&key).await.unwrap().unwrap().value == value, "{} bytes after touch", value.len());
    }
}

pub async fn any_key_is_a_key_of_its_own(fixture: &Fixture) {
    let store = fixture.open().await;
    let long = "k".repeat(2_000);
    let names = [
        "",
        " ",
        "a",
        "A",
        "a ",
        " a",
        "a\0",
        "a\0b",
        "a\n",
        "\r\n",
        "*",
        "?",
        "[a]",
        "{a}",
        "{a}b",
        "%",
        "_",
        "'",
        "\"",
        "\\",
        "ä",
        "a\u{308}",
        "☃",
        "🧥",
        "session:a",
        "1",
        "01",
        "1.0",
        "1e0",
        "0x1",
        &long,
    ];
    for name in names {
        stored(&*store, &Key::new(name), Expected::Absent, name.to_owned(), fixture.later(HOUR)).await;
    }
    for name in names {
        assert_eq!(value(&*store, &Key::new(name)).await.as_deref(), Some(name.as_bytes()), "{name:?}");
    }
    for name in names {
        store.delete(&Key::new(name)).await.unwrap();
        assert_eq!(value(&*store, &Key::new(name)).await, None, "{name:?}");
    }
}

pub async fn sweep_takes_the_expired_only(fixture: &Fixture) {
    const EXPIRED: u64 = 1_203;
    let store = fixture.open().await;
    let mut tasks = JoinSet::new();
    for number in 0..EXPIRED + 7 {
        let (store, expires_at) = (Arc::clone(&store), fixture.later(if number < EXPIRED { 10 } else { 11 }));
        tasks.spawn(async move {
            stored(&*store, &Key::new(number.to_string()), Expected::Absent, "x", expires_at).await;
        });
    }
    tasks.join_all().await;
    assert_eq!(store.sweep().await.unwrap(), 0);
    fixture.clock.advance(Duration::from_millis(10));
    let expected = if fixture.forgets() { 0 } else { EXPIRED };
    let mut swept = 0;
    // In parts: whoever asks for them leaves room for others in between.
    loop {
        match store.sweep().await.unwrap() {
            0 => break,
            part => swept += part,
        }
    }
    assert_eq!(swept, expected);
    for number in EXPIRED..EXPIRED + 7 {
        assert!(store.load(&Key::new(number.to_string())).await.unwrap().is_some());
    }
}

pub async fn a_future_that_was_dropped_harms_nobody(fixture: &Fixture) {
    let store = fixture.open().await;
    for round in 0..20 {
        let key = Key::new(format!("dropped{round}"));
        let save = store.save(&key, Expected::Absent, "half".into(), fixture.later(HOUR));
        // One poll: it has been sent, and nobody waits for the answer.
        let _ = tokio::time::timeout(Duration::ZERO, save).await;
        let kept = Key::new(format!("kept{round}"));
        let version = stored(&*store, &kept, Expected::Absent, "whole", fixture.later(HOUR)).await;
        let record = store.load(&kept).await.unwrap().unwrap();
        assert_eq!((&record.value[..], record.version), (&b"whole"[..], version));
        let value = value(&*store, &key).await;
        assert!(value.as_ref().is_none_or(|value| value == "half"), "{value:?}");
    }
}

pub async fn a_reopened_store_has_it_all(fixture: &Fixture) {
    let store = fixture.open().await;
    let version = stored(&*store, &key(), Expected::Absent, "kept", fixture.later(HOUR)).await;
    let gone = Key::new("gone");
    stored(&*store, &gone, Expected::Absent, "x", fixture.later(HOUR)).await;
    store.delete(&gone).await.unwrap();
    drop(store);
    let store = fixture.open().await;
    let record = store.load(&key()).await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.version, record.expires_at), (&b"kept"[..], version, fixture.later(HOUR)));
    assert_eq!(store.load(&gone).await.unwrap(), None);
    stored(&*store, &key(), Expected::Version(version), "next", fixture.later(HOUR)).await;
}
