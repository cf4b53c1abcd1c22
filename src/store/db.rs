//! Sessions in SQLite: one file, nothing to install; several processes on one machine may share it.
//!
//! One thread writes, and every worker has a thread of its own that reads, so that nobody's load waits for a disk.

mod file;
mod thread;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use self::thread::{Answer, Thread};
use self::write::{Change, Kind};
use super::{Cursor, Expected, ForeignRecords, Key, Page, Record, Saved, SessionStore, StoreError, StoreSettings, Version};
use crate::clock::{Clock, Timestamp};

const LOAD: &str = "SELECT value, version, expires_at FROM cloakroom_session WHERE key = ?1";
const SCAN: &str = "SELECT key FROM cloakroom_session WHERE ?1 IS NULL OR key > ?1 ORDER BY key LIMIT ?2";
/// Keys in a page.
const PAGE: u16 = 1000;

pub(super) async fn open(
    settings: &StoreSettings,
    _foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(Arc::new(Db::open(settings, clock).await?))
}

/// The engine `db`. Its threads end when the last handle is dropped; what was acknowledged is on the disk.
pub struct Db {
    shared: Arc<Shared>,
    reader: Thread<Question>,
}

struct Shared {
    clock: Clock,
    path: PathBuf,
    /// How long a statement waits for another process.
    wait: Duration,
    writer: Thread<Change>,
}

enum Question {
    Load { key: Key, answer: Answer<Option<Record>> },
    Scan { after: Option<Cursor>, answer: Answer<Page> },
}

impl Db {
    /// Opens the file, making it and its table if they are not there.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] with the file and the reason.
    pub async fn open(settings: &StoreSettings, clock: Clock) -> Result<Self, StoreError> {
        let path = settings.database_path().map_err(|problem| StoreError::Failed(problem.into()))?.to_owned();
        let wait = settings.timeout;
        let writer = {
            let (path, clock) = (path.clone(), clock.clone());
            let work = move |connection, queue| write::work(connection, &queue, &clock);
            Thread::start("store-write", move || file::writer(&path, wait), work).await?
        };
        let reader = reader(&path, wait).await?;
        Ok(Self { shared: Arc::new(Shared { clock, path, wait, writer }), reader })
    }

    async fn change(&self, kind: Kind) -> Result<usize, StoreError> {
        self.shared.writer.ask(|answer| Change { kind, answer }).await
    }
}

#[async_trait]
impl SessionStore for Db {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let found = self.reader.ask(|answer| Question::Load { key: key.clone(), answer }).await?;
        Ok(found.filter(|record| record.expires_at > self.shared.clock.now()))
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let version = Version(rand::random());
        let rows = self.change(Kind::Save { key: key.clone(), expected, version, value, expires_at }).await?;
        Ok(if rows == 1 { Saved::Stored(version) } else { Saved::Conflict })
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        Ok(self.change(Kind::Touch { key: key.clone(), expected, expires_at }).await? == 1)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.change(Kind::Delete { key: key.clone() }).await.map(drop)
    }

    async fn sweep(&self) -> Result<u64, StoreError> {
        let mut swept = 0;
        loop {
            let batch = self.change(Kind::Sweep).await?;
            swept += batch as u64;
            if batch < usize::from(write::BATCH) {
                return Ok(swept);
            }
        }
    }

    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        self.reader.ask(|answer| Question::Scan { after: from.cloned(), answer }).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let reader = reader(&self.shared.path, self.shared.wait).await?;
        Ok(Arc::new(Self { shared: Arc::clone(&self.shared), reader }))
    }
}

async fn reader(path: &Path, wait: Duration) -> Result<Thread<Question>, StoreError> {
    let path = path.to_owned();
    let work = |connection, queue: Receiver<Question>| {
        while let Ok(question) = queue.recv() {
            match question {
                Question::Load { answer, .. } if answer.is_closed() => {}
                Question::Load { key, answer } => {
                    let _ = answer.send(find(&connection, &key));
                }
                Question::Scan { after, answer } => {
                    let _ = answer.send(page(&connection, after).map_err(|error| StoreError::Failed(error.into())));
                }
            }
        }
    };
    Thread::start("store-read", move || file::reader(&path, wait), work).await
}

fn find(connection: &Connection, key: &Key) -> Result<Option<Record>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Record {
            value: row.get::<_, Vec<u8>>(0)?.into(),
            version: Version(row.get::<_, i64>(1)?.cast_unsigned()),
            expires_at: Timestamp::from_millis(row.get(2)?),
        })
    };
    let found =
        connection.prepare_cached(LOAD).and_then(|mut statement| statement.query_row([key.as_str()], read).optional());
    match found {
        Err(rusqlite::Error::InvalidColumnType(..)) => {
            tracing::warn!("a record in the database is not one of ours; it counts as absent");
            Ok(None)
        }
        found => found.map_err(|error| StoreError::Failed(error.into())),
    }
}

/// In the order of the keys, so that a page begins where the last one ended.
fn page(connection: &Connection, after: Option<Cursor>) -> rusqlite::Result<Page> {
    let mut statement = connection.prepare_cached(SCAN)?;
    let after = after.map(|Cursor(key)| key);
    let rows = statement.query_map(params![after, PAGE], |row| row.get::<_, String>(0))?;
    let keys = rows.map(|key| key.map(Key::new)).collect::<rusqlite::Result<Vec<Key>>>()?;
    let next = keys.last().filter(|_| keys.len() == usize::from(PAGE)).map(|key| Cursor(key.as_str().to_owned()));
    Ok(Page { keys, next })
}
