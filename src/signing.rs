//! Signed text as `django.core.signing` has it: a value, the second it was signed in and an HMAC, with colons between.
//!
//! ```text
//! e30:1r31eq:q-KYDki1jU4jBMJcXmZt7_eZRaP9gHCjjwF4KUkgTdY
//! ```
//! Whoever has the key can write such text, and everybody can read it: a signature hides nothing.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::common::{BlockSizeUser, Key};
use hmac::{KeyInit, Mac, SimpleHmac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

const SEPARATOR: char = ':';
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Signs with one key and believes several (`django.core.signing.TimestampSigner`).
#[derive(Clone)]
pub struct Signer {
    current: SimpleHmac<Sha256>,
    /// What else is believed, in this order.
    fallbacks: Vec<SimpleHmac<Sha256>>,
    /// What Django before 3.1 signed with, if that is believed too.
    sha1: Vec<SimpleHmac<Sha1>>,
}

/// A text whose signature is right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signed<'a> {
    pub value: &'a str,
    /// In seconds since the Unix epoch; perhaps in the future.
    pub at: i64,
}

/// Why a text is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignError {
    /// `SignatureExpired`
    #[error("signed too long ago")]
    Expired,
    /// `BadSignature`
    #[error("not signed with any of our keys")]
    Forged,
    /// Signed with one of our keys, but not as text with a time.
    #[error("signed without a time")]
    Timeless,
}

impl Signer {
    /// `key` signs, it and the `fallbacks` are believed (`SECRET_KEY`, `SECRET_KEY_FALLBACKS`). Cookies prefix all of
    /// them: `[b"django.http.cookies", secret].concat()`.
    pub fn new(salt: &str, key: &[u8], fallbacks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let fallbacks = fallbacks.into_iter().map(|key| keyed(salt, key.as_ref())).collect();
        Self { current: keyed(salt, key), fallbacks, sha1: Vec::new() }
    }

    /// Believes what Django before 3.1 signed with one of these keys, too.
    #[must_use]
    pub fn with_sha1(mut self, salt: &str, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.sha1.extend(keys.into_iter().map(|key| keyed(salt, key.as_ref())));
        self
    }

    /// `TimestampSigner.sign`
    pub fn sign(&self, value: &str, now: impl Into<SystemTime>) -> String {
        let seconds = nanos(now.into()).div_euclid(NANOS);
        let text = format!("{value}{SEPARATOR}{}", b62_encode(i64::try_from(seconds).unwrap_or(i64::MAX)));
        let signature = b64_encode(&mac(&self.current, &text).finalize().into_bytes());
        format!("{text}{SEPARATOR}{signature}")
    }

    /// `TimestampSigner.unsign`. An age of exactly `max_age` is young enough, and so is any text from the future.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn unsign<'a>(
        &self,
        text: &'a str,
        max_age: Option<Duration>,
        now: impl Into<SystemTime>,
    ) -> Result<&'a str, SignError> {
        let Signed { value, at } = self.verify(text)?;
        let age = nanos(now.into()) - i128::from(at) * NANOS;
        // A duration has fewer nanoseconds than 128 bits hold.
        let too_old = max_age.is_some_and(|max_age| age > i128::try_from(max_age.as_nanos()).unwrap_or(i128::MAX));
        if too_old { Err(SignError::Expired) } else { Ok(value) }
    }

    /// The value and its time, whatever its age.
    ///
    /// # Errors
    /// [`SignError::Forged`] or [`SignError::Timeless`].
    pub fn verify<'a>(&self, text: &'a str) -> Result<Signed<'a>, SignError> {
        let (signed, signature) = text.rsplit_once(SEPARATOR).ok_or(SignError::Forged)?;
        // Django compares texts. This decoder takes exactly the texts that Django's encoder writes, without padding and
        // with no loose bits at the end, so comparing bytes is the same.
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignError::Forged)?;
        let mut keys = std::iter::once(&self.current).chain(&self.fallbacks);
        let right = keys.any(|key| mac(key, signed).verify_slice(&signature).is_ok())
            || self.sha1.iter().any(|key| mac(key, signed).verify_slice(&signature).is_ok());
        if !right {
            return Err(SignError::Forged);
        }
        let (value, time) = signed.rsplit_once(SEPARATOR).ok_or(SignError::Timeless)?;
        Ok(Signed { value, at: b62_decode(time).ok_or(SignError::Timeless)? })
    }
}

impl fmt::Debug for Signer {
    /// Keys are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signer({} keys)", 1 + self.fallbacks.len() + self.sha1.len())
    }
}

const NANOS: i128 = 1_000_000_000;

fn nanos(time: SystemTime) -> i128 {
    let (distance, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (after, 1),
        Err(before) => (before.duration(), -1),
    };
    sign * i128::try_from(distance.as_nanos()).unwrap_or(i128::MAX)
}

/// `django.utils.crypto.salted_hmac`: the key is always hashed, whatever its length, with the salt before it.
fn keyed<H: Digest + BlockSizeUser>(salt: &str, key: &[u8]) -> SimpleHmac<H> {
    let derived = H::new().chain_update(salt).chain_update("signer").chain_update(key).finalize();
    // HMAC fills a key shorter than a block with zeros.
    let mut block = Key::<SimpleHmac<H>>::default();
    block.iter_mut().zip(derived).for_each(|(place, byte)| *place = byte);
    SimpleHmac::new(&block)
}

fn mac<M: Mac + Clone>(key: &M, text: &str) -> M {
    key.clone().chain_update(text)
}

/// `django.core.signing.b64_encode`: the URL-safe alphabet without padding.
pub fn b64_encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `django.core.signing.b62_encode`
pub fn b62_encode(number: i64) -> String {
    let mut rest = number.unsigned_abs();
    let mut digits = Vec::new();
    while rest > 0 || digits.is_empty() {
        let digit = usize::try_from(rest % 62).ok().and_then(|digit| BASE62.get(digit));
        digits.extend(digit.copied().map(char::from));
        rest /= 62;
    }
    if number < 0 {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

/// `django.core.signing.b62_decode`. What is larger than 64 bits counts as the largest there is.
pub fn b62_decode(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    if text.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0_i64, |number, byte| {
        let digit = i64::try_from(BASE62.iter().position(|&digit| digit == byte)?).ok()?;
        Some(number.saturating_mul(62).saturating_add(sign * digit))
    })
}

#[cfg(test)]
mod tests;
