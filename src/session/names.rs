//! Which header names are ours, and how they are taken out of a message.
//!
//! The normalised name of a header is its name in lower case with every character outside `a-z0-9` replaced by `-`:
//! CGI, WSGI and PHP map all of these to one variable (RFC 9110, section 17.10), so they count as one here.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, TRAILER};

const PREFIX: &str = "x-session-";

/// Whether the name belongs to the protocol, or could be taken for one that does.
pub fn is_ours(name: &str) -> bool {
    starts_like(name, PREFIX)
}

pub(super) fn normalised(name: &str) -> String {
    name.bytes().map(|byte| char::from(normalised_byte(byte))).collect()
}

/// Whether `name` normalises to `normalised`, which is in normalised form.
pub fn is_twin(name: &str, normalised: &str) -> bool {
    name.len() == normalised.len() && name.bytes().map(normalised_byte).eq(normalised.bytes())
}

/// Whether `name` normalises to something that starts with `normalised`.
pub fn starts_like(name: &str, normalised: &str) -> bool {
    name.len() >= normalised.len()
        && name.bytes().map(normalised_byte).zip(normalised.bytes()).all(|(one, other)| one == other)
}

const fn normalised_byte(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Takes every header of the protocol out of a response (of any status, on any route) or its trailers, and its name
/// out of `Trailer`.
pub fn strip(headers: &mut HeaderMap) {
    strip_where(headers, is_ours);
}

/// As [`strip`], for the names that `goes` says.
pub(super) fn strip_where(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    remove_where(headers, |name| goes(name.as_str()));
    if headers.contains_key(TRAILER) {
        strip_trailer_names(headers, goes);
    }
}

/// Takes out every header whose name `goes`; costs one look at each name if there is none.
pub fn remove_where(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

fn strip_trailer_names(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    let goes = |name: &&[u8]| std::str::from_utf8(name).is_ok_and(&goes);
    let names = || headers.get_all(TRAILER).iter().flat_map(|line| members(line.as_bytes()));
    if !names().any(|name| goes(&name)) {
        return;
    }
    let kept = names().filter(|name| !goes(name)).collect::<Vec<_>>().join(&b", "[..]);
    headers.remove(TRAILER);
    if let (false, Ok(kept)) = (kept.is_empty(), HeaderValue::from_bytes(&kept)) {
        headers.insert(TRAILER, kept);
    }
}

/// The members of a comma-separated list, without the white space around them; empty ones are left out (RFC 9110,
/// section 5.6.1.2).
pub(super) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_h3_twins_are_ours_and_neighbours_are_not() {
        for name in ["x-session-data", "X_SESSION_DATA", "x.session~set", "X!Session!", "x-session-"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["", "x", "x-session", "x-sessions", "xsession-data", "x--session-data", "ax-session-data"] {
            assert!(!is_ours(name), "{name}");
        }
        assert!(is_twin("X_Remote.User", "x-remote-user"));
        assert!(!is_twin("X-Remote-Use", "x-remote-user") && !is_twin("X-Remote-User2", "x-remote-user"));
        assert_eq!(normalised("X_Remote.User"), "x-remote-user");
    }

    #[test]
    fn trailer_names_keep_their_order_and_lines_that_are_not_touched() {
        let trailer = |lines: &[&str]| {
            let mut headers: HeaderMap =
                lines.iter().map(|line| (TRAILER, HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect();
            strip(&mut headers);
            headers.get_all(TRAILER).iter().map(|line| line.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(trailer(&["A ,B", "C"]), ["A ,B", "C"]);
        assert_eq!(trailer(&["A, x_session_set,,B", "X-Session-Data", "C"]), ["A, B, C"]);
        assert!(trailer(&["X-Session-Data, x-session.data"]).is_empty());
    }
}
