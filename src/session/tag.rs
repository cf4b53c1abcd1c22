//! How logs name a session: a salted hash that leads nowhere without the salt.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::store::Key;

/// Names sessions for as long as the process lives; the salt is never written anywhere.
pub struct Tagger(Hmac<Sha256>);

impl Tagger {
    pub fn new(salt: [u8; 64]) -> Self {
        Self(Hmac::<Sha256>::new(&salt.into()))
    }

    /// Sixteen hexadecimal digits, the same for the same session.
    pub fn tag(&self, key: &Key) -> String {
        let mut mac = self.0.clone();
        mac.update(key.as_str().as_bytes());
        let digest = mac.finalize().into_bytes();
        hex::encode(digest.get(..8).unwrap_or_default())
    }
}
