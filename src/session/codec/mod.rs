//! Sessions as bytes in a store. To add a format: one file here that encodes and decodes, and its arm in [`Codec`].

mod carrier;
mod django;
mod input;
mod msgpack;
pub mod native;
mod numbers;
mod pack;
mod tokens;

use std::sync::Arc;

use bytes::Bytes;

pub use self::carrier::{Carried, Carrier};
pub use self::django::Django;
use super::Session;
use super::id::SessionId;
use super::json::JsonError;
use super::seal::{Binding, Seal};
use super::settings::SessionRules;
use crate::clock::Timestamp;
use crate::problem::Problem;
use crate::store::{Engine, ForeignRecords, Format, Key, Record, StoreSettings};

/// How sessions are written into the store, and what their records are called there; or how they are written into the
/// cookie, where there is no store.
#[derive(Clone, Debug)]
pub struct Codec {
    form: Form,
    /// `store.encrypt`
    seal: Option<Arc<Seal>>,
    carrier: Option<Arc<Carrier>>,
}

#[derive(Clone, Debug)]
enum Form {
    Django(Arc<Django>),
    Msgpack,
    Native,
}

impl Codec {
    /// The format that the settings name. `cookie_name` is what Django's file engine calls its files after.
    ///
    /// # Errors
    /// The first [`Problem`] found in `[store.django]` or `store.encrypt`.
    pub fn new(settings: &StoreSettings, rules: &SessionRules, cookie_name: &str) -> Result<Self, Problem> {
        let form = match settings.format {
            Format::Django => Form::Django(Arc::new(Django::new(settings, rules, cookie_name)?)),
            Format::Msgpack => Form::Msgpack,
            Format::Native => Form::Native,
        };
        let carrier = match settings.engine {
            Engine::SignedCookies => Some(Arc::new(Carrier::new(settings, rules, cookie_name, &form)?)),
            _ => None,
        };
        Ok(Self { form, seal: seal(settings)?, carrier })
    }

    /// How sessions are written into the cookie; `None` where a store keeps them.
    pub const fn carrier(&self) -> Option<&Arc<Carrier>> {
        self.carrier.as_ref()
    }

    /// What the store calls the record of a session. In our own formats a digest, so that whoever reads the store learns
    /// no id; in Django's the id itself.
    pub fn key(&self, id: &SessionId) -> Key {
        match &self.form {
            Form::Django(_) => Key::new(id.as_str()),
            Form::Msgpack | Form::Native => id.digest(),
        }
    }

    /// Whether the store calls records by the ids of their sessions, which are secrets.
    pub fn names_ids(&self) -> bool {
        !self.has_grace()
    }

    /// Whether a record can say that its session moved on to another key.
    pub fn has_grace(&self) -> bool {
        !matches!(self.form, Form::Django(_))
    }

    /// What an engine has to know of records that are not ours.
    pub fn foreign(&self) -> Option<Arc<dyn ForeignRecords>> {
        match &self.form {
            Form::Django(django) => Some(Arc::<Django>::clone(django)),
            Form::Msgpack | Form::Native => None,
        }
    }

    /// Writes a session as the record under `key`. Where the format has a time of signing, it is `now`.
    pub fn encode(&self, key: &Key, session: &Session, now: Timestamp) -> Bytes {
        let record = match &self.form {
            Form::Django(django) => django.encode(session, now),
            Form::Msgpack => msgpack::encode(session),
            Form::Native => native::encode(session),
        };
        match &self.seal {
            Some(seal) => seal.seal(&binding(key), &record).into(),
            None => record,
        }
    }

    /// Reads the record under `key`. Where records are encrypted only those count: whoever can write into the store
    /// must not get around the keys.
    ///
    /// # Errors
    /// For anything that neither [`Codec::encode`] nor, in Django's format, Django writes.
    pub fn decode(&self, key: &Key, record: &Record) -> Result<Session, DecodeError> {
        let opened = match &self.seal {
            Some(seal) => Some(seal.open(&binding(key), &record.value).ok_or(DecodeError::Sealed)?.plain.into()),
            None => None,
        };
        let value = opened.as_ref().unwrap_or(&record.value);
        match &self.form {
            Form::Django(django) => django.decode(record),
            Form::Msgpack => msgpack::decode(value),
            Form::Native => native::decode(value),
        }
    }
}

/// The keys in `store.encrypt`, if there are any.
fn seal(settings: &StoreSettings) -> Result<Option<Arc<Seal>>, Problem> {
    if settings.encrypt.is_empty() {
        return Ok(None);
    }
    let refused = |message| Err(Problem::new("store.encrypt", "…", message));
    if settings.engine == Engine::SignedCookies {
        return refused("has no meaning with engine = \"signed_cookies\", which keeps nothing in a store");
    }
    if settings.format == Format::Django {
        return refused("is not for format = \"django\": Django could not read the records");
    }
    Seal::new(&settings.encrypt, "store.encrypt").map(|seal| Some(Arc::new(seal)))
}

/// A record opens under its own key alone, so that nobody who can write into the store exchanges one for another.
fn binding(key: &Key) -> Binding {
    Binding::new("cloakroom record", [key.as_str()])
}

/// Why a record cannot be read. It counts as absent, and is logged without its content.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("its data cannot be used")]
    Data(#[source] JsonError),
    #[error("it has ended")]
    Ended,
    #[error("not signed with any of the keys in [store.django]")]
    Forged,
    #[error("not a record of this format")]
    Malformed,
    #[error("not encrypted for this place with one of the keys in store.encrypt")]
    Sealed,
    #[error("written by a newer version, as format {0}")]
    Version(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::data::Data;
    use crate::session::expiry::Expiry;
    use crate::session::inject::HeaderSettings;
    use crate::session::settings::SessionSettings;
    use crate::store::Version;

    const A: &str = "'00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'";
    const B: &str = "'ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100'";
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn new(store: &str) -> Result<Codec, Problem> {
        let rules = SessionSettings::default().check(&HeaderSettings::default()).unwrap();
        Codec::new(&toml::from_str(store).unwrap(), &rules, "sessionid")
    }

    fn session() -> Session {
        Session {
            data: Data::parse(Bytes::from_static(b"{\"user\":\"ann\"}")).unwrap(),
            created_at: NOW,
            saved_at: NOW,
            expiry: Expiry::Default,
            retired: None,
            predecessors: Vec::new(),
        }
    }

    fn record(value: Bytes) -> Record {
        Record { value, version: Version(1), expires_at: NOW }
    }

    #[test]
    fn o12_an_encrypted_record_shows_nothing_and_opens_under_its_key_alone() {
        let codec = new(&format!("encrypt = [{A}]")).unwrap();
        let (here, there) = (Key::new("here"), Key::new("there"));
        let written = record(codec.encode(&here, &session(), NOW));
        assert!(!written.value.windows(3).any(|window| window == b"ann"));
        assert_eq!(codec.decode(&here, &written).unwrap(), session());
        assert!(matches!(codec.decode(&there, &written), Err(DecodeError::Sealed)));
    }

    #[test]
    fn o12_what_is_not_encrypted_is_refused_where_records_are_and_the_other_way_round() {
        let key = Key::new("k");
        let (plain, sealed) = (new("").unwrap(), new(&format!("encrypt = [{A}]")).unwrap());
        let readable = record(plain.encode(&key, &session(), NOW));
        assert!(matches!(sealed.decode(&key, &readable), Err(DecodeError::Sealed)));
        let unreadable = record(sealed.encode(&key, &session(), NOW));
        assert!(plain.decode(&key, &unreadable).is_err());
    }

    #[test]
    fn o12_a_key_goes_by_being_moved_behind_another() {
        let key = Key::new("k");
        let codec = |keys: &str| new(&format!("encrypt = [{keys}]")).unwrap();
        let old = record(codec(A).encode(&key, &session(), NOW));
        let both = codec(&format!("{B}, {A}"));
        assert_eq!(both.decode(&key, &old).unwrap(), session());
        let new = record(both.encode(&key, &session(), NOW));
        assert_eq!(codec(B).decode(&key, &new).unwrap(), session());
        assert!(codec(A).decode(&key, &new).is_err());
    }

    #[test]
    fn keys_are_refused_where_they_would_mean_nothing() {
        for (text, key) in [
            (format!("format = 'django'\nencrypt = [{A}]\ndjango.secret_key = 'x'"), "store.encrypt"),
            (format!("engine = 'signed_cookies'\nkeys = [{A}]\nencrypt = [{A}]"), "store.encrypt"),
            ("encrypt = ['short']".to_owned(), "store.encrypt[0]"),
            ("engine = 'signed_cookies'".to_owned(), "store.keys"),
            (format!("engine = 'signed_cookies'\nkeys = [{A}, {A}]"), "store.keys[1]"),
            (format!("engine = 'signed_cookies'\nkeys = [{A}]\nformat = 'msgpack'"), "store.format"),
            (
                format!("engine = 'signed_cookies'\nkeys = [{A}]\nformat = 'django'\ndjango.secret_key = 'x'"),
                "store.keys",
            ),
        ] {
            assert_eq!(new(&text).unwrap_err().key, key, "{text}");
        }
    }
}
