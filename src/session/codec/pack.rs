//! JSON in wire form as MessagePack, and back. What strings and numbers become is up to who writes; what an extension
//! stands for, to who reads.

use rmp::Marker;
use rmp::encode::{write_array_len, write_bool, write_map_len, write_nil};

use super::input::Input;
use super::numbers::float_text;
use super::tokens::{Token, Tokens};
use crate::session::json;

/// Writes one value. `scalar` gets its strings, names of members among them, and its numbers.
pub(super) fn write(out: &mut Vec<u8>, value: &str, scalar: fn(&mut Vec<u8>, Token<'_>)) {
    let mut lengths = lengths(value).into_iter();
    for token in Tokens::new(value) {
        // Memory takes all that is written into it: there are no errors to look at.
        match token {
            Token::Array => drop(write_array_len(out, lengths.next().unwrap_or_default())),
            Token::Object => drop(write_map_len(out, lengths.next().unwrap_or_default() / 2)),
            Token::End => {}
            Token::False => drop(write_bool(out, false)),
            Token::True => drop(write_bool(out, true)),
            Token::Null => drop(write_nil(out)),
            Token::Number(_) | Token::String(_) => scalar(out, token),
        }
    }
}

/// How many values stand in each array and object (names count), in the order in which they begin: MessagePack says so
/// in front.
fn lengths(value: &str) -> Vec<u32> {
    let mut lengths: Vec<u32> = Vec::new();
    let mut open = Vec::new();
    for token in Tokens::new(value) {
        if token == Token::End {
            open.pop();
            continue;
        }
        if let Some(length) = open.last().and_then(|&place: &usize| lengths.get_mut(place)) {
            *length += 1;
        }
        if matches!(token, Token::Array | Token::Object) {
            open.push(lengths.len());
            lengths.push(0);
        }
    }
    lengths
}

/// Reads one value and appends its JSON, which is in wire form but for its depth and for names that stand twice: whoever
/// reads hands it on to [`json`]. `None` if it is no MessagePack or JSON has no words for it; then `input` and `out` lie
/// somewhere in the middle. `exact` says which JSON an extension stands for.
pub(super) fn read<'a>(
    input: &mut Input<'a>,
    out: &mut String,
    exact: fn(i8, &'a [u8]) -> Option<&'a str>,
) -> Option<()> {
    // A stack of our own, so that depth costs no thread's stack.
    let mut open: Vec<Open> = Vec::new();
    loop {
        let is_name = open.last().is_some_and(Open::is_at_name);
        if let Some(separator) = open.last().and_then(Open::separator) {
            out.push(separator);
        }
        let begun = match head(input)? {
            Head::Text(bytes) => {
                out.push_str(&json::encode(str::from_utf8(bytes).ok()?));
                None
            }
            Head::Extension(kind, bytes) => {
                let text = exact(kind, bytes).filter(|text| !is_name || text.starts_with('"'))?;
                out.push_str(text);
                None
            }
            _ if is_name => return None,
            Head::Array(length) => Some(Open::new(false, length.into())),
            Head::Map(length) => Some(Open::new(true, u64::from(length) * 2)),
            scalar => {
                out.push_str(&scalar.json()?);
                None
            }
        };
        let mut ended = true;
        if let Some(begun) = begun {
            out.push(if begun.map { '{' } else { '[' });
            ended = begun.length == 0;
            if ended {
                out.push(begun.close());
            } else {
                open.push(begun);
            }
        }
        while ended {
            let Some(last) = open.last_mut() else { return Some(()) };
            last.read += 1;
            ended = last.read == last.length;
            if ended {
                out.push(last.close());
                open.pop();
            }
        }
    }
}

/// An array or a map that is being read.
struct Open {
    map: bool,
    length: u64,
    read: u64,
}

impl Open {
    const fn new(map: bool, length: u64) -> Self {
        Self { map, length, read: 0 }
    }

    const fn is_at_name(&self) -> bool {
        self.map && self.read.is_multiple_of(2)
    }

    const fn separator(&self) -> Option<char> {
        match (self.map, self.read) {
            (_, 0) => None,
            (true, read) if !read.is_multiple_of(2) => Some(':'),
            _ => Some(','),
        }
    }

    const fn close(&self) -> char {
        if self.map { '}' } else { ']' }
    }
}

/// Steps over one value of any kind.
pub(super) fn skip(input: &mut Input<'_>) -> Option<()> {
    let mut left = 1_u64;
    while left > 0 {
        left -= 1;
        // Every value that is announced takes a byte at least: the sum stays far from its end.
        left = left.saturating_add(match head(input)? {
            Head::Array(length) => length.into(),
            Head::Map(length) => u64::from(length) * 2,
            _ => 0,
        });
    }
    Some(())
}

/// A value; of an array or a map, its beginning.
pub(super) enum Head<'a> {
    Array(u32),
    Bool(bool),
    Binary,
    Extension(i8, &'a [u8]),
    Float(f64),
    Map(u32),
    Nil,
    Signed(i64),
    Text(&'a [u8]),
    Unsigned(u64),
}

impl Head<'_> {
    fn json(&self) -> Option<String> {
        Some(match self {
            Self::Bool(value) => value.to_string(),
            Self::Float(number) => float_text(*number)?,
            Self::Nil => "null".to_owned(),
            Self::Signed(number) => number.to_string(),
            Self::Unsigned(number) => number.to_string(),
            Self::Array(_) | Self::Binary | Self::Extension(..) | Self::Map(_) | Self::Text(_) => return None,
        })
    }
}

pub(super) fn head<'a>(input: &mut Input<'a>) -> Option<Head<'a>> {
    Some(match Marker::from_u8(input.byte()?) {
        Marker::FixPos(number) => Head::Unsigned(number.into()),
        Marker::FixNeg(number) => Head::Signed(number.into()),
        Marker::U8 => Head::Unsigned(input.byte()?.into()),
        Marker::U16 => Head::Unsigned(u16::from_be_bytes(input.array()?).into()),
        Marker::U32 => Head::Unsigned(u32::from_be_bytes(input.array()?).into()),
        Marker::U64 => Head::Unsigned(u64::from_be_bytes(input.array()?)),
        Marker::I8 => Head::Signed(i8::from_be_bytes(input.array()?).into()),
        Marker::I16 => Head::Signed(i16::from_be_bytes(input.array()?).into()),
        Marker::I32 => Head::Signed(i32::from_be_bytes(input.array()?).into()),
        Marker::I64 => Head::Signed(i64::from_be_bytes(input.array()?)),
        Marker::F32 => Head::Float(f32::from_be_bytes(input.array()?).into()),
        Marker::F64 => Head::Float(f64::from_be_bytes(input.array()?)),
        Marker::Null => Head::Nil,
        Marker::False => Head::Bool(false),
        Marker::True => Head::Bool(true),
        Marker::FixStr(length) => Head::Text(input.take(length)?),
        Marker::Str8 => Head::Text(sized::<1>(input)?),
        Marker::Str16 => Head::Text(sized::<2>(input)?),
        Marker::Str32 => Head::Text(sized::<4>(input)?),
        Marker::Bin8 => sized::<1>(input).map(|_| Head::Binary)?,
        Marker::Bin16 => sized::<2>(input).map(|_| Head::Binary)?,
        Marker::Bin32 => sized::<4>(input).map(|_| Head::Binary)?,
        Marker::FixArray(length) => Head::Array(length.into()),
        Marker::Array16 => Head::Array(length::<2>(input)?),
        Marker::Array32 => Head::Array(length::<4>(input)?),
        Marker::FixMap(length) => Head::Map(length.into()),
        Marker::Map16 => Head::Map(length::<2>(input)?),
        Marker::Map32 => Head::Map(length::<4>(input)?),
        Marker::FixExt1 => extension(input, 1)?,
        Marker::FixExt2 => extension(input, 2)?,
        Marker::FixExt4 => extension(input, 4)?,
        Marker::FixExt8 => extension(input, 8)?,
        Marker::FixExt16 => extension(input, 16)?,
        Marker::Ext8 => length::<1>(input).and_then(|length| extension(input, length))?,
        Marker::Ext16 => length::<2>(input).and_then(|length| extension(input, length))?,
        Marker::Ext32 => length::<4>(input).and_then(|length| extension(input, length))?,
        Marker::Reserved => return None,
    })
}

/// A length in so many bytes.
fn length<const N: usize>(input: &mut Input<'_>) -> Option<u32> {
    let bytes = input.array::<N>()?;
    Some(bytes.iter().fold(0, |length, &byte| length << 8 | u32::from(byte)))
}

fn sized<'a, const N: usize>(input: &mut Input<'a>) -> Option<&'a [u8]> {
    let length = length::<N>(input)?;
    input.take(length)
}

fn extension<'a>(input: &mut Input<'a>, length: u32) -> Option<Head<'a>> {
    let kind = i8::from_be_bytes(input.array()?);
    Some(Head::Extension(kind, input.take(length)?))
}
