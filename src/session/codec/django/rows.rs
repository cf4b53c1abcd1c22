//! What Django keeps in a row, a file or a cookie: `signing.dumps(dictionary, compress=True)`.

use std::fmt;
use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};

use super::dict::{Entry, Member};
use super::json;
use crate::clock::Timestamp;
use crate::session::codec::DecodeError;
use crate::signing::{SignError, Signer, b64_encode};

/// What a compressed dictionary may become at most.
const MAX_BYTES: usize = 16 << 20;
/// Python's own default.
const LEVEL: u32 = 6;
const COMPRESSED: char = '.';

/// Writes and reads with these keys.
pub(super) struct Rows {
    signer: Signer,
    envelope: Option<Envelope>,
}

/// A dictionary out of a row.
pub(super) struct Row {
    pub entries: Vec<Entry>,
    /// Django before 3.1 did not say.
    pub signed_at: Option<Timestamp>,
}

impl Rows {
    /// `key` signs, it and the `fallbacks` are believed.
    pub(super) fn new(salt: &str, key: &[u8], fallbacks: &[&[u8]]) -> Self {
        Self { signer: Signer::new(salt, key, fallbacks), envelope: None }
    }

    /// Believes the signatures of Django before 3.1, too.
    #[must_use]
    pub(super) fn with_sha1(self, salt: &str, keys: &[&[u8]]) -> Self {
        Self { signer: self.signer.with_sha1(salt, keys), ..self }
    }

    /// Reads the envelope that rows and files had before Django 3.1, too.
    #[must_use]
    pub(super) fn with_envelope(self, salt: &str, keys: &[&[u8]]) -> Self {
        Self { envelope: Some(Envelope::new(salt, keys)), ..self }
    }

    /// `signing.dumps`
    pub(super) fn write(&self, members: &[Member<'_>], now: Timestamp) -> String {
        let json = json::write(members);
        let value = match deflate(&json).filter(|deflated| deflated.len() + 1 < json.len()) {
            Some(deflated) => format!("{COMPRESSED}{}", b64_encode(&deflated)),
            None => b64_encode(&json),
        };
        self.signer.sign(&value, now)
    }

    /// `signing.loads`, however long ago it was signed. Where the envelope is read too, it is tried whatever was wrong,
    /// as Django 3.1 did.
    pub(super) fn read(&self, text: &[u8]) -> Result<Row, DecodeError> {
        let text = std::str::from_utf8(text).map_err(|_| DecodeError::Malformed)?;
        self.loads(text).or_else(|error| {
            let opened = self.envelope.as_ref().and_then(|envelope| envelope.open(text));
            let entries = opened.and_then(|json| json::read(&json)).ok_or(error)?;
            Ok(Row { entries, signed_at: None })
        })
    }

    fn loads(&self, text: &str) -> Result<Row, DecodeError> {
        let signed = self.signer.verify(text)?;
        let (compressed, value) =
            signed.value.strip_prefix(COMPRESSED).map_or((false, signed.value), |value| (true, value));
        let padding = [b'='; 3].into_iter().take(value.len().wrapping_neg() % 4);
        let decoded = base64(value.bytes().chain(padding), URL_SAFE).ok_or(DecodeError::Malformed)?;
        let json = if compressed { inflate(&decoded).ok_or(DecodeError::Malformed)? } else { decoded };
        let entries = json::read(&json).ok_or(DecodeError::Malformed)?;
        Ok(Row { entries, signed_at: Some(Timestamp::from_millis(signed.at.saturating_mul(1000))) })
    }
}

impl fmt::Debug for Rows {
    /// Keys are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Rows(…)")
    }
}

impl From<SignError> for DecodeError {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Expired => Self::Ended,
            SignError::Forged => Self::Forged,
            SignError::Timeless => Self::Malformed,
        }
    }
}

/// What Django before 3.1 put around a dictionary: `base64(hex(HMAC-SHA1) + ":" + json)`.
struct Envelope(Vec<Hmac<Sha1>>);

impl Envelope {
    /// The salt of then is that of now without the dot before the name of the class.
    fn new(salt: &str, keys: &[&[u8]]) -> Self {
        let class = salt.rsplit('.').next().unwrap_or_default();
        let keyed = keys.iter().filter_map(|key| {
            let derived = Sha1::new().chain_update("django.contrib.sessions").chain_update(class).chain_update(key);
            Hmac::new_from_slice(&derived.finalize()).ok()
        });
        Self(keyed.collect())
    }

    fn open(&self, text: &str) -> Option<Vec<u8>> {
        let content = base64(text.bytes(), STANDARD)?;
        let colon = content.iter().position(|&byte| byte == b':')?;
        let (signature, json) = (content.get(..colon)?, content.get(colon + 1..)?);
        if signature.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let signature = hex::decode(signature).ok()?;
        let right = self.0.iter().any(|key| key.clone().chain_update(json).verify_slice(&signature).is_ok());
        right.then(|| json.to_vec())
    }
}

/// The characters for 62 and 63, each perhaps in two spellings.
type Alphabet = [&'static [u8]; 2];
const STANDARD: Alphabet = [b"+", b"/"];
/// `base64.urlsafe_b64decode` takes the other alphabet as well.
const URL_SAFE: Alphabet = [b"+-", b"/_"];

/// `binascii.a2b_base64`: foreign characters do not count, loose bits neither, and it ends at the padding that is due.
fn base64(text: impl Iterator<Item = u8>, [at_62, at_63]: Alphabet) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut digits, mut padding) = (0_u32, 0, 0);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'=' if digits >= 2 => {
                padding += 1;
                if digits + padding >= 4 {
                    return Some(out);
                }
                continue;
            }
            _ if at_62.contains(&byte) => 62,
            _ if at_63.contains(&byte) => 63,
            _ => continue,
        };
        padding = 0;
        bits = bits << 6 | u32::from(digit);
        digits = (digits + 1) % 4;
        // With the second to fourth of four digits a byte is full.
        if let Some(byte) = [Some(bits), None, Some(bits >> 4), Some(bits >> 2)].get(digits).copied().flatten() {
            out.push(byte.to_le_bytes()[0]);
        }
    }
    (digits == 0).then_some(out)
}

fn deflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(LEVEL));
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// `zlib.decompress`: the whole stream must be there, and what follows it does not count.
fn inflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::new();
    loop {
        let rest = bytes.get(usize::try_from(inflater.total_in()).ok()?..)?;
        out.reserve(bytes.len().max(out.len()).clamp(1024, MAX_BYTES));
        let before = (inflater.total_in(), out.len());
        if inflater.decompress_vec(rest, &mut out, FlushDecompress::None).ok()? == Status::StreamEnd {
            return (out.len() <= MAX_BYTES).then_some(out);
        }
        if out.len() > MAX_BYTES || before == (inflater.total_in(), out.len()) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests;
