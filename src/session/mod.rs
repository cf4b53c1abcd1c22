//! What a session is and how it changes. Nothing in here waits, asks the time or touches a store.

pub mod codec;
pub mod commands;
pub mod cookie;
pub mod data;
pub mod expiry;
mod form;
pub mod id;
pub mod inject;
pub mod json;
pub mod limits;
pub mod line;
pub mod names;
mod object;
pub mod patch;
pub mod plan;
pub mod seal;
pub mod settings;
pub mod tag;

use crate::clock::Timestamp;
use crate::store::Key;

use self::data::Data;
use self::expiry::Expiry;

/// A session as it was stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    pub data: Data,
    pub created_at: Timestamp,
    /// When data or expiry last changed; expiry ages count from here.
    pub saved_at: Timestamp,
    pub expiry: Expiry,
    /// Set when the key was cycled away: from then on the record is read-only.
    pub retired: Option<Retired>,
    /// Keys this session had before and that still answer reads.
    pub predecessors: Vec<Predecessor>,
}

impl Session {
    /// The other keys of this session that its record knows of.
    pub fn links(&self) -> impl Iterator<Item = &Key> {
        let successor = self.retired.iter().map(|retired| &retired.successor);
        successor.chain(self.predecessors.iter().map(|predecessor| &predecessor.key))
    }
}

/// A record whose session lives on under another key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Retired {
    /// End of the grace: from here on the record is absent, whatever the store says.
    pub until: Timestamp,
    pub successor: Key,
}

/// A key a session had before, in its grace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Predecessor {
    pub key: Key,
    pub until: Timestamp,
}
