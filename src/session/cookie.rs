//! The visitor's cookie: taken out of requests, written into responses.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, SET_COOKIE};

pub use self::settings::{CookieSettings, SameSite, Secure};
pub(crate) use self::settings::{Prefix, check_domain, check_name, check_path};
use super::id::SessionId;
use crate::clock::Timestamp;

mod settings;

/// How many cookies of our name are tried in one request.
pub const MAX_CANDIDATES: usize = 8;

/// Browsers refuse a cookie whose name and value are longer (RFC 6265bis, section 5.6).
pub const MAX_PAIR_BYTES: usize = 4096;

/// Browsers keep no cookie longer (RFC 6265bis, section 5.5).
pub const MAX_AGE: Duration = Duration::from_secs(400 * 86_400);

/// `[cookie]`, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookiePolicy {
    name: String,
    /// A `__Host-` name or the like, which browsers compare in any case of letters.
    prefixed: bool,
    /// `; HttpOnly; Path=/` and so on: all that is the same for every cookie.
    attributes: String,
    /// The same with `Secure`.
    secure_attributes: String,
    secure: Secure,
}

impl CookiePolicy {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes every cookie of our name out of a request; returns the well-formed ids among them, each once, at most
    /// eight, in their order. Other cookies stay byte for byte; several `Cookie` lines become one.
    pub fn take(&self, headers: &mut HeaderMap) -> Vec<SessionId> {
        let ids = self.ids(headers);
        self.remove(headers);
        ids
    }

    /// As [`CookiePolicy::take`], for sessions that the cookie itself holds: the values as they are, but for empty ones.
    pub fn take_values(&self, headers: &mut HeaderMap) -> Vec<Vec<u8>> {
        let mut values: Vec<Vec<u8>> = Vec::new();
        for value in self.values(headers).filter(|value| !value.is_empty()) {
            if !values.iter().any(|known| known == value) {
                values.push(value.to_vec());
            }
        }
        self.remove(headers);
        values
    }

    /// The ids that [`CookiePolicy::take`] would return, leaving the cookies where they are.
    fn ids(&self, headers: &HeaderMap) -> Vec<SessionId> {
        let mut ids: Vec<SessionId> = Vec::new();
        for id in self.values(headers).filter_map(SessionId::parse) {
            if !ids.iter().any(|known| known.as_str() == id.as_str()) {
                ids.push(id);
            }
            if ids.len() == MAX_CANDIDATES {
                break;
            }
        }
        ids
    }

    /// What the last cookie of our name holds; the cookies stay.
    pub fn last_value<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        self.values(headers).last()
    }

    /// The values of all cookies of our name, whatever they are.
    fn values<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
        headers.get_all(COOKIE).iter().flat_map(|line| pairs(line.as_bytes())).filter_map(|pair| self.value(pair))
    }

    /// Takes every cookie of our name out of a request.
    fn remove(&self, headers: &mut HeaderMap) {
        let lines = headers.get_all(COOKIE);
        let mut kept: Vec<u8> = Vec::with_capacity(lines.iter().map(|line| line.len() + 2).sum());
        let (mut count, mut ours) = (0, false);
        for line in lines {
            count += 1;
            ours |= self.keep_others(line.as_bytes(), &mut kept);
        }
        if count < 2 && !ours {
            return;
        }
        match HeaderValue::from_maybe_shared(Bytes::from(kept)) {
            Ok(kept) if !kept.is_empty() => headers.insert(COOKIE, kept),
            _ => headers.remove(COOKIE),
        };
    }

    /// Appends the cookies of a line that are not ours; whether there were others.
    fn keep_others(&self, line: &[u8], kept: &mut Vec<u8>) -> bool {
        // Several lines are one (RFC 9113, section 8.2.3); a backend that joins lines would use a comma.
        let between: &[u8] = if kept.is_empty() { b"" } else { b"; " };
        let (before, mut first, mut ours) = (kept.len(), true, false);
        for pair in pairs(line) {
            if self.value(pair).is_some() {
                ours = true;
            } else if !pair.trim_ascii().is_empty() {
                kept.extend_from_slice(if first { between } else { b";" });
                kept.extend_from_slice(if first { pair.trim_ascii_start() } else { pair });
                first = false;
            }
        }
        if !ours {
            // Byte for byte.
            kept.truncate(before);
            kept.extend_from_slice(if line.is_empty() { b"" } else { between });
            kept.extend_from_slice(line);
        }
        ours
    }

    /// The value if the pair's name is exactly ours.
    fn value<'a>(&self, pair: &'a [u8]) -> Option<&'a [u8]> {
        let after_name = pair.trim_ascii_start().strip_prefix(self.name.as_bytes())?;
        Some(after_name.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
    }

    /// The cookie for a session that lives for `age` from `now`; without an age, until the browser closes. `https` is
    /// whether the client's connection is.
    pub fn set(&self, id: &SessionId, age: Option<Duration>, now: Timestamp, https: bool) -> HeaderValue {
        self.header(id.as_str(), age, now, https)
    }

    /// As [`CookiePolicy::set`], with a value that is characters of a cookie and no id; `None` if browsers would refuse
    /// the cookie for its size.
    pub fn set_value(&self, value: &str, age: Option<Duration>, now: Timestamp, https: bool) -> Option<HeaderValue> {
        let fits = self.name.len() + value.len() <= MAX_PAIR_BYTES;
        fits.then(|| self.header(value, age, now, https))
    }

    /// The cookie that makes browsers forget ours: same name, path, domain and flags, and a date long past.
    pub fn removal(&self, https: bool) -> HeaderValue {
        self.line("", "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0", https)
    }

    fn header(&self, value: &str, age: Option<Duration>, now: Timestamp, https: bool) -> HeaderValue {
        let Some(age) = age else { return self.line(value, "", https) };
        let seconds = age.min(MAX_AGE).as_secs();
        let expires = http_date(now.plus(Duration::from_secs(seconds)));
        self.line(value, &format!("; Expires={expires}; Max-Age={seconds}"), https)
    }

    fn line(&self, value: &str, lifetime: &str, https: bool) -> HeaderValue {
        let secure = match self.secure {
            Secure::Always => true,
            Secure::Auto => https,
            Secure::Never => false,
        };
        let Self { name, attributes, secure_attributes, .. } = self;
        let attributes = if secure { secure_attributes } else { attributes };
        let text = format!("{name}={value}{lifetime}{attributes}");
        // Every part was checked when it came in; an empty header value is what browsers ignore.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Takes a backend's `Set-Cookie` lines of our name out of a response; the others stay as they are, in order.
    pub fn drop_own(&self, headers: &mut HeaderMap) {
        if !self.is_set_by(headers) {
            return;
        }
        let lines = headers.get_all(SET_COOKIE).iter();
        let others: Vec<HeaderValue> = lines.filter(|line| !self.sets_ours(line.as_bytes())).cloned().collect();
        headers.remove(SET_COOKIE);
        for line in others {
            headers.append(SET_COOKIE, line);
        }
    }

    /// Whether an answer with these headers sets or removes our cookie.
    pub fn is_set_by(&self, headers: &HeaderMap) -> bool {
        headers.get_all(SET_COOKIE).iter().any(|line| self.sets_ours(line.as_bytes()))
    }

    /// Whether a browser would keep this line as a cookie of our name, or send it back as one (RFC 6265bis, section
    /// 5.6).
    fn sets_ours(&self, line: &[u8]) -> bool {
        let pair = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let Some((name, value)) = split_pair(pair) else { return false };
        if name.is_empty() {
            // A cookie without a name is sent back as its bare value, and `sessionid=x` reads like ours.
            return split_pair(value).is_some_and(|(name, _)| self.is_ours(name));
        }
        self.is_ours(name)
    }

    fn is_ours(&self, name: &[u8]) -> bool {
        let ours = self.name.as_bytes();
        if self.prefixed { name.eq_ignore_ascii_case(ours) } else { name == ours }
    }
}

/// The pairs of a `Cookie` line, or a `Set-Cookie` line's pair and its attributes.
pub(crate) fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b';')
}

/// Name and value without the white space around them; `None` without a `=`.
pub(crate) fn split_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    let (name, value) = pair.split_at_checked(equals)?;
    Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
}

/// An instant as HTTP writes it, to the second. What lies beyond the year 9999, where HTTP-dates end, becomes their end.
pub(crate) fn http_date(instant: Timestamp) -> String {
    const LAST_MILLIS: i64 = 253_402_300_799_000;
    let instant = Timestamp::from_millis(instant.as_millis().clamp(0, LAST_MILLIS));
    httpdate::fmt_http_date(SystemTime::from(instant))
}

#[cfg(test)]
mod django_tests;
#[cfg(test)]
mod tests;
