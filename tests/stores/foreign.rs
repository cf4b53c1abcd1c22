//! Records as some other program writes them, for the layouts that are not ours.

use bytes::Bytes;
use cloakroom::clock::Timestamp;
use cloakroom::store::{ForeignRecords, Record};

use crate::cases::HOUR;

/// A record lives for an hour from its writing on, or for as many seconds as it says with `for=…`. A cache has it with
/// `cached ` before it, unless it begins with `unwritable`.
pub struct Stub;

const CACHED: &[u8] = b"cached ";

impl ForeignRecords for Stub {
    fn file_prefix(&self) -> &'static str {
        "sessionid"
    }

    fn deadline(&self, value: &[u8], written_at: Timestamp) -> Timestamp {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let seconds = text.strip_prefix("for=").and_then(|seconds| seconds.parse::<u64>().ok());
        let millis = seconds.map_or(HOUR, |seconds| seconds * 1_000);
        written_at.plus(std::time::Duration::from_millis(millis))
    }

    fn cache_value(&self, row: &Record) -> Option<Bytes> {
        (!row.value.starts_with(b"unwritable")).then(|| [CACHED, &row.value].concat().into())
    }

    fn row_value(&self, cached: &Record) -> Option<Bytes> {
        cached.value.strip_prefix(CACHED).map(Bytes::copy_from_slice)
    }
}
