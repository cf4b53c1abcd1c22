//! Sessions as records: decoding what the store holds, and ending a session with all the keys it has.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::near::{Forgetting, NearCache};
use crate::clock::{Clock, Timestamp};
use crate::metrics::{Metrics, NearCacheOutcome, SessionEvent};
use crate::session::codec::Codec;
use crate::session::settings::SessionRules;
use crate::session::{Retired, Session};
use crate::store::{Expected, Key, Saved, SessionStore, StoreError, Version};
use crate::telemetry::Causes;

/// How long a retired record outlives its grace, unread. A logout through its key may be under way while the grace ends,
/// for as long as a backend may take; it finds the session's new key here.
const LINKS_KEPT: Duration = Duration::from_mins(1);

/// A view of the store in sessions instead of bytes.
pub struct Records {
    pub store: Arc<dyn SessionStore>,
    pub codec: Codec,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub rules: Arc<SessionRules>,
    /// One for all workers; every write through here drops what it has of the key.
    pub near: Option<Arc<NearCache>>,
}

/// A session and the write it comes from.
#[derive(Clone, Debug)]
pub struct Stored {
    pub session: Session,
    pub version: Version,
    pub expires_at: Timestamp,
}

/// A record that has a successor and is to become read-only.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Retirement {
    pub key: Key,
    pub retired: Retired,
    /// Of the record as it was copied.
    pub expires_at: Timestamp,
}

impl Retirement {
    /// Until then the record is there, retired or not; if it is not, it was ended.
    fn is_there_until(&self) -> Timestamp {
        self.expires_at.min(self.retired.until.plus(LINKS_KEPT))
    }
}

impl Records {
    /// The session under `key` that may answer a request now: not past the end of its grace or its absolute time-out,
    /// whatever the store's own expiry does. The store is asked, and the near cache has then what it answered.
    pub async fn find(&self, key: &Key) -> Result<Option<Arc<Stored>>, StoreError> {
        let now = self.clock.now();
        let near = self.near.as_ref().map(|near| (near, near.mark(key)));
        let found = self.load(key).await?.filter(|stored| self.answers(stored, now)).map(Arc::new);
        match (near, &found) {
            (Some((near, mark)), Some(stored)) => near.keep(key, mark, stored),
            (Some((near, mark)), None) => near.gone(key, mark),
            (None, _) => {}
        }
        Ok(found)
    }

    /// As [`Records::find`], from the near cache where that can answer.
    pub async fn find_near(&self, key: &Key) -> Result<Option<Arc<Stored>>, StoreError> {
        let Some(near) = &self.near else { return self.find(key).await };
        let now = self.clock.now();
        if let Some(stored) = near.fresh(key).filter(|stored| self.answers(stored, now)) {
            self.metrics.near_cache(NearCacheOutcome::Hit);
            return Ok(Some(stored));
        }
        self.metrics.near_cache(NearCacheOutcome::Miss);
        self.find(key).await
    }

    /// What the near cache has of `key` that was read at most `age` ago, for when the store does not answer.
    pub(super) fn find_stale(&self, key: &Key, age: Duration) -> Option<Arc<Stored>> {
        let now = self.clock.now();
        let stored = self.near.as_ref()?.stale(key, age).filter(|stored| self.answers(stored, now))?;
        self.metrics.near_cache(NearCacheOutcome::Stale);
        Some(stored)
    }

    /// Drops what the near cache has of a session that is to end; the keys that end with it.
    pub(super) fn forget(&self, key: &Key) -> Vec<Key> {
        let known = self.near.as_ref().and_then(|near| near.forget(key));
        known.map(|stored| stored.session.links().cloned().collect()).unwrap_or_default()
    }

    /// Whether the session may answer a request at `now`.
    fn answers(&self, stored: &Stored, now: Timestamp) -> bool {
        let retired = stored.session.retired.as_ref().is_some_and(|retired| retired.until <= now);
        let over = stored.session.ends_at_latest(&self.rules).is_some_and(|end| end <= now);
        !retired && !over && stored.expires_at > now
    }

    /// The session under `key`, also one that may no longer answer. What cannot be decoded is absent.
    async fn load(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let Some(record) = self.store.load(key).await? else { return Ok(None) };
        match self.codec.decode(key, &record) {
            Ok(session) => Ok(Some(Stored { session, version: record.version, expires_at: record.expires_at })),
            Err(error) => {
                self.metrics.session(SessionEvent::Undecodable);
                tracing::warn!(
                    error = %Causes(&error),
                    "a stored session cannot be read; it counts as absent"
                );
                Ok(None)
            }
        }
    }

    /// Stores `session` until `expires_at`.
    pub async fn save(
        &self,
        key: &Key,
        expected: Expected,
        session: &Session,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let _forgetting = self.forgetting(key);
        self.store.save(key, expected, self.codec.encode(key, session, self.clock.now()), expires_at).await
    }

    /// As [`SessionStore::touch`].
    pub(super) async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        let _forgetting = self.forgetting(key);
        self.store.touch(key, expected, expires_at).await
    }

    /// As [`SessionStore::delete`].
    pub(super) async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let _forgetting = self.forgetting(key);
        self.store.delete(key).await
    }

    /// Takes the session out of the near cache when what is given is dropped.
    fn forgetting<'a>(&'a self, key: &'a Key) -> Forgetting<'a> {
        Forgetting::new(self.near.as_deref(), key)
    }

    /// Makes `old`, the record under the key, a retired one that answers reads until the end of its grace. A format
    /// without grace ends it.
    pub(super) async fn retire(&self, old: &Stored, retirement: &Retirement) -> Result<Saved, StoreError> {
        let Retirement { key, retired, .. } = retirement;
        if !self.codec.has_grace() {
            // Long past, so that it has ended for a proxy too whose clock is behind.
            return self.save(key, Expected::Version(old.version), &old.session, BURIED).await;
        }
        let session = Session { retired: Some(retired.clone()), ..old.session.clone() };
        self.save(key, Expected::Version(old.version), &session, retired.until.plus(LINKS_KEPT)).await
    }

    /// As [`Records::retire`], of whatever is under the key by now: for a retirement whose first try failed after the
    /// new record was already the visitor's.
    pub(super) async fn retire_late(&self, retirement: &Retirement) -> Result<(), StoreError> {
        if !self.codec.has_grace() {
            return self.delete(&retirement.key).await;
        }
        let ended = loop {
            let Some(stored) = self.load(&retirement.key).await? else {
                break self.clock.now() < retirement.is_there_until();
            };
            if let Some(retired) = &stored.session.retired {
                break retired.until == BURIED;
            }
            if let Saved::Stored(_) = self.retire(&stored, retirement).await? {
                break false;
            }
        };
        // Whoever ended the session could not know its new key.
        if ended { self.end(std::slice::from_ref(&retirement.retired.successor)).await } else { Ok(()) }
    }

    /// Ends the sessions under `keys` together with their successors, and their predecessors still in grace.
    ///
    /// A record is first replaced, by compare-and-save, with one that nobody may read: the links to follow are then the
    /// last ones it will ever have, and a cycle or an update under way at the same moment loses. Only when every linked
    /// record is dead are they deleted. Repeating after an error finds the links again.
    pub async fn end(&self, keys: &[Key]) -> Result<(), StoreError> {
        if !self.codec.has_grace() {
            for key in keys {
                self.delete(key).await?;
            }
            return Ok(());
        }
        let mut waiting: VecDeque<Key> = keys.iter().cloned().collect();
        let mut ended = HashSet::new();
        while let Some(key) = waiting.pop_front() {
            if !ended.insert(key.clone()) {
                continue;
            }
            if let Some(session) = self.bury(&key).await? {
                waiting.extend(session.links().cloned());
            }
        }
        for key in &ended {
            self.delete(key).await?;
        }
        Ok(())
    }

    /// Replaces the record under `key` by one that is past its grace; the session that was there.
    async fn bury(&self, key: &Key) -> Result<Option<Session>, StoreError> {
        loop {
            let Some(stored) = self.load(key).await? else { return Ok(None) };
            if stored.session.retired.as_ref().is_some_and(|retired| retired.until == BURIED) {
                return Ok(Some(stored.session));
            }
            let successor =
                stored.session.retired.as_ref().map_or_else(|| key.clone(), |retired| retired.successor.clone());
            let retired = Retired { until: BURIED, successor };
            let session = Session { retired: Some(retired), ..stored.session.clone() };
            let saved = self.save(key, Expected::Version(stored.version), &session, stored.expires_at).await?;
            if let Saved::Stored(_) = saved {
                return Ok(Some(session));
            }
        }
    }
}

/// The end of a record that never answers again, or of its grace.
const BURIED: Timestamp = Timestamp::from_millis(0);
