//! Around any store: a time limit, a circuit breaker and metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::breaker::Breaker;
use super::{Cursor, Expected, Key, Page, Record, Saved, SessionStore, StoreError, Version, Watcher};
use crate::clock::Timestamp;
use crate::metrics::Metrics;

/// A store that answers in time or fails, and that is left alone while it keeps failing.
///
/// What [`SessionStore::attach`] gives shares the breaker: what one worker learns, all know.
pub struct Guarded {
    inner: Arc<dyn SessionStore>,
    breaker: Arc<Breaker>,
    limit: Duration,
    metrics: Arc<Metrics>,
}

impl Guarded {
    pub fn new(inner: Arc<dyn SessionStore>, limit: Duration, metrics: Arc<Metrics>) -> Self {
        let breaker = Arc::new(Breaker::new(Arc::clone(&metrics)));
        Self { inner, breaker, limit, metrics }
    }

    /// The same guard around another connection to the same store.
    fn around(&self, inner: Arc<dyn SessionStore>) -> Self {
        let (breaker, metrics) = (Arc::clone(&self.breaker), Arc::clone(&self.metrics));
        Self { inner, breaker, limit: self.limit, metrics }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
        outcome: impl FnOnce(&T) -> &'static str,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = match self.breaker.admit() {
            Err(open) => Err(open),
            Ok(permit) => {
                let result = timeout(self.limit, work).await.unwrap_or(Err(StoreError::Timeout));
                permit.settle(matches!(result, Ok(_) | Err(StoreError::TooLarge)));
                result
            }
        };
        self.metrics.store(operation, result.as_ref().map_or_else(failure, outcome), start.elapsed());
        result
    }
}

#[async_trait]
impl SessionStore for Guarded {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.call("load", self.inner.load(key), |found| if found.is_some() { "hit" } else { "miss" }).await
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let outcome = |saved: &Saved| if *saved == Saved::Conflict { "conflict" } else { "stored" };
        self.call("save", self.inner.save(key, expected, value, expires_at), outcome).await
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        let outcome = |touched: &bool| if *touched { "touched" } else { "conflict" };
        self.call("touch", self.inner.touch(key, expected, expires_at), outcome).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.call("delete", self.inner.delete(key), |()| "deleted").await
    }

    /// A sweep takes as long as it needs, so it has no time limit, is never the trial and does not count as a failure.
    async fn sweep(&self) -> Result<u64, StoreError> {
        let start = Instant::now();
        let result = if self.breaker.is_closed() { self.inner.sweep().await } else { Err(StoreError::Open) };
        self.metrics.store("sweep", result.as_ref().map_or_else(failure, |_| "swept"), start.elapsed());
        result
    }

    /// As a sweep: nobody's request waits for it.
    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let start = Instant::now();
        let result = if self.breaker.is_closed() { self.inner.scan(from).await } else { Err(StoreError::Open) };
        self.metrics.store("scan", result.as_ref().map_or_else(failure, |_| "listed"), start.elapsed());
        result
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(Arc::new(self.around(Arc::clone(&self.inner).attach().await?)))
    }

    async fn attach_watched(self: Arc<Self>, watcher: Arc<dyn Watcher>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(Arc::new(self.around(Arc::clone(&self.inner).attach_watched(watcher).await?)))
    }
}

fn failure(error: &StoreError) -> &'static str {
    match error {
        StoreError::Failed(_) => "failed",
        StoreError::Open => "open",
        StoreError::Timeout => "timeout",
        StoreError::TooLarge => "too_large",
        StoreError::Unreachable(_) => "unreachable",
    }
}
