//! The database file: made if it is not there, and opened with what we rely on.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;

/// Several processes that open the same new file at once take turns; none of that takes long.
const OPENING: Duration = Duration::from_secs(5);
/// A log that a burst of writes made longer is cut back to this many bytes.
const LOG_LIMIT: u32 = 16 << 20;

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS cloakroom_session (
    key TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cloakroom_session_expires_at ON cloakroom_session (expires_at);
SELECT key, value, version, expires_at FROM cloakroom_session LIMIT 0;";

/// Opens the file for writing, with its table. `wait` is how long a statement waits for another process.
pub(super) fn writer(path: &Path, wait: Duration) -> Result<Connection, StoreError> {
    create(path).map_err(|cause| refused(path, "cannot be opened", cause))?;
    let open = || -> rusqlite::Result<(Connection, String)> {
        let connection = connect(path, OPENING)?;
        let mode = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.query_row(&format!("PRAGMA journal_size_limit = {LOG_LIMIT}"), (), |_| Ok(()))?;
        connection.execute_batch(TABLE)?;
        connection.busy_timeout(wait)?;
        Ok((connection, mode))
    };
    let (connection, mode) = open().map_err(|cause| refused(path, "cannot be used as a session database", cause))?;
    if mode != "wal" {
        let cause = io::Error::other(format!("its journal mode stays {mode:?}; is it on a network file system?"));
        return Err(refused(path, "cannot have a write-ahead log", cause));
    }
    Ok(connection)
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
