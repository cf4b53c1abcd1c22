//! No store: where sessions are in the visitors' cookies (`engine = "signed_cookies"`) there is nothing to find, and
//! nothing that could fail.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Cursor, Expected, Key, Page, Record, Saved, SessionStore, StoreError, Version};
use crate::clock::Timestamp;

pub(super) struct Nowhere;

#[async_trait]
impl SessionStore for Nowhere {
    async fn load(&self, _: &Key) -> Result<Option<Record>, StoreError> {
        Ok(None)
    }

    async fn save(&self, _: &Key, _: Expected, _: Bytes, _: Timestamp) -> Result<Saved, StoreError> {
        Err(StoreError::Failed("signed_cookies keeps nothing anywhere but in the cookie".into()))
    }

    async fn touch(&self, _: &Key, _: Version, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn delete(&self, _: &Key) -> Result<(), StoreError> {
        Ok(())
    }

    async fn scan(&self, _: Option<&Cursor>) -> Result<Page, StoreError> {
        Ok(Page::default())
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }
}
