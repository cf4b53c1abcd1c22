//! All sessions of one store into another while visitors use both.
//!
//! Three passes. The first brings over what the source has. The second looks at everything again: what changed meanwhile
//! is brought over, and what did not must be at the target as it was, or newer. What was brought over and is no longer at
//! the source was ended there; the third ends it at the target, unless someone has stored it there since.
//!
//! Every write at the target compares what is there, and no pass undoes another, so that a run that breaks off is simply
//! repeated.

mod seen;
mod steps;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use self::seen::Seen;
use self::steps::{Brought, Checked, bring, check, end};
use super::CommandError;
use super::progress::Progress;
use super::report::table;
use super::transfer::Unfit;
use super::walk::every_key;
use crate::session::codec::Codec;
use crate::sessions::Records;
use crate::store::Key;

/// What a run did and found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Copied {
    /// Stored at the target, new or in place of what was older.
    pub copied: u64,
    /// Was there already.
    pub same: u64,
    /// Was there already, and is newer there.
    pub newer: u64,
    /// Records past their time, and what ended before it could be read.
    pub expired: u64,
    /// Ended at the target because it was ended at the source meanwhile.
    pub ended: u64,
    /// What is not at the target, by reason.
    pub failed: BTreeMap<Unfit, u64>,
    /// At the second look: as at the source, or newer.
    pub verified: u64,
    /// At the second look: not there any more.
    pub missing: u64,
    /// At the second look: neither what was brought over nor anything newer.
    pub different: u64,
}

impl Copied {
    /// Whether every session of the source is at the target.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty() && self.missing == 0 && self.different == 0
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![
            ("copied", self.copied),
            ("same at the target already", self.same),
            ("newer at the target", self.newer),
            ("expired", self.expired),
            ("ended at the source meanwhile, so at the target too", self.ended),
        ];
        let failed: Vec<_> = self.failed.iter().map(|(why, count)| (format!("failed: {why}"), *count)).collect();
        rows.extend(failed.iter().map(|(why, count)| (why.as_str(), *count)));
        rows.extend([
            ("verified", self.verified),
            ("gone from the target again: ended there, or lost by it", self.missing),
            ("other at the target than it was brought there", self.different),
        ]);
        formatter.write_str(&table(&rows))?;
        if self.is_whole() {
            return Ok(());
        }
        formatter.write_str("\nnot every session of the source is at the target as it should be")
    }
}

/// Whether sessions can go from one format to another at all.
///
/// # Errors
/// [`CommandError::Impossible`] from ours to Django's.
pub fn refuse(from: &Codec, to: &Codec) -> Result<(), CommandError> {
    if to.names_ids() && !from.names_ids() {
        let message = "a store with format = \"django\" calls sessions by their ids, and ours by digests of them, from \
                       which nobody can get the ids back: sessions can be copied from Django's format to ours and not \
                       the other way round";
        return Err(CommandError::Impossible(message.to_owned()));
    }
    Ok(())
}

/// The two stores, and what this run has seen of them.
struct Run {
    from: Arc<Records>,
    to: Arc<Records>,
    seen: Mutex<Seen>,
}

impl Run {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies, looks again, and ends what was ended.
///
/// # Errors
/// When a store fails for longer than a moment, and as [`refuse`].
pub async fn copy(from: &Arc<Records>, to: &Arc<Records>, progress: &mut Progress) -> Result<Copied, CommandError> {
    let mut stages = Stages::new(from, to)?;
    stages.bring_over(progress).await?;
    stages.look_again(progress).await?;
    stages.end_what_ended(progress).await?;
    progress.end();
    Ok(stages.done)
}

/// A copy pass by pass, for who wants to do something in between.
pub struct Stages {
    run: Arc<Run>,
    done: Copied,
    found: u64,
}

impl Stages {
    /// # Errors
    /// As [`refuse`].
    pub fn new(from: &Arc<Records>, to: &Arc<Records>) -> Result<Self, CommandError> {
        refuse(&from.codec, &to.codec)?;
        let run = Run { from: Arc::clone(from), to: Arc::clone(to), seen: Mutex::default() };
        Ok(Self { run: Arc::new(run), done: Copied::default(), found: 0 })
    }

    /// What was done so far.
    pub const fn done(&self) -> &Copied {
        &self.done
    }

    /// # Errors
    /// When a store fails.
    pub async fn bring_over(&mut self, progress: &mut Progress) -> Result<(), CommandError> {
        progress.begin("looked at", None);
        let run = Arc::clone(&self.run);
        let work = move |key: Key| {
            let run = Arc::clone(&run);
            async move { bring(&run, &key).await }
        };
        let Self { run, done, found } = self;
        every_key(&*run.from.store, work, |brought| {
            match brought {
                Brought::Copied => done.copied += 1,
                Brought::Expired => done.expired += 1,
                // It gets its second chance, and its place in the answer, when everything is looked at again.
                Brought::Failed(_) => {}
                Brought::Newer => done.newer += 1,
                Brought::Same => done.same += 1,
            }
            *found += 1;
            progress.step();
            Ok(())
        })
        .await
    }

    /// # Errors
    /// When a store fails.
    pub async fn look_again(&mut self, progress: &mut Progress) -> Result<(), CommandError> {
        progress.begin("verified", Some(self.found));
        let run = Arc::clone(&self.run);
        let work = move |key: Key| {
            let run = Arc::clone(&run);
            async move { check(&run, &key).await }
        };
        let Self { run, done, .. } = self;
        every_key(&*run.from.store, work, |checked| {
            match checked {
                Checked::Different => done.different += 1,
                Checked::Gone => {}
                Checked::Good => done.verified += 1,
                Checked::Late(Brought::Copied) => (done.copied, done.verified) = (done.copied + 1, done.verified + 1),
                Checked::Late(Brought::Expired) => {}
                Checked::Late(Brought::Failed(why)) => *done.failed.entry(why).or_default() += 1,
                Checked::Late(Brought::Newer | Brought::Same) => done.verified += 1,
                Checked::Missing => done.missing += 1,
            }
            progress.step();
            Ok(())
        })
        .await
    }

    /// # Errors
    /// When a store fails.
    pub async fn end_what_ended(&mut self, progress: &mut Progress) -> Result<(), CommandError> {
        let now = self.run.from.clock.now();
        if !self.run.seen().keep_ended(now) {
            return Ok(());
        }
        progress.begin("looked at", Some(self.found));
        let run = Arc::clone(&self.run);
        let work = move |key: Key| {
            let run = Arc::clone(&run);
            async move { end(&run, &key).await }
        };
        let Self { run, done, .. } = self;
        every_key(&*run.to.store, work, |ended| {
            done.ended += u64::from(ended);
            progress.step();
            Ok(())
        })
        .await
    }
}
