//! The entry of a cache: a serialized dictionary, perhaps compressed.

use std::borrow::Cow;

use bytes::Bytes;

use super::compress::{compress, decompress};
use super::dict::{Entry, Member};
use super::{json, messagepack, pickle};
use crate::store::{Compressor, Serializer};

/// Writes the members of a session as the value of a cache entry.
#[expect(single_use_lifetimes, reason = "what an iterator borrows cannot go without a name")]
pub(super) fn encode<'a>(
    members: impl Iterator<Item = Member<'a>>,
    serializer: Serializer,
    compressor: Compressor,
) -> Bytes {
    let members: Vec<_> = members.collect();
    let value = match serializer {
        Serializer::Json => write_json(&members),
        Serializer::Msgpack => messagepack::write(&members),
        Serializer::Pickle => pickle::write(&members),
    };
    compress(value, compressor).into()
}

/// Reads the value of a cache entry; `None` if it is no dictionary. A key may come twice.
///
/// django-redis first looks whether a value is the text of an integer, then whether it is compressed, and else takes it
/// as it is. Integers are no dictionaries in any of the formats, so the first look is not needed here.
pub(super) fn decode(value: &[u8], serializer: Serializer, compressor: Compressor) -> Option<Vec<Entry>> {
    let value = decompress(value, compressor).map_or(Cow::Borrowed(value), Cow::Owned);
    match serializer {
        Serializer::Json => read_json(&value),
        Serializer::Msgpack => messagepack::read(&value),
        Serializer::Pickle => pickle::read(&value),
    }
}

/// JSON as Python's `json.dumps` has it: spaces after commas and colons.
fn write_json(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for member in members {
        if out.len() > 1 {
            out.extend_from_slice(b", ");
        }
        match *member {
            Member::Plain { name, value } => {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b": ");
                write_spaced(&mut out, value);
            }
            Member::Opaque(written) => out.extend_from_slice(written),
        }
    }
    out.push(b'}');
    out
}

fn write_spaced(out: &mut Vec<u8>, value: &str) {
    let mut in_string = false;
    let mut escaped = false;
    for byte in value.bytes() {
        out.push(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' if !in_string => out.push(b' '),
            _ => {}
        }
    }
}

/// `json.loads(value.decode())`. What is not ASCII can only stand in strings, where an escape says the same.
fn read_json(value: &[u8]) -> Option<Vec<Entry>> {
    let text = std::str::from_utf8(value).ok()?;
    if text.is_ascii() {
        return json::read(value);
    }
    let mut ascii = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    json::read(ascii.as_bytes())
}

#[cfg(test)]
mod tests;
