//! Walking over the members of an object in wire form.

use std::borrow::Cow;

use super::decode;

/// One member of an object, as it is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member<'a> {
    /// The name as a JSON string, quotes included.
    pub name: &'a str,
    /// The value's JSON text.
    pub value: &'a str,
}

impl<'a> Member<'a> {
    /// The name decoded.
    pub fn key(&self) -> Cow<'a, str> {
        decode(self.name).unwrap_or_default()
    }

    pub fn is(&self, key: &str) -> bool {
        self.key() == key
    }
}

/// The members of an object in wire form, in their order. Of text that is not in wire form it gives fewer, or none.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Members<'a> {
    pub fn new(object: &'a str) -> Self {
        Self { text: object, at: 0 }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let bytes = self.text.as_bytes();
        let name_start = self.at + 1;
        if bytes.get(name_start) != Some(&b'"') {
            return None;
        }
        let name_end = string_end(bytes, name_start)?;
        let value_end = value_end(bytes, name_end + 1)?;
        self.at = value_end;
        Some(Member { name: self.text.get(name_start..name_end)?, value: self.text.get(name_end + 1..value_end)? })
    }
}

fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value ends: at the first comma or closing bracket that is not its own.
fn value_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match bytes.get(at)? {
            b'"' => at = string_end(bytes, at)? - 1,
            b'{' | b'[' => depth += 1,
            b',' if depth == 0 => return Some(at),
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}
