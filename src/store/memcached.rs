//! Sessions in memcached, on one server or several: one item a session, written by compare-and-swap.
//!
//! memcached forgets what it has no room for, so a session may end early; what was deleted stays deleted. The key alone
//! says which server has it. While that server is away its sessions are too: they are not looked for elsewhere, where
//! one that ended might still be.
//!
//! memcached drops an item when it is told to replace it by one that it finds too large. So its limit
//! (`item_size_max`) is asked for with every connection, and what is larger is not sent.
//!
//! In Django's layout (`PyMemcacheCache`, pymemcache) an item is the value alone, and its deadline is memcached's: it is
//! known to the second, and by memcached's clock.

mod layout;
mod node;
mod pool;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use self::layout::Layout;
use self::node::node_of;
use self::pool::Pool;
use self::wire::{Answer, Call, Item};
use super::settings::memcached::Server;
use super::{
    Cursor, Expected, ForeignRecords, Key, Page, Record, Saved, SessionStore, StoreError, StoreSettings, Version,
};
use crate::clock::{Clock, Timestamp};

/// Connects to every server, so that a wrong address is known at start.
pub(super) async fn open(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    let servers = settings.memcached_servers().map_err(|problem| StoreError::Failed(problem.into()))?;
    let layout = match foreign {
        Some(_) => Layout::django(&settings.django()),
        None => Layout::Native { prefix: settings.prefix.clone() },
    };
    let opened = Memcached::of(Arc::new(Shared { clock, layout, servers }));
    for pool in &opened.pools {
        pool.open().await?;
    }
    Ok(Arc::new(opened))
}

/// The engine `memcached`. Every worker has connections of its own.
struct Memcached {
    shared: Arc<Shared>,
    /// One for each server, in their order.
    pools: Vec<Pool>,
}

struct Shared {
    clock: Clock,
    layout: Layout,
    servers: Vec<Server>,
}

#[async_trait]
impl SessionStore for Memcached {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let Some((name, pool)) = self.place(key) else { return Ok(None) };
        let Some(item) = get(pool, &name).await? else { return Ok(None) };
        let now = self.shared.clock.now();
        let record = self.shared.layout.read(&item, now);
        if record.is_none() {
            tracing::warn!("an item in memcached is not one of our records; it counts as absent");
        }
        Ok(record.filter(|record| record.expires_at > now))
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let Some((name, pool)) = self.place(key) else {
            return match expected {
                Expected::Absent => Err(StoreError::Failed("memcached takes no such key".into())),
                Expected::Version(_) => Ok(Saved::Conflict),
            };
        };
        let layout = &self.shared.layout;
        let (stored, version) = layout.write(&value, expires_at);
        // What is to be new is tried without looking first.
        let mut look = expected != Expected::Absent || expires_at <= self.shared.clock.now();
        loop {
            let item = if look { get(pool, &name).await? } else { None };
            let now = self.shared.clock.now();
            let (found, cas) = match item.map(|item| (layout.read(&item, now), item.cas)) {
                None => (Expected::Absent, None),
                Some((None, _)) => return Ok(Saved::Conflict),
                Some((Some(record), cas)) if record.expires_at > now => (Expected::Version(record.version), Some(cas)),
                Some((Some(_), cas)) => (Expected::Absent, Some(cas)),
            };
            if found != expected {
                return Ok(Saved::Conflict);
            }
            let answer = if expires_at > now {
                let (flags, exptime) = (layout.flags(), layout.exptime(expires_at, now));
                pool.call(&name, &Call::Set { value: &stored, flags, exptime, cas }).await?
            } else if cas.is_some() {
                pool.call(&name, &Call::Delete { cas }).await?
            } else {
                Answer::Done
            };
            if matches!(answer, Answer::Done) {
                return Ok(Saved::Stored(version));
            }
            // Somebody wrote in between; it may have been a touch only.
            look = true;
        }
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        let Some((name, pool)) = self.place(key) else { return Ok(false) };
        let layout = &self.shared.layout;
        loop {
            let Some(item) = get(pool, &name).await? else { return Ok(false) };
            let now = self.shared.clock.now();
            let living = |record: &Record| record.expires_at > now && record.version == expected;
            let Some(record) = layout.read(&item, now).filter(living) else { return Ok(false) };
            if expires_at <= record.expires_at {
                return Ok(true);
            }
            let moved = layout.moved(&item, &record, expires_at);
            let (flags, exptime) = (item.flags, layout.exptime(expires_at, now));
            let set = Call::Set { value: &moved, flags, exptime, cas: Some(item.cas) };
            if matches!(pool.call(&name, &set).await?, Answer::Done) {
                return Ok(true);
            }
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let Some((name, pool)) = self.place(key) else { return Ok(()) };
        pool.call_repeatable(&name, &Call::Delete { cas: None }).await.map(drop)
    }

    /// A page is what one server has, as its crawler lists it; the list leaves out what is in use or moves at that
    /// moment, and a key that is not part of its item's name, which none of ours is. Some servers give no list.
    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let place = from.map_or(Some(0), |cursor| cursor.0.parse().ok());
        let Some((place, pool)) = place.and_then(|place: usize| Some((place, self.pools.get(place)?))) else {
            return Err(StoreError::Failed("there is no such place in the list of sessions".into()));
        };
        let keys = pool.names().await?.iter().filter_map(|name| self.shared.layout.key(name)).collect();
        let next = (place + 1 < self.pools.len()).then(|| Cursor((place + 1).to_string()));
        Ok(Page { keys, next })
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(Arc::new(Self::of(Arc::clone(&self.shared))))
    }
}

impl Memcached {
    fn of(shared: Arc<Shared>) -> Self {
        let pools = shared.servers.iter().map(|server| Pool::new(server.place.clone())).collect();
        Self { shared, pools }
    }

    /// What the record is called, and where it is; `None` if memcached can have no such name.
    fn place(&self, key: &Key) -> Option<(String, &Pool)> {
        let name = self.shared.layout.name(key)?;
        let pool = self.pools.get(node_of(&self.shared.servers, &name))?;
        Some((name, pool))
    }
}

async fn get(pool: &Pool, name: &str) -> Result<Option<Item>, StoreError> {
    match pool.call_repeatable(name, &Call::Get).await? {
        Answer::Item(item) => Ok(Some(item)),
        _ => Ok(None),
    }
}
