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

/// What there is to say about a session beside its data.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
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
    let mut record = Head::of(session).text();
    record.push(b'\n');
    record.extend_from_slice(session.data.wire());
    record.into()
}

impl Head {
    pub(super) fn of(session: &Session) -> Self {
        Self {
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
        }
    }

    pub(super) fn text(&self) -> Vec<u8> {
        // Numbers, strings and lists of them: there is nothing in it that serde_json could refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Looks for another version only in what is no head of this one, so that ordinary records are read once.
    pub(super) fn read(text: &[u8]) -> Result<Self, DecodeError> {
        let head = serde_json::from_slice(text).map_err(|_| DecodeError::Malformed);
        let v = match &head {
            Ok(Self { v, .. }) => *v,
            Err(_) => serde_json::from_slice(text).map(|HeadVersion { v }| v).map_err(|_| DecodeError::Malformed)?,
        };
        if v == VERSION { head } else { Err(DecodeError::Version(v)) }
    }

    /// The session that it is the head of.
    pub(super) fn with(self, data: Data) -> Result<Session, DecodeError> {
        let retired = match self.retired {
            Some(retired) => {
                Some(Retired { until: Timestamp::from_millis(retired.until), successor: key(retired.successor)? })
            }
            None => None,
        };
        let predecessors = self.predecessors.into_iter().map(|predecessor| {
            Ok(Predecessor { key: key(predecessor.key)?, until: Timestamp::from_millis(predecessor.until) })
        });
        Ok(Session {
            data,
            created_at: Timestamp::from_millis(self.created),
            saved_at: Timestamp::from_millis(self.saved),
            expiry: match self.expiry {
                None => Expiry::Default,
                Some(WrittenExpiry::After(millis)) => Expiry::After(Duration::from_millis(millis)),
                Some(WrittenExpiry::At(millis)) => Expiry::At(Timestamp::from_millis(millis)),
                Some(WrittenExpiry::BrowserClose) => Expiry::BrowserClose,
            },
            retired,
            predecessors: predecessors.collect::<Result<_, DecodeError>>()?,
        })
    }
}

/// Reads a record. The data is a slice of it, not a copy.
///
/// # Errors
/// For anything that [`encode`] does not write.
pub fn decode(record: &Bytes) -> Result<Session, DecodeError> {
    let end = record.iter().position(|&byte| byte == b'\n').ok_or(DecodeError::Malformed)?;
    let (head, _) = record.split_at_checked(end).ok_or(DecodeError::Malformed)?;
    let head = Head::read(head)?;
    let data = Data::parse(record.slice(end + 1..)).map_err(DecodeError::Data)?;
    head.with(data)
}

/// A key as engines take it.
pub(in crate::session) fn key(text: String) -> Result<Key, DecodeError> {
    let fits = (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Key::new(text)) } else { Err(DecodeError::Malformed) }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::json::{self, tests::any_json};

    fn decoded(text: &str) -> Result<Session, DecodeError> {
        decode(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn is_text_that_people_can_read() {
        let text = concat!(
            r#"{"v":1,"created":1000,"saved":2000,"expiry":{"after":60000},"#,
            r#""retired":{"until":3000,"successor":"n"},"predecessors":[{"key":"p","until":4000}]}"#,
            "\n",
            r#"{"a":1.10}"#
        );
        let session = decoded(text).unwrap();
        assert_eq!(session.expiry, Expiry::After(Duration::from_secs(60)));
        assert_eq!(session.retired.as_ref().unwrap().successor, Key::new("n"));
        assert_eq!(session.predecessors[0].until, Timestamp::from_millis(4000));
        assert_eq!(encode(&session), text);

        let plain = "{\"v\":1,\"created\":0,\"saved\":0}\n{}";
        assert_eq!(encode(&decoded(plain).unwrap()), plain);
    }

    #[test]
    fn data_is_a_slice_of_the_record() {
        let record = Bytes::from_static(b"{\"v\":1,\"created\":0,\"saved\":0}\n{\"a\":1}");
        let session = decode(&record).unwrap();
        assert_eq!(session.data.wire().as_ptr(), record[record.len() - 7..].as_ptr());
    }

    #[test]
    fn f7_what_we_did_not_write_is_refused() {
        let head = r#"{"v":1,"created":0,"saved":0}"#;
        for text in [
            "",
            "\n",
            "{}",
            "{}\n{}",
            head,
            &format!("{head}\n"),
            &format!("{head}\n[]"),
            &format!("{head}\n{{}}\n"),
            &format!("{head}\n{{\"a\": 1}}"),
            "{\"v\":1,\"created\":0,\"saved\":0,\"admin\":1}\n{}",
            "{\"v\":1,\"created\":0,\"created\":0,\"saved\":0}\n{}",
            "{\"v\":1,\"created\":0.5,\"saved\":0}\n{}",
            "{\"v\":1,\"created\":0,\"saved\":99999999999999999999}\n{}",
            "{\"v\":1,\"created\":0,\"saved\":0,\"expiry\":\"never\"}\n{}",
            "{\"v\":1,\"created\":0,\"saved\":0,\"retired\":{\"until\":0,\"successor\":\"a b\"}}\n{}",
        ] {
            assert!(decoded(text).is_err(), "{text}");
        }
        for newer in ["{\"v\":2,\"new\":[]}\nanything", "{\"v\":2,\"created\":0,\"saved\":0}\n{}"] {
            assert!(matches!(decoded(newer), Err(DecodeError::Version(2))), "{newer}");
        }
    }

    pub(in super::super) fn any_session() -> impl Strategy<Value = Session> {
        let expiry = prop_oneof![
            any::<i64>().prop_map(|millis| Expiry::At(Timestamp::from_millis(millis))),
            Just(Expiry::BrowserClose),
            Just(Expiry::Default),
            any::<u64>().prop_map(|millis| Expiry::After(Duration::from_millis(millis))),
        ];
        let data = prop::collection::btree_map(any::<String>(), any_json(), 0..4).prop_map(|members| {
            let text = serde_json::Value::Object(members.into_iter().collect()).to_string();
            Data::parse(json::compact(text.as_bytes(), 128).unwrap().into()).unwrap()
        });
        let grave = || ("[0-9a-f]{64}".prop_map(Key::new), any::<i64>().prop_map(Timestamp::from_millis));
        let retired = prop::option::of(grave().prop_map(|(successor, until)| Retired { until, successor }));
        let predecessors = prop::collection::vec(grave().prop_map(|(key, until)| Predecessor { key, until }), 0..3);
        (data, any::<i64>(), any::<i64>(), expiry, retired, predecessors).prop_map(
            |(data, created, saved, expiry, retired, predecessors)| Session {
                data,
                created_at: Timestamp::from_millis(created),
                saved_at: Timestamp::from_millis(saved),
                expiry,
                retired,
                predecessors,
            },
        )
    }

    proptest! {
        #[test]
        fn every_session_comes_back(session in any_session()) {
            let record = encode(&session);
            prop_assert_eq!(&decode(&record).unwrap(), &session);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), session in any_session(), at in any::<prop::sample::Index>()) {
            let _ = decode(&bytes.into());
            let mut record = encode(&session).to_vec();
            let at = at.index(record.len());
            record[at] = record[at].wrapping_add(1);
            let _ = decode(&record.clone().into());
            record.truncate(at);
            let _ = decode(&record.into());
        }
    }
}
