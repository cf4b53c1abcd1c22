//! All sessions at once: how many there are, and away with the expired.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use serde::Serialize;

use super::progress::Progress;
use super::report::{Output, table};
use super::transfer::{self, Found};
use super::walk::{every_key, patiently};
use super::{CommandError, Verdict};
use crate::clock::Timestamp;
use crate::sessions::{Records, Stored};

/// What is in a store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
struct Counted {
    live: u64,
    /// Old keys of sessions that have a new one.
    retired: u64,
    /// Records past their time that are still to be removed, and what ended while we counted.
    expired: u64,
    unreadable: u64,
}

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("live", self.live),
            ("old keys of them", self.retired),
            ("expired", self.expired),
            ("unreadable", self.unreadable),
        ];
        formatter.write_str(&table(&rows))
    }
}

enum Kind {
    Expired,
    Live,
    Retired,
    Unreadable,
}

pub(super) async fn count(records: &Arc<Records>, output: Output) -> Result<Verdict, CommandError> {
    let mut counted = Counted::default();
    let mut progress = Progress::new();
    progress.begin("counted", None);
    // A store may give a key twice.
    let (hasher, mut seen) = (RandomState::new(), HashSet::new());
    let kind = {
        let records = Arc::clone(records);
        move |key| {
            let records = Arc::clone(&records);
            async move {
                let found = transfer::find(&records, &key).await?;
                Ok((key, kind(&records, &found)))
            }
        }
    };
    every_key(&*records.store, kind, |(key, kind)| {
        if seen.insert(hasher.hash_one(&key)) {
            match kind {
                Kind::Expired => counted.expired += 1,
                Kind::Live => counted.live += 1,
                Kind::Retired => counted.retired += 1,
                Kind::Unreadable => counted.unreadable += 1,
            }
            progress.step();
        }
        Ok(())
    })
    .await?;
    progress.end();
    output.tell(&counted)?;
    Ok(Verdict::Yes)
}

fn kind(records: &Records, found: &Found) -> Kind {
    let now = records.clock.now();
    match found {
        Found::Gone => Kind::Expired,
        Found::Unreadable(_) => Kind::Unreadable,
        Found::There(stored) if is_over(records, stored, now) => Kind::Expired,
        Found::There(stored) if stored.session.retired.is_some() => Kind::Retired,
        Found::There(_) => Kind::Live,
    }
}

/// Whether no request is answered with it any more, though the store still has it.
fn is_over(records: &Records, stored: &Stored, now: Timestamp) -> bool {
    let session = &stored.session;
    session.retired.as_ref().is_some_and(|retired| retired.until <= now)
        || session.ends_at_latest(&records.rules).is_some_and(|end| end <= now)
}

#[derive(Serialize)]
struct Cleared {
    expired: u64,
}

impl fmt::Display for Cleared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&table(&[("expired sessions were removed", self.expired)]))
    }
}

/// In batches, until a sweep finds nothing more: none is left, or another process is at it.
pub(super) async fn clear_expired(records: &Records, output: Output) -> Result<Verdict, CommandError> {
    let mut progress = Progress::new();
    progress.begin("sweeps", None);
    let mut expired = 0;
    loop {
        let swept = patiently(|| records.store.sweep()).await?;
        if swept == 0 {
            break;
        }
        expired += swept;
        progress.step();
    }
    progress.end();
    output.tell(&Cleared { expired })?;
    Ok(Verdict::Yes)
}
