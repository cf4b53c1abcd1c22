//! Dictionaries as the MessagePack serializer of django-redis writes them: `msgpack.dumps(dictionary)`.

use rmp::encode::{write_f64, write_map_len, write_sint, write_str, write_uint};

use bytes::Bytes;

use super::dict::{Entry, Member};
use crate::session::codec::input::Input;
use crate::session::codec::numbers::is_integer;
use crate::session::codec::pack::{self, Head};
use crate::session::codec::tokens::Token;
use crate::session::data::MAX_DEPTH;
use crate::session::json;

pub(super) fn write(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    // Memory takes all that is written into it: there are no errors to look at.
    drop(write_map_len(&mut out, u32::try_from(members.len()).unwrap_or(u32::MAX)));
    for member in members {
        match *member {
            Member::Plain { name, value } => {
                pack::write(&mut out, name, scalar);
                pack::write(&mut out, value, scalar);
            }
            Member::Opaque(written) => out.extend_from_slice(written),
        }
    }
    out
}

/// As Python would write it after reading it from JSON. Integers beyond 64 bits, which MessagePack has no room for, come
/// as close as a float does.
fn scalar(out: &mut Vec<u8>, token: Token<'_>) {
    match token {
        Token::Number(text) if is_integer(text) => {
            if let Ok(number) = text.parse::<i64>() {
                drop(write_sint(out, number));
            } else if let Ok(number) = text.parse::<u64>() {
                drop(write_uint(out, number));
            } else {
                drop(write_f64(out, text.parse().unwrap_or_default()));
            }
        }
        Token::Number(text) => drop(write_f64(out, text.parse().unwrap_or_default())),
        Token::String(text) => drop(write_str(out, &json::decode(text).unwrap_or_default())),
        _ => {}
    }
}

/// `None` if it is no map, or not one alone.
pub(super) fn read(value: &[u8]) -> Option<Vec<Entry>> {
    let mut input = Input::new(value);
    let Head::Map(length) = pack::head(&mut input)? else { return None };
    let mut entries = Vec::new();
    for _ in 0..length {
        let member = input.rest();
        pack::skip(&mut input)?;
        let name = span(member, input)?;
        let value = input.rest();
        pack::skip(&mut input)?;
        let key = match pack::head(&mut Input::new(name))? {
            Head::Text(text) => str::from_utf8(text).ok().map(str::to_owned),
            _ => None,
        };
        let json = key.as_ref().and_then(|_| to_json(value));
        entries.push(Entry { key, json, written: Bytes::copy_from_slice(span(member, input)?) });
    }
    input.rest().is_empty().then_some(entries)
}

/// What was read since `before`.
fn span<'a>(before: &'a [u8], input: Input<'_>) -> Option<&'a [u8]> {
    before.get(..before.len().checked_sub(input.rest().len())?)
}

/// The value in wire form, if that says all of it: no binary data, no extension, no names but strings and each once.
fn to_json(value: &[u8]) -> Option<String> {
    let mut out = String::new();
    pack::read(&mut Input::new(value), &mut out, |_, _| None)?;
    json::compact(out.as_bytes(), MAX_DEPTH - 1).ok()
}
