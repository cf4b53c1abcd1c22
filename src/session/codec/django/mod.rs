//! Django's formats.

mod cache;
mod compress;
mod dict;
mod messagepack;
mod pickle;

use bytes::Bytes;

use super::DecodeError;
use crate::clock::Timestamp;
use crate::problem::Problem;
use crate::session::Session;
use crate::session::settings::SessionRules;
use crate::store::{ForeignRecords, Record, StoreSettings};

/// Records as a Django application reads and writes them.
#[derive(Debug)]
pub(super) struct Django {
    file_prefix: String,
}

impl Django {
    pub(super) fn new(_settings: &StoreSettings, _rules: &SessionRules, cookie_name: &str) -> Result<Self, Problem> {
        Ok(Self { file_prefix: cookie_name.to_owned() })
    }

    pub(super) fn encode(&self, _session: &Session, _now: Timestamp) -> Bytes {
        Bytes::new()
    }

    pub(super) fn decode(&self, _record: &Record) -> Result<Session, DecodeError> {
        Err(DecodeError::Malformed)
    }
}

impl ForeignRecords for Django {
    fn file_prefix(&self) -> &str {
        &self.file_prefix
    }

    fn deadline(&self, _value: &[u8], written_at: Timestamp) -> Timestamp {
        written_at
    }

    fn to_cache(&self, _row: &Record) -> Option<Bytes> {
        None
    }

    fn from_cache(&self, _cached: &Record) -> Option<Bytes> {
        None
    }
}
