//! Our own layout: one string a session with its deadline and version, read with one `GET`.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::super::record::{self, deadline_text, header, version_text};
use super::FOR_EVER;
use super::layout::{Layout, NotOurs};
use super::request::{Request, Script};
use crate::clock::Timestamp;
use crate::store::{Expected, Record, Version};

/// How much longer than its deadline Redis keeps a record. The deadline itself stands in the record and is compared
/// with our clock; this allows for that clock and Redis's to run apart.
const GRACE: Duration = Duration::from_secs(60);

pub(super) struct Native {
    prefix: String,
    save: Script,
    touch: Script,
}

impl Native {
    pub(super) fn new(prefix: String) -> Self {
        let (save, touch) = (Script::new(include_str!("save.lua")), Script::new(include_str!("touch.lua")));
        Self { prefix, save, touch }
    }
}

impl Layout for Native {
    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn load(&self, name: &str) -> Request {
        Request::get(name)
    }

    fn read(&self, answer: Value, now: Timestamp) -> Result<Option<Record>, NotOurs> {
        match answer {
            Value::Nil => Ok(None),
            Value::BulkString(stored) => {
                let record = record::parse(&Bytes::from(stored)).ok_or(NotOurs)?;
                Ok(Some(record).filter(|record| record.expires_at > now))
            }
            _ => Err(NotOurs),
        }
    }

    fn save(
        &self,
        name: &str,
        expected: Expected,
        value: &Bytes,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> (Request, Version) {
        let version = Version(rand::random());
        let expected = match expected {
            Expected::Absent => String::new(),
            Expected::Version(version) => version_text(version),
        };
        let stored = [header(version, expires_at).as_bytes(), value].concat();
        let request = self.save.call(name).arg(expected).arg(deadline_text(now)).arg(stored).arg(keep(expires_at, now));
        (request, version)
    }

    fn touch(&self, name: &str, expected: Version, expires_at: Timestamp, now: Timestamp) -> Request {
        let request = self.touch.call(name).arg(version_text(expected)).arg(deadline_text(now));
        request.arg(deadline_text(expires_at)).arg(keep(expires_at, now))
    }
}

/// How many milliseconds Redis is to keep a record; `"0"` is for ever.
fn keep(expires_at: Timestamp, now: Timestamp) -> String {
    let millis = expires_at.since(now).saturating_add(GRACE).as_millis();
    if millis < FOR_EVER { millis.to_string() } else { "0".to_owned() }
}
