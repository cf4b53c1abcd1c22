//! JSON strings: a text as an ASCII literal, and back.

use std::borrow::Cow;

/// A text as a JSON string in ASCII, quotes included. Everything outside 0x20..=0x7e becomes `\uXXXX`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(character),
            _ => push_escaped(&mut out, character),
        }
    }
    out.push('"');
    out
}

/// The text of a JSON string literal, quotes included; `None` if it is none, or holds half a surrogate pair.
pub fn decode(literal: &str) -> Option<Cow<'_, str>> {
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return (!inner.contains('"')).then_some(Cow::Borrowed(inner));
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let (character, length) = escaped(escape)?;
        out.push(character);
        rest = escape.get(length..)?;
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// What stands after a backslash: its character, and how many bytes of text that took.
fn escaped(text: &str) -> Option<(char, usize)> {
    let bytes = text.as_bytes();
    let plain = match bytes.first()? {
        b'u' => {
            let first = unit(bytes.get(1..)?)?;
            let second = match bytes.get(5..) {
                Some([b'\\', b'u', digits @ ..]) if matches!(first, 0xd800..=0xdbff) => unit(digits),
                _ => None,
            };
            let units = [first, second.unwrap_or_default()];
            let used = if second.is_some() { &units[..] } else { &units[..1] };
            let character = char::decode_utf16(used.iter().copied()).next()?.ok()?;
            return Some((character, if second.is_some() { 11 } else { 5 }));
        }
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        _ => return None,
    };
    Some((plain, 1))
}

/// The UTF-16 code unit that four hexadecimal digits stand for.
pub(super) fn unit(digits: &[u8]) -> Option<u16> {
    digits.get(..4)?.iter().try_fold(0, |unit: u16, &digit| {
        let digit = u16::try_from(char::from(digit).to_digit(16)?).ok()?;
        Some(unit << 4 | digit)
    })
}

#[expect(clippy::indexing_slicing, reason = "four bits are a place among sixteen digits")]
pub(super) fn push_escaped(out: &mut String, character: char) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for unit in character.encode_utf16(&mut [0; 2]) {
        out.push_str("\\u");
        for shift in [12, 8, 4, 0] {
            out.push(DIGITS[usize::from(*unit >> shift & 0xf)]);
        }
    }
}
