//! Sessions that the visitor carries: in the cookie itself, without a store (`engine = "signed_cookies"`).
//!
//! ```text
//! sessionid=1.AB6feN0…        1. and, in base64url without padding, what `seal` makes of:
//! form (1 byte) || deadline (8 bytes, milliseconds, big-endian) || record
//! ```
//! The record is the native one, a long one deflated (RFC 1951) if that makes it shorter. In Django's format the cookie is what
//! Django writes: signed, and readable by the visitor.

use std::io::{Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};

use super::django::Django;
use super::{Form, native};
use crate::clock::Timestamp;
use crate::problem::Problem;
use crate::session::Session;
use crate::session::cookie::MAX_PAIR_BYTES;
use crate::session::seal::{Binding, Seal};
use crate::session::settings::SessionRules;
use crate::store::{DjangoSettings, StoreSettings};

const VERSION: &[u8] = b"1.";
const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;

/// From how many bytes on a record is deflated. Of a shorter one deflate takes a few dozen bytes, and to inflate it with
/// every request costs more than all the rest that is done for one.
const WORTH_DEFLATING: usize = 512;

/// Deflate makes at most 1032 bytes of one, so this is more than a cookie can hold.
const MOST_BYTES: u64 = 1032 * MAX_PAIR_BYTES as u64;

/// Django drops what is shorter.
const DJANGOS_SHORTEST: usize = 8;

/// How sessions become values of cookies and back.
#[derive(Debug)]
pub enum Carrier {
    /// In a form of our own.
    Sealed { seal: Seal, cookie_name: String },
    /// In Django's.
    Signed {
        django: Arc<Django>,
        /// The same that believes the first key alone, if there are others.
        strict: Option<Box<Django>>,
    },
}

/// A session out of a cookie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Carried {
    pub session: Session,
    pub expires_at: Timestamp,
    /// The cookie is good, and is to be written again with the first key.
    pub old_key: bool,
}

impl Carrier {
    pub(super) fn new(
        settings: &StoreSettings,
        rules: &SessionRules,
        cookie_name: &str,
        form: &Form,
    ) -> Result<Self, Problem> {
        match form {
            Form::Django(_) if !settings.keys.is_empty() => {
                let message = "is not for format = \"django\", which signs with store.django.secret_key";
                Err(Problem::new("store.keys", "…", message))
            }
            Form::Django(django) => {
                Ok(Self::Signed { django: Arc::clone(django), strict: strict(settings, rules, cookie_name)? })
            }
            Form::Msgpack => {
                let message = "with engine = \"signed_cookies\" must be \"native\" or \"django\"";
                Err(Problem::new("store.format", "\"msgpack\"", message))
            }
            Form::Native => {
                let seal = Seal::new(&settings.keys, "store.keys")?;
                Ok(Self::Sealed { seal, cookie_name: cookie_name.to_owned() })
            }
        }
    }

    /// The value of the cookie for a visitor of a route for these hosts.
    pub fn write(&self, session: &Session, expires_at: Timestamp, hosts: &[String]) -> String {
        let (seal, cookie_name) = match self {
            Self::Sealed { seal, cookie_name } => (seal, cookie_name),
            // Its age counts from the signature on, also where nothing but the key is new.
            Self::Signed { django, .. } => return django.write_cookie(session, session.saved_at),
        };
        let record = native::encode(session);
        let long = record.len() >= WORTH_DEFLATING;
        let deflated = long.then(|| deflate(&record)).flatten().filter(|deflated| deflated.len() < record.len());
        let (form, record) = match &deflated {
            Some(deflated) => (DEFLATED, deflated.as_slice()),
            None => (PLAIN, &*record),
        };
        let content = [&[form], expires_at.as_millis().to_be_bytes().as_slice(), record].concat();
        let mut value = String::from_utf8_lossy(VERSION).into_owned();
        URL_SAFE_NO_PAD.encode_string(seal.seal(&binding(cookie_name, hosts), &content), &mut value);
        value
    }

    /// Whether a cookie looks like one of ours.
    pub fn may_be_ours(&self, value: &[u8]) -> bool {
        match self {
            Self::Sealed { .. } => value.starts_with(VERSION),
            Self::Signed { .. } => value.len() >= DJANGOS_SHORTEST && value.contains(&b':'),
        }
    }

    /// The session in a cookie that came to a route for these hosts, if it is one of ours and has not ended `now`.
    pub fn read(&self, value: &[u8], hosts: &[String], rules: &SessionRules, now: Timestamp) -> Option<Carried> {
        if value.len() > MAX_PAIR_BYTES {
            return None;
        }
        match self {
            Self::Sealed { seal, cookie_name } => read_sealed(seal, &binding(cookie_name, hosts), value, rules, now),
            Self::Signed { django, strict } => {
                let value = std::str::from_utf8(value).ok()?;
                let session = django.read_cookie(value, now).ok()?;
                let old_key = strict.as_ref().is_some_and(|strict| strict.read_cookie(value, now).is_err());
                Some(Carried { expires_at: session.deadline(rules, now), session, old_key })
            }
        }
    }
}

/// Django's format without the keys that only believe.
fn strict(settings: &StoreSettings, rules: &SessionRules, cookie_name: &str) -> Result<Option<Box<Django>>, Problem> {
    let django = settings.django();
    if django.secret_key_fallbacks.is_empty() && !django.legacy {
        return Ok(None);
    }
    let django = DjangoSettings { secret_key_fallbacks: Vec::new(), legacy: false, ..django };
    let settings = StoreSettings { django: Some(django), ..settings.clone() };
    Django::new(&settings, rules, cookie_name).map(|django| Some(Box::new(django)))
}

fn read_sealed(seal: &Seal, binding: &Binding, value: &[u8], rules: &SessionRules, now: Timestamp) -> Option<Carried> {
    let sealed = URL_SAFE_NO_PAD.decode(value.strip_prefix(VERSION)?).ok()?;
    let opened = seal.open(binding, &sealed)?;
    let (form, rest) = opened.plain.split_first()?;
    let (deadline, record) = rest.split_first_chunk()?;
    let record = match *form {
        PLAIN => record.to_vec(),
        DEFLATED => inflate(record)?,
        _ => return None,
    };
    let session = native::decode(&record.into()).ok()?;
    let expires_at = Timestamp::from_millis(i64::from_be_bytes(*deadline));
    let over = expires_at <= now || session.ends_at_latest(rules).is_some_and(|end| end <= now);
    (!over).then_some(Carried { session, expires_at, old_key: opened.old_key })
}

/// A cookie is for the visitors of its own hosts, under its own name.
fn binding(cookie_name: &str, hosts: &[String]) -> Binding {
    let mut hosts: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    hosts.sort_unstable();
    let parts = std::iter::once(cookie_name).chain(hosts.iter().map(String::as_str));
    Binding::new("cloakroom session cookie", parts)
}

fn deflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

fn inflate(bytes: &[u8]) -> Option<Vec<u8>> {
    /// What text seldom exceeds.
    const USUAL_RATIO: usize = 8;
    let mut inflated = Vec::with_capacity(USUAL_RATIO * bytes.len());
    let whole = Decompress::new(false).decompress_vec(bytes, &mut inflated, FlushDecompress::Finish);
    if matches!(whole, Ok(Status::StreamEnd)) {
        return Some(inflated);
    }
    // A stream finds out how much it is, for twice the time.
    inflated.clear();
    DeflateDecoder::new(bytes).take(MOST_BYTES).read_to_end(&mut inflated).ok()?;
    Some(inflated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::native::tests::any_session;
    use super::*;
    use crate::session::data::Data;
    use crate::session::expiry::Expiry;
    use crate::session::inject::HeaderSettings;
    use crate::session::settings::SessionSettings;

    const A: &str = "'00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'";
    const B: &str = "'ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100'";
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const END: Timestamp = Timestamp::from_millis(1_800_000_060_000);

    fn carrier_named(name: &str, keys: &[&str]) -> Carrier {
        let text = format!("engine = 'signed_cookies'\nkeys = [{}]", keys.join(", "));
        Carrier::new(&toml::from_str(&text).unwrap(), &rules(""), name, &Form::Native).unwrap()
    }

    fn carrier(keys: &[&str]) -> Carrier {
        carrier_named("sessionid", keys)
    }

    fn rules(text: &str) -> SessionRules {
        toml::from_str::<SessionSettings>(text).unwrap().check(&HeaderSettings::default()).unwrap()
    }

    fn session(data: &str) -> Session {
        Session {
            data: Data::parse(data.to_owned().into()).unwrap(),
            created_at: NOW,
            saved_at: NOW,
            expiry: Expiry::Default,
            retired: None,
            predecessors: Vec::new(),
        }
    }

    fn hosts(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn i13_a_cookie_of_an_older_key_is_good_and_is_told_from_others() {
        let value = carrier(&[A]).write(&session("{}"), END, &[]);
        let read = |keys: &[&str]| carrier(keys).read(value.as_bytes(), &[], &rules(""), NOW);
        assert!(!read(&[A]).unwrap().old_key);
        assert!(read(&[B, A]).unwrap().old_key);
        assert_eq!(read(&[B]), None);
    }

    #[test]
    fn i14_the_deadline_is_under_the_seal() {
        let carrier = carrier(&[A]);
        let value = carrier.write(&session("{}"), END, &[]);
        let at = |millis, text| carrier.read(value.as_bytes(), &[], &rules(text), NOW.plus(from_millis(millis)));
        assert_eq!(at(59_999, "").unwrap().expires_at, END);
        assert_eq!(at(60_000, ""), None);
        // Rules that became stricter count for cookies that are out already.
        assert!(at(9_999, "absolute_timeout = '10s'").is_some());
        assert_eq!(at(10_000, "absolute_timeout = '10s'"), None);
    }

    #[test]
    fn i14_a_cookie_is_for_its_own_name_and_hosts() {
        let here = hosts(&["A.example", "*.b.example"]);
        let value = carrier(&[A]).write(&session("{}"), END, &here);
        let read = |name, hosts: &[String]| carrier_named(name, &[A]).read(value.as_bytes(), hosts, &rules(""), NOW);
        assert!(read("sessionid", &here).is_some());
        assert!(read("sessionid", &hosts(&["*.B.example", "a.example"])).is_some(), "order and case say nothing");
        for other in [&[][..], &["a.example"], &["a.example", "b.example"]] {
            assert_eq!(read("sessionid", &hosts(other)), None, "{other:?}");
        }
        assert_eq!(read("other", &here), None);
    }

    #[test]
    fn what_compresses_is_compressed_and_stays_within_a_cookie() {
        let (tight, loose) = (format!("{{\"a\":\"{}\"}}", "x".repeat(60_000)), r#"{"a":"q7Zr"}"#);
        let ordinary = format!("{{\"a\":\"{}\"}}", (0..300).map(|number| number.to_string()).collect::<String>());
        for (data, longest) in [(tight.as_str(), 400), (&ordinary, 900), (loose, 180)] {
            let value = carrier(&[A]).write(&session(data), END, &[]);
            assert!(value.len() < longest, "{} bytes of {}", value.len(), data.len());
            let carried = carrier(&[A]).read(value.as_bytes(), &[], &rules(""), NOW).unwrap();
            assert_eq!(carried.session.data.as_str(), data);
        }
    }

    #[test]
    fn anything_else_is_no_session() {
        let value = carrier(&[A]).write(&session("{}"), END, &[]);
        let long = format!("{value}{}", "A".repeat(4096));
        for other in ["", "1.", "1.AA", "2.AA", &value[2..], &value.replace("1.", "2."), &format!("{value}="), &long] {
            assert_eq!(carrier(&[A]).read(other.as_bytes(), &[], &rules(""), NOW), None, "{other}");
        }
    }

    fn from_millis(millis: u64) -> std::time::Duration {
        std::time::Duration::from_millis(millis)
    }

    proptest! {
        #[test]
        fn i13_every_session_comes_back_and_no_character_of_its_cookie_can_be_changed(
            session in any_session(),
            at in any::<prop::sample::Index>(),
            other in "[A-Za-z0-9_.-]",
        ) {
            let carrier = carrier(&[A]);
            let value = carrier.write(&session, END, &[]);
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
            let read = |value: &str| carrier.read(value.as_bytes(), &[], &rules(""), NOW);
            prop_assert_eq!(read(&value), Some(Carried { session, expires_at: END, old_key: false }));
            let at = at.index(value.len());
            let mut changed = value.clone();
            changed.replace_range(at..=at, &other);
            prop_assume!(changed != value);
            prop_assert_eq!(read(&changed), None);
        }
    }
}
