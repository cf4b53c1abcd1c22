//! What a response asks to be done to the session: as data, so that it can be applied again after a conflict.

use std::fmt;

use super::data::{Data, OpaqueMember};
use super::expiry::Expiry;
use super::json::Members;
use super::limits::Limits;
use super::object::Object;

/// The whole of what one response asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SessionPatch {
    pub ending: Option<Ending>,
    /// In any order; [`SessionPatch::apply`] knows the protocol's.
    pub changes: Vec<Change>,
    pub expiry: Option<Expiry>,
    /// A new key for the same data.
    pub cycle: bool,
    /// Renew the expiry though nothing changed.
    pub touch: bool,
    /// Why everything but the ending was dropped. The caller logs and counts it.
    pub refusal: Option<Refusal>,
}

/// How the session as it was ends; of several the greatest counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Ending {
    /// Empty the data, keep the key; the custom expiry goes too.
    Clear,
    /// Forget the record, leave the cookie.
    Delete,
    /// Forget record and cookie.
    Flush,
}

/// One change of the data. Keys are decoded, values are JSON in wire form.
#[derive(Clone, Eq, PartialEq)]
pub enum Change {
    Set {
        key: String,
        value: String,
    },
    /// RFC 7396; the text of an object.
    Merge(String),
    Incr {
        key: String,
        by: i64,
    },
    Unset(String),
}

/// What [`SessionPatch::apply`] made of the data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    pub data: Data,
    /// Whether the session has to be saved. As in Django assigning counts even if the value stays the same; deleting
    /// counts only if there was something to delete.
    pub changed: bool,
}

impl SessionPatch {
    /// Nothing is asked for. A refused patch may well be empty.
    pub fn is_empty(&self) -> bool {
        self.ending.is_none() && self.changes.is_empty() && self.expiry.is_none() && !self.cycle && !self.touch
    }

    /// Applies the changes to the session's data, or to empty data if the session ends: what was there goes with it.
    /// Expiry, `cycle` and `touch` are for the caller.
    ///
    /// # Errors
    /// When a change cannot be done on what is there, or makes the data too large. Then nothing counts but the
    /// ending: see [`SessionPatch::refuse`].
    pub fn apply(&self, data: &Data, limits: &Limits) -> Result<Applied, Refusal> {
        let before = if self.ending.is_some() { Data::empty() } else { data.clone() };
        let mut ordered: Vec<&Change> = self.changes.iter().collect();
        ordered.sort_by_key(|change| change.rank());
        let Some(first) = ordered.first() else { return Ok(Applied { data: before, changed: false }) };
        let refusal = |change: &Change, reason| Refusal { header: change.header(), reason };

        let mut object = Object::read(before.as_str());
        let mut opaque = before.opaque().to_vec();
        let mut changed = false;
        for change in &ordered {
            changed |= change.displace(&mut opaque).map_err(|reason| refusal(change, reason))?;
            changed |= change.apply(&mut object).map_err(|reason| refusal(change, reason))?;
        }
        if !changed {
            return Ok(Applied { data: before, changed });
        }
        let after = Data::from_wire(object.write()).with_opaque(opaque);
        limits.allow(&before, &after).map_err(|reason| refusal(first, reason))?;
        Ok(Applied { data: after, changed })
    }

    /// The header that a refusal of the whole names: the one whose change comes first.
    pub fn header(&self) -> &'static str {
        match self.changes.iter().min_by_key(|change| change.rank()) {
            Some(first) => first.header(),
            None if self.expiry.is_some() => "X-Session-Expiry",
            None => "X-Session-Action",
        }
    }

    /// Leaves the ending and nothing else, for an answer that changes no data.
    pub fn drop_changes(&mut self) {
        *self = Self { ending: self.ending, refusal: self.refusal, ..Self::default() };
    }

    /// What is left of this when it is refused: the ending, for a logout is never lost.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal) -> Self {
        Self { ending: self.ending, refusal: Some(refusal), ..Self::default() }
    }
}

impl Change {
    /// Set, then Patch, then Incr, then Unset, whatever the order of the lines.
    const fn rank(&self) -> u8 {
        match self {
            Self::Set { .. } => 0,
            Self::Merge(_) => 1,
            Self::Incr { .. } => 2,
            Self::Unset(_) => 3,
        }
    }

    const fn header(&self) -> &'static str {
        match self {
            Self::Set { .. } => "X-Session-Set",
            Self::Merge(_) => "X-Session-Patch",
            Self::Incr { .. } => "X-Session-Incr",
            Self::Unset(_) => "X-Session-Unset",
        }
    }

    /// Takes away the opaque members that this change overwrites or unsets; true if there was one. What it would reach
    /// into or count up must be plain.
    fn displace(&self, opaque: &mut Vec<OpaqueMember>) -> Result<bool, Reason> {
        if opaque.is_empty() {
            return Ok(false);
        }
        let has = |member: &OpaqueMember, key: &str| member.key.as_deref() == Some(key);
        let before = opaque.len();
        match self {
            Self::Set { key, .. } | Self::Unset(key) => opaque.retain(|member| !has(member, key)),
            Self::Incr { key, .. } if opaque.iter().any(|member| has(member, key)) => return Err(Reason::NotANumber),
            Self::Incr { .. } => {}
            Self::Merge(patch) => {
                for merged in Members::new(patch) {
                    let key = merged.key();
                    if merged.value.starts_with('{') && opaque.iter().any(|member| has(member, &key)) {
                        return Err(Reason::NotPlain);
                    }
                    opaque.retain(|member| !has(member, &key));
                }
            }
        }
        Ok(opaque.len() < before)
    }

    /// True if it counts as a change.
    fn apply<'a>(&'a self, object: &mut Object<'a>) -> Result<bool, Reason> {
        match self {
            Self::Set { key, value } => {
                object.set(key, value);
                Ok(true)
            }
            Self::Merge(patch) => Ok(object.merge(patch)),
            Self::Incr { key, by } => {
                let sum = increment(object.number(key).unwrap_or("0"), *by)?;
                object.set_number(key, sum);
                Ok(true)
            }
            Self::Unset(key) => Ok(object.remove(key)),
        }
    }
}

impl fmt::Debug for Change {
    /// Values stay out of logs, and so do keys, which may be as telling.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Change({})", self.header())
    }
}

/// The sum as JSON text. Integers stay integers, and exact; a number with a fraction or an exponent is added as such.
fn increment(number: &str, by: i64) -> Result<String, Reason> {
    if !number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(Reason::NotANumber);
    }
    if number.contains(['.', 'e', 'E']) {
        #[expect(clippy::cast_precision_loss, reason = "a float was there before, and a float is what it stays")]
        let sum = number.parse::<f64>().map_err(|_| Reason::NotANumber)? + by as f64;
        return if sum.is_finite() { Ok(format!("{sum:?}")) } else { Err(Reason::NumberTooLarge) };
    }
    let number: i64 = number.parse().map_err(|_| Reason::NumberTooLarge)?;
    number.checked_add(by).map(|sum| sum.to_string()).ok_or(Reason::NumberTooLarge)
}

/// An update that was not obeyed: which header, and why. Never the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{header}: {reason}")]
pub struct Refusal {
    pub header: &'static str,
    pub reason: Reason,
}

impl Refusal {
    /// A short name for a metric's label.
    pub const fn reason(&self) -> &'static str {
        self.reason.label()
    }
}

/// Why an update was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reason {
    #[error("a key is empty, too long or has control characters")]
    BadKey,
    #[error("the session would not fit into a cookie any more (4096 bytes)")]
    CookieTooLarge,
    #[error("a name stands twice in one JSON object")]
    DuplicateName,
    #[error("the session would not fit into X-Session-Data any more (headers.max_header_bytes)")]
    HeaderTooLarge,
    #[error("the line is too long (session.limits.max_line_bytes)")]
    LineTooLong,
    #[error("malformed")]
    Malformed,
    #[error("what is there is not a number")]
    NotANumber,
    #[error("what is there has no JSON form, so nothing in it can be changed")]
    NotPlain,
    #[error("a number left its range")]
    NumberTooLarge,
    #[error("_session_expiry is changed by X-Session-Expiry alone")]
    ReservedKey,
    #[error("the session would become too large (session.max_bytes)")]
    SessionTooLarge,
    #[error("JSON nested too deeply (session.limits.max_depth)")]
    TooDeep,
    #[error("too many members (session.limits.max_members)")]
    TooManyMembers,
    #[error("unknown action")]
    UnknownAction,
    #[error("all lines together are too long (session.limits.max_update_bytes)")]
    UpdateTooLong,
}

impl Reason {
    const fn label(self) -> &'static str {
        match self {
            Self::BadKey => "bad_key",
            Self::CookieTooLarge => "cookie_too_large",
            Self::DuplicateName => "duplicate_name",
            Self::HeaderTooLarge => "header_too_large",
            Self::LineTooLong => "line_too_long",
            Self::Malformed => "malformed",
            Self::NotANumber => "not_a_number",
            Self::NotPlain => "not_plain",
            Self::NumberTooLarge => "number_too_large",
            Self::ReservedKey => "reserved_key",
            Self::SessionTooLarge => "session_too_large",
            Self::TooDeep => "too_deep",
            Self::TooManyMembers => "too_many_members",
            Self::UnknownAction => "unknown_action",
            Self::UpdateTooLong => "update_too_long",
        }
    }
}

#[cfg(test)]
mod tests;
