//! Stores: opaque bytes under a key until a deadline. To add an engine: one file here, one line in [`open`], and one
//! test that names it to the conformance suite in `tests/stores`.

mod breaker;
mod cached_db;
mod db;
mod file;
mod guarded;
mod memcached;
mod memory;
mod nowhere;
mod record;
mod redis;
mod settings;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrayvec::ArrayString;
use async_trait::async_trait;
use bytes::Bytes;

pub use self::cached_db::CachedDb;
pub use self::guarded::Guarded;
pub use self::settings::{
    CacheClient, Compressor, DjangoSettings, Engine, Format, NearCacheRules, NearCacheSettings, Serializer,
    StoreSettings,
};
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;

/// Opens the store the settings name, within its time limit and behind its circuit breaker.
///
/// What it keeps open lives in the runtime that calls; every worker then asks for its own with
/// [`SessionStore::attach`].
///
/// # Errors
/// The store cannot be reached or refuses us, or the settings cannot be meant.
pub async fn open(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    let engine = open_engine(settings, foreign, clock).await?;
    Ok(Arc::new(Guarded::new(engine, settings.timeout, metrics)))
}

/// As [`open`], but the bare engine: without time limit and circuit breaker.
///
/// # Errors
/// As [`open`].
pub async fn open_engine(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    settings.check().map_err(|problem| StoreError::Failed(problem.into()))?;
    match settings.engine {
        Engine::CachedDb => cached_db::open(settings, foreign, clock).await,
        Engine::Db => db::open(settings, foreign, clock).await,
        Engine::File => file::open(settings, foreign, clock).await,
        Engine::Memcached => memcached::open(settings, foreign, clock).await,
        Engine::Memory => Ok(Arc::new(memory::Memory::new(settings.max_bytes, clock))),
        Engine::Redis => redis::open(settings, foreign, clock).await,
        Engine::SignedCookies => Ok(Arc::new(nowhere::Nowhere)),
    }
}

/// Makes the table that `engine = "db"` keeps sessions in, if it is not there.
///
/// # Errors
/// As [`open`]; or the table is not ours to make.
pub async fn migrate(settings: &StoreSettings, foreign: Option<Arc<dyn ForeignRecords>>) -> Result<(), StoreError> {
    settings.check().map_err(|problem| StoreError::Failed(problem.into()))?;
    match settings.engine {
        Engine::Db => db::migrate(settings, foreign).await,
        engine => Err(StoreError::Failed(format!("engine = \"{}\" has no table", engine.name()).into())),
    }
}

/// What only their format knows of records that other programs write, for engines whose layout needs it. An engine that
/// is given one keeps records as those programs do.
pub trait ForeignRecords: Send + Sync {
    /// What the name of every session's file begins with.
    fn file_prefix(&self) -> &str;

    /// When a record ends that has no deadline beside it, if it was written at `written_at`.
    fn deadline(&self, value: &[u8], written_at: Timestamp) -> Timestamp;

    /// The value of a row, as the cache before the database has it; `None` if it cannot be written so.
    fn cache_value(&self, row: &Record) -> Option<Bytes>;

    /// A value from the cache, as the row behind it has it; `None` if it cannot be read or not be written so.
    fn row_value(&self, cached: &Record) -> Option<Bytes>;
}

/// Hears of changes to records from an engine that can tell. Called by whoever reads the engine's connection, so it must
/// not wait.
pub trait Watcher: Send + Sync {
    /// The record was changed, is gone, or was read where nobody would tell.
    fn changed(&self, key: &Key);

    /// Every record was, or may be gone.
    fn all_changed(&self);

    /// From some moment on changes may not have been told; from now on they are, of what is read from now on.
    fn missed(&self);
}

/// Where sessions are kept. What an engine promises:
///
/// * `save` names what it expects and replaces in one atomic step; nobody else's write is overwritten unseen.
/// * A deleted record stays deleted: nothing but `save` with [`Expected::Absent`] creates.
/// * A `save` whose deadline is not in the future ends the record, if it is the expected one.
/// * From its deadline on a record is absent, to the millisecond of the clock the store was opened with, whatever the
///   server's own expiry does.
/// * `touch` keeps the version: moving a deadline never makes a neighbour's `save` conflict.
/// * An unknown outcome (a time-out after sending) is an error. What is not repeatable is never silently retried; a
///   `load` or `delete` whose connection was lost may be.
/// * A record that the engine cannot read is absent, and is logged without its content.
#[async_trait]
pub trait SessionStore: Send + Sync {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Stores `value` if the record is what `expected` says. [`Expected::Absent`] holds for an expired record too.
    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError>;

    /// Moves the deadline forward while the version is still `expected`; true if the version was still that one, also
    /// when the deadline already lay later and was left alone.
    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError>;

    /// Deleting what is absent is no error.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Removes expired records where the engine does not do so by itself, so many as hold up nobody else; how many went.
    /// To be called again until none did (Django's `clear_expired`).
    async fn sweep(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// A page of the keys there are, expired ones perhaps among them; to be called again with `next` until there is none.
    /// What is there from the first page to the last is given at least once; what comes or goes meanwhile may be left
    /// out, and a key may be given twice.
    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let _ = from;
        Err(StoreError::Failed("this engine cannot list its sessions".into()))
    }

    /// The same store for one worker: with a connection of its own, inside that worker's runtime.
    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError>;

    /// As [`SessionStore::attach`]; where the engine can, `watcher` is told of every change that others make to a record
    /// after `load` has given it. An engine that never tells says nothing: whether that will do is a setting.
    async fn attach_watched(self: Arc<Self>, watcher: Arc<dyn Watcher>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let _ = watcher;
        self.attach().await
    }
}

/// The name of a record. In our own format the SHA-256 of the session id in hexadecimal, so that a stolen store opens
/// no session; never the cookie's value.
#[derive(Clone)]
pub struct Key(Name);

/// Names as long as a digest, and shorter ones, are at hand where the key is: the near cache compares them with each
/// request.
#[derive(Clone)]
enum Name {
    Here(ArrayString<64>),
    There(Arc<str>),
}

impl Key {
    pub fn new(key: impl AsRef<str>) -> Self {
        let key = key.as_ref();
        Self(ArrayString::from(key).map_or_else(|_| Name::There(key.into()), Name::Here))
    }

    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Here(name) => name,
            Name::There(name) => name,
        }
    }

    /// Bytes of memory that it holds beside its own.
    fn held_bytes(&self) -> usize {
        match &self.0 {
            Name::Here(_) => 0,
            Name::There(name) => name.len(),
        }
    }
}

impl Eq for Key {}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Key {
    /// Keys stay out of logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(…)")
    }
}

/// A place between two pages, in the words of the engine that gave it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor(pub String);

/// Some of the keys in a store.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub keys: Vec<Key>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Cursor>,
}

/// What a store holds under a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    pub value: Bytes,
    pub version: Version,
    pub expires_at: Timestamp,
}

/// Which write a record comes from; opaque outside the engine that gave it. Never given twice for one key, except that in
/// a foreign layout, which has no place for it, it is a digest of the value, the same for the same bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version(pub u64);

/// What `save` must find to store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    Absent,
    Version(Version),
}

/// How a `save` ended. A conflict is an outcome, not an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Saved {
    Conflict,
    Stored(Version),
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a store gave no answer. Whatever the variant, a route's `on_store_error` decides what the visitor gets.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store answered that it cannot, or broke off: whether it acted is unknown.
    #[error("the store failed")]
    Failed(#[source] Cause),
    /// Not asked, because it failed just before and the circuit breaker is open; nothing happened.
    #[error("the store is not asked while it is failing")]
    Open,
    /// No answer within `store.timeout`; whether it acted is unknown.
    #[error("the store did not answer in time")]
    Timeout,
    /// It answered that the value is larger than it ever takes; nothing happened, and it is not at fault.
    #[error("the session is larger than the store takes")]
    TooLarge,
    /// It could not be reached; nothing happened.
    #[error("the store cannot be reached")]
    Unreachable(#[source] Cause),
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn keys_are_their_names_wherever_those_lie() {
        let names: Vec<String> =
            ["", "a", "b"].map(str::to_owned).into_iter().chain((63..66).map(|n| "a".repeat(n))).collect();
        let hasher = RandomState::new();
        for one in &names {
            let key = Key::new(one);
            assert_eq!((key.as_str(), key.held_bytes()), (one.as_str(), if one.len() > 64 { one.len() } else { 0 }));
            assert_eq!(hasher.hash_one(&key), hasher.hash_one(one.as_str()));
            for other in &names {
                assert_eq!(key == Key::new(other), one == other, "{one} {other}");
                assert_eq!(key.cmp(&Key::new(other)), one.cmp(other), "{one} {other}");
            }
        }
    }
}
