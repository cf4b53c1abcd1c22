//! The data of a session, kept as the text that backends see.

use std::fmt;

use bytes::Bytes;

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
#[derive(Clone, Eq, PartialEq)]
pub struct Data(Bytes);

impl Data {
    pub const fn empty() -> Self {
        Self(Bytes::from_static(EMPTY.as_bytes()))
    }

    /// Takes bytes that should be in wire form already, without copying them. Foreign JSON goes through
    /// [`json::compact`] first.
    ///
    /// # Errors
    /// When they are not.
    pub fn parse(bytes: Bytes) -> Result<Self, JsonError> {
        json::check_object(&bytes, MAX_DEPTH)?;
        Ok(Self(bytes))
    }

    /// Of an object that was put together from wire texts.
    pub(super) fn from_wire(object: String) -> Self {
        Self(object.into())
    }

    pub const fn wire(&self) -> &Bytes {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or(EMPTY)
    }

    /// Bytes in wire form.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No members at all.
    pub fn is_empty(&self) -> bool {
        self.0 == EMPTY
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
