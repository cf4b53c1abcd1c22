//! A database as the truth, and a cache before it that is asked first. A cache that fails, hangs or forgets costs speed.
//!
//! What a row's copy in the cache may be believed for rests on two rules. Whoever is about to put a copy there first puts
//! a mark, then reads the row, then replaces that very mark. And whoever writes removes what the cache has, copy or
//! mark, after the row is written and before the write is acknowledged. So a row that was read before a write never
//! becomes a copy after it, and a read after a write was acknowledged, by whichever proxy, finds what was written.
//!
//! A row that something else changed is seen after `cache_max_age` at the latest, which is when its copy ends. The same
//! holds where the cache could not be told to forget: this process then does not believe that entry for so long, but
//! another proxy may, and so may this one if it is started again.
//!
//! In Django's layout Django's own copies are believed as Django believes them: until their TTL ends, whatever becomes
//! of the row, for their age is not known. And Django puts them there without a mark, so that of a write and a read at
//! the same time the older may be left there, as between two of Django's processes.

mod distrust;
mod entry;
mod late;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::distrust::Distrust;
use self::entry::Entries;
use self::late::Late;
use super::{
    Cursor, Expected, ForeignRecords, Guarded, Key, Page, Record, Saved, SessionStore, StoreError, StoreSettings,
    Version, open_engine,
};
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;

/// How long a mark stays if nobody replaces it: longer than any row takes to read, or to be written after its writer
/// gave up.
const MARK: Duration = Duration::from_secs(10);

pub(super) async fn open(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    let [rows, cache] = settings.parts().map_err(|problem| StoreError::Failed(problem.into()))?;
    let rows = Box::pin(open_engine(&rows, foreign.clone(), clock.clone())).await?;
    let limit = cache.timeout;
    let cache = Late::open(cache, foreign.clone(), clock.clone()).await?;
    Ok(Arc::new(CachedDb::new(rows, Arc::new(cache), limit, settings.cache_max_age(), foreign, clock)))
}

/// The engine `cached_db`.
pub struct CachedDb {
    rows: Arc<dyn SessionStore>,
    cache: Arc<dyn SessionStore>,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    distrust: Distrust,
    entries: Entries,
    max_age: Duration,
}

impl CachedDb {
    /// `cache` before `rows`; a call to it may take until `limit`, and its copies are believed for `max_age`.
    pub fn new(
        rows: Arc<dyn SessionStore>,
        cache: Arc<dyn SessionStore>,
        limit: Duration,
        max_age: Duration,
        foreign: Option<Arc<dyn ForeignRecords>>,
        clock: Clock,
    ) -> Self {
        // Its own time limit and breaker, and nobody's metrics: what is counted is what sessions cost and suffer.
        let cache = Arc::new(Guarded::new(cache, limit, Arc::new(Metrics::new())));
        let distrust = Distrust::new(max_age.saturating_add(MARK), clock.clone());
        let shared = Shared { clock, distrust, entries: Entries::new(foreign), max_age };
        Self { rows, cache, shared: Arc::new(shared) }
    }

    /// What the cache knows: a row, or that there is none to be known, or nothing, and then perhaps the mark that says
    /// that we are about to tell it.
    async fn ask_cache(&self, key: &Key, now: Timestamp) -> Asked {
        match self.cache.load(key).await {
            Ok(Some(entry)) => self.shared.entries.row(&entry, now).map_or(Asked::Unknown(None), Asked::Row),
            Ok(None) => {
                let mark = self.cache.save(key, Expected::Absent, self.shared.entries.mark(), now.plus(MARK)).await;
                match mark {
                    Ok(Saved::Stored(mark)) => Asked::Unknown(Some(mark)),
                    Ok(Saved::Conflict) => Asked::Unknown(None),
                    Err(error) => Asked::failed(&error),
                }
            }
            Err(error) => Asked::failed(&error),
        }
    }

    /// Replaces our mark by the row as it was read after the mark was put there at `marked_at`; without a row, by nothing.
    async fn fill(&self, key: &Key, mark: Version, row: Option<&Record>, marked_at: Timestamp) {
        let copy = row.and_then(|row| Some((self.shared.entries.copy(row)?, row.expires_at)));
        let (copy, expires_at) = copy.unwrap_or((Bytes::new(), marked_at));
        let expires_at = expires_at.min(marked_at.plus(self.shared.max_age));
        if let Err(error) = self.cache.save(key, Expected::Version(mark), copy, expires_at).await {
            note(&error);
        }
    }

    /// Whether the cache has forgotten what it had.
    async fn forget(&self, key: &Key) -> bool {
        self.cache.delete(key).await.inspect_err(note).is_ok()
    }

    /// Writes a row, and then has the cache forget what it had, whatever became of the write.
    async fn write<T>(
        &self,
        key: &Key,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let write = self.shared.distrust.write(key);
        let outcome = work.await;
        match &outcome {
            Ok(_) if self.forget(key).await => write.forgotten(),
            Ok(_) => {}
            Err(StoreError::Open | StoreError::TooLarge | StoreError::Unreachable(_)) => write.forgotten(),
            // It may still come to pass, after the cache forgot.
            Err(StoreError::Failed(_) | StoreError::Timeout) => drop(self.forget(key).await),
        }
        outcome
    }
}

enum Asked {
    Row(Record),
    Unknown(Option<Version>),
}

impl Asked {
    fn failed(error: &StoreError) -> Self {
        note(error);
        Self::Unknown(None)
    }
}

/// The breaker says when the cache goes and comes back; each call that suffers is nothing to be warned of.
fn note(error: &StoreError) {
    tracing::debug!(%error, "the cache before the database failed; the database is asked");
}

#[async_trait]
impl SessionStore for CachedDb {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        if self.shared.distrust.covers(key) {
            // Not for us, who do not believe it, but for whoever else may.
            self.forget(key).await;
            return self.rows.load(key).await;
        }
        let now = self.shared.clock.now();
        let mark = match self.ask_cache(key, now).await {
            Asked::Row(row) => return Ok(Some(row)),
            Asked::Unknown(mark) => mark,
        };
        let row = self.rows.load(key).await?;
        if let Some(mark) = mark {
            self.fill(key, mark, row.as_ref(), now).await;
        }
        Ok(row)
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        self.write(key, self.rows.save(key, expected, value, expires_at)).await
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.write(key, self.rows.touch(key, expected, expires_at)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.write(key, self.rows.delete(key)).await
    }

    async fn sweep(&self) -> Result<u64, StoreError> {
        self.rows.sweep().await
    }

    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        self.rows.scan(from).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let rows = Arc::clone(&self.rows).attach().await?;
        let cache = Arc::clone(&self.cache).attach().await?;
        Ok(Arc::new(Self { rows, cache, shared: Arc::clone(&self.shared) }))
    }
}
