//! `[cookie]`: name and attributes of the visitor's cookie.

use std::fmt;

use cookie::Cookie;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::{CookiePolicy, MAX_PAIR_BYTES};
use crate::problem::Problem;

/// Bytes of a session id, which has to fit beside the name.
const ID_BYTES: usize = 32;

/// Browsers ignore an attribute whose value is longer (RFC 6265bis, section 5.6).
const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// `[cookie]` as written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct CookieSettings {
    /// Django's `SESSION_COOKIE_NAME`, and so on.
    pub name: String,
    pub path: String,
    pub domain: Option<String>,
    pub secure: Secure,
    pub http_only: bool,
    pub same_site: SameSite,
    pub partitioned: bool,
}

impl Default for CookieSettings {
    fn default() -> Self {
        Self {
            name: "sessionid".to_owned(),
            path: "/".to_owned(),
            domain: None,
            secure: Secure::Auto,
            http_only: true,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }
}

/// Whether the cookie goes over HTTPS alone: `true`, `false` or `"auto"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Secure {
    Always,
    /// Marked so when the client's own connection is HTTPS.
    Auto,
    Never,
}

impl<'de> Deserialize<'de> for Secure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Secure;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true, false or \"auto\"")
            }

            fn visit_bool<E: Error>(self, secure: bool) -> Result<Secure, E> {
                Ok(if secure { Secure::Always } else { Secure::Never })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secure, E> {
                if text == "auto" {
                    Ok(Secure::Auto)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }
        }

        deserializer.deserialize_any(Written)
    }
}

/// The cookie's `SameSite`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum SameSite {
    Lax,
    None,
    /// No such attribute.
    #[serde(rename = "off")]
    Off,
    Strict,
}

/// What browsers demand of names that start so, in any case of letters (RFC 6265bis, section 4.1.3; `__Http-` and
/// `__Host-Http-`: draft-ietf-httpbis-layered-cookies). The longer ones stand first.
const PREFIXES: [Prefix; 4] = [
    Prefix { start: "__Host-Http-", host: true, http_only: true },
    Prefix { start: "__Host-", host: true, http_only: false },
    Prefix { start: "__Http-", host: false, http_only: true },
    Prefix { start: "__Secure-", host: false, http_only: false },
];

pub(crate) struct Prefix {
    start: &'static str,
    /// `Path=/`, and no `Domain`.
    pub host: bool,
    pub http_only: bool,
}

impl Prefix {
    /// The one that a name has.
    pub fn of(name: &str) -> Option<&'static Self> {
        let starts = |start: &str| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
        PREFIXES.iter().find(|prefix| starts(prefix.start))
    }
}

impl SameSite {
    /// As it stands in the cookie.
    pub(crate) const fn attribute(self) -> Option<&'static str> {
        match self {
            Self::Lax => Some("SameSite=Lax"),
            Self::None => Some("SameSite=None"),
            Self::Off => None,
            Self::Strict => Some("SameSite=Strict"),
        }
    }
}

impl CookieSettings {
    /// # Errors
    /// For attributes that browsers would refuse together, and for text that could not stand in a cookie.
    pub fn check(&self) -> Result<CookiePolicy, Problem> {
        check_name("cookie.name", &self.name)?;
        check_path("cookie.path", &self.path)?;
        if let Some(domain) = &self.domain {
            check_domain("cookie.domain", domain)?;
        }
        let quoted = format!("{:?}", self.name);
        let prefix = Prefix::of(&self.name);
        let secure = self.secure == Secure::Always;
        if let Some(prefix) = prefix {
            let start = prefix.start;
            let refused = |what| Err(Problem::new("cookie.name", &quoted, format!("{start} names need {what}")));
            if !secure {
                return refused("cookie.secure = true");
            }
            if prefix.host && (self.path != "/" || self.domain.is_some()) {
                return refused("cookie.path = \"/\" and no cookie.domain");
            }
            if prefix.http_only && !self.http_only {
                return refused("cookie.http_only = true");
            }
        }
        if self.same_site == SameSite::None && !secure {
            return Err(Problem::new("cookie.same_site", "\"None\"", "needs cookie.secure = true"));
        }
        if self.partitioned && !secure {
            return Err(Problem::new("cookie.partitioned", true, "needs cookie.secure = true"));
        }
        Ok(CookiePolicy {
            name: self.name.clone(),
            prefixed: prefix.is_some(),
            attributes: self.attributes(false),
            secure_attributes: self.attributes(true),
            secure: self.secure,
        })
    }

    /// `; HttpOnly; Path=/` and so on.
    fn attributes(&self, secure: bool) -> String {
        let mut cookie = Cookie::build("").path(&self.path).http_only(self.http_only).secure(secure);
        if let Some(domain) = &self.domain {
            cookie = cookie.domain(domain);
        }
        cookie = match self.same_site {
            SameSite::Lax => cookie.same_site(cookie::SameSite::Lax),
            SameSite::None => cookie.same_site(cookie::SameSite::None),
            SameSite::Off => cookie,
            SameSite::Strict => cookie.same_site(cookie::SameSite::Strict),
        };
        cookie = cookie.partitioned(self.partitioned);
        // Without a name and a value nothing is left of the pair but its sign.
        cookie.build().to_string().split_off(1)
    }
}

/// `key` is the setting that says so.
pub(crate) fn check_name(key: &str, name: &str) -> Result<(), Problem> {
    if name.is_empty() || !name.bytes().all(is_token) {
        let message = "must be a token: letters, digits and !#$%&'*+-.^_`|~";
        return Err(Problem::new(key, format!("{name:?}"), message));
    }
    if name.len() > MAX_PAIR_BYTES - ID_BYTES {
        let message = "too long: browsers take 4096 bytes of name and value together";
        return Err(Problem::new(key, format!("({} bytes)", name.len()), message));
    }
    Ok(())
}

pub(crate) fn check_path(key: &str, path: &str) -> Result<(), Problem> {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
    if !path.starts_with('/') || !path.bytes().all(printable) || path.ends_with(' ') || path.len() > MAX_ATTRIBUTE_BYTES
    {
        let message = "must start with / and hold printable ASCII without `;`, at most 1024 bytes";
        return Err(Problem::new(key, format!("{path:?}"), message));
    }
    Ok(())
}

pub(crate) fn check_domain(key: &str, domain: &str) -> Result<(), Problem> {
    let labels = domain.strip_prefix('.').unwrap_or(domain);
    let host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let fits = labels.split('.').all(|label| !label.is_empty() && label.bytes().all(host));
    if !fits || domain.len() > MAX_ATTRIBUTE_BYTES {
        let message = "must be the name of a host such as \"example.com\"";
        return Err(Problem::new(key, format!("{domain:?}"), message));
    }
    Ok(())
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
