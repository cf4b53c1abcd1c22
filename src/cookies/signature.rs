//! `HttpResponse.set_signed_cookie` and `HttpRequest.get_signed_cookie`.

use std::time::Duration;

use super::settings::Derivation;
use crate::clock::Timestamp;
use crate::signing::{SignError, Signer};

/// What Django puts before the secret key for cookies.
const KEY_PREFIX: &[u8] = b"django.http.cookies";

/// How one cookie is signed and believed.
#[derive(Debug)]
pub(super) struct Signature {
    current: Signer,
    /// As Django signed before 5.2.15 and 6.0.6.
    legacy: Signer,
    pub writes: Derivation,
    /// Whether the legacy one is believed too.
    pub reads_legacy: bool,
    pub max_age: Option<Duration>,
}

impl Signature {
    /// For a cookie of this name: `secret` signs, it and the `fallbacks` are believed.
    pub fn new(name: &str, salt: &str, secret: &str, fallbacks: &[&str]) -> Self {
        let key = |secret: &str| [KEY_PREFIX, secret.as_bytes()].concat();
        let signer = |salt: String| Signer::new(&salt, &key(secret), fallbacks.iter().map(|secret| key(secret)));
        Self {
            // The length is in characters.
            current: signer(format!("django.http.cookies.v2:{}:{salt}{name}", salt.chars().count())),
            legacy: signer(format!("{name}{salt}")),
            writes: Derivation::Current,
            reads_legacy: false,
            max_age: None,
        }
    }

    pub fn sign(&self, value: &str, now: Timestamp) -> String {
        match self.writes {
            Derivation::Current => self.current.sign(value, now),
            Derivation::Legacy => self.legacy.sign(value, now),
        }
    }

    /// The value, if it was signed and not too long ago.
    ///
    /// # Errors
    /// As [`Signer::unsign`].
    pub fn unsign<'a>(&self, text: &'a str, now: Timestamp) -> Result<&'a str, SignError> {
        match self.current.unsign(text, self.max_age, now) {
            // One that is only too old needs no second opinion.
            Err(SignError::Forged) if self.reads_legacy => self.legacy.unsign(text, self.max_age, now),
            outcome => outcome,
        }
    }
}
