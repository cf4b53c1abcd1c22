//! JSON as Python's `json` reads and writes it: more than JSON has words for, one byte a character.

use bytes::Bytes;

use super::dict::{Entry, Member};
use crate::session::data::MAX_DEPTH;
use crate::session::json::{compact, decode};

/// Python's own limit is between one and some ten thousand levels, depending on its version.
const MAX_LEVELS: usize = 10_000;
/// Python reads no longer integers (`sys.int_info.default_max_str_digits`).
const MAX_DIGITS: usize = 4300;

/// `json.dumps(…, separators=(",", ":"))` of what is in wire form, or was read here.
pub(super) fn write(members: &[Member<'_>]) -> Vec<u8> {
    let mut text = vec![b'{'];
    for member in members {
        if text.len() > 1 {
            text.push(b',');
        }
        match *member {
            Member::Opaque(written) => text.extend_from_slice(written),
            Member::Plain { name, value } => {
                text.extend_from_slice(name.as_bytes());
                text.push(b':');
                text.extend_from_slice(value.as_bytes());
            }
        }
    }
    text.push(b'}');
    text
}

/// A text as Python writes it into JSON: ASCII, and with the short escapes where there are some.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
    out
}

/// The members of an object, as they stand there: `json.loads(text.decode("latin-1"))`. `None` for what Python refuses,
/// and for anything but an object.
///
/// A member is given as the same text in ASCII and without white space between tokens.
pub(super) fn read(text: &[u8]) -> Option<Vec<Entry>> {
    let mut reader = Reader { text, at: 0, out: String::new() };
    let mut entries = Vec::new();
    reader.space();
    reader.take(b'{')?;
    reader.space();
    let mut last = reader.peek()? == b'}';
    while !last {
        reader.out.clear();
        reader.space();
        reader.string()?;
        let name_end = reader.out.len();
        reader.space();
        reader.take(b':')?;
        reader.value()?;
        entries.push(entry(&reader.out, name_end)?);
        reader.space();
        last = reader.peek()? == b'}';
        if !last {
            reader.take(b',')?;
        }
    }
    reader.take(b'}')?;
    reader.space();
    reader.peek().is_none().then_some(entries)
}

fn entry(member: &str, name_end: usize) -> Option<Entry> {
    let (name, value) = member.split_at_checked(name_end)?;
    Some(Entry {
        key: decode(name).map(Into::into),
        // One level less than all of the data may have, for it stands inside an object.
        json: compact(value.strip_prefix(':')?.as_bytes(), MAX_DEPTH - 1).ok(),
        written: Bytes::copy_from_slice(member.as_bytes()),
    })
}

/// Reads without recursion, however deep a value nests.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// What was read, in ASCII and without white space between tokens.
    out: String,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes over one character, in whatever form it has to have.
    fn step(&mut self) {
        match self.peek() {
            Some(byte @ ..0x7f) => self.out.push(char::from(byte)),
            Some(byte) => self.out.push_str(&format!("\\u{byte:04x}")),
            None => {}
        }
        self.at += 1;
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.step())
    }

    fn value(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.space();
            let begun = match self.peek()? {
                b'{' => Some(b'}'),
                b'[' => Some(b']'),
                _ => None,
            };
            if let Some(close) = begun {
                self.step();
                self.space();
                if self.peek()? != close {
                    if open.len() >= MAX_LEVELS {
                        return None;
                    }
                    open.push(close);
                    if close == b'}' {
                        self.name()?;
                    }
                    continue;
                }
                self.step();
            } else {
                self.scalar()?;
            }
            // A value has ended; so may those that it is the last of.
            loop {
                let Some(&close) = open.last() else { return Some(()) };
                self.space();
                if self.peek()? == close {
                    self.step();
                    open.pop();
                    continue;
                }
                self.take(b',')?;
                if close == b'}' {
                    self.space();
                    self.name()?;
                }
                break;
            }
        }
    }

    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.take(b':')
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'-' if self.text.get(self.at + 1) == Some(&b'I') => self.word("-Infinity"),
            b'-' | b'0'..=b'9' => self.number(),
            b'I' => self.word("Infinity"),
            b'N' => self.word("NaN"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        word.bytes().try_for_each(|byte| self.take(byte))
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'"' => {
                    self.step();
                    return Some(());
                }
                b'\\' => self.escape()?,
                b' '.. => self.step(),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        self.step();
        match self.peek()? {
            b'u' => {
                self.step();
                (0..4).try_for_each(|_| self.peek()?.is_ascii_hexdigit().then(|| self.step()))
            }
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.step();
                Some(())
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.step();
        }
        let digits = if self.peek()? == b'0' {
            self.step();
            1
        } else {
            self.digits()?
        };
        let mut is_float = false;
        if self.peek() == Some(b'.') {
            self.step();
            self.digits()?;
            is_float = true;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.step();
            if let Some(b'+' | b'-') = self.peek() {
                self.step();
            }
            self.digits()?;
            is_float = true;
        }
        (is_float || digits <= MAX_DIGITS).then_some(())
    }

    /// How many there were, at least one.
    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.step();
        }
        (self.at > start).then(|| self.at - start)
    }
}

#[cfg(test)]
mod tests;
