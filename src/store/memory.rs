//! Sessions in this process's memory: bounded by bytes, least recently used goes first, gone at restart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use hashlink::LinkedHashMap;

use super::{Cursor, Expected, Key, Page, Record, Saved, SessionStore, StoreError, Version};
use crate::clock::{Clock, Timestamp};

/// What a record costs beside its key and value: two table entries and the allocations' own headers, rounded up.
pub(super) const OVERHEAD: usize = 256;
/// How many records a sweep removes before it lets others in.
const BATCH: usize = 500;

/// The engine `memory`. Workers share it.
pub struct Memory {
    clock: Clock,
    max_bytes: usize,
    records: Mutex<Records>,
}

impl Memory {
    /// A store that holds at most `max_bytes`, bookkeeping included.
    pub fn new(max_bytes: usize, clock: Clock) -> Self {
        Self { clock, max_bytes, records: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SessionStore for Memory {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let now = self.clock.now();
        let mut records = self.lock();
        records.drop_if_expired(key, now);
        Ok(records.by_use.to_back(key).map(|record| record.clone()))
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        if cost(key, &value) > self.max_bytes {
            return Err(StoreError::TooLarge);
        }
        // The caller's bytes may be a slice of something much larger, which would then stay in memory uncounted.
        let value = Bytes::copy_from_slice(&value);
        let now = self.clock.now();
        let mut records = self.lock();
        records.drop_if_expired(key, now);
        let found = records.by_use.get(key).map_or(Expected::Absent, |record| Expected::Version(record.version));
        if found != expected {
            return Ok(Saved::Conflict);
        }
        records.remove(key);
        records.make_room(self.max_bytes - cost(key, &value), now);
        Ok(Saved::Stored(records.insert(key, value, expires_at)))
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut records = self.lock();
        records.drop_if_expired(key, now);
        Ok(records.touch(key, expected, expires_at))
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.lock().remove(key);
        Ok(())
    }

    async fn sweep(&self) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let mut swept = 0;
        loop {
            let batch = self.lock().drop_expired(now, BATCH);
            swept += batch as u64;
            if batch < BATCH {
                return Ok(swept);
            }
            tokio::task::yield_now().await;
        }
    }

    /// One page: the keys lie in memory anyway.
    async fn scan(&self, _: Option<&Cursor>) -> Result<Page, StoreError> {
        Ok(Page { keys: self.lock().by_use.keys().cloned().collect(), next: None })
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }
}

/// The same records in two orders; `bytes` is what they cost together.
#[derive(Default)]
struct Records {
    /// Least recently used first.
    by_use: LinkedHashMap<Key, Record>,
    by_deadline: BTreeSet<(Timestamp, Key)>,
    bytes: usize,
    last_version: u64,
}

impl Records {
    fn insert(&mut self, key: &Key, value: Bytes, expires_at: Timestamp) -> Version {
        self.last_version += 1;
        let version = Version(self.last_version);
        self.bytes += cost(key, &value);
        self.by_deadline.insert((expires_at, key.clone()));
        self.by_use.insert(key.clone(), Record { value, version, expires_at });
        version
    }

    fn remove(&mut self, key: &Key) {
        if let Some((key, record)) = self.by_use.remove_entry(key) {
            self.bytes -= cost(&key, &record.value);
            self.by_deadline.remove(&(record.expires_at, key));
        }
    }

    fn touch(&mut self, key: &Key, expected: Version, expires_at: Timestamp) -> bool {
        let Some(record) = self.by_use.get_mut(key).filter(|record| record.version == expected) else {
            return false;
        };
        if expires_at > record.expires_at {
            self.by_deadline.remove(&(record.expires_at, key.clone()));
            self.by_deadline.insert((expires_at, key.clone()));
            record.expires_at = expires_at;
        }
        true
    }

    fn drop_if_expired(&mut self, key: &Key, now: Timestamp) {
        if self.by_use.get(key).is_some_and(|record| record.expires_at <= now) {
            self.remove(key);
        }
    }

    /// How many went, at most `limit`.
    fn drop_expired(&mut self, now: Timestamp, limit: usize) -> usize {
        for dropped in 0..limit {
            match self.by_deadline.first() {
                Some((deadline, key)) if *deadline <= now => {
                    let key = key.clone();
                    self.remove(&key);
                }
                _ => return dropped,
            }
        }
        limit
    }

    /// Brings what is kept down to `limit` bytes: the expired go first, then those unused longest.
    fn make_room(&mut self, limit: usize, now: Timestamp) {
        while self.bytes > limit && self.drop_expired(now, 1) == 1 {}
        while self.bytes > limit {
            let Some(key) = self.by_use.front().map(|(key, _)| key.clone()) else { return };
            self.remove(&key);
        }
    }
}

fn cost(key: &Key, value: &Bytes) -> usize {
    OVERHEAD + 2 * size_of::<Key>() + key.held_bytes() + value.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn later(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_000 + millis)
    }

    async fn keep(store: &Memory, name: &str, size: usize, expires_at: Timestamp) {
        let value = Bytes::from(vec![7; size]);
        let saved = store.save(&Key::new(name), Expected::Absent, value, expires_at).await.unwrap();
        assert!(matches!(saved, Saved::Stored(_)), "{name}");
    }

    fn names(store: &Memory) -> Vec<String> {
        store.lock().by_use.keys().map(|key| key.as_str().to_owned()).collect()
    }

    #[tokio::test]
    async fn the_expired_make_room_before_the_living() {
        let clock = Clock::manual(NOW);
        let store = Memory::new(3 * 1_500, clock.clone());
        keep(&store, "lives", 1_000, later(100)).await;
        keep(&store, "dies", 1_000, later(1)).await;
        keep(&store, "young", 1_000, later(100)).await;
        clock.advance(Duration::from_millis(1));
        keep(&store, "new", 1_000, later(100)).await;
        assert_eq!(names(&store), ["lives", "young", "new"]);
    }

    #[tokio::test]
    async fn nothing_is_left_over_when_everything_is_gone() {
        let clock = Clock::manual(NOW);
        let store = Memory::new(100_000, clock.clone());
        for number in 0..2_000 {
            keep(&store, &number.to_string(), number % 50, later(1 + i64::try_from(number % 7).unwrap())).await;
        }
        let version = Version(store.lock().last_version);
        assert!(store.touch(&Key::new("1999"), version, later(20)).await.unwrap());
        clock.advance(Duration::from_millis(20));
        store.sweep().await.unwrap();
        let records = store.lock();
        assert_eq!((records.bytes, records.by_use.len(), records.by_deadline.len()), (0, 0, 0));
    }
}
