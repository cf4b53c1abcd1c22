//! SQLite: one file, nothing to install; several processes on one machine may share it.
//!
//! One thread writes, and every worker has a thread of its own that reads, so that nobody's load waits for a disk.

mod file;
mod read;
mod thread;
mod words;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::read::Read;
use self::thread::Thread;
use self::words::Words;
use self::write::{Job, Kind, Writer};
use super::super::{Cursor, Expected, Key, Page, Record, Saved, SessionStore, StoreError, Version};
use super::layout::Layout;
use super::server::{page, place_of};
use super::{Change, Missing};
use crate::clock::{Clock, Timestamp};

/// The engine `db` on a file. Its threads end when the last handle is dropped; what was acknowledged is on the disk.
pub(super) struct Sqlite {
    shared: Arc<Shared>,
    reader: Thread<Read>,
}

struct Shared {
    clock: Clock,
    layout: Arc<Layout>,
    path: PathBuf,
    /// How long a statement waits for another process.
    wait: Duration,
    words: Arc<Words>,
    writer: Thread<Job>,
}

impl Sqlite {
    /// Opens the file, making it and its table if they are not there.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] with the file and the reason.
    pub(super) async fn open(
        path: &Path,
        wait: Duration,
        layout: Arc<Layout>,
        missing: Missing,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let (path, words) = (path.to_owned(), Arc::new(Words::of(&layout)));
        let writer = {
            let (path, layout) = (path.clone(), Arc::clone(&layout));
            let all = Writer { clock: clock.clone(), layout: Arc::clone(&layout), words: Arc::clone(&words) };
            let work = move |connection, queue| write::work(connection, &queue, &all);
            Thread::start("store-write", move || file::writer(&path, wait, &layout, missing), work).await?
        };
        let shared = Arc::new(Shared { clock, layout, path, wait, words, writer });
        Ok(Self { reader: shared.reader().await?, shared })
    }

    async fn write(&self, kind: Kind) -> Result<usize, StoreError> {
        self.shared.writer.ask(|answer| Job { kind, answer }).await
    }

    async fn change(&self, change: Change) -> Result<bool, StoreError> {
        if !self.shared.layout.takes(change.key()) {
            return super::without_a_place(&change);
        }
        Ok(self.write(Kind::Change(change)).await? == 1)
    }
}

impl Shared {
    async fn reader(&self) -> Result<Thread<Read>, StoreError> {
        let (path, wait, clock) = (self.path.clone(), self.wait, self.clock.clone());
        let (layout, words) = (Arc::clone(&self.layout), Arc::clone(&self.words));
        let work = move |connection, queue| read::work(&connection, &queue, &words, &layout, &clock);
        Thread::start("store-read", move || file::reader(&path, wait), work).await
    }
}

#[async_trait]
impl SessionStore for Sqlite {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        if !self.shared.layout.takes(key) {
            return Ok(None);
        }
        self.reader.ask(|answer| Read::Load { key: key.clone(), answer }).await
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        let version = self.shared.layout.version(&value);
        let met = self.change(Change::Save { key: key.clone(), expected, version, value, expires_at }).await?;
        Ok(if met { Saved::Stored(version) } else { Saved::Conflict })
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.change(Change::Touch { key: key.clone(), expected, expires_at }).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.change(Change::Delete { key: key.clone() }).await.map(drop)
    }

    async fn sweep(&self) -> Result<u64, StoreError> {
        self.write(Kind::Sweep).await.map(|swept| swept as u64)
    }

    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let after = from.map(place_of).transpose()?;
        self.reader.ask(|answer| Read::Scan { after, answer }).await.map(page)
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let reader = self.shared.reader().await?;
        Ok(Arc::new(Self { shared: Arc::clone(&self.shared), reader }))
    }
}
