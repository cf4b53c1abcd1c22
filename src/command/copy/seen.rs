//! What a run remembers of each session that it has seen at both stores: a few dozen bytes, and not its key.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::clock::Timestamp;
use crate::store::{Key, Version};

/// A session that is at the target as it was at the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sight {
    pub source: Version,
    pub target: Version,
    /// At the source.
    pub expires_at: Timestamp,
}

/// By a hash of the target's key. Two of a million keys share one once in ten million runs; with the version of the write
/// beside it, not even that ends a session wrongly.
#[derive(Default)]
pub(super) struct Seen {
    hasher: RandomState,
    sights: HashMap<u64, Sight>,
}

impl Seen {
    pub(super) fn remember(&mut self, key: &Key, sight: Sight) {
        self.sights.insert(self.hasher.hash_one(key), sight);
    }

    pub(super) fn of(&self, key: &Key) -> Option<Sight> {
        self.sights.get(&self.hasher.hash_one(key)).copied()
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.sights.remove(&self.hasher.hash_one(key));
    }

    /// Of what was not seen again, keeps what did not go by itself: its time had not come. True if there is any.
    pub(super) fn keep_ended(&mut self, now: Timestamp) -> bool {
        self.sights.retain(|_, sight| sight.expires_at > now);
        !self.sights.is_empty()
    }
}
