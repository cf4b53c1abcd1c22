//! Forms: `key=value` members joined by `&` or `,`, percent-encoded.

use super::patch::Reason;

/// The parts of a list, without the white space around them; empty ones are left out.
pub(super) fn parts<'a>(text: &'a str, separators: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.split(separators).map(|part| part.trim_matches([' ', '\t'])).filter(|part| !part.is_empty())
}

/// One member, decoded.
pub(super) fn member(part: &str) -> Result<(String, String), Reason> {
    // A JSON object joined to a form would otherwise become a key that looks like its first half.
    if part.starts_with('{') {
        return Err(Reason::Malformed);
    }
    let (key, value) = part.split_once('=').ok_or(Reason::Malformed)?;
    Ok((decode(key)?, decode(value)?))
}

/// Undoes percent-encoding; `+` is a space (`application/x-www-form-urlencoded`, WHATWG URL, section 5.1), but unlike
/// there a `%` that is not followed by two digits is an error.
pub(super) fn decode(text: &str) -> Result<String, Reason> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let [high, low, after @ ..] = rest else { return Err(Reason::Malformed) };
                decoded.push(digit(*high)? << 4 | digit(*low)?);
                rest = after;
            }
            _ => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| Reason::Malformed)
}

fn digit(byte: u8) -> Result<u8, Reason> {
    let digit = char::from(byte).to_digit(16).ok_or(Reason::Malformed)?;
    u8::try_from(digit).map_err(|_| Reason::Malformed)
}
