//! Files: who waits for whom.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom::store::Expected;

use crate::cases::stored;
use crate::daemon::PATIENCE;
use crate::files::{directory, key};
use crate::fixture::{Fixture, START};

/// All locks on records that there are so far.
fn locked(directory: &Path) -> Vec<File> {
    let corner = fs::read_dir(directory.join(".cloakroom")).unwrap().map(|entry| entry.unwrap());
    let locks = corner.filter(|entry| entry.file_name().to_string_lossy().starts_with("lock-"));
    let locks: Vec<_> = locks.map(|entry| OpenOptions::new().write(true).open(entry.path()).unwrap()).collect();
    assert!(!locks.is_empty());
    for lock in &locks {
        lock.lock().unwrap();
    }
    locks
}

/// The system tells who waits for a lock.
async fn until_someone_waits_for(locks: &[File]) {
    let places: Vec<_> = locks.iter().map(|lock| format!(":{} ", lock.metadata().unwrap().ino())).collect();
    let waits = |line: &str| line.contains("->") && places.iter().any(|place| line.contains(place));
    let start = Instant::now();
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        assert!(start.elapsed() < PATIENCE, "nobody waits for a lock");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Otherwise a save that has looked already would bring back what was ended.
#[tokio::test]
async fn a_delete_waits_for_who_is_at_the_record() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "value", fixture.later(60_000)).await;
    let locks = locked(&directory(&fixture));
    let (deleting, deleted) = (Arc::clone(&store), key());
    let delete = tokio::spawn(async move { deleting.delete(&deleted).await });
    until_someone_waits_for(&locks).await;
    assert!(store.load(&key()).await.unwrap().is_some());
    drop(locks);
    delete.await.unwrap().unwrap();
    assert!(store.load(&key()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_record_that_is_renewed_under_the_sweep_stays() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    let file = directory(&fixture).join("session%3avisitor");
    stored(&*store, &key(), Expected::Absent, "value", fixture.later(60_000)).await;
    let renewed = fs::read(&file).unwrap();
    fs::write(&file, format!("c1 {:019} {:016x}\nvalue", START.as_millis() - 1, 7)).unwrap();
    let locks = locked(&directory(&fixture));
    let sweeping = Arc::clone(&store);
    let sweep = tokio::spawn(async move { sweeping.sweep().await });
    until_someone_waits_for(&locks).await;
    fs::write(&file, &renewed).unwrap();
    drop(locks);
    assert_eq!(sweep.await.unwrap().unwrap(), 0);
    assert!(store.load(&key()).await.unwrap().is_some());
}
