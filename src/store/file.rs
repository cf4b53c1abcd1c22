//! Sessions as files: one each, on one machine, for several processes if they like.
//!
//! A file is written aside and renamed, so that whoever reads, and whoever looks after a crash, finds the old record or
//! the new one. What compares before it writes does so under a lock that all of us take. With `fsync`, what was
//! acknowledged is on the disk. A file is the line that [`super::record`] describes, and the value.
//!
//! In Django's layout a file is the value alone, and its deadline follows from the value and the time of writing. So
//! `touch` moves nothing there. Django's own processes take no lock: of two writes at the same time the later wins
//! unseen, and a session that ends here while Django saves it may come back, as between two of Django's processes.

mod folder;
pub(in crate::store) mod names;
mod threads;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::folder::{Folder, Found};
use self::names::Names;
use self::threads::{Caller, Threads};
use super::{
    Cursor, Expected, ForeignRecords, Key, Page, Record, Saved, SessionStore, StoreError, StoreSettings, Version,
    record,
};
use crate::clock::{Clock, Timestamp};

/// What was left half written is swept out after this long: nobody takes so long to write.
const ORPHANED: Duration = Duration::from_secs(3_600);
/// Keys in a page.
const PAGE: usize = 1_000;

pub(super) async fn open(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    let path = settings.directory().map_err(|problem| StoreError::Failed(problem.into()))?.to_owned();
    let names = match &foreign {
        Some(foreign) => Names::Django { prefix: foreign.file_prefix().to_owned() },
        None => Names::native(&settings.prefix),
    };
    let threads = Threads::start()?;
    // A directory that Django is said to have, and is not there, is a mistake.
    let (fsync, make) = (settings.fsync.unwrap_or(true), foreign.is_none());
    let folder = threads.run(move |_| Ok(Folder::open(&path, fsync, make))).await??;
    Ok(Arc::new(Files { files: Arc::new(Shared { clock, folder, foreign, names }), threads }))
}

/// The engine `file`. Workers share it.
struct Files {
    files: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    clock: Clock,
    folder: Folder,
    foreign: Option<Arc<dyn ForeignRecords>>,
    names: Names,
}

#[async_trait]
impl SessionStore for Files {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let Some(name) = self.files.names.of(key) else { return Ok(None) };
        self.run(move |files, _| files.living(&name)).await
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        match (self.files.names.of(key), expected) {
            (Some(name), _) => {
                self.run(move |files, caller| files.save(&name, expected, &value, expires_at, caller)).await
            }
            (None, Expected::Absent) => Err(StoreError::Failed("no file can be named after such a key".into())),
            (None, Expected::Version(_)) => Ok(Saved::Conflict),
        }
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        let Some(name) = self.files.names.of(key) else { return Ok(false) };
        self.run(move |files, caller| files.touch(&name, expected, expires_at, caller)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let Some(name) = self.files.names.of(key) else { return Ok(()) };
        self.run(move |files, caller| {
            let _lock = files.lock(&name, caller)?;
            files.folder.remove(&name)
        })
        .await
    }

    /// Only one of us at a time; the others have nothing to do.
    async fn sweep(&self) -> Result<u64, StoreError> {
        self.run(Shared::sweep).await
    }

    /// In the order of the names. A key too long to be part of a name, which none of ours is, is left out.
    async fn scan(&self, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let after = from.map(|cursor| cursor.0.clone());
        self.run(move |files, caller| files.scan(after.as_deref(), caller)).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }
}

impl Files {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Caller<'_>) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = Arc::clone(&self.files);
        self.threads.run(move |caller| work(&files, caller)).await
    }
}

/// What lies under a name, expired or not.
enum Kept {
    Nothing,
    Record(Record),
    /// Not a record of ours, and left alone.
    Strange,
}

impl Shared {
    fn read(&self, name: &str) -> io::Result<Kept> {
        let (bytes, written_at) = match self.folder.read(name)? {
            Found::File { bytes, written_at } => (Bytes::from(bytes), written_at),
            Found::Nothing => return Ok(Kept::Nothing),
            Found::Strange => return Ok(Kept::Strange),
        };
        let record = match &self.foreign {
            Some(foreign) => {
                let expires_at = foreign.deadline(&bytes, written_at.into());
                Some(Record { version: record::digest(&bytes), value: bytes, expires_at })
            }
            None => record::parse(&bytes),
        };
        Ok(record.map_or(Kept::Strange, Kept::Record))
    }

    fn living(&self, name: &str) -> io::Result<Option<Record>> {
        match self.read(name)? {
            Kept::Nothing => Ok(None),
            Kept::Record(record) => Ok(Some(record).filter(|record| record.expires_at > self.clock.now())),
            Kept::Strange => {
                tracing::warn!("a file is not one of our records; it counts as absent");
                Ok(None)
            }
        }
    }

    /// Waiting for it may take longer than the caller does.
    fn lock(&self, name: &str, caller: &Caller<'_>) -> io::Result<std::fs::File> {
        let lock = self.folder.lock(name)?;
        caller.still_waits()?;
        Ok(lock)
    }

    fn save(
        &self,
        name: &str,
        expected: Expected,
        value: &[u8],
        expires_at: Timestamp,
        caller: &Caller<'_>,
    ) -> io::Result<Saved> {
        let _lock = self.lock(name, caller)?;
        let now = self.clock.now();
        let found = match self.read(name)? {
            Kept::Strange => return Ok(Saved::Conflict),
            Kept::Record(record) if record.expires_at > now => Expected::Version(record.version),
            Kept::Nothing | Kept::Record(_) => Expected::Absent,
        };
        if found != expected {
            return Ok(Saved::Conflict);
        }
        let version = if self.foreign.is_some() { record::digest(value) } else { Version(rand::random()) };
        if expires_at <= now {
            self.folder.remove(name)?;
        } else if self.foreign.is_some() {
            let put = match expected {
                Expected::Absent => self.folder.replace(name, value, Some(now.into())).map(|()| true),
                Expected::Version(_) => self.folder.replace_existing(name, value, Some(now.into())),
            }?;
            if !put {
                return Ok(Saved::Conflict);
            }
        } else {
            self.folder.replace(name, &record::whole(version, expires_at, value), None)?;
        }
        Ok(Saved::Stored(version))
    }

    fn touch(&self, name: &str, expected: Version, expires_at: Timestamp, caller: &Caller<'_>) -> io::Result<bool> {
        let _lock = self.lock(name, caller)?;
        let Some(record) = self.living(name)?.filter(|record| record.version == expected) else { return Ok(false) };
        if self.foreign.is_none() && expires_at > record.expires_at {
            self.folder.replace(name, &record::whole(expected, expires_at, &record.value), None)?;
        }
        Ok(true)
    }

    fn sweep(&self, caller: &Caller<'_>) -> io::Result<u64> {
        let Some(_turn) = self.folder.turn_to_sweep()? else { return Ok(0) };
        let mut swept = 0;
        for name in self.folder.names()? {
            let name = name?;
            caller.still_waits()?;
            match self.sweep_one(&name) {
                Ok(gone) => swept += u64::from(gone),
                // Perhaps it is another user's, in a directory that is everybody's.
                Err(error) => tracing::warn!(%error, "a file could not be swept out"),
            }
        }
        Ok(swept)
    }

    /// Whether it was a session, which is gone now.
    fn sweep_one(&self, name: &str) -> io::Result<bool> {
        let now = self.clock.now();
        let is_over =
            || -> io::Result<bool> { Ok(matches!(self.read(name)?, Kept::Record(record) if record.expires_at <= now)) };
        if self.names.is_aside(name) {
            if now.since(self.folder.written_at(name)?.into()) > ORPHANED {
                self.folder.remove_lazily(name)?;
            }
        } else if self.names.is_record(name) && is_over()? {
            let _lock = self.folder.lock(name)?;
            if is_over()? {
                self.folder.remove_lazily(name)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn scan(&self, after: Option<&str>, caller: &Caller<'_>) -> io::Result<Page> {
        let mut first = BTreeSet::new();
        for name in self.folder.names()? {
            let name = name?;
            caller.still_waits()?;
            if after.is_none_or(|after| *name > *after) && self.names.key(&name).is_some() {
                first.insert(name);
            }
            // One more than a page tells that there is another.
            if first.len() > PAGE + 1 {
                first.pop_last();
            }
        }
        let more = first.len() > PAGE && first.pop_last().is_some();
        let next = first.last().filter(|_| more).map(|name| Cursor(name.clone()));
        Ok(Page { keys: first.iter().filter_map(|name| self.names.key(name)).collect(), next })
    }
}
