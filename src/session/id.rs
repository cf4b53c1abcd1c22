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
    #[expect(clippy::indexing_slicing, reason = "a remainder of 36 is a place in an alphabet of 36")]
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
        id.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).then_some(Self(id))
    }

    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The store's name for the session: a digest, so that whoever reads the store learns no id, and no timing of a
    /// lookup tells how much of a guess was right.
    pub fn digest(&self) -> Key {
        let mut text = [0; 64];
        // As long as twice the digest, so there is room for all of it.
        hex::encode_to_slice(Sha256::digest(self.0), &mut text).ok();
        Key::new(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    /// Ids are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionId(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn i1_ids_are_uniform_and_never_repeat() {
        const COUNT: usize = 100_000;

        let mut seen = HashSet::with_capacity(COUNT);
        let mut counts = [0_u32; 256];
        for _ in 0..COUNT {
            let id = SessionId::generate().unwrap();
            assert!(SessionId::parse(&id.0).is_some());
            id.0.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            assert!(seen.insert(id.0));
        }
        let expected = f64::from(u32::try_from(COUNT * LENGTH / ALPHABET.len()).unwrap());
        let chi_square: f64 =
            ALPHABET.iter().map(|&byte| (f64::from(counts[usize::from(byte)]) - expected).powi(2) / expected).sum();
        // 35 degrees of freedom: uniform ids exceed this once in ten million runs, `byte % 36` every time.
        assert!(chi_square < 96.0, "{chi_square}");
    }

    #[test]
    fn i3_only_the_exact_form_is_an_id() {
        let id = "abcdefghijklmnopqrstuvwxyz012345";
        assert_eq!(SessionId::parse(id.as_bytes()).unwrap().as_str(), id);
        for other in
            ["", &id[1..], &format!("{id}6"), &id.to_uppercase(), &id.replace('a', "-"), &id.replace("ab", "é")]
        {
            assert!(SessionId::parse(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn i9_i10_the_key_is_a_digest_and_nothing_is_printed() {
        let id = SessionId::parse(&[b'a'; LENGTH]).unwrap();
        // printf a…a (32 of them) | sha256sum
        assert_eq!(id.digest().as_str(), "3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547");
        assert_eq!(format!("{id:?}"), "SessionId(…)");
    }
}
