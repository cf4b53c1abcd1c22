//! Sealed bytes: nobody without a key reads them, changes them unseen or moves them to where they do not belong.
//!
//! ```text
//! key id (4 bytes) || nonce (24 bytes) || ciphertext and tag (XChaCha20-Poly1305)
//! ```
//! The key id is the beginning of a digest of the key, so that among several keys the right one is found at once.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::secret::Secret;

const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 4;
/// Long enough to be chosen at random for every seal there will ever be.
const NONCE_BYTES: usize = 24;

/// What a key's digest begins with, so that it is a digest of nothing else.
const KEY_ID: &str = "cloakroom key id";

/// Keys: the first seals, all open.
#[derive(Clone)]
pub struct Seal {
    first: SealKey,
    others: Vec<SealKey>,
}

#[derive(Clone)]
struct SealKey {
    id: [u8; KEY_ID_BYTES],
    cipher: XChaCha20Poly1305,
}

/// What was sealed.
#[derive(Debug, Eq, PartialEq)]
pub struct Opened {
    pub plain: Vec<u8>,
    /// It was not the first key that sealed it.
    pub old_key: bool,
}

/// What a seal is bound to beside its content: under any other binding it does not open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding(Vec<u8>);

impl Binding {
    /// `purpose` keeps seals for different uses apart, whatever the parts are.
    pub fn new<'a>(purpose: &'a str, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut bytes = Vec::new();
        for part in std::iter::once(purpose).chain(parts) {
            // With their lengths, so that no two lists of parts read the same.
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Self(bytes)
    }
}

impl Seal {
    /// `path` is the list's place in the configuration, such as `store.encrypt`.
    ///
    /// # Errors
    /// A list without a key, a key that is not 64 hexadecimal digits, and one that stands there twice.
    pub fn new(keys: &[Secret], path: &str) -> Result<Self, Problem> {
        let mut parsed: Vec<[u8; KEY_BYTES]> = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let problem = |message| Problem::new(format!("{path}[{index}]"), "…", message);
            let mut bytes = [0; KEY_BYTES];
            hex::decode_to_slice(key.expose(), &mut bytes)
                .map_err(|_| problem("must be 64 hexadecimal digits; `openssl rand -hex 32` makes some"))?;
            if parsed.contains(&bytes) {
                return Err(problem("stands in the list already; take it away"));
            }
            parsed.push(bytes);
        }
        let mut keys = parsed.iter().map(SealKey::new);
        let message = "needs a key of 64 hexadecimal digits; `openssl rand -hex 32` makes one";
        let first = keys.next().ok_or_else(|| Problem::new(path, "[]", message))?;
        Ok(Self { first, others: keys.collect() })
    }

    /// Seals with the first key.
    pub fn seal(&self, binding: &Binding, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: &binding.0 };
        // Refused is only what is longer than 256 GiB; such a session would be empty, and open nowhere.
        let sealed = self.first.cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        [&self.first.id, nonce.as_slice(), &sealed].concat()
    }

    /// What one of our keys sealed under this binding; `None` for anything else.
    pub fn open(&self, binding: &Binding, sealed: &[u8]) -> Option<Opened> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let open = |key: &SealKey| {
            let payload = Payload { msg: sealed, aad: &binding.0 };
            let ours = key.id == *id;
            ours.then(|| key.cipher.decrypt(&XNonce::from(*nonce), payload).ok()).flatten()
        };
        match open(&self.first) {
            Some(plain) => Some(Opened { plain, old_key: false }),
            None => self.others.iter().find_map(open).map(|plain| Opened { plain, old_key: true }),
        }
    }
}

impl SealKey {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        let digest = Sha256::new().chain_update(KEY_ID).chain_update(key).finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(digest).for_each(|(place, byte)| *place = byte);
        Self { id, cipher: XChaCha20Poly1305::new(key.into()) }
    }
}

impl fmt::Debug for Seal {
    /// Keys are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Seal({} keys)", 1 + self.others.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const A: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    const B: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

    fn new(keys: &[&str]) -> Result<Seal, Problem> {
        #[derive(Deserialize)]
        struct File {
            keys: Vec<Secret>,
        }
        let file: File = toml::from_str(&format!("keys = {keys:?}")).unwrap();
        Seal::new(&file.keys, "store.encrypt")
    }

    fn seal(keys: &[&str]) -> Seal {
        new(keys).unwrap()
    }

    fn here() -> Binding {
        Binding::new("test", ["here"])
    }

    #[test]
    fn i13_the_first_key_seals_and_all_open() {
        let (old, new, other) = (seal(&[A]), seal(&[B, A]), seal(&[B]));
        let sealed = old.seal(&here(), b"text");
        assert_eq!(old.open(&here(), &sealed), Some(Opened { plain: b"text".to_vec(), old_key: false }));
        assert_eq!(new.open(&here(), &sealed), Some(Opened { plain: b"text".to_vec(), old_key: true }));
        assert_eq!(other.open(&here(), &sealed), None);
        let sealed = new.seal(&here(), b"text");
        assert_eq!(other.open(&here(), &sealed), Some(Opened { plain: b"text".to_vec(), old_key: false }));
        assert_eq!(old.open(&here(), &sealed), None);
    }

    #[test]
    fn o12_a_seal_opens_under_its_own_binding_alone() {
        let seal = seal(&[A]);
        let bound = |purpose, parts: &[&'static str]| Binding::new(purpose, parts.iter().copied());
        let sealed = seal.seal(&bound("p", &["ab", "c"]), b"text");
        assert!(seal.open(&bound("p", &["ab", "c"]), &sealed).is_some());
        for other in [bound("p", &["a", "bc"]), bound("p", &["ab", "c", ""]), bound("q", &["ab", "c"]), bound("p", &[])]
        {
            assert_eq!(seal.open(&other, &sealed), None);
        }
    }

    #[test]
    fn the_same_text_never_looks_the_same_and_shows_nothing() {
        let seal = seal(&[A]);
        let (one, other) = (seal.seal(&here(), &[0; 64]), seal.seal(&here(), &[0; 64]));
        assert_eq!(one[..KEY_ID_BYTES], other[..KEY_ID_BYTES]);
        for part in [KEY_ID_BYTES..KEY_ID_BYTES + NONCE_BYTES, KEY_ID_BYTES + NONCE_BYTES..one.len()] {
            assert_ne!(one[part.clone()], other[part]);
        }
        assert!(!one.windows(8).any(|window| window == [0; 8]));
    }

    /// Made with libsodium's `crypto_aead_xchacha20poly1305_ietf_encrypt`.
    #[test]
    fn what_others_made_by_the_same_rules_opens() {
        let sealed = hex::decode(concat!(
            "001e9f78000102030405060708090a0b0c0d0e0f1011121314151617d29e",
            "ae9a09b1ce8b6d751d1264eef4b6dd4322147a7fffda1dd74dc22a"
        ));
        let sealed = sealed.unwrap();
        assert_eq!(seal(&[A]).open(&here(), &sealed).unwrap().plain, b"a sealed text");
    }

    #[test]
    fn keys_that_cannot_be_meant_are_named_and_not_shown() {
        for (keys, place) in [
            (&[][..], "store.encrypt"),
            (&[A, &B[1..]], "store.encrypt[1]"),
            (&["secret"], "store.encrypt[0]"),
            (&[A, B, &A.to_lowercase()], "store.encrypt[2]"),
        ] {
            let problem = new(keys).unwrap_err();
            assert_eq!(problem.key, place);
            let said = format!("{problem} {problem:?}");
            assert!(keys.iter().all(|key| !said.contains(*key)), "{said}");
        }
        assert_eq!(format!("{:?}", seal(&[A, B])), "Seal(2 keys)");
    }

    proptest! {
        #[test]
        fn i13_every_text_comes_back_and_no_byte_of_it_can_be_changed(
            text in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            flipped in 1..=u8::MAX,
        ) {
            let seal = seal(&[A, B]);
            let mut sealed = seal.seal(&here(), &text);
            prop_assert_eq!(&seal.open(&here(), &sealed).unwrap().plain, &text);
            prop_assert_eq!(seal.open(&here(), &sealed[..at.index(sealed.len())]), None);
            let at = at.index(sealed.len());
            sealed[at] ^= flipped;
            prop_assert_eq!(seal.open(&here(), &sealed), None);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(seal(&[A]).open(&here(), &bytes), None);
        }
    }
}
