//! How records lie in Redis, in our own words or in Django's.

use bytes::Bytes;
use redis::Value;

use super::request::Request;
use crate::clock::Timestamp;
use crate::store::{Expected, Key, Record, Version};

pub(super) trait Layout: Send + Sync {
    /// What every name begins with; the key follows.
    fn prefix(&self) -> &str;

    fn name(&self, key: &Key) -> String {
        format!("{}{}", self.prefix(), key.as_str())
    }

    fn load(&self, name: &str) -> Request;

    /// The answer to [`Layout::load`], which was sent at `now`.
    fn read(&self, answer: Value, now: Timestamp) -> Result<Option<Record>, NotOurs>;

    /// Answered by whether it was stored, under the version given.
    fn save(
        &self,
        name: &str,
        expected: Expected,
        value: &Bytes,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> (Request, Version);

    /// Answered by whether the version was the expected one.
    fn touch(&self, name: &str, expected: Version, expires_at: Timestamp, now: Timestamp) -> Request;
}

/// There is something, and it is no record.
pub(super) struct NotOurs;
