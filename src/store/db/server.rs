//! What PostgreSQL and MySQL have in common: when a call is made again, who sweeps, and how pages follow each other.
//!
//! Nothing that may have been done is repeated, except what may be done twice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{Cursor, Expected, Key, Page, Record, Saved, SessionStore, StoreError, StoreSettings, Version};
use super::layout::Layout;
use super::pool::{Fault, Pool, Server};
use super::{Change, Missing, PAGE, no_table, without_a_place};
use crate::clock::{Clock, Timestamp};

/// A connection may take longer than a call.
const CONNECT: Duration = Duration::from_secs(2);
/// How often a statement is made again that the server took back for the sake of others.
const TAKEN_BACK: usize = 5;

/// The words in which a kind of server is spoken to of sessions.
pub(super) trait Dialect: Server {
    fn layout(&self) -> &Layout;

    /// Whether the table is there and has our columns.
    fn has_table(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, Fault>> + Send;

    fn make_table(connection: &mut Self::Connection) -> impl Future<Output = Result<(), Fault>> + Send;

    fn load(
        connection: &mut Self::Connection,
        key: &Key,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Record>, Fault>> + Send;

    /// Whether a row was met.
    fn change(
        connection: &mut Self::Connection,
        change: &Change,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Whether nobody else sweeps, until this connection says or shows that it is done.
    fn begin_sweep(connection: &mut Self::Connection) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Deletes expired rows, [`super::BATCH`] at most; how many.
    fn sweep(connection: &mut Self::Connection, now: Timestamp) -> impl Future<Output = Result<u64, Fault>> + Send;

    fn end_sweep(connection: &mut Self::Connection) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The bytes of up to [`PAGE`] keys after that one, in the order of the table.
    fn scan(
        connection: &mut Self::Connection,
        after: Option<&[u8]>,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, Fault>> + Send;
}

/// The engine `db` on a server.
pub(super) struct Rows<D: Dialect> {
    pool: Arc<Pool<D>>,
    shared: Arc<Shared<D>>,
}

struct Shared<D> {
    dialect: Arc<D>,
    clock: Clock,
    connections: usize,
    limit: Duration,
}

impl<D: Dialect> Rows<D> {
    pub(super) async fn open(
        dialect: D,
        settings: &StoreSettings,
        missing: Missing,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let (dialect, connections) = (Arc::new(dialect), settings.connections());
        let opened = Self::with(Shared { dialect, clock, connections, limit: CONNECT.max(settings.timeout) }.into());
        opened.find_table(missing).await?;
        Ok(opened)
    }

    fn with(shared: Arc<Shared<D>>) -> Self {
        Self { pool: Pool::new(Arc::clone(&shared.dialect), shared.connections, shared.limit), shared }
    }

    async fn find_table(&self, missing: Missing) -> Result<(), StoreError> {
        if self.has_table().await? {
            return Ok(());
        }
        let layout = self.shared.dialect.layout();
        let ours_to_make = !matches!(layout, Layout::Django(django) if !django.is_djangos_own());
        if missing == Missing::Refuse || !ours_to_make {
            return Err(no_table(layout));
        }
        let mut lease = self.pool.lease(true).await?;
        let made = D::make_table(lease.connection()?).await;
        match lease.settle(made) {
            Ok(()) => Ok(()),
            // Another proxy that starts at the same time may have made it just before.
            Err(fault) => {
                if self.has_table().await? {
                    Ok(())
                } else {
                    Err(fault.into())
                }
            }
        }
    }

    async fn has_table(&self) -> Result<bool, StoreError> {
        let mut lease = self.pool.lease(true).await?;
        let found = D::has_table(lease.connection()?).await;
        Ok(lease.settle(found)?)
    }

    async fn change(&self, change: Change) -> Result<bool, StoreError> {
        if !self.shared.dialect.layout().takes(change.key()) {
            return without_a_place(&change);
        }
        let repeatable = matches!(change, Change::Delete { .. });
        let mut attempts = Attempts::new(repeatable);
        loop {
            let mut lease = self.pool.lease(!repeatable).await?;
            let fresh = lease.is_fresh();
            let met = D::change(lease.connection()?, &change, self.shared.clock.now()).await;
            match lease.settle(met) {
                Ok(met) => return Ok(met),
                Err(fault) => attempts.again(fault, fresh)?,
            }
        }
    }
}

/// Decides whether a call that failed is made again.
struct Attempts {
    repeatable: bool,
    taken_back: usize,
}

impl Attempts {
    fn new(repeatable: bool) -> Self {
        Self { repeatable, taken_back: 0 }
    }

    /// Only a connection that was idle may have been lost before the call; with a fresh one there is no use.
    fn again(&mut self, fault: Fault, fresh: bool) -> Result<(), StoreError> {
        match fault {
            Fault::Lost(_) if self.repeatable && !fresh => Ok(()),
            Fault::TakenBack(_) if self.taken_back < TAKEN_BACK => {
                self.taken_back += 1;
                Ok(())
            }
            fault => Err(fault.into()),
        }
    }
}

#[async_trait]
impl<D: Dialect> SessionStore for Rows<D> {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        if !self.shared.dialect.layout().takes(key) {
            return Ok(None);
        }
        let mut attempts = Attempts::new(true);
        loop {
            let mut lease = self.pool.lease(false).await?;
            let fresh = lease.is_fresh();
            let found = D::load(lease.connection()?, key, self.shared.clock.now()).await;
            match lease.settle(found) {
                Ok(found) => return Ok(found),
                Err(fault) => attempts.again(fault, fresh)?,
            }
        }
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let version = self.shared.dialect.layout().version(&value);
        let met = self.change(Change::Save { key: key.clone(), expected, version, value, expires_at }).await?;
        Ok(if met { Saved::Stored(version) } else { Saved::Conflict })
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.change(Change::Touch { key: key.clone(), expected, expires_at }).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.change(Change::Delete { key: key.clone() }).await.map(drop)
    }

    async fn sweep(&self) -> Result<u64, StoreError> {
        let mut lease = self.pool.lease(true).await?;
        let begun = D::begin_sweep(lease.connection()?).await;
        if !matches!(begun, Ok(true)) {
            lease.settle(begun)?;
            return Ok(0);
        }
        let mut attempts = Attempts::new(false);
        // Whatever ends this in between closes the connection, and with it the turn is over.
        let swept = loop {
            match D::sweep(lease.connection()?, self.shared.clock.now()).await {
                Ok(swept) => break swept,
                Err(fault) => attempts.again(fault, true)?,
            }
        };
        let ended = D::end_sweep(lease.connection()?).await;
        lease.settle(ended)?;
        Ok(swept)
    }

    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let after = from.map(place_of).transpose()?;
        let mut lease = self.pool.lease(true).await?;
        let keys = D::scan(lease.connection()?, after.as_deref()).await;
        Ok(page(lease.settle(keys)?))
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let attached = Self::with(Arc::clone(&self.shared));
        // Whether a worker can reach the server is known before it begins.
        attached.has_table().await?;
        Ok(Arc::new(attached))
    }
}

/// The key after which a page begins.
pub(super) fn place_of(cursor: &Cursor) -> Result<Vec<u8>, StoreError> {
    hex::decode(&cursor.0).map_err(|_| StoreError::Failed("this place between two pages is not one of ours".into()))
}

/// A page of these keys; there is another one if this one is full. A key that is not text is none of ours.
pub(super) fn page(keys: Vec<Vec<u8>>) -> Page {
    let full = keys.len() >= usize::from(PAGE);
    let next = keys.last().filter(|_| full).map(|last| Cursor(hex::encode(last)));
    Page { keys: keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).map(Key::new).collect(), next }
}
