//! The near cache: sessions in this process's memory, decoded, for as long as the store would tell if they changed.
//!
//! It is one for all workers, so that a worker's write takes the old session from every other at once. Nothing is ever
//! put in by a write: what is in here was read from the store. Three things keep it from being believed too long:
//!
//! * Every write of this process drops what is there, whatever became of the write, and so does the store's word that a
//!   record was changed by others ([`Watcher`]).
//! * Before the store is asked a [`Mark`] is taken; if anything was dropped in the key's part of the cache meanwhile, the
//!   answer may be the older one and is not kept.
//! * When the store's word may have been missed, everything is in doubt: it is kept for routes that rather have an old
//!   session than none, for as long as the store is silent, and for nobody else.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use tokio::time::Instant;

use super::records::Stored;
use crate::store::{Key, NearCacheRules, Watcher};

/// Beyond this many parts workers do not get into each other's way any less.
const MOST_SHARDS: usize = 64;
/// A part smaller than this could not hold the largest sessions.
const SMALLEST_SHARD: usize = 1 << 20;
/// What a session costs beside its key and its data: table entry, decoded session, the rest of the record that the data is
/// a part of, the allocations' own headers.
const OVERHEAD: usize = 640;
/// What each other key of the session costs, in the record and decoded.
const LINK: usize = 320;

pub struct NearCache {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    shard_bytes: usize,
    max_age: Duration,
    /// Entries of an earlier era are in doubt.
    era: AtomicU64,
    /// The latest era in which the store has answered. What is older was not read again although it could have been.
    answered: AtomicU64,
}

struct Shard {
    /// Least recently used first; bounded by bytes, not by number.
    entries: LruCache<Key, Entry>,
    bytes: usize,
    /// How often anything was dropped.
    changes: u64,
    /// How often anything was kept.
    keeps: u64,
}

struct Entry {
    stored: Arc<Stored>,
    loaded_at: Instant,
    era: u64,
    bytes: usize,
    /// Which of its shard's keeps it came with.
    kept: u64,
}

/// Taken before the store is asked: what its answer may be kept on.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    asked_at: Instant,
    changes: u64,
    keeps: u64,
    era: u64,
}

impl NearCache {
    pub fn new(rules: NearCacheRules) -> Self {
        let shards = (rules.max_bytes / SMALLEST_SHARD).clamp(1, MOST_SHARDS);
        let shard = || Mutex::new(Shard { entries: LruCache::new_unbounded(), bytes: 0, changes: 0, keeps: 0 });
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            shard_bytes: rules.max_bytes / shards,
            max_age: rules.max_age,
            era: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// What the store would answer too, as far as anyone knows.
    pub(super) fn fresh(&self, key: &Key) -> Option<Arc<Stored>> {
        let mut shard = self.shard(key);
        let entry = shard.entries.get(key)?;
        let certain = entry.era == self.era.load(Ordering::Acquire) && entry.loaded_at.elapsed() < self.max_age;
        certain.then(|| Arc::clone(&entry.stored))
    }

    /// What the store answered at most `age` ago, for when it does not answer now. Never what is known to have changed,
    /// nor what has been in doubt since before it answered last.
    pub(super) fn stale(&self, key: &Key, age: Duration) -> Option<Arc<Stored>> {
        let mut shard = self.shard(key);
        let entry = shard.entries.get(key)?;
        let last = entry.era >= self.answered.load(Ordering::Acquire) && entry.loaded_at.elapsed() < age;
        last.then(|| Arc::clone(&entry.stored))
    }

    /// To be taken before the store is asked for `key`.
    pub(super) fn mark(&self, key: &Key) -> Mark {
        let era = self.era.load(Ordering::Acquire);
        let shard = self.shard(key);
        Mark { asked_at: Instant::now(), changes: shard.changes, keeps: shard.keeps, era }
    }

    /// Keeps what the store answered, unless it may have been changed since `mark`.
    ///
    /// Of two answers that crossed on their ways, on the connections of two workers, nobody knows which is the newer: if
    /// they differ neither is kept.
    pub(super) fn keep(&self, key: &Key, mark: Mark, stored: &Arc<Stored>) {
        self.answered.fetch_max(mark.era, Ordering::AcqRel);
        let links = stored.session.links().count();
        let bytes = OVERHEAD + 2 * key.as_str().len() + LINK * links + stored.session.data.len();
        let mut shard = self.shard(key);
        let crossed = shard
            .entries
            .peek(key)
            .is_some_and(|other| other.kept > mark.keeps && other.stored.version != stored.version);
        shard.remove(key);
        if crossed || bytes > self.shard_bytes || shard.changes != mark.changes {
            return;
        }
        shard.keeps += 1;
        shard.bytes += bytes;
        let (loaded_at, kept) = (mark.asked_at, shard.keeps);
        let entry = Entry { stored: Arc::clone(stored), loaded_at, era: mark.era, bytes, kept };
        shard.entries.insert(key.clone(), entry);
        while shard.bytes > self.shard_bytes
            && let Some((_, oldest)) = shard.entries.remove_lru()
        {
            shard.bytes -= oldest.bytes;
        }
    }

    /// Drops the session, which is to change; what was there.
    pub(super) fn forget(&self, key: &Key) -> Option<Arc<Stored>> {
        let mut shard = self.shard(key);
        shard.changes += 1;
        shard.remove(key)
    }

    /// The store has no such session any more.
    pub(super) fn gone(&self, key: &Key, mark: Mark) {
        self.answered.fetch_max(mark.era, Ordering::AcqRel);
        self.shard(key).remove(key);
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length, which is not zero")]
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % self.shards.len();
        lock(&self.shards[index])
    }
}

impl Shard {
    fn remove(&mut self, key: &Key) -> Option<Arc<Stored>> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry.stored)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher for NearCache {
    fn changed(&self, key: &Key) {
        self.forget(key);
    }

    fn all_changed(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.changes += 1;
            shard.entries.clear();
            shard.bytes = 0;
        }
    }

    fn missed(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }
}

/// Drops a session from the near cache when it is dropped itself: at the end of a write, however it ended.
pub(super) struct Forgetting<'a> {
    near: Option<&'a NearCache>,
    key: &'a Key,
}

impl<'a> Forgetting<'a> {
    pub fn new(near: Option<&'a NearCache>, key: &'a Key) -> Self {
        Self { near, key }
    }
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        if let Some(near) = self.near {
            near.changed(self.key);
        }
    }
}

#[cfg(test)]
mod tests;
