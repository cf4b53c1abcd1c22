//! The database file: made if it is not there, and opened with what we rely on.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::super::super::{StoreError, record};
use super::super::layout::Layout;
use super::super::{Missing, no_table};
use super::words::Words;

/// Several processes that open the same new file at once take turns; none of that takes long.
const OPENING: Duration = Duration::from_secs(5);
/// A log that a burst of writes made longer is cut back to this many bytes.
const LOG_LIMIT: u32 = 16 << 20;

/// Opens the file for writing, with its table. `wait` is how long a statement waits for another process.
///
/// A file with Django's table is Django's: how it is journalled is not ours to say.
pub(super) fn writer(path: &Path, wait: Duration, layout: &Layout, missing: Missing) -> Result<Connection, StoreError> {
    create(path).map_err(|cause| refused(path, "cannot be opened", cause))?;
    let unusable = |cause| refused(path, "cannot be used as a session database", cause);
    let mut connection = connect(path, OPENING).map_err(unusable)?;
    if matches!(layout, Layout::Native) {
        let mode = write_ahead(&connection).map_err(unusable)?;
        if mode != "wal" {
            let cause = io::Error::other(format!("its journal mode stays {mode:?}; is it on a network file system?"));
            return Err(refused(path, "cannot have a write-ahead log", cause));
        }
    }
    let words = Words::of(layout);
    if !table(&mut connection, &words, layout, missing).map_err(unusable)? {
        return Err(no_table(layout));
    }
    connection.execute_batch(&words.probe).and_then(|()| connection.busy_timeout(wait)).map_err(unusable)?;
    Ok(connection)
}

/// The journal mode, which may have stayed another.
fn write_ahead(connection: &Connection) -> rusqlite::Result<String> {
    let mode = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row(&format!("PRAGMA journal_size_limit = {LOG_LIMIT}"), (), |_| Ok(()))?;
    Ok(mode)
}

/// Whether the table is there, perhaps since now.
fn table(connection: &mut Connection, words: &Words, layout: &Layout, missing: Missing) -> rusqlite::Result<bool> {
    if exists(connection, layout.table())? {
        return Ok(true);
    }
    if missing == Missing::Refuse || words.make.is_empty() {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another proxy may have made it while we waited for our turn.
    if !exists(&transaction, layout.table())? {
        transaction.execute_batch(words.make)?;
    }
    transaction.commit()?;
    Ok(true)
}

fn exists(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let found = connection.query_row("SELECT count(*) FROM sqlite_master WHERE name = ?1", [table], |row| row.get(0));
    found.map(|count: u32| count > 0)
}

/// One more connection, for reading beside the writer.
pub(super) fn reader(path: &Path, wait: Duration) -> Result<Connection, StoreError> {
    let open = || {
        let connection = connect(path, wait)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|cause: rusqlite::Error| refused(path, "cannot be read", cause))
}

fn connect(path: &Path, wait: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(wait)?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("cloakroom_digest", 1, flags, |call| {
        Ok(record::digest(call.get_raw(0).as_bytes()?).0.cast_signed())
    })?;
    Ok(connection)
}

/// Makes an empty file that only its owner may read; SQLite gives its log the same mode.
fn create(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn refused(path: &Path, what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unreachable(Box::new(Refused { message: format!("{} {what}", path.display()), cause: Box::new(cause) }))
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Refused {
    message: String,
    #[source]
    cause: Box<dyn std::error::Error + Send + Sync>,
}
