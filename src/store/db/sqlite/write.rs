//! Writing: whatever is queued goes into one transaction, so that many changes share one sync to the disk.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql, Transaction, TransactionBehavior};

use super::super::super::{Expected, StoreError};
use super::super::Change;
use super::super::layout::Layout;
use super::thread::Answer;
use super::words::{Words, deadline};
use crate::clock::{Clock, Timestamp};

/// Changes in one transaction; what more there is waits for the next.
const GROUP: usize = 256;

/// Something to do in a transaction; its answer is how many rows it met.
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) answer: Answer<usize>,
}

pub(super) enum Kind {
    Change(Change),
    Sweep,
}

/// What every job needs to know.
pub(super) struct Writer {
    pub(super) clock: Clock,
    pub(super) layout: Arc<Layout>,
    pub(super) words: Arc<Words>,
}

/// Works until nobody can send changes any more.
pub(super) fn work(mut connection: Connection, queue: &Receiver<Job>, writer: &Writer) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Job> = std::iter::once(first).chain(queue.try_iter().take(GROUP - 1)).collect();
        match writer.commit(&mut connection, &group) {
            Ok(outcomes) => {
                for (job, outcome) in group.into_iter().zip(outcomes) {
                    let _ = job.answer.send(outcome.map_err(|error| StoreError::Failed(error.into())));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for job in group {
                    let _ = job.answer.send(Err(failure(&error)));
                }
            }
        }
    }
}

impl Writer {
    /// The outcome of every job, once all of them are on the disk; or why none is known to be.
    fn commit(&self, connection: &mut Connection, group: &[Job]) -> rusqlite::Result<Vec<rusqlite::Result<usize>>> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = self.clock.now();
        let mut outcomes = Vec::with_capacity(group.len());
        for job in group {
            // Waiting for the lock may have taken longer than the caller did: nobody would learn what this one did.
            let outcome = if job.answer.is_closed() { Ok(0) } else { self.apply(&job.kind, &transaction, now) };
            // A full disk, among others, takes back the whole transaction and not only this job.
            if outcome.is_err() && transaction.is_autocommit() {
                return outcome.map(|_| Vec::new());
            }
            outcomes.push(outcome);
        }
        transaction.commit()?;
        Ok(outcomes)
    }

    fn apply(&self, kind: &Kind, transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<usize> {
        let Self { words, layout, .. } = self;
        let now = deadline(layout, now);
        let change = match kind {
            Kind::Change(change) => change,
            Kind::Sweep => return transaction.prepare_cached(&words.sweep)?.execute([now]),
        };
        let key = change.key().as_str();
        match change {
            Change::Delete { .. } => transaction.prepare_cached(&words.delete)?.execute([key]),
            Change::Save { expected, version, value, expires_at, .. } => {
                let (expires_at, version) = (deadline(layout, *expires_at), version.0.cast_signed());
                let value = words.value(value);
                match expected {
                    Expected::Absent => {
                        let create = transaction.prepare_cached(&words.create)?;
                        execute(create, &[&key, &value, &expires_at, &now, &version])
                    }
                    Expected::Version(expected) => {
                        let replace = transaction.prepare_cached(&words.replace)?;
                        execute(replace, &[&key, &value, &expires_at, &now, &expected.0.cast_signed(), &version])
                    }
                }
            }
            Change::Touch { expected, expires_at, .. } => {
                let (expires_at, expected) = (deadline(layout, *expires_at), expected.0.cast_signed());
                execute(transaction.prepare_cached(&words.touch)?, &[&key, &expires_at, &now, &expected])
            }
        }
    }
}

/// Runs it with as many of the values as it takes: the last one, the version, has no place in Django's table.
fn execute(mut statement: CachedStatement<'_>, values: &[&dyn ToSql]) -> rusqlite::Result<usize> {
    let taken = values.get(..statement.parameter_count()).unwrap_or(values);
    statement.execute(taken)
}

/// What everyone in a failed group gets: nothing happened if the transaction could not even begin.
fn failure(error: &Arc<rusqlite::Error>) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::CannotOpen) => StoreError::Unreachable(Box::new(Arc::clone(error))),
        _ => StoreError::Failed(Box::new(Arc::clone(error))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{self, Receiver as Answered};

    use super::*;
    use crate::store::db::Missing;
    use crate::store::{Key, Version};

    type Outcome = Answered<Result<usize, StoreError>>;

    fn save(name: &str, size: usize) -> (Job, Outcome) {
        let (answer, outcome) = oneshot::channel();
        let kind = Kind::Change(Change::Save {
            key: Key::new(name),
            expected: Expected::Absent,
            version: Version(1),
            value: vec![0; size].into(),
            expires_at: Timestamp::from_millis(10),
        });
        (Job { kind, answer }, outcome)
    }

    fn database() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions");
        (
            directory,
            super::super::file::writer(&path, std::time::Duration::from_millis(1), &Layout::Native, Missing::Make)
                .unwrap(),
        )
    }

    fn rows(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM cloakroom_session", (), |row| row.get(0)).unwrap()
    }

    fn writer() -> Writer {
        let words = Arc::new(Words::of(&Layout::Native));
        Writer { clock: Clock::manual(Timestamp::from_millis(0)), layout: Arc::new(Layout::Native), words }
    }

    /// Makes saving a value of that length fail in the way `how` names.
    fn spoil(connection: &Connection, length: usize, how: &str) {
        let trigger = format!(
            "CREATE TRIGGER spoil BEFORE INSERT ON cloakroom_session WHEN length(NEW.value) = {length} BEGIN
            SELECT RAISE({how}, 'spoilt'); END"
        );
        connection.execute_batch(&trigger).unwrap();
    }

    #[test]
    fn what_is_queued_shares_a_transaction_and_keeps_its_own_outcome() {
        let (_directory, mut connection) = database();
        spoil(&connection, 13, "ABORT");
        let (group, _outcomes): (Vec<_>, Vec<_>) =
            [save("a", 1), save("spoilt", 13), save("a", 2), save("b", 3)].into_iter().unzip();
        let done = writer().commit(&mut connection, &group).unwrap();
        let met: Vec<_> = done.into_iter().map(Result::ok).collect();
        assert_eq!(met, [Some(1), None, Some(0), Some(1)]);
        assert_eq!(rows(&connection), 2);
    }

    #[test]
    fn a_group_that_was_taken_back_as_a_whole_reports_no_success() {
        let (_directory, mut connection) = database();
        spoil(&connection, 13, "ROLLBACK");
        let (group, _outcomes): (Vec<_>, Vec<_>) = [save("a", 1), save("spoilt", 13), save("b", 3)].into_iter().unzip();
        assert!(writer().commit(&mut connection, &group).is_err());
        assert_eq!(rows(&connection), 0);
    }

    #[test]
    fn a_change_whose_caller_has_gone_is_not_made() {
        let (_directory, mut connection) = database();
        let (group, _) = save("a", 1);
        writer().commit(&mut connection, &[group]).unwrap();
        assert_eq!(rows(&connection), 0);
    }

    #[test]
    fn a_group_that_cannot_begin_fails_as_a_whole_and_the_next_one_works() {
        let (directory, mut connection) = database();
        let other = Connection::open(directory.path().join("sessions")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (group, _outcomes): (Vec<_>, Vec<_>) = [save("a", 1), save("b", 1)].into_iter().unzip();
        let error = Arc::new(writer().commit(&mut connection, &group).unwrap_err());
        assert!(matches!(failure(&error), StoreError::Unreachable(_)), "{error}");
        other.execute_batch("ROLLBACK").unwrap();
        writer().commit(&mut connection, &group).unwrap();
        assert_eq!(rows(&connection), 2);
    }
}
