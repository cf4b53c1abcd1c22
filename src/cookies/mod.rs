//! The backend's own cookies, as `[[cookies]]` has rules for them: signed on their way to the visitor, checked and
//! unwrapped on their way back, and given attributes that the backend does not write. No waiting, no clock.

mod settings;
mod signature;
mod value;

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, SET_COOKIE};
use percent_encoding::percent_decode;

pub use self::settings::{CookieRuleSettings, Derivation, SecretKeys};
use self::signature::Signature;
use crate::clock::Timestamp;
use crate::session::cookie::{MAX_PAIR_BYTES, http_date, pairs, split_pair};

/// Every `[[cookies]]`, checked.
#[derive(Debug, Default)]
pub struct CookieRules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    name: String,
    /// The name as a backend might read it that is not strict about names.
    loose_name: String,
    signature: Option<Signature>,
    /// Names of attributes in small letters, and what is written instead; nothing takes an attribute away.
    attributes: Vec<(&'static str, Option<String>)>,
    max_age: Option<Duration>,
}

impl CookieRules {
    /// Whether there is nothing to do, for which nobody needs to ask the time.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes a request's cookies the backend's: a signed cookie becomes its bare value, and every pair goes that is not
    /// signed, forged or too old, or that a backend could take for a signed one. Returns how many went; the others stay
    /// byte for byte.
    pub fn to_backend(&self, headers: &mut HeaderMap, now: Timestamp) -> usize {
        if self.0.iter().all(|rule| rule.signature.is_none()) {
            return 0;
        }
        let mut refused = 0;
        let lines: Vec<Option<Vec<u8>>> = headers
            .get_all(COOKIE)
            .iter()
            .map(|line| self.line_to_backend(line.as_bytes(), now, &mut refused))
            .collect();
        if lines.iter().all(Option::is_none) {
            return refused;
        }
        let before: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
        headers.remove(COOKIE);
        for (before, after) in before.into_iter().zip(lines) {
            match after {
                None => drop(headers.append(COOKIE, before)),
                Some(after) if after.is_empty() => {}
                // What cannot stand in a header was not in the line we read, and quoting adds nothing of the kind.
                Some(after) => drop(HeaderValue::from_bytes(&after).map(|after| headers.append(COOKIE, after))),
            }
        }
        refused
    }

    /// The line that the backend gets instead of this one; `None` for this one.
    fn line_to_backend(&self, line: &[u8], now: Timestamp, refused: &mut usize) -> Option<Vec<u8>> {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let mut changed = false;
        for pair in pairs(line) {
            match self.pair_to_backend(pair, now) {
                Pair::AsItIs => kept.push(pair.to_vec()),
                Pair::Bare(bare) => {
                    changed = true;
                    kept.push(bare);
                }
                Pair::Refused => {
                    changed = true;
                    *refused += 1;
                }
            }
        }
        changed.then(|| kept.join(&b';').trim_ascii_start().to_vec())
    }

    fn pair_to_backend(&self, pair: &[u8], now: Timestamp) -> Pair {
        let mut signed = self.0.iter().filter_map(|rule| Some((rule, rule.signature.as_ref()?)));
        let exact = split_pair(pair).and_then(|(name, value)| {
            let (rule, signature) = signed.clone().find(|(rule, _)| rule.name.as_bytes() == name)?;
            Some((rule, signature, value))
        });
        let Some((rule, signature, value)) = exact else {
            let twin = signed.any(|(rule, _)| names(pair).any(|name| loose(name) == rule.loose_name));
            return if twin { Pair::Refused } else { Pair::AsItIs };
        };
        let opened = std::str::from_utf8(value).ok().and_then(|text| {
            let text = value::unquote(text);
            signature.unsign(&text, now).ok().map(|bare| value::for_backend(bare).into_owned())
        });
        match opened {
            Some(bare) => {
                let space = pair.len() - pair.trim_ascii_start().len();
                let space = pair.get(..space).unwrap_or_default();
                Pair::Bare([space, rule.name.as_bytes(), b"=", bare.as_bytes()].concat())
            }
            None => Pair::Refused,
        }
    }

    /// Makes the backend's `Set-Cookie` lines the visitor's. Returns how many went because they cannot be signed: what
    /// is not text, or too long with its signature.
    pub fn to_visitor(&self, headers: &mut HeaderMap, now: Timestamp) -> usize {
        let ours = |line: &HeaderValue| self.rule_for(line.as_bytes()).is_some();
        if self.0.is_empty() || !headers.get_all(SET_COOKIE).iter().any(ours) {
            return 0;
        }
        let lines: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
        headers.remove(SET_COOKIE);
        let mut refused = 0;
        for line in lines {
            match self.rule_for(line.as_bytes()) {
                None => drop(headers.append(SET_COOKIE, line)),
                Some(rule) => match rule.line_to_visitor(line.as_bytes(), now) {
                    Some(line) => drop(headers.append(SET_COOKIE, line)),
                    None => refused += 1,
                },
            }
        }
        refused
    }

    fn rule_for(&self, line: &[u8]) -> Option<&Rule> {
        let (name, _) = split_pair(pairs(line).next()?)?;
        self.0.iter().find(|rule| rule.name.as_bytes() == name)
    }
}

/// What becomes of a cookie in a request.
enum Pair {
    AsItIs,
    Bare(Vec<u8>),
    Refused,
}

impl Rule {
    fn line_to_visitor(&self, line: &[u8], now: Timestamp) -> Option<HeaderValue> {
        let mut parts = pairs(line);
        let pair = parts.next()?;
        let (_, value) = split_pair(pair)?;
        let written: Vec<&[u8]> = parts.collect();
        let removal = matches!(value, b"" | b"\"\"") || written.iter().any(|attribute| removes(attribute));
        let mut text = match &self.signature {
            Some(signature) if !removal => self.signed(signature, value, now)?,
            _ => pair.to_vec(),
        };
        let mut attributes = self.attributes.clone();
        if let (Some(age), false) = (self.max_age, removal) {
            let seconds = age.as_secs();
            attributes
                .push(("expires", Some(format!("Expires={}", http_date(now.plus(Duration::from_secs(seconds)))))));
            attributes.push(("max-age", Some(format!("Max-Age={seconds}"))));
        }
        let ruled = |attribute: &[u8]| {
            attributes.iter().any(|(name, _)| attribute_name(attribute).eq_ignore_ascii_case(name.as_bytes()))
        };
        for attribute in written.into_iter().filter(|attribute| !ruled(attribute)) {
            text.push(b';');
            text.extend_from_slice(attribute);
        }
        for attribute in attributes.iter().filter_map(|(_, written)| written.as_ref()) {
            text.extend_from_slice(b"; ");
            text.extend_from_slice(attribute.as_bytes());
        }
        HeaderValue::from_bytes(&text).ok()
    }

    fn signed(&self, signature: &Signature, value: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        let bare = value::unquote(std::str::from_utf8(value).ok()?);
        let value = value::quote(&signature.sign(&bare, now)).into_owned();
        let fits = self.name.len() + value.len() <= MAX_PAIR_BYTES;
        fits.then(|| format!("{}={value}", self.name).into_bytes())
    }
}

/// `Max-Age` of nothing or less (RFC 6265, section 5.2.2).
fn removes(attribute: &[u8]) -> bool {
    let age = split_pair(attribute).filter(|(name, _)| name.eq_ignore_ascii_case(b"max-age"));
    age.is_some_and(|(_, age)| {
        let digits = age.strip_prefix(b"-").unwrap_or(age);
        let number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        number && (digits.len() < age.len() || digits.iter().all(|&digit| digit == b'0'))
    })
}

fn attribute_name(attribute: &[u8]) -> &[u8] {
    split_pair(attribute).map_or(attribute.trim_ascii(), |(name, _)| name)
}

/// The names that a reader might see in a pair: there are some that take white space or a comma for the end of a cookie,
/// and some that take a pair without a sign for a name.
fn names(pair: &[u8]) -> impl Iterator<Item = &[u8]> {
    let signs = pair.iter().enumerate().filter(|(_, byte)| **byte == b'=').map(|(at, _)| at);
    let before = move |at: usize| pair.get(..at).unwrap_or_default().trim_ascii_end();
    let last = |text: &'_ [u8]| {
        text.iter().rposition(|&byte| byte.is_ascii_whitespace() || byte == b',').map_or(0, |at| at + 1)
    };
    let whole = signs.clone().next().map_or(pair, before);
    std::iter::once(whole).chain(signs.map(before).map(move |text| text.get(last(text)..).unwrap_or_default()))
}

/// A name without what some backends do not tell apart: case, percent-encoding, any white space around it, and for PHP
/// dots, spaces and what follows a bracket.
fn loose(name: &[u8]) -> String {
    let decoded = percent_decode(name).decode_utf8_lossy();
    let name = decoded.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let name = name.split('[').next().unwrap_or_default();
    name.to_lowercase().replace(['.', ' '], "_")
}

#[cfg(test)]
mod tests;
