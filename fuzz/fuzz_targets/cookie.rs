//! Cookies, both ways. Input: lines of a head; those that start with `S` are `Set-Cookie`, all others `Cookie`, without
//! that first byte. The first byte of all chooses a name.
#![no_main]

use cloakroom::session::cookie::{CookiePolicy, CookieSettings, Secure};
use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, SET_COOKIE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, lines)) = bytes.split_first() else { return };
    let name = ["sessionid", "__Host-s", "s"][usize::from(choice % 3)];
    let settings = CookieSettings { name: name.to_owned(), secure: Secure::Always, ..CookieSettings::default() };
    let policy = settings.check().expect("good settings");
    let mut headers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Some((kind, value)) = line.split_first() else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(if *kind == b'S' { SET_COOKIE } else { COOKIE }, value);
    }
    request(&policy, name, &headers);
    response(&policy, name, &headers);
});

/// Ours go, the others stay byte for byte and in their order.
fn request(policy: &CookiePolicy, name: &str, headers: &HeaderMap) {
    let mut taken = headers.clone();
    let ids = policy.take(&mut taken);
    assert!(ids.len() <= 8);
    for (index, id) in ids.iter().enumerate() {
        let id = id.as_str();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        assert!(ids[..index].iter().all(|other| other.as_str() != id), "each once");
    }
    assert!(pairs(&taken).iter().all(|pair| name_of(pair) != Some(name.as_bytes())), "one of ours is left");
    assert!(taken.get_all(COOKIE).iter().count() <= 1, "several lines are one");
    let is_other = |pair: &&[u8]| !pair.is_empty() && name_of(pair) != Some(name.as_bytes());
    let before: Vec<_> = pairs(headers).into_iter().filter(is_other).collect();
    assert_eq!(pairs(&taken).into_iter().filter(|pair| !pair.is_empty()).collect::<Vec<_>>(), before);
    if headers.get_all(COOKIE).iter().count() == 1
        && pairs(headers).into_iter().filter(is_other).count() == pairs(headers).len()
    {
        assert_eq!(taken.get(COOKIE), headers.get(COOKIE), "a line without ours is not touched");
    }
    let sets = |headers: &HeaderMap| headers.get_all(SET_COOKIE).iter().cloned().collect::<Vec<_>>();
    assert_eq!(sets(&taken), sets(headers), "requests have no business with Set-Cookie");
}

fn pairs(headers: &HeaderMap) -> Vec<&[u8]> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|&byte| byte == b';')).map(<[u8]>::trim_ascii).collect()
}

fn name_of(pair: &[u8]) -> Option<&[u8]> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    Some(pair[..equals].trim_ascii())
}

/// Whatever a backend sets, no browser sends it back as a cookie of ours; the other lines stay as they are.
fn response(policy: &CookiePolicy, name: &str, headers: &HeaderMap) {
    let mut cleaned = headers.clone();
    policy.drop_own(&mut cleaned);
    let mut lines = headers.get_all(SET_COOKIE).iter();
    for line in cleaned.get_all(SET_COOKIE) {
        assert!(lines.any(|before| before == line), "lines stay as they are, in order");
        let sent_back = sent_back(line.as_bytes());
        assert_ne!(name_of(sent_back.as_bytes()), Some(name.as_bytes()), "a cookie of ours passed");
    }
    for line in headers.get_all(SET_COOKIE) {
        let passed = cleaned.get_all(SET_COOKIE).iter().any(|other| other == line);
        let sent_back = sent_back(line.as_bytes());
        let set = name_of(sent_back.as_bytes()).unwrap_or_default();
        assert!(passed || set.eq_ignore_ascii_case(name.as_bytes()), "a cookie of others was dropped");
    }
    let cookies = |headers: &HeaderMap| headers.get_all(COOKIE).iter().cloned().collect::<Vec<_>>();
    assert_eq!(cookies(&cleaned), cookies(headers), "responses have no business with Cookie");
}

/// What a browser makes of a `Set-Cookie` line, and sends (RFC 6265bis, sections 5.6 and 5.8.3).
fn sent_back(line: &[u8]) -> HeaderValue {
    let pair = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
        Some(equals) => (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii()),
        None => (&b""[..], pair.trim_ascii()),
    };
    let sent = if name.is_empty() { value.to_vec() } else { [name, b"=", value].concat() };
    HeaderValue::from_bytes(&sent).expect("part of a header value")
}
