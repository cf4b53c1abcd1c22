//! The data of a session, kept as the text that backends see.

use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;
use bytes::Bytes;
use hyper::header::HeaderValue;

use super::json::{self, JsonError, Members};

/// How deep stored data may nest. Headers allow less (`session.limits.max_depth`); records that others wrote may have
/// more, up to what ordinary JSON readers take.
pub const MAX_DEPTH: usize = 128;

/// The key under which Django keeps a session's own expiry. It is never part of a session's data: a codec that meets
/// it turns it into [`super::expiry::Expiry`].
pub const EXPIRY_KEY: &str = "_session_expiry";

const EMPTY: &str = "{}";

/// A session's data in wire form: one JSON object in ASCII, without white space between tokens and without duplicate
/// names.
///
/// What nobody touches keeps its exact text through any number of updates. Comparing compares texts.
///
/// A foreign record may hold members that this form has no words for, such as a Python object. They are not shown to
/// anyone and lie beside the object until they are overwritten, unset or cleared.
#[derive(Clone, Eq, PartialEq)]
pub struct Data {
    /// As a header's value, for that is what becomes of it with every request.
    wire: HeaderValue,
    opaque: Option<Arc<[OpaqueMember]>>,
}

/// A member of a foreign record as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpaqueMember {
    /// `None` if even the name is nothing a JSON object can have.
    pub key: Option<Box<str>>,
    /// The whole member, in the format it came in; only that format's codec reads it.
    pub written: Bytes,
    /// How many of the object's members stood before it.
    pub place: usize,
}

impl Data {
    pub const fn empty() -> Self {
        Self { wire: HeaderValue::from_static(EMPTY), opaque: None }
    }

    /// Takes bytes that should be in wire form already, without copying them. Foreign JSON goes through
    /// [`json::compact`] first.
    ///
    /// # Errors
    /// When they are not.
    pub fn parse(bytes: Bytes) -> Result<Self, JsonError> {
        json::check_object(&bytes, MAX_DEPTH)?;
        let wire = HeaderValue::from_maybe_shared(bytes).map_err(|_| JsonError::Malformed)?;
        Ok(Self { wire, opaque: None })
    }

    /// Of an object that was put together from wire texts.
    pub(super) fn from_wire(object: String) -> Self {
        // ASCII by construction; should it ever not be, nothing is better than what no header can have.
        let wire = HeaderValue::from_maybe_shared(Bytes::from(object)).unwrap_or(HeaderValue::from_static(EMPTY));
        Self { wire, opaque: None }
    }

    /// The same object with these members beside it. None of their keys is one of the object's.
    #[must_use]
    pub(super) fn with_opaque(self, members: Vec<OpaqueMember>) -> Self {
        let opaque = (!members.is_empty()).then(|| members.into());
        Self { opaque, ..self }
    }

    /// The same in memory of its own: what was read is often a part of a larger record, and holds all of it.
    #[must_use]
    pub fn detached(&self) -> Self {
        // It was a header's value before.
        let wire = HeaderValue::from_maybe_shared(in_one_piece(self.wire())).unwrap_or_else(|_| self.wire.clone());
        Self { wire, opaque: self.opaque.clone() }
    }

    /// Bytes of memory that what is detached holds, or some more.
    pub fn detached_bytes(&self) -> usize {
        let wire = self.wire().len();
        let piece = PIECES.into_iter().find(|&piece| wire <= piece).map_or(wire + wire / 8, |piece| piece);
        PIECE_HEAD + piece + self.len() - wire
    }

    /// The object in wire form, as a header has it.
    pub const fn header(&self) -> &HeaderValue {
        &self.wire
    }

    /// The object in wire form.
    pub fn wire(&self) -> &[u8] {
        self.wire.as_bytes()
    }

    /// What lies beside the object.
    pub fn opaque(&self) -> &[OpaqueMember] {
        self.opaque.as_deref().unwrap_or_default()
    }

    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        self.wire.to_str().unwrap_or(EMPTY)
    }

    /// Bytes in wire form; of what has none, bytes as they were written.
    pub fn len(&self) -> usize {
        self.wire.len() + self.opaque().iter().map(|member| member.written.len()).sum::<usize>()
    }

    /// No members at all.
    pub fn is_empty(&self) -> bool {
        self.wire == EMPTY && self.opaque.is_none()
    }

    /// The members, in the order in which they came into being.
    pub fn members(&self) -> Members<'_> {
        Members::new(self.as_str())
    }

    /// The JSON text of the value under a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.members().find(|member| member.is(key)).map(|member| member.value)
    }
}

/// Room for data in the pieces that [`in_one_piece`] makes. With what is beside it, each is a power of two.
const PIECES: [usize; 4] = [96, 224, 480, 992];
/// What is beside it.
const PIECE_HEAD: usize = 32;

/// A copy whose count of owners lies beside it, and not elsewhere in memory, where whoever takes the bytes up would have to
/// wait for it. Of what is larger, that is the smaller part.
fn in_one_piece(bytes: &[u8]) -> Bytes {
    fn within<const ROOM: usize>(bytes: &[u8]) -> Option<Bytes> {
        ArrayVec::<u8, ROOM>::try_from(bytes).ok().map(Bytes::from_owner)
    }
    let small = within::<{ PIECES[0] }>(bytes).or_else(|| within::<{ PIECES[1] }>(bytes));
    let piece = small.or_else(|| within::<{ PIECES[2] }>(bytes)).or_else(|| within::<{ PIECES[3] }>(bytes));
    piece.unwrap_or_else(|| Bytes::copy_from_slice(bytes))
}

impl Default for Data {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Data {
    /// What visitors keep in their sessions stays out of logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Data({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_object_in_wire_form() {
        let text = r#"{"a":1.10,"b\u00e9":{"a":[]},"c":null}"#;
        let bytes = Bytes::from_static(text.as_bytes());
        let data = Data::parse(bytes.clone()).unwrap();
        assert_eq!(data.wire().as_ptr(), bytes.as_ptr(), "nothing is copied");
        assert_eq!((data.as_str(), data.len(), data.is_empty()), (text, text.len(), false));
        assert_eq!(data.value("a"), Some("1.10"));
        assert_eq!(data.value("bé"), Some("{\"a\":[]}"));
        assert_eq!(data.value("c"), Some("null"));
        assert_eq!(data.value("d"), None);
        assert_eq!(data.members().count(), 3);
    }

    #[test]
    fn what_is_detached_is_the_same_and_holds_nothing_of_the_record() {
        let frame = r#"{"a":""}"#.len();
        for (length, held) in [
            (frame, 128),
            (96, 128),
            (97, 256),
            (224, 256),
            (225, 512),
            (480, 512),
            (481, 1024),
            (992, 1024),
            (993, 32 + 993 + 124),
        ] {
            let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(length - frame));
            let data = Data::parse(text.clone().into()).unwrap();
            let detached = data.detached();
            assert_eq!((&detached, detached.as_str()), (&data, text.as_str()));
            assert_ne!(detached.wire().as_ptr(), data.wire().as_ptr());
            assert_eq!(detached.clone().wire().as_ptr(), detached.wire().as_ptr(), "taken up without a copy");
            assert_eq!(data.detached_bytes(), held);
        }
        let opaque = OpaqueMember { key: None, written: Bytes::from_static(b"12345"), place: 0 };
        let data = Data::empty().with_opaque(vec![opaque]);
        assert_eq!((data.detached(), data.detached_bytes()), (data.clone(), 128 + 5));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "[]", "{\"a\": 1}", "{\"a\":1}\n", "{\"é\":1}", "{\"a\":1,\"a\":1}", "{\"a\":\"\\ud800\"}"] {
            assert!(Data::parse(Bytes::copy_from_slice(text.as_bytes())).is_err(), "{text}");
        }
    }

    #[test]
    fn empty_data_is_an_empty_object() {
        assert_eq!(Data::default(), Data::parse(Bytes::from_static(b"{}")).unwrap());
        assert!(Data::empty().is_empty());
        assert_eq!(Data::empty().members().count(), 0);
    }
}
