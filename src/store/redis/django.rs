//! Django's layout: what its cache backends for Redis write, theirs and django-redis's.
//!
//! The value is all there is. The deadline is the key's own, so it goes by Redis's clock; the version is a digest of the
//! value. Where Django names several servers it writes to the first: that is the one to name here.

use bytes::Bytes;
use redis::Value;
use sha1::{Digest as _, Sha1};

use super::super::record::version_text;
use super::FOR_EVER;
use super::layout::{Layout, NotOurs};
use super::request::{Request, Script};
use crate::clock::Timestamp;
use crate::store::{CacheClient, DjangoSettings, Expected, Record, Version};

pub(super) struct Django {
    prefix: String,
    client: CacheClient,
    load: Script,
    save: Script,
    touch: Script,
}

impl Django {
    pub(super) fn new(settings: &DjangoSettings) -> Self {
        Self {
            prefix: settings.cache_prefix(),
            client: settings.client,
            load: Script::new(include_str!("django/load.lua")),
            save: Script::new(include_str!("django/save.lua")),
            touch: Script::new(include_str!("django/touch.lua")),
        }
    }

    /// How long to keep a value, as `SET` takes it; the option may be none, and the amount `0` is no time at all.
    fn expiry(&self, expires_at: Timestamp, now: Timestamp) -> [String; 2] {
        let millis = expires_at.since(now).as_millis();
        if millis >= FOR_EVER {
            return [String::new(), String::new()];
        }
        match self.client {
            // Of whole seconds, that were reckoned a moment ago, the nearest is the one that was meant.
            CacheClient::Django => ["EX".to_owned(), ((millis + 500) / 1000).to_string()],
            CacheClient::DjangoRedis => ["PX".to_owned(), millis.to_string()],
        }
    }
}

impl Layout for Django {
    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn load(&self, name: &str) -> Request {
        self.load.call(name).that_reads()
    }

    fn read(&self, answer: Value, now: Timestamp) -> Result<Option<Record>, NotOurs> {
        let parts = match answer {
            Value::Nil => return Ok(None),
            Value::Array(parts) => <[Value; 2]>::try_from(parts).map_err(|_| NotOurs)?,
            _ => return Err(NotOurs),
        };
        let [Value::BulkString(value), Value::Int(left)] = parts else { return Err(NotOurs) };
        let expires_at = match u64::try_from(left) {
            Ok(left) => now.plus(std::time::Duration::from_millis(left)),
            Err(_) => Timestamp::from_millis(i64::MAX),
        };
        let version = digest(&value);
        Ok(Some(Record { value: value.into(), version, expires_at }).filter(|record| record.expires_at > now))
    }

    fn save(
        &self,
        name: &str,
        expected: Expected,
        value: &Bytes,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> (Request, Version) {
        let expected = match expected {
            Expected::Absent => String::new(),
            Expected::Version(version) => version_text(version),
        };
        let [option, amount] = self.expiry(expires_at, now);
        (self.save.call(name).arg(expected).arg(&value[..]).arg(option).arg(amount), digest(value))
    }

    fn touch(&self, name: &str, expected: Version, expires_at: Timestamp, now: Timestamp) -> Request {
        let millis = expires_at.since(now).as_millis();
        let left = if millis < FOR_EVER { millis.to_string() } else { String::new() };
        self.touch.call(name).arg(version_text(expected)).arg(left)
    }
}

/// The first half of what Redis's scripts call the digest of a value, as far as a version goes.
fn digest(value: &[u8]) -> Version {
    Version(Sha1::digest(value).iter().take(8).fold(0, |version, &byte| version << 8 | u64::from(byte)))
}
