//! A session on its way into another store: what it is called there, and whether that store's format can hold it.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::session::Session;
use crate::session::codec::Codec;
use crate::session::data::{Data, EXPIRY_KEY, OpaqueMember};
use crate::session::id::SessionId;
use crate::sessions::{Records, Stored};
use crate::store::{Key, Record, StoreError, Version};

/// Why a session does not get into a store.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Unfit {
    /// The target's session kept changing.
    Contended,
    /// The format has no words for a part of it.
    Format,
    /// The store calls sessions by their ids, and this key is none.
    Key,
    TooLarge,
    Unreadable,
}

impl Unfit {
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Contended => "kept changing at the target",
            Self::Format => "has data that the target's format cannot hold",
            Self::Key => "its key is no session id",
            Self::TooLarge => "is larger than the target's store takes",
            Self::Unreadable => "cannot be read",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl Serialize for Unfit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Contended => "contended",
            Self::Format => "format",
            Self::Key => "key",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
        })
    }
}

/// What is under a key.
pub(super) enum Found {
    Gone,
    There(Stored),
    /// This write of something that is no session.
    Unreadable(Version),
}

pub(super) async fn find(records: &Records, key: &Key) -> Result<Found, StoreError> {
    let Some(record) = records.store.load(key).await? else { return Ok(Found::Gone) };
    Ok(match records.codec.decode(key, &record) {
        Ok(session) => Found::There(Stored { session, version: record.version, expires_at: record.expires_at }),
        Err(_) => Found::Unreadable(record.version),
    })
}

/// A session as another store will have it.
pub(super) struct Parcel {
    pub key: Key,
    pub value: Bytes,
    pub expires_at: Timestamp,
    /// As it is read there.
    pub session: Session,
}

impl Parcel {
    /// What the store of `codec` calls a session that has this key elsewhere.
    pub(super) fn key(codec: &Codec, key: &Key, keys_are_ids: bool) -> Result<Key, Unfit> {
        match SessionId::parse(key.as_str().as_bytes()) {
            Some(id) if keys_are_ids => Ok(codec.key(&id)),
            None if keys_are_ids => Err(Unfit::Key),
            // No digest leads back to its id.
            _ if codec.names_ids() => Err(Unfit::Key),
            _ => Ok(key.clone()),
        }
    }

    /// Writes the session, and reads it back to see that nothing of it is lost.
    pub(super) fn pack(codec: &Codec, key: Key, session: &Session, expires_at: Timestamp) -> Result<Self, Unfit> {
        // A format that has only a time of signing keeps in it when the session was saved.
        let value = codec.encode(&key, session, session.saved_at);
        let record = Record { value, version: Version(0), expires_at };
        let read = codec.decode(&key, &record).map_err(|_| Unfit::Format)?;
        let grace = !codec.names_ids();
        let links = read.retired == session.retired && read.predecessors == session.predecessors;
        if read.expiry != session.expiry || !same_data(&read.data, &session.data) || (grace && !links) {
            return Err(Unfit::Format);
        }
        Ok(Self { key, value: record.value, expires_at, session: read })
    }

    /// Whether that is what is there, whoever wrote it and whenever.
    pub(super) fn is(&self, there: &Session) -> bool {
        let Session { data, expiry, retired, predecessors, .. } = &self.session;
        (data, expiry, retired, predecessors) == (&there.data, &there.expiry, &there.retired, &there.predecessors)
    }
}

/// A format may write a number or a string in other words, but not change it. What Django keeps of the expiry among the
/// data is no data.
fn same_data(one: &Data, other: &Data) -> bool {
    let opaque = |data: &Data| -> Vec<OpaqueMember> {
        data.opaque().iter().filter(|member| member.key.as_deref() != Some(EXPIRY_KEY)).cloned().collect()
    };
    let value = |data: &Data| serde_json::from_str::<serde_json::Value>(data.as_str()).ok();
    let same_text = one.wire() == other.wire();
    opaque(one) == opaque(other) && (same_text || value(one).is_some_and(|one| Some(one) == value(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn codec(store: &str) -> Codec {
        let text = format!(
            "upstreams.app.servers = ['http://127.0.0.1:9']\n[store]\nengine = 'redis'\nurl = 'redis://h'\n{store}"
        );
        Config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}")).codec
    }

    #[test]
    fn keys_go_from_ids_to_digests_and_never_back() {
        let (ours, django) = (codec(""), codec("format = 'django'"));
        let id = SessionId::parse(&[b'a'; 32]).unwrap();
        let (as_id, digest) = (Key::new(id.as_str()), id.digest());
        assert!(django.names_ids() && !ours.names_ids());
        for (codec, key, keys_are_ids, expected) in [
            (&ours, &digest, false, Ok(digest.clone())),
            (&ours, &as_id, true, Ok(digest.clone())),
            (&django, &as_id, true, Ok(as_id.clone())),
            (&django, &digest, false, Err(Unfit::Key)),
            (&ours, &digest, true, Err(Unfit::Key)),
            (&django, &digest, true, Err(Unfit::Key)),
        ] {
            assert_eq!(Parcel::key(codec, key, keys_are_ids), expected);
        }
    }
}
