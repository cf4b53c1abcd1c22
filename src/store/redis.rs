//! Sessions in Redis: one string a session, read in one go, written by scripts that compare.

mod cluster;
mod connection;
mod django;
mod error;
mod layout;
mod listing;
mod native;
mod node;
mod request;
mod sentinel;
mod server;
mod servers;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{FromRedisValue, Value, from_redis_value};

use self::django::Django;
use self::error::not_understood;
use self::layout::Layout;
use self::listing::Names;
use self::native::Native;
use self::request::Request;
use self::servers::Servers;
use self::watch::Watch;
use super::{
    Cursor, Expected, ForeignRecords, Key, Page, Record, Saved, SessionStore, StoreError, StoreSettings, Version,
    Watcher,
};
use crate::clock::{Clock, Timestamp};

/// Redis refuses to add up larger times than this many milliseconds; a deadline beyond it is never reached.
const FOR_EVER: u128 = 1 << 52;

/// Connects and reads once, so that a wrong address, password or permission is known at start. With `foreign` records
/// lie as Django's caches have them.
pub(super) async fn open(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    let layout: Arc<dyn Layout> = match foreign {
        Some(_) => Arc::new(Django::new(&settings.django())),
        None => Arc::new(Native::new(settings.prefix.clone())),
    };
    let opened = Redis { servers: Servers::open(settings).await?, layout, clock, watch: None };
    // Redis lets anyone connect; only a command shows that a password or a permission is missing.
    opened.load(&Key::new("")).await?;
    Ok(Arc::new(opened))
}

/// The engine `redis`, on a connection to each server that carries all calls and comes back by itself.
struct Redis {
    servers: Servers,
    layout: Arc<dyn Layout>,
    clock: Clock,
    /// Who hears of changes.
    watch: Option<Watch>,
}

#[async_trait]
impl SessionStore for Redis {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let request = self.layout.load(&self.layout.name(key));
        let now = self.clock.now();
        let answer = self.servers.ask(&request).await?;
        if let (Some(watch), false) = (&self.watch, answer.watched) {
            watch.read_unwatched(key);
        }
        // Its end may have passed while Redis was asked.
        let record = self.layout.read(answer.value, now).unwrap_or_else(|_| {
            tracing::warn!("a record in Redis is not one of ours; it counts as absent");
            None
        });
        Ok(record.filter(|record| record.expires_at > self.clock.now()))
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let name = self.layout.name(key);
        let (request, version) = self.layout.save(&name, expected, &value, expires_at, self.clock.now());
        Ok(if self.write(&request).await? { Saved::Stored(version) } else { Saved::Conflict })
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.write(&self.layout.touch(&self.layout.name(key), expected, expires_at, self.clock.now())).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.servers.ask(&Request::delete(&self.layout.name(key))).await?.must_be_replicated()
    }

    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let prefix = self.layout.prefix();
        let Names { names, next } = listing::list(&self.servers, prefix, from).await?;
        // A name that is no text is nobody's session.
        let names = names.into_iter().filter_map(|name| String::from_utf8(name).ok());
        let keys = names.filter_map(|name| name.strip_prefix(prefix).map(Key::new)).collect();
        Ok(Page { keys, next })
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(Arc::new(self.another(None).await?))
    }

    async fn attach_watched(self: Arc<Self>, watcher: Arc<dyn Watcher>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let watch = Watch::new(watcher, self.layout.prefix());
        Ok(Arc::new(self.another(Some(watch)).await?))
    }
}

impl Redis {
    async fn another(&self, watch: Option<Watch>) -> Result<Self, StoreError> {
        let servers = self.servers.another(watch.clone()).await?;
        Ok(Self { servers, layout: Arc::clone(&self.layout), clock: self.clock.clone(), watch })
    }

    /// Whether the record was the expected one, and the write counts.
    async fn write(&self, request: &Request) -> Result<bool, StoreError> {
        let answer = self.servers.ask(request).await?;
        let written: bool = understood(&answer.value)?;
        if written {
            answer.must_be_replicated()?;
        }
        Ok(written)
    }
}

fn understood<T: FromRedisValue>(value: &Value) -> Result<T, StoreError> {
    from_redis_value(value.clone()).map_err(|_| not_understood())
}
