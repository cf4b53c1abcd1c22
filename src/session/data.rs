//! The data of a session, kept as the text that backends see.

use std::fmt;
use std::sync::Arc;

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
