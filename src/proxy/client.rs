//! Who the visitor is: the peer, or whom trusted proxies before us say they speak for.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};
use ipnet::IpNet;

pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id taken over from a trusted proxy.
const LONGEST_ID: usize = 128;

/// Who is at the other end of a connection, and what every request that comes over it says about them.
pub struct Peer {
    ip: IpAddr,
    /// As `X-Forwarded-For` has it.
    address: HeaderValue,
    /// As `Forwarded` has it.
    node: String,
}

impl Peer {
    pub fn new(ip: IpAddr) -> Self {
        // A dual-stack socket shows an IPv4 peer as ::ffff:a.b.c.d, which no IPv4 network would contain.
        let ip = ip.to_canonical();
        let node = if ip.is_ipv4() { format!("for={ip}") } else { format!("for=\"[{ip}]\"") };
        Self { ip, address: value(ip.to_string()), node }
    }
}

/// What is known about the visitor, and what the backend is told about them.
pub struct Client {
    /// The visitor's address: the first from the right that is no trusted proxy's.
    pub ip: IpAddr,
    pub https: bool,
    pub request_id: Arc<str>,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    pub forwarded_for: HeaderValue,
    peer: Arc<Peer>,
    /// The `Forwarded` elements and the `X-Forwarded-Host` of the proxies before us.
    elements: Vec<String>,
    given_host: Option<HeaderValue>,
}

impl Client {
    /// Reads the forwarding headers of a request that came from `peer`; they are believed only if `trusted` has it.
    pub fn new(peer: Arc<Peer>, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
        let believed = is_trusted(&peer.ip).then_some(headers);
        let chain = believed.map(|headers| list(headers, &FORWARDED_FOR)).unwrap_or_default();
        let elements = believed.map(|headers| list(headers, &FORWARDED)).unwrap_or_default();
        let hops: Vec<Option<IpAddr>> = if chain.is_empty() {
            elements.iter().map(|element| parameter(element, "for").and_then(|node| address(&node))).collect()
        } else {
            chain.iter().map(|hop| address(hop)).collect()
        };
        let mut ip = peer.ip;
        for hop in hops.iter().rev() {
            // What cannot be read is not walked past: what stands left of it is anyone's word.
            let Some(hop) = hop else { break };
            ip = *hop;
            if !is_trusted(hop) {
                break;
            }
        }
        let proto = believed.and_then(|headers| list(headers, &FORWARDED_PROTO).pop());
        let proto = proto.or_else(|| elements.last().and_then(|element| parameter(element, "proto")));
        let https = proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        Self {
            ip,
            https,
            request_id: believed.and_then(given_id).unwrap_or_else(new_id),
            trusted: believed.is_some(),
            forwarded_for: if chain.is_empty() {
                peer.address.clone()
            } else {
                value(format!("{}, {}", chain.join(", "), peer.ip))
            },
            peer,
            elements,
            given_host: believed.and_then(|headers| headers.get(FORWARDED_HOST)).cloned(),
        }
    }

    /// `X-Forwarded-Host` for a request to `host`, which is what the request was routed by.
    pub fn forwarded_host(&self, host: Option<&HeaderValue>) -> Option<HeaderValue> {
        self.given_host.as_ref().or(host).filter(|host| !host.is_empty()).cloned()
    }

    /// `Forwarded` for a request to `host` (RFC 7239).
    pub fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let before: usize = self.elements.iter().map(|element| element.len() + 2).sum();
        let mut text =
            String::with_capacity(before + self.peer.node.len() + ";proto=https;host=\"\"".len() + host.len());
        for element in &self.elements {
            text.push_str(element);
            text.push_str(", ");
        }
        text.push_str(&self.peer.node);
        text.push_str(if self.https { ";proto=https" } else { ";proto=http" });
        if !host.is_empty() && !host.bytes().any(|byte| matches!(byte, b'"' | b'\\')) {
            text.push_str(";host=\"");
            text.push_str(host);
            text.push('"');
        }
        value(text)
    }
}

/// The members of a comma-separated header, over all its lines. Commas in quoted strings do not count.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let members = lines.flat_map(|line| split_unquoted(line, ','));
    members.map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        let inside = quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == separator && !inside
    })
}

/// A parameter of one `Forwarded` element (RFC 7239 section 4), without its quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    split_unquoted(element, ';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim().trim_matches('"');
        key.trim().eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// The address of a hop, with or without port, brackets or an IPv4-mapped form.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(hop, |(inside, _)| inside);
    let ip: Option<IpAddr> = bare.parse().ok();
    let with_port =
        || bare.rsplit_once(':').filter(|(host, _)| !host.contains(':')).and_then(|(host, _)| host.parse().ok());
    ip.or_else(with_port).map(|ip| ip.to_canonical())
}

fn value(text: String) -> HeaderValue {
    // All parts come from header values or are digits and letters of our own.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn given_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    (!id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(plain)).then(|| id.into())
}

fn new_id() -> Arc<str> {
    let mut text = [0; 32];
    // As long as twice the random bytes, so there is room for all of them.
    hex::encode_to_slice(rand::random::<[u8; 16]>(), &mut text).ok();
    std::str::from_utf8(&text).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> Client {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        Client::new(Arc::new(Peer::new(peer.parse().unwrap())), &lines.iter().map(line).collect(), &trusted)
    }

    const FOR: &str = "x-forwarded-for";

    #[test]
    fn m15_the_visitor_is_the_first_from_the_right_who_is_not_trusted() {
        for (peer, lines, ip) in [
            ("9.9.9.9", &[][..], "9.9.9.9"),
            ("9.9.9.9", &[(FOR, "6.6.6.6")], "9.9.9.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[(FOR, "9.9.9.9")], "9.9.9.9"),
            ("10.0.0.1", &[(FOR, "6.6.6.6, 9.9.9.9")], "9.9.9.9"),
            ("10.0.0.1", &[(FOR, "6.6.6.6, 9.9.9.9, 10.0.0.2 ,10.0.0.3")], "9.9.9.9"),
            ("10.0.0.1", &[(FOR, "6.6.6.6"), (FOR, "9.9.9.9"), (FOR, "10.0.0.2")], "9.9.9.9"),
            ("10.0.0.1", &[(FOR, "10.0.0.2, 10.0.0.3")], "10.0.0.2"),
            ("10.0.0.1", &[(FOR, "6.6.6.6, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(FOR, "6.6.6.6, unknown, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[(FOR, ", ,")], "10.0.0.1"),
            ("::ffff:10.0.0.1", &[(FOR, "::ffff:9.9.9.9")], "9.9.9.9"),
            ("2001:db8::1", &[(FOR, "[2001:dba::7]:443")], "2001:dba::7"),
            ("10.0.0.1", &[("forwarded", "for=9.9.9.9")], "9.9.9.9"),
            ("10.0.0.1", &[("forwarded", "for=6.6.6.6, For=\"9.9.9.9:80\";proto=https")], "9.9.9.9"),
            ("10.0.0.1", &[("forwarded", "for=\"_a,b\", for=\"[2001:dba::7]\"")], "2001:dba::7"),
            ("10.0.0.1", &[("forwarded", "for=6.6.6.6, proto=https")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=6.6.6.6, for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=6.6.6.6"), (FOR, "9.9.9.9")], "9.9.9.9"),
            ("9.9.9.9", &[("forwarded", "for=6.6.6.6")], "9.9.9.9"),
        ] {
            assert_eq!(client(peer, lines).ip, ip.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
    }

    #[test]
    fn m15_https_is_what_the_nearest_trusted_proxy_says() {
        for (peer, lines, https) in [
            ("9.9.9.9", &[("x-forwarded-proto", "https")][..], false),
            ("10.0.0.1", &[], false),
            ("10.0.0.1", &[("x-forwarded-proto", "HTTPS")], true),
            ("10.0.0.1", &[("x-forwarded-proto", "https, http")], false),
            ("10.0.0.1", &[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")], true),
            ("10.0.0.1", &[("x-forwarded-proto", "http"), ("forwarded", "proto=https")], false),
            ("10.0.0.1", &[("forwarded", "proto=https")], true),
            ("10.0.0.1", &[("forwarded", "proto=https, proto=http")], false),
            ("10.0.0.1", &[("forwarded", "host=\"a;proto=https\"")], false),
        ] {
            assert_eq!(client(peer, lines).https, https, "{peer} {lines:?}");
        }
    }

    #[test]
    fn what_is_told_is_added_to_what_is_believed() {
        let lines = [(FOR, "9.9.9.9"), ("forwarded", "for=9.9.9.9"), ("x-forwarded-host", "public"), ("host", "h:80")];
        for (peer, chain, forwarded, host) in [
            ("8.8.8.8", "8.8.8.8", "for=8.8.8.8;proto=http;host=\"h:80\"", "h:80"),
            ("10.0.0.1", "9.9.9.9, 10.0.0.1", "for=9.9.9.9, for=10.0.0.1;proto=http;host=\"h:80\"", "public"),
            ("2001:dba::1", "2001:dba::1", "for=\"[2001:dba::1]\";proto=http;host=\"h:80\"", "h:80"),
        ] {
            let client = client(peer, &lines);
            let asked = HeaderValue::from_static("h:80");
            assert_eq!(client.forwarded_for, chain);
            assert_eq!(client.forwarded(Some(&asked)), forwarded);
            assert_eq!(client.forwarded_host(Some(&asked)).unwrap(), host);
        }
        let stranger = client("8.8.8.8", &[]);
        assert_eq!(stranger.forwarded(Some(&HeaderValue::from_static("a\"b"))), "for=8.8.8.8;proto=http");
        assert!(stranger.forwarded_host(Some(&HeaderValue::from_static(""))).is_none());
    }

    #[test]
    fn an_id_is_taken_from_a_trusted_proxy_and_only_if_plain() {
        let longest = "a".repeat(LONGEST_ID);
        let longer = "a".repeat(LONGEST_ID + 1);
        for (peer, id, taken) in [
            ("10.0.0.1", "a-B_9.:/+=", true),
            ("10.0.0.1", longest.as_str(), true),
            ("10.0.0.1", longer.as_str(), false),
            ("10.0.0.1", "", false),
            ("10.0.0.1", "a b", false),
            ("10.0.0.1", "<", false),
            ("10.0.0.1", "\u{e9}", false),
            ("9.9.9.9", "abc", false),
        ] {
            assert_eq!(*client(peer, &[("x-request-id", id)]).request_id == *id, taken, "{peer} {id:?}");
        }
        assert_ne!(new_id(), new_id());
    }

    #[test]
    fn quoted_separators_do_not_separate() {
        for (text, parts) in [
            ("a,b", &["a", "b"][..]),
            (r#""a,b",c"#, &[r#""a,b""#, "c"]),
            (r#""a\",b",c"#, &[r#""a\",b""#, "c"]),
            (r#""a\\",b"#, &[r#""a\\""#, "b"]),
            (r#""open,b"#, &[r#""open,b"#]),
            (r"a\,b", &[r"a\", "b"]),
            ("", &[""]),
        ] {
            assert_eq!(split_unquoted(text, ',').collect::<Vec<_>>(), parts, "{text}");
        }
    }
}
