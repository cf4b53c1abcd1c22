//! The connections of one worker to one server: each carries one call at a time, and is kept for the next.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::super::StoreError;
use super::super::settings::memcached::Place;
use super::wire::{Answer, Call, Connection};

/// Connections of a worker to a server, at most; more calls wait for their turn.
const CONNECTIONS: usize = 8;

pub(super) struct Pool {
    place: Place,
    turns: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(place: Place) -> Self {
        Self { place, turns: Semaphore::new(CONNECTIONS), idle: Mutex::default() }
    }

    /// Connects, so that a wrong address is known at start.
    pub(super) async fn open(&self) -> Result<(), StoreError> {
        let connection = Connection::open(&self.place).await?;
        self.idle().push(connection);
        Ok(())
    }

    /// Makes a call, once.
    pub(super) async fn call(&self, name: &str, call: &Call<'_>) -> Result<Answer, StoreError> {
        self.attempt(name, call).await?.map_err(|error| self.failed(&error))
    }

    /// As [`Pool::call`], for what may be done twice: if the connection is lost under it, it is made once more.
    pub(super) async fn call_repeatable(&self, name: &str, call: &Call<'_>) -> Result<Answer, StoreError> {
        match self.attempt(name, call).await? {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => self.call(name, call).await,
            answer => answer.map_err(|error| self.failed(&error)),
        }
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = Connection::open(&self.place).await?;
        connection.names().await.map_err(|error| self.failed(&error))
    }

    /// The inner error is of a connection that was good before.
    async fn attempt(&self, name: &str, call: &Call<'_>) -> Result<io::Result<Answer>, StoreError> {
        let _turn = self.turns.acquire().await.map_err(|error| StoreError::Failed(error.into()))?;
        let kept = self.kept();
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(&self.place).await?,
        };
        match connection.exchange(name, call).await {
            Ok(answer) => {
                self.idle().push(connection);
                answer.map(Ok)
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// A connection that was kept and is still good.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(connection) = idle.pop() {
            if connection.is_alive() {
                return Some(connection);
            }
        }
        None
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        StoreError::Failed(format!("{}: {error}", self.place).into())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
