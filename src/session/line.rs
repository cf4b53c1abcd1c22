//! A session as a line of text that stands for itself: what exports are made of, whatever engine and format the store has.
//!
//! ```text
//! {"key":"3ba3…","expires_at":1764000600000,"session":{"v":1,"created":1764000000000,"saved":1764000300000},"data":{"a":1}}
//! ```
//! `session` is the head of a record in our own format, with its version. `data` is the data as backends see it; members
//! that have no words there are in `opaque`, as their own format wrote them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Session;
use super::codec::{DecodeError, native};
use super::data::{Data, MAX_DEPTH, OpaqueMember};
use super::json;
use crate::clock::Timestamp;
use crate::store::Key;

/// A session, what its store calls it, and until when it is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    pub key: Key,
    pub expires_at: Timestamp,
    pub session: Session,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    key: &'a str,
    expires_at: i64,
    #[serde(borrow)]
    session: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    opaque: Vec<WrittenMember>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenMember {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    /// Base64.
    written: String,
    /// As in [`OpaqueMember`].
    place: usize,
}

/// Why a line is no session. Never with a part of the line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("not a line of an export")]
    Malformed,
    #[error("its session cannot be read")]
    Session(#[from] DecodeError),
}

impl Line {
    /// Without the end of the line.
    ///
    /// # Errors
    /// None is expected: whatever is a session can be written.
    pub fn write(&self) -> Result<String, LineError> {
        let whole = Session { data: Data::empty(), ..self.session.clone() };
        let head = native::encode(&whole);
        let head = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let head: &RawValue = serde_json::from_slice(head).map_err(|_| LineError::Malformed)?;
        let data: &RawValue = serde_json::from_str(self.session.data.as_str()).map_err(|_| LineError::Malformed)?;
        let opaque = self.session.data.opaque().iter();
        let opaque = opaque
            .map(|member| WrittenMember {
                key: member.key.clone(),
                written: STANDARD.encode(&member.written),
                place: member.place,
            })
            .collect();
        let expires_at = self.expires_at.as_millis();
        let written = Written { key: self.key.as_str(), expires_at, session: head, data, opaque };
        serde_json::to_string(&written).map_err(|_| LineError::Malformed)
    }

    /// Reads what [`Line::write`] wrote, or someone else in its form.
    ///
    /// # Errors
    /// See [`LineError`].
    pub fn read(line: &str) -> Result<Self, LineError> {
        let written: Written<'_> = serde_json::from_str(line).map_err(|_| LineError::Malformed)?;
        let data = json::compact(written.data.get().as_bytes(), MAX_DEPTH).map_err(DecodeError::Data)?;
        let mut record = BytesMut::from(written.session.get().as_bytes());
        record.put_u8(b'\n');
        record.extend_from_slice(data.as_bytes());
        let session = native::decode(&record.freeze())?;
        let key = native::key(written.key.to_owned())?;
        let mut opaque = Vec::with_capacity(written.opaque.len());
        for member in written.opaque {
            // One key for two members would be two truths.
            if member.key.as_ref().is_some_and(|key| session.data.value(key).is_some()) {
                return Err(LineError::Malformed);
            }
            let written = STANDARD.decode(&member.written).map_err(|_| LineError::Malformed)?.into();
            opaque.push(OpaqueMember { key: member.key, written, place: member.place });
        }
        let session = Session { data: session.data.with_opaque(opaque), ..session };
        Ok(Self { key, expires_at: Timestamp::from_millis(written.expires_at), session })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::session::expiry::Expiry;
    use crate::session::{Predecessor, Retired};

    fn line() -> Line {
        let data = Data::parse(Bytes::from_static(b"{\"a\":1.10,\"b\\u00e9\":[]}")).unwrap();
        let opaque = vec![
            OpaqueMember { key: Some("when".into()), written: Bytes::from_static(b"\x80\x05\n\xff"), place: 0 },
            OpaqueMember { key: None, written: Bytes::from_static(b"K\x01"), place: 2 },
        ];
        let session = Session {
            data: data.with_opaque(opaque),
            created_at: Timestamp::from_millis(1),
            saved_at: Timestamp::from_millis(2),
            expiry: Expiry::At(Timestamp::from_millis(3)),
            retired: Some(Retired { until: Timestamp::from_millis(4), successor: Key::new("n") }),
            predecessors: vec![Predecessor { key: Key::new("p"), until: Timestamp::from_millis(5) }],
        };
        Line { key: Key::new("k"), expires_at: Timestamp::from_millis(6), session }
    }

    #[test]
    fn everything_comes_back() {
        let text = line().write().unwrap();
        assert!(!text.contains('\n') && text.is_ascii(), "{text}");
        assert!(text.contains(r#""data":{"a":1.10,"b\u00e9":[]}"#), "{text}");
        assert_eq!(Line::read(&text).unwrap(), line());
    }

    #[test]
    fn what_others_write_in_this_form_is_read() {
        let text =
            r#"{ "key": "k", "expires_at": 6, "session": {"v":1, "created":1, "saved":2}, "data": {"ä": [1, 2]} }"#;
        let read = Line::read(text).unwrap();
        assert_eq!(read.session.data.as_str(), r#"{"\u00e4":[1,2]}"#);
    }

    #[test]
    fn f7_anything_else_is_refused() {
        let good = r#"{"key":"k","expires_at":6,"session":{"v":1,"created":1,"saved":2},"data":{"a":1}}"#;
        assert!(Line::read(good).is_ok());
        for (from, to) in [
            ("\"k\"", "\"\""),
            ("\"k\"", "\"a b\""),
            ("\"k\"", "7"),
            (":6", ":6.5"),
            ("\"key\":\"k\",", ""),
            ("\"data\"", "\"more\":1,\"data\""),
            ("\"saved\":2", "\"saved\":2,\"more\":1"),
            ("{\"a\":1}", "[]"),
            ("{\"a\":1}", "{\"a\":1,\"a\":2}"),
            ("{\"a\":1}}", "{\"a\":1},\"opaque\":[{\"written\":\"?\"}]}"),
            ("{\"a\":1}}", "{\"a\":1},\"opaque\":[{\"key\":\"a\",\"written\":\"AA==\"}]}"),
            ("}}", "}"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(Line::read(&bad).is_err(), "{bad}");
        }
        let newer = good.replacen("\"v\":1", "\"v\":2", 1);
        assert!(matches!(Line::read(&newer), Err(LineError::Session(DecodeError::Version(2)))));
    }
}
