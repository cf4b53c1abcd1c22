//! A cache that may be away when the proxy starts: it is opened by the calls that come once it is there.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::super::{
    Expected, ForeignRecords, Key, Record, Saved, SessionStore, StoreError, StoreSettings, Version, open_engine,
};
use crate::clock::{Clock, Timestamp};

pub(super) struct Late {
    way: Arc<Way>,
    opened: OnceCell<Arc<dyn SessionStore>>,
}

/// All it takes to open it.
struct Way {
    settings: StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
}

impl Late {
    /// # Errors
    /// As for any store, but not because it cannot be reached.
    pub(super) async fn open(
        settings: StoreSettings,
        foreign: Option<Arc<dyn ForeignRecords>>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let way = Arc::new(Way { settings, foreign, clock });
        let opened = way.go().await;
        Self::with(way, opened)
    }

    fn with(way: Arc<Way>, opened: Result<Arc<dyn SessionStore>, StoreError>) -> Result<Self, StoreError> {
        let opened = match opened {
            Ok(store) => OnceCell::new_with(Some(store)),
            Err(StoreError::Unreachable(cause)) => {
                tracing::warn!(%cause, "the cache cannot be reached; the database is asked until it can");
                OnceCell::new()
            }
            Err(error) => return Err(error),
        };
        Ok(Self { way, opened })
    }

    async fn store(&self) -> Result<&Arc<dyn SessionStore>, StoreError> {
        self.opened.get_or_try_init(|| self.way.go()).await
    }
}

impl Way {
    async fn go(&self) -> Result<Arc<dyn SessionStore>, StoreError> {
        Box::pin(open_engine(&self.settings, self.foreign.clone(), self.clock.clone())).await
    }
}

#[async_trait]
impl SessionStore for Late {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.store().await?.load(key).await
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        self.store().await?.save(key, expected, value, expires_at).await
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.store().await?.touch(key, expected, expires_at).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.store().await?.delete(key).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let attached = match self.opened.get() {
            Some(store) => Arc::clone(store).attach().await,
            None => self.way.go().await,
        };
        Ok(Arc::new(Self::with(Arc::clone(&self.way), attached)?))
    }
}
