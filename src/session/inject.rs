//! What backends are told: a session becomes request headers, and what a client forged of them goes.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::Sha256;

pub use self::settings::{Expose, HeaderSettings, OnOverflow};
use super::json::{self, Members};
use super::{Session, names};
use crate::problem::Problem;
use crate::store::Key;

mod settings;

const STATE: HeaderName = HeaderName::from_static("x-session-state");
const DATA: HeaderName = HeaderName::from_static("x-session-data");
const OVERFLOW: HeaderName = HeaderName::from_static("x-session-overflow");
const ID: HeaderName = HeaderName::from_static("x-session-id");
const EXPIRES_IN: HeaderName = HeaderName::from_static("x-session-expires-in");

/// What is known about a request's session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Active,
    /// The store could not be asked, and the route's policy is to go on.
    Degraded,
    None,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Degraded => "degraded",
            Self::None => "none",
        }
    }
}

/// `[headers]`, checked.
#[derive(Clone, Debug)]
pub struct Injector {
    data: bool,
    exposed: Vec<Exposed>,
    public_ids: Option<Hmac<Sha256>>,
    expires_in: bool,
    max_header_bytes: usize,
}

#[derive(Clone, Debug)]
struct Exposed {
    key: String,
    name: HeaderName,
    normalised: String,
}

impl Injector {
    /// Takes out of a client's request, or its trailers, all that could be taken for a header of ours; their names go
    /// from `Trailer` too. For every route, also where sessions are off.
    pub fn strip(&self, headers: &mut HeaderMap) {
        names::strip_where(headers, |name| {
            names::is_ours(name) || self.exposed.iter().any(|exposed| names::is_twin(name, &exposed.normalised))
        });
    }

    /// Whether [`Injector::add`] needs to know how long the session lives.
    pub const fn tells_expiry(&self) -> bool {
        self.expires_in
    }

    /// Tells the backend about the session; each header is exactly one line. Comes after [`Injector::strip`] and after
    /// hop-by-hop headers went, so that `Connection` cannot name what is added here. A session without a key has no
    /// public id.
    pub fn add(
        &self,
        headers: &mut HeaderMap,
        state: State,
        session: Option<(&Session, Option<&Key>)>,
        expires_in: Option<Duration>,
    ) {
        headers.insert(STATE, HeaderValue::from_static(state.as_str()));
        let Some((session, key)) = session else { return };
        if self.data {
            let length = session.data.wire().len();
            if length > self.max_header_bytes {
                insert(headers, OVERFLOW, format!("bytes={length}"));
            } else {
                headers.insert(DATA, session.data.header().clone());
            }
        }
        if !self.exposed.is_empty() {
            self.expose(headers, session.data.members());
        }
        if let (Some(public_ids), Some(key)) = (&self.public_ids, key) {
            let mut public_id = public_ids.clone();
            public_id.update(key.as_str().as_bytes());
            insert(headers, ID, hex::encode(public_id.finalize().into_bytes()));
        }
        if let (true, Some(left)) = (self.expires_in, expires_in) {
            headers.insert(EXPIRES_IN, left.as_secs().into());
        }
    }

    fn expose(&self, headers: &mut HeaderMap, members: Members<'_>) {
        for member in members {
            for exposed in self.exposed.iter().filter(|exposed| member.is(&exposed.key)) {
                if member.value != "null" {
                    insert(headers, exposed.name.clone(), attribute(member.value));
                }
            }
        }
    }
}

/// The value of one key: a string as it is, anything else as JSON; in both bytes outside 0x20..=0x7e, `%`, and spaces
/// at the ends are percent-encoded, so that one way of decoding fits all.
fn attribute(value: &str) -> String {
    const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

    let text = json::decode(value).unwrap_or(value.into());
    let start = text.trim_start_matches(' ');
    let inner = start.trim_end_matches(' ');
    let leading = "%20".repeat(text.len() - start.len());
    let trailing = "%20".repeat(start.len() - inner.len());
    format!("{leading}{}{trailing}", utf8_percent_encode(inner, ESCAPED))
}

/// What is put in is printable ASCII by construction; should it ever not be, no header is better than half of one.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: impl Into<Bytes>) {
    if let Ok(value) = HeaderValue::from_maybe_shared(value.into()) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
