//! JSON as it comes (RFC 8259) into JSON as we keep it: one line of ASCII, every number and escape as it was written.
//!
//! Nothing here builds a tree. [`compact`] and [`read_object`] turn foreign text into wire form, [`check_object`] makes
//! sure that text is in wire form already, [`Members`] walks an object that is.

mod members;
mod scanner;
mod string;

pub use self::members::{Member, Members};
use self::scanner::Scanner;
pub use self::string::{decode, encode};

/// Why a text is not the JSON we take.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JsonError {
    #[error("a name stands twice in one object")]
    DuplicateName,
    #[error("half of a surrogate pair stands alone")]
    LoneSurrogate,
    #[error("not JSON")]
    Malformed,
    #[error("nested too deeply")]
    TooDeep,
    #[error("not UTF-8")]
    Utf8,
}

/// Turns one JSON value of any kind into wire form. An object or array at the top has depth 1.
///
/// # Errors
/// When `bytes` hold anything but one value, names a key twice in one object or nest deeper than `max_depth`.
pub fn compact(bytes: &[u8], max_depth: usize) -> Result<String, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::Utf8)?;
    let mut scanner = Scanner::new(text, max_depth, Some(String::with_capacity(text.len())));
    scanner.value()?;
    scanner.end()?;
    Ok(scanner.out.unwrap_or_default())
}

/// Reads one JSON object from the start of `text`: its wire form, and the text that follows it.
///
/// # Errors
/// As [`compact`], and when the value is no object.
pub fn read_object(text: &str, max_depth: usize) -> Result<(String, &str), JsonError> {
    let mut scanner = Scanner::new(text, max_depth, Some(String::new()));
    scanner.object()?;
    let rest = text.get(scanner.at..).unwrap_or_default();
    Ok((scanner.out.unwrap_or_default(), rest))
}

/// Makes sure that `bytes` are one object in wire form, whoever wrote them, and hands them back as text.
///
/// # Errors
/// As [`read_object`], and for white space between tokens, bytes outside 0x20..=0x7e or anything after the object.
pub fn check_object(bytes: &[u8], max_depth: usize) -> Result<&str, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::Utf8)?;
    let mut scanner = Scanner::new(text, max_depth, None);
    scanner.object()?;
    scanner.end()?;
    Ok(text)
}

#[cfg(test)]
pub(in crate::session) mod tests;
