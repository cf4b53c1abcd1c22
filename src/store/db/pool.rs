//! Connections to a database server: so many at most, and none that was left in the middle of something.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::super::{Cause, StoreError};

/// How a statement failed, and what is known of it.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke off; whether the statement was run is unknown.
    Lost(Cause),
    /// The server ran it and answered that it cannot.
    Refused(Cause),
    /// The server took it back for the sake of another one: nothing happened.
    TakenBack(Cause),
    /// Nothing happened, nor ever will with this value.
    TooLarge,
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Lost(cause) | Fault::Refused(cause) | Fault::TakenBack(cause) => Self::Failed(cause),
            Fault::TooLarge => Self::TooLarge,
        }
    }
}

/// A database server that can be connected to.
pub(super) trait Server: Send + Sync + 'static {
    type Connection: Send + 'static;

    /// Fails with [`StoreError::Unreachable`] or, refused, with [`StoreError::Failed`].
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, StoreError>> + Send;

    /// Whether the server still holds its end, as far as can be told before anything is sent that matters.
    fn is_alive(connection: &mut Self::Connection) -> impl Future<Output = bool> + Send;
}

/// Connections of one worker.
pub(super) struct Pool<S: Server> {
    server: Arc<S>,
    limit: Duration,
    idle: Mutex<Vec<S::Connection>>,
    places: Arc<Semaphore>,
}

impl<S: Server> Pool<S> {
    /// `limit` is how long a connection may take to make; it may be longer than a call.
    pub(super) fn new(server: Arc<S>, size: usize, limit: Duration) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { server, limit, idle: Mutex::default(), places })
    }

    /// A connection for one call; an idle one if there is one. `checked`: only one that is still alive.
    pub(super) async fn lease(self: &Arc<Self>, checked: bool) -> Result<Lease<S>, StoreError> {
        let place = self.place().await?;
        loop {
            let Some(mut connection) = self.idle().pop() else { return self.connect(place).await };
            if !checked || S::is_alive(&mut connection).await {
                return Ok(Lease { pool: Arc::clone(self), connection: Some(connection), fresh: false, _place: place });
            }
        }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.places).acquire_owned().await.map_err(|error| StoreError::Failed(error.into()))
    }

    /// In the background: if who asked cannot wait so long, it is there for the calls after.
    async fn connect(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Result<Lease<S>, StoreError> {
        let (give, given) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let late = || StoreError::Unreachable("no connection could be made in time".into());
            let made = timeout(pool.limit, pool.server.connect()).await.unwrap_or_else(|_| Err(late()));
            let lease = made.map(|connection| Lease { pool, connection: Some(connection), fresh: true, _place: place });
            if let Err(Ok(lease)) = give.send(lease) {
                lease.give_back();
            }
        });
        given.await.map_err(|_| StoreError::Unreachable("the attempt to connect was cut off".into()))?
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<S::Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for one call. Dropped before it is settled it is closed: there may be an answer on the way to it, and
/// those that were idle are no more to be trusted.
pub(super) struct Lease<S: Server> {
    pool: Arc<Pool<S>>,
    connection: Option<S::Connection>,
    fresh: bool,
    _place: OwnedSemaphorePermit,
}

impl<S: Server> Lease<S> {
    /// Whether it was made for this call.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// There is one until it is settled.
    pub(super) fn connection(&mut self) -> Result<&mut S::Connection, Fault> {
        self.connection.as_mut().ok_or_else(|| Fault::Lost("the connection was given back already".into()))
    }

    /// Ends the call: a connection that may still be good serves the next one. After a refusal it is made again too,
    /// for what was prepared in it may be what is wrong, or the server is no longer the one to write to.
    pub(super) fn settle<T>(self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        match outcome {
            Ok(_) | Err(Fault::TakenBack(_) | Fault::TooLarge) => self.give_back(),
            Err(Fault::Lost(_) | Fault::Refused(_)) => drop(self),
        }
        outcome
    }

    fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.idle().push(connection);
        }
    }
}

impl<S: Server> Drop for Lease<S> {
    fn drop(&mut self) {
        if self.connection.is_some() {
            let suspects = std::mem::take(&mut *self.pool.idle());
            drop(suspects);
        }
    }
}
