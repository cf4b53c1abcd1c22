//! The secret in the visitor's cookie, and the key that stands for it in a store.

use std::fmt;

use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest, Sha256};

use crate::store::Key;

const LENGTH: usize = 32;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A session id: 32 characters of `a-z0-9`, 165 bits. Length and alphabet are Django's
/// (`SessionBase._get_new_session_key`).
#[derive(Clone)]
pub struct SessionId([u8; LENGTH]);

impl SessionId {
    /// A new id from the generator of the operating system.
    ///
    /// # Errors
    /// When that generator fails; there is no second best to fall back to.
    pub fn generate() -> Result<Self, SysError> {
        let mut id = [0; LENGTH];
        let mut filled = 0;
        while filled < LENGTH {
            let mut random = [0; 2 * LENGTH];
            SysRng.try_fill_bytes(&mut random)?;
            // 252 is the largest multiple of 36 in a byte: refusing the four values above it keeps all characters
            // equally likely.
            let uniform = random.iter().filter(|&&byte| byte < 252);
            for (place, byte) in id.iter_mut().skip(filled).zip(uniform) {
                *place = ALPHABET[usize::from(byte % 36)];
                filled += 1;
            }
        }
        Ok(Self(id))
    }

    /// Takes a cookie's value if it has the form of an id; whether there is such a session only the store knows.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let id: [u8; LENGTH] = value.try_into().ok()?;
        id.iter().all(|byte| ALPHABET.contains(byte)).then_some(Self(id))
    }

    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The store's name for the session: a digest, so that whoever reads the store learns no id, and no timing of a
    /// lookup tells how much of a guess was right.
    pub fn key(&self) -> Key {
        Key::new(hex::encode(Sha256::digest(self.0)))
    }
}

impl fmt::Debug for SessionId {
    /// Ids are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionId(…)")
    }
}
