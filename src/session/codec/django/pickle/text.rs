//! Strings as pickles have them.

use std::borrow::Cow;

use super::graph::Node;
use super::op;

/// UTF-8, perhaps with halves of surrogate pairs, as the operation that makes a string of it.
pub(super) fn write(out: &mut Vec<u8>, utf8: &[u8]) {
    if let Ok(length) = u32::try_from(utf8.len()) {
        out.push(op::BINUNICODE);
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.push(op::BINUNICODE8);
        out.extend_from_slice(&u64::try_from(utf8.len()).unwrap_or(u64::MAX).to_le_bytes());
    }
    out.extend_from_slice(utf8);
}

/// UTF-8 as Python takes it: halves of surrogate pairs may stand in it as if they were characters.
pub(super) fn utf8(bytes: Cow<'_, [u8]>) -> Option<Node<'_>> {
    if let Cow::Borrowed(borrowed) = bytes
        && let Ok(text) = str::from_utf8(borrowed)
    {
        return Some(Node::Text(text.into()));
    }
    let mut rest = bytes.as_ref();
    let mut surrogates = false;
    while let Err(error) = str::from_utf8(rest) {
        let [0xed, 0xa0..=0xbf, 0x80..=0xbf, after @ ..] = rest.get(error.valid_up_to()..)? else { return None };
        rest = after;
        surrogates = true;
    }
    if surrogates {
        return Some(Node::Surrogates(bytes));
    }
    String::from_utf8(bytes.into_owned()).ok().map(|text| Node::Text(text.into()))
}

/// Latin-1 in which `\uXXXX` and `\UXXXXXXXX` are characters.
pub(super) fn raw_unicode_escape(line: &[u8]) -> Option<Node<'_>> {
    if line.is_ascii() && !line.contains(&b'\\') {
        return utf8(line.into());
    }
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    loop {
        let (code, after) = match rest {
            [] => return utf8(out.into()),
            [b'\\', b'u', after @ ..] => hexadecimal(after, 4)?,
            [b'\\', b'U', after @ ..] => hexadecimal(after, 8)?,
            [b'\\', next, after @ ..] => {
                out.push(b'\\');
                (u32::from(*next), after)
            }
            [byte, after @ ..] => (u32::from(*byte), after),
        };
        push(&mut out, code)?;
        rest = after;
    }
}

/// A string of Python 2 in quotes, as `repr` wrote it. Django reads those as ASCII.
pub(super) fn quoted(line: &[u8]) -> Option<Node<'_>> {
    let ([b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\'']) = line.trim_ascii() else { return None };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    loop {
        let (code, after) = match rest {
            [] => return ascii(out.into()),
            [b'\\', b'x', after @ ..] => hexadecimal(after, 2)?,
            [b'\\', digits @ ..] if matches!(digits, [b'0'..=b'7', ..]) => octal(digits),
            [b'\\', escaped, after @ ..] => {
                let code = match escaped {
                    b'\\' | b'\'' | b'"' => *escaped,
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    _ => return None,
                };
                (code.into(), after)
            }
            [b'\\'] => return None,
            [byte, after @ ..] => (u32::from(*byte), after),
        };
        out.push(u8::try_from(code).ok()?);
        rest = after;
    }
}

/// The bytes of a string of Python 2; Django reads those as ASCII.
pub(super) fn ascii(bytes: Cow<'_, [u8]>) -> Option<Node<'_>> {
    if bytes.is_ascii() { utf8(bytes) } else { None }
}

fn hexadecimal(text: &[u8], length: usize) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(length)?;
    let code = digits.iter().try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))?;
    Some((code, rest))
}

/// One to three digits.
fn octal(text: &[u8]) -> (u32, &[u8]) {
    let length = text.iter().take(3).take_while(|digit| matches!(digit, b'0'..=b'7')).count();
    let (digits, rest) = text.split_at_checked(length).unwrap_or_default();
    (digits.iter().fold(0, |code, digit| code << 3 | u32::from(digit & 7)), rest)
}

fn push(out: &mut Vec<u8>, code: u32) -> Option<()> {
    if let Some(character) = char::from_u32(code) {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        // Half of a surrogate pair has three bytes, all else is beyond Unicode.
        let bits = u16::try_from(code).ok()?;
        let low = |shift: u16| 0x80 | u8::try_from(bits >> shift & 0x3f).unwrap_or_default();
        out.extend_from_slice(&[0xed, low(6), low(0)]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(node: Option<Node<'_>>) -> Option<Vec<u8>> {
        match node? {
            Node::Text(text) => Some(text.as_bytes().to_vec()),
            Node::Surrogates(bytes) => Some([b"surrogates:", bytes.as_ref()].concat()),
            _ => panic!("no string"),
        }
    }

    #[test]
    fn strings_are_what_python_makes_of_them() {
        for (line, expected) in [
            (b"a\xe9".as_slice(), Some("aé".as_bytes())),
            (br"\u4f1a\U0001f600", Some("会😀".as_bytes())),
            (br"\\u0041\n\", Some(br"\\u0041\n\".as_slice())),
            (br"\ud83d\ude00", Some(b"surrogates:\xed\xa0\xbd\xed\xb8\x80")),
            (br"\u12", None),
            (br"\U00110000", None),
        ] {
            assert_eq!(made(raw_unicode_escape(line)).as_deref(), expected, "{line:?}");
        }
        for (line, expected) in [
            (br"'a\'\x41\101\n\0'".as_slice(), Some(b"a'AA\n\0".as_slice())),
            (br#""it's""#, Some(b"it's")),
            (b"'\xe9'", None),
            (br"'\xe9'", None),
            (b"'a", None),
            (b"a", None),
            (br"'\'", None),
        ] {
            assert_eq!(made(quoted(line)).as_deref(), expected, "{line:?}");
        }
        for (bytes, expected) in [
            (b"a\xed\xa0\x80\xc3\xa9".as_slice(), Some(b"surrogates:a\xed\xa0\x80\xc3\xa9".as_slice())),
            (b"\xff", None),
            (b"\xed\xa0", None),
            (b"\xed\xa0\x80\xff", None),
        ] {
            assert_eq!(made(utf8(bytes.into())).as_deref(), expected, "{bytes:?}");
        }
    }
}
