//! `[headers]`: which headers backends get, and under which names.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit};
use hyper::header::HeaderName;
use serde::Deserialize;

use super::{Exposed, Injector, Problem, names};
use crate::secret::Secret;
use crate::session::data::{Data, EXPIRY_KEY};
use crate::units;

/// Names that frame messages, belong to one connection, or that the proxy itself answers for; in normalised form.
const TAKEN: [&str; 17] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

const MIN_ID_KEY_BYTES: usize = 32;

/// `[headers]` as written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderSettings {
    /// Send `X-Session-Data`.
    pub data: bool,
    /// Session keys that get a header of their own.
    pub expose: Expose,
    /// Send `X-Session-Id`, a public id that is not the cookie's value; needs `id_key`.
    pub id: bool,
    /// At least 32 bytes, the same on every proxy.
    pub id_key: Option<Secret>,
    /// Send `X-Session-Expires-In`.
    pub expires_in: bool,
    /// Data longer than this is not sent.
    #[serde(deserialize_with = "units::size")]
    pub max_header_bytes: usize,
    /// What becomes of an update that makes the data longer than `max_header_bytes`.
    pub on_overflow: OnOverflow,
}

/// `["user_id"]` or `{ user_id = "X-Remote-User" }`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged, expecting = "expected a list of session keys, or a table of session keys and header names")]
pub enum Expose {
    Keys(Vec<String>),
    Named(BTreeMap<String, String>),
}

/// What becomes of an update that would make the data too long for `X-Session-Data`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum OnOverflow {
    /// Stored, and announced with `X-Session-Overflow`.
    Announce,
    #[default]
    Refuse,
}

impl Default for HeaderSettings {
    fn default() -> Self {
        Self {
            data: true,
            expose: Expose::Keys(Vec::new()),
            id: false,
            id_key: None,
            expires_in: false,
            max_header_bytes: 4 << 10,
            on_overflow: OnOverflow::default(),
        }
    }
}

impl HeaderSettings {
    /// # Errors
    /// For header names that are not names, are not the operator's to give or stand for one another, and for a missing
    /// or short `id_key`.
    pub fn check(&self) -> Result<Injector, Problem> {
        if self.max_header_bytes < Data::empty().len() {
            let message = "must be at least 2, an empty object; data = false turns X-Session-Data off";
            return Err(Problem::new("headers.max_header_bytes", self.max_header_bytes, message));
        }
        let mut exposed: Vec<Exposed> = Vec::new();
        for (key, name) in self.names() {
            let new = expose(key, &name)?;
            if let Some(twin) = exposed.iter().find(|other| other.normalised == new.normalised) {
                let message = format!("many backends could not tell it from the header of the key {:?}", twin.key);
                return Err(problem(key, &name, message));
            }
            exposed.push(new);
        }
        Ok(Injector {
            data: self.data,
            exposed,
            public_ids: self.public_ids()?,
            expires_in: self.expires_in,
            max_header_bytes: self.max_header_bytes,
        })
    }

    /// Bytes above which an update is refused because `X-Session-Data` could not be sent.
    pub fn refused_above(&self) -> Option<usize> {
        (self.data && self.on_overflow == OnOverflow::Refuse).then_some(self.max_header_bytes)
    }

    fn names(&self) -> Vec<(&String, String)> {
        match &self.expose {
            Expose::Keys(keys) => keys.iter().map(|key| (key, attribute_name(key))).collect(),
            Expose::Named(named) => named.iter().map(|(key, name)| (key, name.clone())).collect(),
        }
    }

    fn public_ids(&self) -> Result<Option<Hmac<sha2::Sha256>>, Problem> {
        if !self.id {
            return Ok(None);
        }
        let Some(key) = &self.id_key else {
            return Err(Problem::new("headers.id", true, "needs headers.id_key, the same on every proxy"));
        };
        let key = key.expose().as_bytes();
        if key.len() < MIN_ID_KEY_BYTES {
            let message = format!("must be at least {MIN_ID_KEY_BYTES} bytes");
            return Err(Problem::new("headers.id_key", format!("({} bytes)", key.len()), message));
        }
        let message = "cannot be used as a key";
        Hmac::new_from_slice(key).map(Some).map_err(|_| Problem::new("headers.id_key", "(secret)", message))
    }
}

fn attribute_name(key: &str) -> String {
    let name = key.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '-' });
    format!("X-Session-Attr-{}", name.collect::<String>())
}

fn expose(key: &str, name: &str) -> Result<Exposed, Problem> {
    if key.is_empty() || key == EXPIRY_KEY || key.chars().any(char::is_control) {
        return Err(problem(key, name, "no session can have this key"));
    }
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(problem(key, name, "is not the name of a header"));
    };
    let normalised = names::normalised(name);
    if TAKEN.contains(&normalised.as_str()) || normalised.starts_with("x-forwarded-") {
        return Err(problem(key, name, "is not free for use: it frames messages or is the proxy's own"));
    }
    if normalised.starts_with("x-session-") && !normalised.starts_with("x-session-attr-") {
        return Err(problem(key, name, "names that start with X-Session- are the proxy's own"));
    }
    Ok(Exposed { key: key.to_owned(), name: header, normalised })
}

fn problem(key: &str, name: &str, message: impl Into<String>) -> Problem {
    Problem::new(format!("headers.expose.{key}"), format!("{name:?}"), message)
}
