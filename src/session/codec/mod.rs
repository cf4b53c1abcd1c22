//! Sessions as bytes in a store. To add a format: one file here that encodes and decodes, and its arm in [`Codec`].

mod django;
mod input;
mod msgpack;
pub mod native;
mod numbers;
mod pack;
mod tokens;

use std::sync::Arc;

use bytes::Bytes;

use self::django::Django;
use super::Session;
use super::id::SessionId;
use super::json::JsonError;
use super::settings::SessionRules;
use crate::clock::Timestamp;
use crate::problem::Problem;
use crate::store::{ForeignRecords, Format, Key, Record, StoreSettings};

/// How sessions are written into the store, and what their records are called there.
#[derive(Clone, Debug)]
pub struct Codec(Form);

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
        Ok(Self(match settings.format {
            Format::Django => Form::Django(Arc::new(Django::new(settings, rules, cookie_name)?)),
            Format::Msgpack => Form::Msgpack,
            Format::Native => Form::Native,
        }))
    }

    /// What the store calls the record of a session. In our own formats a digest, so that whoever reads the store learns
    /// no id; in Django's the id itself.
    pub fn key(&self, id: &SessionId) -> Key {
        match &self.0 {
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
        !matches!(self.0, Form::Django(_))
    }

    /// What an engine has to know of records that are not ours.
    pub fn foreign(&self) -> Option<Arc<dyn ForeignRecords>> {
        match &self.0 {
            Form::Django(django) => Some(Arc::<Django>::clone(django)),
            Form::Msgpack | Form::Native => None,
        }
    }

    /// Writes a session as the record under `key`. Where the format has a time of signing, it is `now`.
    pub fn encode(&self, key: &Key, session: &Session, now: Timestamp) -> Bytes {
        let _ = key;
        match &self.0 {
            Form::Django(django) => django.encode(session, now),
            Form::Msgpack => msgpack::encode(session),
            Form::Native => native::encode(session),
        }
    }

    /// Reads the record under `key`.
    ///
    /// # Errors
    /// For anything that neither [`Codec::encode`] nor, in Django's format, Django writes.
    pub fn decode(&self, key: &Key, record: &Record) -> Result<Session, DecodeError> {
        let _ = key;
        match &self.0 {
            Form::Django(django) => django.decode(record),
            Form::Msgpack => msgpack::decode(&record.value),
            Form::Native => native::decode(&record.value),
        }
    }
}

/// Why a record cannot be read. It counts as absent, and is logged without its content.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("its data cannot be used")]
    Data(#[source] JsonError),
    #[error("not a record of this format")]
    Malformed,
    #[error("written by a newer version, as format {0}")]
    Version(u64),
}
