//! A session dictionary between Django's formats and ours: its members, in their order.

use std::collections::HashMap;

use bytes::Bytes;

use super::json::literal;
use crate::session::data::{Data, EXPIRY_KEY, OpaqueMember};
use crate::session::json::JsonError;

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

/// The dictionary as data. What has no wire form becomes opaque, and so does the expiry, which is no data: its JSON if
/// it has some.
///
/// # Errors
/// When a reader gave as JSON what is none in wire form.
pub(super) fn read(entries: Vec<Entry>) -> Result<Data, JsonError> {
    let mut wire = "{".to_owned();
    let mut plain = 0;
    let mut opaque = Vec::new();
    for Entry { key, json, written } in last_of_each(entries) {
        match (&key, json) {
            (Some(key), Some(json)) if key != EXPIRY_KEY => {
                if plain > 0 {
                    wire.push(',');
                }
                wire.push_str(&literal(key));
                wire.push(':');
                wire.push_str(&json);
                plain += 1;
            }
            (key_read, json) => {
                // Of the expiry its JSON is kept, which every format can write; of others what only their own can.
                let written = json.filter(|_| key_read.is_some()).map_or(written, Bytes::from);
                opaque.push(OpaqueMember { key: key.map(Into::into), written, place: plain });
            }
        }
    }
    wire.push('}');
    Ok(Data::parse(wire.into())?.with_opaque(opaque))
}

/// As Python builds a dictionary: the last value of a key, in the place of the first.
pub(super) fn last_of_each(entries: Vec<Entry>) -> Vec<Entry> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        let first = entry.key.as_ref().and_then(|key| places.get(key)).and_then(|&place| kept.get_mut(place));
        if let Some(first) = first {
            *first = entry;
            continue;
        }
        if let Some(key) = &entry.key {
            places.insert(key.clone(), kept.len());
        }
        kept.push(entry);
    }
    kept
}

/// Data as the dictionary that it was. `expiry` takes the place of the one that was there; a new one comes last.
pub(super) fn members<'a>(data: &'a Data, mut expiry: Option<Member<'a>>) -> Vec<Member<'a>> {
    let mut members = Vec::new();
    let mut opaque = data.opaque().iter().peekable();
    let mut put = |members: &mut Vec<Member<'a>>, member: &'a OpaqueMember| match member.key.as_deref() {
        Some(EXPIRY_KEY) => members.extend(expiry.take()),
        _ => members.push(Member::Opaque(&member.written)),
    };
    for (place, member) in data.members().enumerate() {
        while let Some(before) = opaque.next_if(|opaque| opaque.place <= place) {
            put(&mut members, before);
        }
        members.push(Member::Plain { name: member.name, value: member.value });
    }
    opaque.for_each(|member| put(&mut members, member));
    members.extend(expiry);
    members
}
