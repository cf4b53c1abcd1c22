//! How much a backend may say about a session at once, and how large a session may become.

use serde::Deserialize;

use super::data::{Data, MAX_DEPTH};
use super::patch::Reason;
use crate::problem::Problem;
use crate::units;

/// `[session.limits]` as written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Bytes of a key, in UTF-8.
    #[serde(deserialize_with = "units::size")]
    pub max_key_bytes: usize,
    /// How deep JSON in a header may nest; the outermost object counts as 1.
    pub max_depth: usize,
    /// Members of all forms and top-level members of all objects of one response together.
    pub max_members: usize,
    /// Bytes of one header line.
    #[serde(deserialize_with = "units::size")]
    pub max_line_bytes: usize,
    /// Bytes of all command lines of one response together.
    #[serde(deserialize_with = "units::size")]
    pub max_update_bytes: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_key_bytes: 128,
            max_depth: 32,
            max_members: 256,
            max_line_bytes: 16 << 10,
            max_update_bytes: 64 << 10,
        }
    }
}

impl LimitSettings {
    /// Joins them with what bounds the result: `session.max_bytes`, and `headers.max_header_bytes` where larger data
    /// is refused.
    ///
    /// # Errors
    /// For a limit that lets nothing through, or a depth that no stored record may have.
    pub fn check(&self, max_data_bytes: usize, max_header_bytes: Option<usize>) -> Result<Limits, Problem> {
        for (key, value) in [
            ("session.limits.max_key_bytes", self.max_key_bytes),
            ("session.limits.max_members", self.max_members),
            ("session.limits.max_line_bytes", self.max_line_bytes),
            ("session.limits.max_update_bytes", self.max_update_bytes),
        ] {
            if value == 0 {
                return Err(Problem::new(key, value, "must be at least 1"));
            }
        }
        if !(1..=MAX_DEPTH).contains(&self.max_depth) {
            let message = format!("must be from 1 to {MAX_DEPTH}");
            return Err(Problem::new("session.limits.max_depth", self.max_depth, message));
        }
        if max_data_bytes < Data::empty().len() {
            return Err(Problem::new("session.max_bytes", max_data_bytes, "must be at least 2, an empty object"));
        }
        let Self { max_key_bytes, max_depth, max_members, max_line_bytes, max_update_bytes } = *self;
        Ok(Limits {
            max_key_bytes,
            max_depth,
            max_members,
            max_line_bytes,
            max_update_bytes,
            max_data_bytes,
            max_header_bytes,
        })
    }
}

/// All bounds an update has to keep, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    pub max_key_bytes: usize,
    pub max_depth: usize,
    pub max_members: usize,
    pub max_line_bytes: usize,
    pub max_update_bytes: usize,
    /// Bytes of a session's data in wire form.
    pub max_data_bytes: usize,
    /// Bytes of `X-Session-Data`, where an update that makes it longer is refused; `None` where it is announced.
    pub max_header_bytes: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        let LimitSettings { max_key_bytes, max_depth, max_members, max_line_bytes, max_update_bytes } =
            LimitSettings::default();
        Self {
            max_key_bytes,
            max_depth,
            max_members,
            max_line_bytes,
            max_update_bytes,
            max_data_bytes: 64 << 10,
            max_header_bytes: Some(4 << 10),
        }
    }
}

impl Limits {
    /// Whether data may become `after`. What shrinks may be too large still: else a session that others made too large
    /// could never be mended.
    pub(super) fn allow(&self, before: &Data, after: &Data) -> Result<(), Reason> {
        let grown = after.len() > before.len();
        if grown && after.len() > self.max_data_bytes {
            return Err(Reason::SessionTooLarge);
        }
        let longer = after.wire().len() > before.wire().len();
        if longer && self.max_header_bytes.is_some_and(|most| after.wire().len() > most) {
            return Err(Reason::HeaderTooLarge);
        }
        Ok(())
    }
}
