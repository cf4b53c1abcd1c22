//! The directory: files that are there whole or not at all, and locks that several processes take turns by.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::super::StoreError;
use super::names::Names;

/// Our own corner of the directory: the locks. It is also how the directory is known again: where it is missing, the
/// sessions are not gone but somewhere else, such as on a disk that is not mounted.
const CORNER: &str = ".cloakroom";
/// Larger files are not read: no session is so large.
const LARGEST: u64 = 64 << 20;

pub(super) struct Folder {
    path: PathBuf,
    /// Whether every change waits until it is on the disk.
    fsync: bool,
}

/// What there is under a name.
pub(super) enum Found {
    File {
        bytes: Vec<u8>,
        written_at: SystemTime,
    },
    Nothing,
    /// Something that no session can be, such as a link.
    Strange,
}

impl Folder {
    /// Opens the directory and sees that it can be written to. If it is not there, `make` says whether it is made, for
    /// its owner only; what it would be in has to be there.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] with the directory and the reason.
    pub(super) fn open(path: &Path, fsync: bool, make: bool) -> Result<Self, StoreError> {
        let folder = Self { path: path.to_owned(), fsync };
        let refused = |what: &'static str| {
            move |cause: io::Error| StoreError::Unreachable(format!("{} {what}: {cause}", path.display()).into())
        };
        if make {
            made(path).map_err(refused("is not there and cannot be made"))?;
        }
        if !fs::metadata(path).map_err(refused("cannot be used"))?.is_dir() {
            return Err(StoreError::Unreachable(format!("{} is no directory", path.display()).into()));
        }
        made(&path.join(CORNER)).map_err(refused("cannot be written to"))?;
        folder.lock("").map_err(refused("cannot be locked"))?;
        let probe = folder.aside(CORNER).map_err(refused("cannot be written to"))?.0;
        fs::remove_file(probe).map_err(refused("cannot be written to"))?;
        Ok(folder)
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Found> {
        // No link is followed, and nothing that a named pipe could hold up.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(self.path.join(CORNER))?;
                return Ok(Found::Nothing);
            }
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(Found::Strange),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Ok(Found::Strange);
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(Found::File { bytes, written_at: metadata.modified()? })
    }

    /// Puts a file in place of whatever has this name, at one stroke. The time of writing is the system's unless given.
    pub(super) fn replace(&self, name: &str, bytes: &[u8], written_at: Option<SystemTime>) -> io::Result<()> {
        self.put(name, bytes, written_at, |aside, path| fs::rename(aside, path))
    }

    /// As [`Folder::replace`], but never where there is nothing: whoever deletes without our locks, as Django does, is not
    /// undone by a change that began before. Says whether there was something.
    pub(super) fn replace_existing(
        &self,
        name: &str,
        bytes: &[u8],
        written_at: Option<SystemTime>,
    ) -> io::Result<bool> {
        match self.put(name, bytes, written_at, exchange) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            put => put.map(|()| true),
        }
    }

    fn put(
        &self,
        name: &str,
        bytes: &[u8],
        written_at: Option<SystemTime>,
        into_place: fn(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let (aside, file) = self.aside(name)?;
        let written = self.write(file, bytes, written_at).and_then(|()| into_place(&aside, &self.path.join(name)));
        if let Err(error) = written {
            let _ = fs::remove_file(&aside);
            return Err(error);
        }
        self.sync()
    }

    fn write(&self, mut file: File, bytes: &[u8], written_at: Option<SystemTime>) -> io::Result<()> {
        file.write_all(bytes)?;
        if let Some(time) = written_at {
            file.set_modified(time)?;
        }
        if self.fsync { file.sync_all() } else { Ok(()) }
    }

    /// An empty file beside what has this name, for its owner only.
    fn aside(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let aside = self.path.join(Names::aside(name));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        Ok((aside, file))
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.remove_lazily(name)?;
        self.sync()
    }

    /// As [`Folder::remove`], but after a crash of the machine it may be there again.
    pub(super) fn remove_lazily(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        if self.fsync { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    /// When that file was written last.
    pub(super) fn written_at(&self, name: &str) -> io::Result<SystemTime> {
        fs::symlink_metadata(self.path.join(name))?.modified()
    }

    /// The names of all there is, in no order.
    pub(super) fn names(&self) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        let entries = fs::read_dir(&self.path)?;
        Ok(entries.filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }))
    }

    /// Waits for the lock on whatever has this name, and holds it until what it gives is dropped. A fixed number of
    /// files serves all names, so that none is left behind and a record can be replaced while it is locked.
    pub(super) fn lock(&self, name: &str) -> io::Result<File> {
        let [number, ..]: [u8; 32] = Sha256::digest(name).into();
        let file = self.lock_file(&format!("lock-{number:02x}"))?;
        file.lock()?;
        Ok(file)
    }

    /// The turn to sweep; `None` while another process, or another store in this one, has it.
    pub(super) fn turn_to_sweep(&self) -> io::Result<Option<File>> {
        let file = self.lock_file("sweep")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_file(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(CORNER).join(name);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
    }
}

/// Lets two files swap names, and removes the one that lost its place. Not every file system can; where it cannot, the
/// one simply takes the other's name.
fn exchange(aside: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, aside, CWD, path, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(aside, path),
        swapped => {
            swapped?;
            fs::remove_file(aside)
        }
    }
}

/// Makes a directory for its owner only, unless there is one.
fn made(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_what_was_deleted_by_others_is_not_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder { path: directory.path().to_owned(), fsync: true };
        let files = || fs::read_dir(directory.path()).unwrap().count();
        folder.replace("name", b"old", None).unwrap();
        assert!(folder.replace_existing("name", b"new", None).unwrap());
        assert_eq!((fs::read(directory.path().join("name")).unwrap(), files()), (b"new".to_vec(), 1));

        fs::remove_file(directory.path().join("name")).unwrap();
        assert!(!folder.replace_existing("name", b"late", None).unwrap());
        assert_eq!(files(), 0);
    }
}
