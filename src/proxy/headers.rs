//! Which headers go on: to the backend, and to the visitor.

use hyper::HeaderMap;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, EXPIRES, Entry, FORWARDED, HOST,
    HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE, VARY,
};

use super::client::{Client, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REQUEST_ID};
use crate::session::names;

/// Headers that speak about one connection (RFC 9110 section 7.6.1), and so end here.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        CONNECTION | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRANSFER_ENCODING | UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

/// Headers that this adds to a request, and those of a session.
const ADDED: usize = 10;

/// Makes a request's headers the backend's. What is injected comes after this, so that `Connection` cannot name it.
pub fn to_backend(headers: &mut HeaderMap, client: &Client) {
    headers.reserve(ADDED);
    let trailers = headers.get_all(TE).iter().any(|line| {
        let mut codings = line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    });
    // The visitor's 100 (Continue) comes from us, when the backend starts to take the body.
    remove_hop_by_hop_and(headers, |name| *name == EXPECT || is_claim(name.as_str(), client.trusted));
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.insert(FORWARDED_FOR, client.forwarded_for.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if client.https { "https" } else { "http" }));
    let host = headers.get(HOST);
    let (forwarded_host, forwarded) = (client.forwarded_host(host), client.forwarded(host));
    if let Some(host) = forwarded_host {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(FORWARDED, forwarded);
    if let Ok(id) = HeaderValue::from_str(&client.request_id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// Takes out of a request's trailers what its head may not have either, or only as we write it: a backend that merges
/// trailers into the head would believe them (RFC 9110 section 6.5.1).
pub fn clean_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop_and(trailers, |name| is_claim(name.as_str(), false));
    for name in [HOST, CONTENT_LENGTH, COOKIE, COOKIE, AUTHORIZATION] {
        trailers.remove(name);
    }
}

/// Makes a response's headers the visitor's: `cookie` is our own `Set-Cookie` line, `vary` says that the response
/// depends on the visitor's cookie.
pub fn to_client(headers: &mut HeaderMap, cookie: Option<HeaderValue>, vary: bool) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9112 section 6.3: the chunks were read, so a length beside them would describe another body.
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop_and(headers, |_| false);
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
        // RFC 9111 section 7.3: a shared cache must not replay the cookie to others.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        headers.remove(EXPIRES);
    }
    if vary {
        add_vary(headers);
    }
}

/// One look at each name for all that goes costs less than asking the map for each; mostly nothing does.
fn remove_hop_by_hop_and(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let lines = headers.get_all(CONNECTION).iter();
    let named = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let named: Vec<HeaderName> =
        named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).filter(may_be_named).collect();
    for name in named {
        headers.remove(name);
    }
    names::remove_where(headers, |name| is_hop_by_hop(name) || goes(name));
}

/// A connection option names no field meant for the end (RFC 9110 section 7.6.1); where one does, following it would
/// change whom the message is for or how long it is.
fn may_be_named(name: &HeaderName) -> bool {
    !matches!(*name, HOST | CONTENT_LENGTH)
}

/// Whether it is what a visitor says about themselves in the name of a proxy, or a twin of such a name: the CGI variable
/// is the same. A trusted proxy's further `X-Forwarded-*` are not.
fn is_claim(name: &str, trusted: bool) -> bool {
    let claim = CLAIMS.iter().any(|claim| names::is_twin(name, claim)) || names::starts_like(name, "x-forwarded-");
    // `Proxy` becomes HTTP_PROXY, which CGI programs take for their own proxy.
    names::is_twin(name, "proxy") || claim && !(trusted && is_plain(name))
}

const CLAIMS: [&str; 3] = ["forwarded", "x-real-ip", "x-request-id"];

/// Whether a name is its own normalised form.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Adds `Cookie` to `Vary` unless it is there (Django's `patch_vary_headers`).
fn add_vary(headers: &mut HeaderMap) {
    const COOKIE_ALONE: HeaderValue = HeaderValue::from_static("Cookie");
    let mut lines = match headers.entry(VARY) {
        Entry::Vacant(none) => {
            none.insert(COOKIE_ALONE);
            return;
        }
        Entry::Occupied(lines) => lines,
    };
    let mut members = lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    if members.any(|member| member == b"*" || member.eq_ignore_ascii_case(b"cookie")) {
        return;
    }
    let only = lines.get();
    if lines.iter().count() == 1 && !only.is_empty() {
        if let Ok(joined) = HeaderValue::from_bytes(&[only.as_bytes(), b", Cookie"].concat()) {
            lines.insert(joined);
        }
    } else {
        lines.append(COOKIE_ALONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn m11_hop_by_hop_headers_and_what_connection_names_go() {
        let mut headers = map(&[
            ("connection", "a,, B ,\tc, not a name, host, content-length"),
            ("connection", "d"),
            ("a", "1"),
            ("b", "1"),
            ("c", "1"),
            ("d", "1"),
            ("e", "1"),
            ("host", "h"),
            ("content-length", "4"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
        ]);
        remove_hop_by_hop_and(&mut headers, |_| false);
        assert_eq!(headers, map(&[("e", "1"), ("host", "h"), ("content-length", "4")]));
    }

    #[test]
    fn m15_claims_go_and_their_twins_even_from_those_who_are_trusted() {
        for (name, stranger, trusted) in [
            ("forwarded", false, true),
            ("x-forwarded-for", false, true),
            ("x-forwarded-anything", false, true),
            ("x-real-ip", false, true),
            ("x-request-id", false, true),
            ("x_forwarded_for", false, false),
            ("x-forwarded_for", false, false),
            ("x.real~ip", false, false),
            ("x_request_id", false, false),
            ("proxy", false, false),
            ("x-forwarded", true, true),
            ("x-real-ips", true, true),
            ("forwarded-for", true, true),
            ("proxying", true, true),
        ] {
            for (is_trusted, stays) in [(false, stranger), (true, trusted)] {
                let mut headers = map(&[(name, "v")]);
                remove_hop_by_hop_and(&mut headers, |name| is_claim(name.as_str(), is_trusted));
                assert_eq!(!headers.is_empty(), stays, "{name} {is_trusted}");
            }
        }
    }

    #[test]
    fn o2_vary_gets_the_cookie_once() {
        for (before, after) in [
            (&[][..], &["Cookie"][..]),
            (&[""], &["", "Cookie"]),
            (&["Accept"], &["Accept, Cookie"]),
            (&["Accept", "Origin"], &["Accept", "Origin", "Cookie"]),
            (&["Accept ,\tCOOKIE"], &["Accept ,\tCOOKIE"]),
            (&["Accept", "cookie"], &["Accept", "cookie"]),
            (&["*"], &["*"]),
            (&["Cookie-Name"], &["Cookie-Name, Cookie"]),
        ] {
            let mut headers = map(&before.iter().map(|value| ("vary", *value)).collect::<Vec<_>>());
            add_vary(&mut headers);
            assert_eq!(values(&headers, "vary"), after, "{before:?}");
        }
    }

    #[test]
    fn o1_our_cookie_makes_an_answer_private() {
        let answer = [("cache-control", "public"), ("expires", "0"), ("set-cookie", "theirs=1")];
        let mut headers = map(&answer);
        to_client(&mut headers, None, false);
        assert_eq!(headers, map(&answer));
        to_client(&mut headers, Some(HeaderValue::from_static("ours=1")), false);
        assert_eq!(values(&headers, "set-cookie"), ["theirs=1", "ours=1"]);
        assert_eq!(values(&headers, "cache-control"), ["private, no-store"]);
        assert!(!headers.contains_key(EXPIRES));
    }

    #[test]
    fn beside_chunks_a_length_goes() {
        let mut headers = map(&[("content-length", "4"), ("transfer-encoding", "chunked")]);
        to_client(&mut headers, None, false);
        assert!(headers.is_empty());
    }
}
