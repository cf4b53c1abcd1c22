//! Writing: whatever is queued goes into one transaction, so that many changes share one sync to the disk.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use super::super::{Expected, Key, StoreError, Version};
use super::thread::Answer;
use crate::clock::{Clock, Timestamp};

/// Changes in one transaction; what more there is waits for the next.
const GROUP: usize = 256;
/// Rows one sweep deletes before it lets others in.
pub(super) const BATCH: u16 = 500;

const CREATE: &str = "
INSERT INTO cloakroom_session (key, value, version, expires_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at
WHERE cloakroom_session.expires_at <= ?5";
const REPLACE: &str = "
UPDATE cloakroom_session SET value = ?2, version = ?3, expires_at = ?4
WHERE key = ?1 AND expires_at > ?5 AND version = ?6";
const TOUCH: &str = "
UPDATE cloakroom_session SET expires_at = max(expires_at, ?2)
WHERE key = ?1 AND expires_at > ?3 AND version = ?4";
const DELETE: &str = "DELETE FROM cloakroom_session WHERE key = ?1";
const SWEEP: &str = "
DELETE FROM cloakroom_session
WHERE key IN (SELECT key FROM cloakroom_session WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";

/// One change; its answer is how many rows it met.
pub(super) struct Change {
    pub(super) kind: Kind,
    pub(super) answer: Answer<usize>,
}

pub(super) enum Kind {
    Delete { key: Key },
    Save { key: Key, expected: Expected, version: Version, value: Bytes, expires_at: Timestamp },
    Sweep,
    Touch { key: Key, expected: Version, expires_at: Timestamp },
}

/// Works until nobody can send changes any more.
pub(super) fn work(mut connection: Connection, queue: &Receiver<Change>, clock: &Clock) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Change> = std::iter::once(first).chain(queue.try_iter().take(GROUP - 1)).collect();
        match commit(&mut connection, &group, clock) {
            Ok(outcomes) => {
                for (change, outcome) in group.into_iter().zip(outcomes) {
                    let _ = change.answer.send(outcome.map_err(|error| StoreError::Failed(error.into())));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for change in group {
                    let _ = change.answer.send(Err(failure(&error)));
                }
            }
        }
    }
}

/// The outcome of every change, once all of them are on the disk; or why none is known to be.
fn commit(
    connection: &mut Connection,
    group: &[Change],
    clock: &Clock,
) -> rusqlite::Result<Vec<rusqlite::Result<usize>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = clock.now();
    let mut outcomes = Vec::with_capacity(group.len());
    for change in group {
        // Waiting for the lock may have taken longer than the caller did: nobody would learn what this change did.
        let outcome = if change.answer.is_closed() { Ok(0) } else { change.kind.apply(&transaction, now) };
        // A full disk, among others, takes back the whole transaction and not only this change.
        if outcome.is_err() && transaction.is_autocommit() {
            return outcome.map(|_| Vec::new());
        }
        outcomes.push(outcome);
    }
    transaction.commit()?;
    Ok(outcomes)
}

impl Kind {
    fn apply(&self, transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<usize> {
        let now = now.as_millis();
        match self {
            Self::Delete { key } => transaction.prepare_cached(DELETE)?.execute([key.as_str()]),
            Self::Save { key, expected, version, value, expires_at } => {
                let (key, value, version) = (key.as_str(), &value[..], version.0.cast_signed());
                let expires_at = expires_at.as_millis();
                match expected {
                    Expected::Absent => {
                        transaction.prepare_cached(CREATE)?.execute(params![key, value, version, expires_at, now])
                    }
                    Expected::Version(Version(expected)) => transaction.prepare_cached(REPLACE)?.execute(params![
                        key,
                        value,
                        version,
                        expires_at,
                        now,
                        expected.cast_signed()
                    ]),
                }
            }
            Self::Sweep => transaction.prepare_cached(SWEEP)?.execute(params![now, BATCH]),
            Self::Touch { key, expected, expires_at } => transaction.prepare_cached(TOUCH)?.execute(params![
                key.as_str(),
                expires_at.as_millis(),
                now,
                expected.0.cast_signed()
            ]),
        }
    }
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

    type Outcome = Answered<Result<usize, StoreError>>;

    fn save(name: &str, size: usize) -> (Change, Outcome) {
        let (answer, outcome) = oneshot::channel();
        let kind = Kind::Save {
            key: Key::new(name),
            expected: Expected::Absent,
            version: Version(1),
            value: vec![0; size].into(),
            expires_at: Timestamp::from_millis(10),
        };
        (Change { kind, answer }, outcome)
    }

    fn database() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions");
        (directory, super::super::file::writer(&path, std::time::Duration::from_millis(1)).unwrap())
    }

    fn rows(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM cloakroom_session", (), |row| row.get(0)).unwrap()
    }

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_millis(0))
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
        let done = commit(&mut connection, &group, &clock()).unwrap();
        let met: Vec<_> = done.into_iter().map(Result::ok).collect();
        assert_eq!(met, [Some(1), None, Some(0), Some(1)]);
        assert_eq!(rows(&connection), 2);
    }

    #[test]
    fn a_group_that_was_taken_back_as_a_whole_reports_no_success() {
        let (_directory, mut connection) = database();
        spoil(&connection, 13, "ROLLBACK");
        let (group, _outcomes): (Vec<_>, Vec<_>) = [save("a", 1), save("spoilt", 13), save("b", 3)].into_iter().unzip();
        assert!(commit(&mut connection, &group, &clock()).is_err());
        assert_eq!(rows(&connection), 0);
    }

    #[test]
    fn a_change_whose_caller_has_gone_is_not_made() {
        let (_directory, mut connection) = database();
        let (group, _) = save("a", 1);
        commit(&mut connection, &[group], &clock()).unwrap();
        assert_eq!(rows(&connection), 0);
    }

    #[test]
    fn a_group_that_cannot_begin_fails_as_a_whole_and_the_next_one_works() {
        let (directory, mut connection) = database();
        let other = Connection::open(directory.path().join("sessions")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (group, _outcomes): (Vec<_>, Vec<_>) = [save("a", 1), save("b", 1)].into_iter().unzip();
        let error = Arc::new(commit(&mut connection, &group, &clock()).unwrap_err());
        assert!(matches!(failure(&error), StoreError::Unreachable(_)), "{error}");
        other.execute_batch("ROLLBACK").unwrap();
        commit(&mut connection, &group, &clock()).unwrap();
        assert_eq!(rows(&connection), 2);
    }
}
