//! A session dictionary between Django's formats and ours: its members, in their order.

use bytes::Bytes;

/// A member as a format's reader found it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    /// `None` if it is no string, or none that JSON can have.
    pub key: Option<String>,
    /// The value as JSON in wire form; `None` if it has no such form.
    pub json: Option<String>,
    /// The whole member as the format's writer would write it again, for members that cannot be told in JSON.
    pub written: Bytes,
}

/// A member as a format's writer gets it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Member<'a> {
    /// A JSON string with its quotes, and JSON, both in wire form.
    Plain { name: &'a str, value: &'a str },
    /// What the reader left as [`Entry::written`].
    Opaque(&'a [u8]),
}
