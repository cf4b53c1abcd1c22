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

use std::hash::BuildHasher;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::linked_hash_map::{RawEntryMut, RawOccupiedEntryMut};
use hashlink::{DefaultHashBuilder, LinkedHashMap};
use tokio::time::Instant;

use super::records::Stored;
use crate::session::Session;
use crate::store::{Key, NearCacheRules, Watcher};

/// Beyond this many parts workers do not get into each other's way any less.
const MOST_SHARDS: usize = 64;
/// A part smaller than this could not hold the largest sessions.
const SMALLEST_SHARD: usize = 1 << 20;
/// What a session costs beside its name and its data: table entry, decoded session, what allocations are rounded up by.
const OVERHEAD: usize = 448;
/// What each other key of the session costs.
const LINK: usize = 192;
/// So many entries may get a second turn for one that comes; whoever brings it holds up its whole shard meanwhile.
const MOST_TURNS: usize = 8;

pub struct NearCache {
    shards: Box<[Mutex<Shard>]>,
    /// Of all shards, so that a key is hashed once.
    hasher: DefaultHashBuilder,
    shard_bytes: usize,
    max_age: Duration,
    /// Entries of an earlier era are in doubt.
    era: AtomicU64,
    /// The latest era in which the store has answered. What is older was not read again although it could have been.
    answered: AtomicU64,
}

struct Shard {
    /// In the order in which they were kept, but for those that were used: see [`Shard::make_room`]. Bounded by bytes, not
    /// by number.
    entries: LinkedHashMap<Key, Entry>,
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
    /// Since its turn to go came last, or since it was kept.
    used: bool,
}

/// A key and its hash.
#[derive(Clone, Copy)]
struct Hashed<'a> {
    key: &'a Key,
    hash: u64,
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
        let hasher = DefaultHashBuilder::default();
        let shard = || {
            let entries = LinkedHashMap::with_hasher(hasher.clone());
            Mutex::new(Shard { entries, bytes: 0, changes: 0, keeps: 0 })
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher,
            shard_bytes: rules.max_bytes / shards,
            max_age: rules.max_age,
            era: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// What the store would answer too, as far as anyone knows.
    pub(super) fn fresh(&self, key: &Key) -> Option<Arc<Stored>> {
        let key = self.hashed(key);
        let mut shard = self.shard(key);
        let entry = shard.entry(key)?.into_mut();
        let certain = entry.era == self.era.load(Ordering::Acquire) && entry.loaded_at.elapsed() < self.max_age;
        certain.then(|| entry.take_up())
    }

    /// What the store answered at most `age` ago, for when it does not answer now. Never what is known to have changed,
    /// nor what has been in doubt since before it answered last.
    pub(super) fn stale(&self, key: &Key, age: Duration) -> Option<Arc<Stored>> {
        let key = self.hashed(key);
        let mut shard = self.shard(key);
        let entry = shard.entry(key)?.into_mut();
        let last = entry.era >= self.answered.load(Ordering::Acquire) && entry.loaded_at.elapsed() < age;
        last.then(|| entry.take_up())
    }

    /// To be taken before the store is asked for `key`.
    pub(super) fn mark(&self, key: &Key) -> Mark {
        let era = self.era.load(Ordering::Acquire);
        let shard = self.shard(self.hashed(key));
        Mark { asked_at: Instant::now(), changes: shard.changes, keeps: shard.keeps, era }
    }

    /// Keeps what the store answered, unless it may have been changed since `mark`.
    ///
    /// Of two answers that crossed on their ways, on the connections of two workers, nobody knows which is the newer: if
    /// they differ neither is kept.
    pub(super) fn keep(&self, key: &Key, mark: Mark, stored: &Arc<Stored>) {
        self.answered.fetch_max(mark.era, Ordering::AcqRel);
        let links = stored.session.links().count();
        let bytes = OVERHEAD + key.as_str().len() + LINK * links + stored.session.data.detached_bytes();
        let session = Session { data: stored.session.data.detached(), ..stored.session.clone() };
        let stored = Arc::new(Stored { session, ..**stored });
        let key = self.hashed(key);
        let mut shard = self.shard(key);
        let crossed =
            shard.remove(key).is_some_and(|other| other.kept > mark.keeps && other.stored.version != stored.version);
        if crossed || bytes > self.shard_bytes || shard.changes != mark.changes {
            return;
        }
        shard.make_room(self.shard_bytes - bytes);
        shard.keeps += 1;
        let (loaded_at, kept) = (mark.asked_at, shard.keeps);
        let entry = Entry { stored, loaded_at, era: mark.era, bytes, kept, used: false };
        if let RawEntryMut::Vacant(place) = shard.place(key) {
            place.insert_hashed_nocheck(key.hash, key.key.clone(), entry);
            shard.bytes += bytes;
        }
    }

    /// Drops the session, which is to change; what was there.
    pub(super) fn forget(&self, key: &Key) -> Option<Arc<Stored>> {
        let key = self.hashed(key);
        let mut shard = self.shard(key);
        shard.changes += 1;
        shard.remove(key).map(|entry| entry.stored)
    }

    /// The store has no such session any more.
    pub(super) fn gone(&self, key: &Key, mark: Mark) {
        self.answered.fetch_max(mark.era, Ordering::AcqRel);
        let key = self.hashed(key);
        self.shard(key).remove(key);
    }

    fn hashed<'a>(&self, key: &'a Key) -> Hashed<'a> {
        Hashed { key, hash: self.hasher.hash_one(key) }
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length, which is not zero")]
    fn shard(&self, key: Hashed<'_>) -> MutexGuard<'_, Shard> {
        // Not the lowest bits, by which the shard's own table finds its places.
        let index = (key.hash >> 32) as usize % self.shards.len();
        lock(&self.shards[index])
    }
}

impl Shard {
    fn place(&mut self, key: Hashed<'_>) -> RawEntryMut<'_, Key, Entry, DefaultHashBuilder> {
        self.entries.raw_entry_mut().from_key_hashed_nocheck(key.hash, key.key)
    }

    fn entry(&mut self, key: Hashed<'_>) -> Option<RawOccupiedEntryMut<'_, Key, Entry, DefaultHashBuilder>> {
        match self.place(key) {
            RawEntryMut::Occupied(entry) => Some(entry),
            RawEntryMut::Vacant(_) => None,
        }
    }

    fn remove(&mut self, key: Hashed<'_>) -> Option<Entry> {
        let entry = self.entry(key)?.remove();
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Drops entries until no more than so many bytes are left.
    ///
    /// The oldest goes, but one that was used gets a second turn (the clock algorithm). To take note of a use costs nothing
    /// but a mark in the entry itself; to move each one that is used to the end of a list would mean four more places in
    /// memory, of which a large cache has none at hand.
    fn make_room(&mut self, bytes: usize) {
        let mut turns = 0;
        while self.bytes > bytes
            && let Some(mut oldest) = self.entries.front_entry()
        {
            if turns < MOST_TURNS && mem::take(&mut oldest.get_mut().used) {
                turns += 1;
                oldest.to_back();
            } else {
                self.bytes -= oldest.remove().bytes;
            }
        }
    }
}

impl Entry {
    fn take_up(&mut self) -> Arc<Stored> {
        self.used = true;
        Arc::clone(&self.stored)
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
