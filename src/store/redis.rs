//! Sessions in Redis: one string a session, read with one `GET`, written by scripts that compare.

mod connection;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Script;
use redis::aio::MultiplexedConnection;

use self::connection::Connection;
use super::record::{self, deadline_text, header, version_text};
use super::{Expected, ForeignRecords, Key, Record, Saved, SessionStore, StoreError, StoreSettings, Version};
use crate::clock::{Clock, Timestamp};

/// How much longer than its deadline Redis keeps a record. The deadline itself stands in the record and is compared
/// with our clock; this allows for that clock and Redis's to run apart.
const GRACE: Duration = Duration::from_secs(60);
/// Redis refuses to add up larger times than this many milliseconds; a deadline beyond it is never reached.
const FOR_EVER: u64 = 1 << 52;

pub(super) async fn open(
    settings: &StoreSettings,
    _foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(Arc::new(Redis::open(settings, clock).await?))
}

/// The engine `redis`, on one connection that carries all calls and comes back by itself.
pub struct Redis {
    connection: Connection,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    prefix: String,
    save: Script,
    touch: Script,
}

impl Redis {
    /// Connects and reads once, so that a wrong address, password or permission is known at start.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if Redis refused us or the settings cannot be meant, [`StoreError::Unreachable`] if it
    /// is not there.
    pub async fn open(settings: &StoreSettings, clock: Clock) -> Result<Self, StoreError> {
        let shared = Shared {
            clock,
            prefix: settings.prefix.clone(),
            save: Script::new(include_str!("redis/save.lua")),
            touch: Script::new(include_str!("redis/touch.lua")),
        };
        let opened = Self { connection: Connection::open(settings).await?, shared: Arc::new(shared) };
        // Redis lets anyone connect; only a command shows that a password or a permission is missing.
        opened.load(&Key::new("")).await?;
        Ok(opened)
    }

    fn name(&self, key: &Key) -> String {
        format!("{}{}", self.shared.prefix, key.as_str())
    }
}

#[async_trait]
impl SessionStore for Redis {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let get = redis::Cmd::get(self.name(key));
        let get = &get;
        let read = |mut connection: MultiplexedConnection| async move {
            match get.query_async::<Option<Vec<u8>>>(&mut connection).await {
                Err(error) if error.code() == Some("WRONGTYPE") => Ok(Some(Vec::new())),
                answer => answer,
            }
        };
        let Some(stored) = self.connection.call_repeatable(read).await? else { return Ok(None) };
        let record = record::parse(&Bytes::from(stored));
        if record.is_none() {
            tracing::warn!("a record in Redis is not one of ours; it counts as absent");
        }
        Ok(record.filter(|record| record.expires_at > self.shared.clock.now()))
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let version = Version(rand::random());
        let now = self.shared.clock.now();
        let stored = [header(version, expires_at).as_bytes(), &value].concat();
        let mut script = self.shared.save.key(self.name(key));
        script.arg(match expected {
            Expected::Absent => String::new(),
            Expected::Version(version) => version_text(version),
        });
        script.arg(deadline_text(now)).arg(stored).arg(keep(expires_at, now));
        let saved =
            self.connection.call(async |mut connection| script.invoke_async::<bool>(&mut connection).await).await?;
        Ok(if saved { Saved::Stored(version) } else { Saved::Conflict })
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        let now = self.shared.clock.now();
        let mut script = self.shared.touch.key(self.name(key));
        script.arg(version_text(expected)).arg(deadline_text(now));
        script.arg(deadline_text(expires_at)).arg(keep(expires_at, now));
        self.connection.call(async |mut connection| script.invoke_async(&mut connection).await).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let delete = redis::Cmd::del(self.name(key));
        let delete = &delete;
        let call = |mut connection: MultiplexedConnection| async move { delete.query_async(&mut connection).await };
        self.connection.call_repeatable(call).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let connection = self.connection.another().await?;
        Ok(Arc::new(Self { connection, shared: Arc::clone(&self.shared) }))
    }
}

/// How many milliseconds Redis is to keep a record; `"0"` is for ever.
fn keep(expires_at: Timestamp, now: Timestamp) -> String {
    let millis = u64::try_from(expires_at.since(now).saturating_add(GRACE).as_millis()).unwrap_or(u64::MAX);
    if millis < FOR_EVER { millis.to_string() } else { "0".to_owned() }
}
