//! The entry of a cache: a serialized dictionary, perhaps compressed.

use bytes::Bytes;

use super::dict::{Entry, Member};
use crate::store::{Compressor, Serializer};

/// Writes the members of a session as the value of a cache entry.
pub(super) fn encode<'a>(
    _members: impl Iterator<Item = Member<'a>>,
    _serializer: Serializer,
    _compressor: Compressor,
) -> Bytes {
    Bytes::new()
}

/// Reads the value of a cache entry; `None` if it is no dictionary.
pub(super) fn decode(_value: &[u8], _serializer: Serializer, _compressor: Compressor) -> Option<Vec<Entry>> {
    None
}
