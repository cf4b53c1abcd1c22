//! Our own format: text, so that whoever looks into a store with its own tools can read it.
//!
//! ```text
//! {"v":1,"created":1764000000000,"saved":1764000300000,"expiry":{"after":3600000}}
//! {"user_id":7,"lang":"de"}
//! ```
//! One line about the session, then its data in wire form, which is handed to backends as it stands. Times are in
//! milliseconds since the Unix epoch, durations in milliseconds; what is absent is left out.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use crate::clock::Timestamp;
use crate::session::data::Data;
use crate::session::expiry::Expiry;
use crate::session::{Predecessor, Retired, Session};
use crate::store::Key;

const VERSION: u64 = 1;

/// Engines take keys of printable ASCII, the narrowest of them 250 bytes.
const MAX_KEY_BYTES: usize = 250;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Head {
    v: u64,
    created: i64,
    saved: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiry: Option<WrittenExpiry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<WrittenRetired>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    predecessors: Vec<WrittenPredecessor>,
}

/// Of a head in another version nothing else can be relied on.
#[derive(Deserialize)]
struct HeadVersion {
    v: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum WrittenExpiry {
    After(u64),
    At(i64),
    BrowserClose,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenRetired {
    until: i64,
    successor: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenPredecessor {
    key: String,
    until: i64,
}

/// Writes a session as a record. Times keep their milliseconds, durations lose what is below one.
pub fn encode(session: &Session) -> Bytes {
    let head = Head {
        v: VERSION,
        created: session.created_at.as_millis(),
        saved: session.saved_at.as_millis(),
        expiry: match session.expiry {
            Expiry::At(instant) => Some(WrittenExpiry::At(instant.as_millis())),
            Expiry::BrowserClose => Some(WrittenExpiry::BrowserClose),
            Expiry::Default => None,
            Expiry::After(age) => Some(WrittenExpiry::After(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))),
        },
        retired: session.retired.as_ref().map(|retired| WrittenRetired {
            until: retired.until.as_millis(),
            successor: retired.successor.as_str().to_owned(),
        }),
        predecessors: session
            .predecessors
            .iter()
            .map(|predecessor| WrittenPredecessor {
                key: predecessor.key.as_str().to_owned(),
                until: predecessor.until.as_millis(),
            })
            .collect(),
    };
    // Numbers, strings and lists of them: there is nothing in it that serde_json could refuse.
    let mut record = serde_json::to_vec(&head).unwrap_or_default();
    record.push(b'\n');
    record.extend_from_slice(session.data.wire());
    record.into()
}

/// Reads a record. The data is a slice of it, not a copy.
///
/// # Errors
/// For anything that [`encode`] does not write.
pub fn decode(record: &Bytes) -> Result<Session, DecodeError> {
    let end = record.iter().position(|&byte| byte == b'\n').ok_or(DecodeError::Malformed)?;
    let (head, _) = record.split_at_checked(end).ok_or(DecodeError::Malformed)?;
    let HeadVersion { v } = serde_json::from_slice(head).map_err(|_| DecodeError::Malformed)?;
    if v != VERSION {
        return Err(DecodeError::Version(v));
    }
    let head: Head = serde_json::from_slice(head).map_err(|_| DecodeError::Malformed)?;
    let data = Data::parse(record.slice(end + 1..)).map_err(DecodeError::Data)?;
    let retired = match head.retired {
        Some(retired) => {
            Some(Retired { until: Timestamp::from_millis(retired.until), successor: key(retired.successor)? })
        }
        None => None,
    };
    let predecessors = head.predecessors.into_iter().map(|predecessor| {
        Ok(Predecessor { key: key(predecessor.key)?, until: Timestamp::from_millis(predecessor.until) })
    });
    Ok(Session {
        data,
        created_at: Timestamp::from_millis(head.created),
        saved_at: Timestamp::from_millis(head.saved),
        expiry: match head.expiry {
            None => Expiry::Default,
            Some(WrittenExpiry::After(millis)) => Expiry::After(Duration::from_millis(millis)),
            Some(WrittenExpiry::At(millis)) => Expiry::At(Timestamp::from_millis(millis)),
            Some(WrittenExpiry::BrowserClose) => Expiry::BrowserClose,
        },
        retired,
        predecessors: predecessors.collect::<Result<_, DecodeError>>()?,
    })
}

fn key(text: String) -> Result<Key, DecodeError> {
    let fits = (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Key::new(text)) } else { Err(DecodeError::Malformed) }
}
