//! The grammar of JSON (RFC 8259), read byte by byte.

use std::borrow::Cow;

use super::{JsonError, decode, string};

/// Of each byte, whether it stands for itself in any string.
#[expect(clippy::indexing_slicing, reason = "there is a place for each byte")]
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ' as usize;
    while byte <= b'~' as usize {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Reads one value, without recursion.
pub(super) struct Scanner<'a> {
    text: &'a str,
    pub(super) at: usize,
    max_depth: usize,
    /// The arrays and objects we are in: a stack of our own, so that depth costs a byte or two and never the thread's stack.
    open: Vec<Open>,
    /// The decoded names of all open objects, those of the innermost last.
    names: Vec<Cow<'a, str>>,
    /// Where the wire form goes; without it the text must be in that form already.
    pub(super) out: Option<String>,
}

#[derive(Clone, Copy)]
enum Open {
    Array,
    Object { first_name: usize },
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, max_depth: usize, out: Option<String>) -> Self {
        // Room that most sessions will do with.
        let (open, names) = (Vec::with_capacity(8), Vec::with_capacity(16));
        Self { text, at: 0, max_depth, open, names, out }
    }

    pub(super) fn object(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.peek() == Some(b'{') { self.value() } else { Err(JsonError::Malformed) }
    }

    pub(super) fn value(&mut self) -> Result<(), JsonError> {
        loop {
            let ended = self.begin_value()?;
            if ended && self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Reads a whole scalar, or the start of an array or object up to its first value; true if a value has ended.
    fn begin_value(&mut self) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => self.begin(Open::Object { first_name: self.names.len() }, b'}'),
            Some(b'[') => self.begin(Open::Array, b']'),
            Some(b'"') => self.string().map(|_| true),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| true),
            Some(b't') => self.literal("true").map(|()| true),
            Some(b'f') => self.literal("false").map(|()| true),
            Some(b'n') => self.literal("null").map(|()| true),
            _ => Err(JsonError::Malformed),
        }
    }

    fn begin(&mut self, open: Open, close: u8) -> Result<bool, JsonError> {
        if self.open.len() >= self.max_depth {
            return Err(JsonError::TooDeep);
        }
        self.step();
        self.space();
        if self.peek() == Some(close) {
            self.step();
            return Ok(true);
        }
        self.open.push(open);
        if matches!(open, Open::Object { .. }) {
            self.name()?;
        }
        Ok(false)
    }

    /// After a value: closes what ends here, or goes on to the next value; true if the outermost value has ended.
    fn after_value(&mut self) -> Result<bool, JsonError> {
        while let Some(&open) = self.open.last() {
            self.space();
            match (open, self.peek()) {
                (Open::Array, Some(b',')) => {
                    self.step();
                    return Ok(false);
                }
                (Open::Object { .. }, Some(b',')) => {
                    self.step();
                    self.space();
                    self.name()?;
                    return Ok(false);
                }
                (Open::Array, Some(b']')) => {}
                (Open::Object { first_name }, Some(b'}')) => self.close_names(first_name)?,
                _ => return Err(JsonError::Malformed),
            }
            self.step();
            self.open.pop();
        }
        Ok(true)
    }

    /// Sorting finds duplicates in n log n, however many names there are.
    fn close_names(&mut self, first: usize) -> Result<(), JsonError> {
        let names = self.names.get_mut(first..).unwrap_or_default();
        names.sort_unstable();
        let duplicate = names.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
        self.names.truncate(first);
        if duplicate { Err(JsonError::DuplicateName) } else { Ok(()) }
    }

    fn name(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(JsonError::Malformed);
        }
        let literal = self.string()?;
        self.names.push(decode(literal).ok_or(JsonError::Malformed)?);
        self.space();
        if self.peek() != Some(b':') {
            return Err(JsonError::Malformed);
        }
        self.step();
        Ok(())
    }

    /// Reads a string and returns it as it was written, quotes included.
    fn string(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        let mut uncopied = start;
        self.at += 1;
        loop {
            self.at += self.plain_bytes();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.copy(uncopied)?;
                    return self.text.get(start..self.at).ok_or(JsonError::Malformed);
                }
                Some(b'\\') => self.escape()?,
                Some(0x7f..) if self.out.is_some() => {
                    self.copy(uncopied)?;
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    let character = rest.chars().next().ok_or(JsonError::Malformed)?;
                    self.at += character.len_utf8();
                    uncopied = self.at;
                    if let Some(out) = &mut self.out {
                        string::push_escaped(out, character);
                    }
                }
                _ => return Err(JsonError::Malformed),
            }
        }
    }

    /// How many bytes from here on stand for themselves in any string.
    #[expect(clippy::indexing_slicing, reason = "there is a place for each byte")]
    fn plain_bytes(&self) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        rest.iter().position(|&byte| !PLAIN[usize::from(byte)]).unwrap_or(rest.len())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        match rest {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [b'\\', b'u', digits @ ..] => {
                let unit = string::unit(digits).ok_or(JsonError::Malformed)?;
                match unit {
                    0xd800..=0xdbff => {
                        let low = match digits.get(4..) {
                            Some([b'\\', b'u', digits @ ..]) => string::unit(digits),
                            _ => None,
                        };
                        if !matches!(low, Some(0xdc00..=0xdfff)) {
                            return Err(JsonError::LoneSurrogate);
                        }
                        self.at += 12;
                    }
                    0xdc00..=0xdfff => return Err(JsonError::LoneSurrogate),
                    _ => self.at += 6,
                }
            }
            _ => return Err(JsonError::Malformed),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.copy(start)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(JsonError::Malformed) } else { Ok(()) }
    }

    fn literal(&mut self, word: &str) -> Result<(), JsonError> {
        let start = self.at;
        if !self.text.get(start..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(JsonError::Malformed);
        }
        self.at += word.len();
        self.copy(start)
    }

    /// White space is dropped where the wire form is being made, and left standing (to be refused) where it must be.
    fn space(&mut self) {
        while self.out.is_some() && matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.peek().is_none() { Ok(()) } else { Err(JsonError::Malformed) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes one ASCII character over.
    fn step(&mut self) {
        if let (Some(byte), Some(out)) = (self.peek(), &mut self.out) {
            out.push(char::from(byte));
        }
        self.at += 1;
    }

    fn copy(&mut self, from: usize) -> Result<(), JsonError> {
        if let Some(out) = &mut self.out {
            out.push_str(self.text.get(from..self.at).ok_or(JsonError::Malformed)?);
        }
        Ok(())
    }
}
