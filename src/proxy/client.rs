//! Who the visitor is: the peer, or whom trusted proxies before us say they speak for.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HOST, HeaderName, HeaderValue};
use ipnet::IpNet;

pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id taken over from a trusted proxy.
const LONGEST_ID: usize = 128;

/// What is known about the visitor, and what the backend is told about them.
pub struct Client {
    /// The visitor's address: the first from the right that is no trusted proxy's.
    pub ip: IpAddr,
    pub https: bool,
    pub request_id: Arc<str>,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    pub forwarded_for: HeaderValue,
    pub forwarded_host: Option<HeaderValue>,
    pub forwarded: HeaderValue,
}

impl Client {
    /// Reads the forwarding headers of a request that came from `peer`; they are believed only if `trusted` has it.
    pub fn new(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        // A dual-stack socket shows an IPv4 peer as ::ffff:a.b.c.d, which no IPv4 network would contain.
        let peer = peer.to_canonical();
        let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
        let believed = is_trusted(&peer).then_some(headers);
        let chain = believed.map(|headers| list(headers, &FORWARDED_FOR)).unwrap_or_default();
        let elements = believed.map(|headers| list(headers, &FORWARDED)).unwrap_or_default();
        let hops: Vec<Option<IpAddr>> = if chain.is_empty() {
            elements.iter().map(|element| parameter(element, "for").and_then(|node| address(&node))).collect()
        } else {
            chain.iter().map(|hop| address(hop)).collect()
        };
        let mut ip = peer;
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
        let host = believed.and_then(|headers| headers.get(FORWARDED_HOST)).or_else(|| headers.get(HOST));
        Self {
            ip,
            https,
            request_id: believed.and_then(given_id).unwrap_or_else(new_id),
            trusted: believed.is_some(),
            forwarded_for: value(&joined(&chain, &peer.to_string())),
            forwarded_host: host.filter(|host| !host.is_empty()).cloned(),
            forwarded: value(&joined(&elements, &element(peer, https, headers.get(HOST)))),
        }
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

fn joined(members: &[String], last: &str) -> String {
    let mut text = String::new();
    for member in members {
        text.push_str(member);
        text.push_str(", ");
    }
    text.push_str(last);
    text
}

/// Our own element of `Forwarded` (RFC 7239 section 4).
fn element(peer: IpAddr, https: bool, host: Option<&HeaderValue>) -> String {
    let mut element = match peer {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    element.push_str(if https { ";proto=https" } else { ";proto=http" });
    let host = host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty() && !host.contains(['"', '\\']));
    if let Some(host) = host {
        // Writing to a String cannot fail.
        let _ = write!(element, ";host=\"{host}\"");
    }
    element
}

fn value(text: &str) -> HeaderValue {
    // All parts come from header values or are digits and letters of our own.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn given_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    (!id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(plain)).then(|| id.into())
}

fn new_id() -> Arc<str> {
    hex::encode(rand::random::<[u8; 16]>()).into()
}
