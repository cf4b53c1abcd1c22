//! What a response means for the session: the whole decision, as a function of data.

use super::data::Data;
use super::expiry::Expiry;
use super::patch::{Ending, Refusal, SessionPatch};
use super::settings::SessionRules;
use super::{Predecessor, Session};
use crate::clock::Timestamp;

/// What is to be done at the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Plan {
    /// A session where there was none.
    Create(Session),
    /// The same session under a new key; the old record retires.
    Cycle(Session),
    /// The record goes; `then` starts a new session under a new key, with no link to the old one.
    End { forget_cookie: bool, then: Option<Session> },
    /// The session stays as it is; an idle deadline may move.
    Keep,
    /// The record is replaced under its key.
    Save(Session),
}

/// Decides what `patch` does to `current`, the live session if there is one.
///
/// `renew` saves a session that lives although nothing else is asked for (Django's `SESSION_SAVE_EVERY_REQUEST`).
///
/// A refused update changes nothing, but its ending is obeyed: a logout is never lost. The refusal comes back beside
/// the plan, for the log.
pub fn plan(
    current: Option<&Session>,
    patch: &SessionPatch,
    renew: bool,
    rules: &SessionRules,
    now: Timestamp,
) -> (Plan, Option<Refusal>) {
    let before = current.map_or_else(Data::empty, |session| session.data.clone());
    let (applied, refusal) = match (&patch.refusal, patch.apply(&before, &rules.limits)) {
        (None, Ok(applied)) => (Some(applied), None),
        (None, Err(refusal)) => (None, Some(refusal)),
        (Some(refusal), _) => (None, Some(*refusal)),
    };
    let accepted = applied.is_some();
    let changed = applied.as_ref().is_some_and(|applied| applied.changed);
    let cleared = patch.ending == Some(Ending::Clear);
    let data = match applied {
        Some(applied) => applied.data,
        None if cleared => Data::empty(),
        None => before,
    };
    let expiry = patch.expiry.filter(|_| accepted);

    if let Some(Ending::Delete | Ending::Flush) = patch.ending {
        let then = (changed && !data.is_empty()).then(|| fresh(data, expiry, now));
        let then = then.filter(|session| session.deadline(rules, now) > now);
        return (Plan::End { forget_cookie: patch.ending == Some(Ending::Flush), then }, refusal);
    }
    let Some(session) = current else {
        // Nothing comes into being for a visitor for whom nothing was stored.
        let session = (changed && !data.is_empty()).then(|| fresh(data, expiry, now));
        let session = session.filter(|session| session.deadline(rules, now) > now);
        return (session.map_or(Plan::Keep, Plan::Create), refusal);
    };

    let cycle = accepted && (patch.cycle || names_change(session, &data, &rules.cycle_on_change));
    let renew = renew || accepted && (patch.touch || expiry.is_some());
    if !(changed || cleared || cycle || renew) {
        return (Plan::Keep, refusal);
    }
    let kept = if cleared { Expiry::Default } else { session.expiry };
    let next = Session {
        data,
        created_at: session.created_at,
        saved_at: now,
        expiry: expiry.unwrap_or(kept),
        retired: None,
        predecessors: in_grace(&session.predecessors, now),
    };
    let plan = if next.deadline(rules, now) <= now {
        // An instant that has passed: the backend asked for the end of the session.
        Plan::End { forget_cookie: true, then: None }
    } else if cycle {
        Plan::Cycle(next)
    } else {
        Plan::Save(next)
    };
    (plan, refusal)
}

fn fresh(data: Data, expiry: Option<Expiry>, now: Timestamp) -> Session {
    Session {
        data,
        created_at: now,
        saved_at: now,
        expiry: expiry.unwrap_or_default(),
        retired: None,
        predecessors: Vec::new(),
    }
}

fn in_grace(predecessors: &[Predecessor], now: Timestamp) -> Vec<Predecessor> {
    predecessors.iter().filter(|predecessor| predecessor.until > now).cloned().collect()
}

/// Whether one of `names` appeared in the data or has another value now.
fn names_change(before: &Session, after: &Data, names: &[String]) -> bool {
    names.iter().any(|name| after.value(name).is_some_and(|value| before.data.value(name) != Some(value)))
}
