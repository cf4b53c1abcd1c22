//! SQLite: files that cannot be, files that others use, and what is left after the end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{Engine, Expected, Key, Saved, SessionStore, StoreError, Version, open_engine};
use rusqlite::Connection;

use crate::cases::stored;
use crate::fixture::{Fixture, START, chain, settings};
use crate::races::count;

/// Tells the test that [`in_another_process`] runs which file to work on.
const FILE: &str = "CLOAKROOM_TEST_FILE";

fn key() -> Key {
    Key::new("visitor")
}

fn file(fixture: &Fixture) -> std::path::PathBuf {
    fixture.directory.path().join("sessions.sqlite3")
}

async fn open(path: &Path) -> Result<std::sync::Arc<dyn SessionStore>, StoreError> {
    let mut settings = settings(&format!("url = 'sqlite://{}'", path.display()));
    settings.timeout = Duration::from_secs(60);
    assert_eq!(settings.engine, Engine::Db);
    open_engine(&settings, None, Clock::manual(START)).await
}

#[tokio::test]
async fn only_its_owner_may_read_it() {
    let fixture = Fixture::db();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(1_000)).await;
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", file(&fixture).display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_with_its_name_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database, but longer than a header would be: ".repeat(100)).unwrap();
    let other = directory.path().join("other.sqlite3");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE cloakroom_session (something)").unwrap();
    for (path, told) in [
        (directory.path().join("missing/sessions"), "No such file or directory"),
        (directory.path().to_owned(), "unable to open"),
        (text.clone(), "not a database"),
        (other, "expires_at"),
    ] {
        let error = open(&path).await.err().unwrap_or_else(|| panic!("{} opened", path.display()));
        let told_all = chain(&error);
        assert!(matches!(error, StoreError::Unreachable(_)), "{told_all}");
        assert!(told_all.contains(told) && told_all.contains(path.to_str().unwrap()), "{told_all}");
    }
    assert!(std::fs::read_to_string(text).unwrap().starts_with("not a database"));
}

#[tokio::test]
async fn rows_that_are_not_ours_are_absent_and_stay() {
    let fixture = Fixture::db();
    let table = "CREATE TABLE cloakroom_session (key TEXT PRIMARY KEY, value, version, expires_at)";
    let raw = Connection::open(file(&fixture)).unwrap();
    raw.execute_batch(table).unwrap();
    let store = fixture.open().await;
    for values in ["NULL, 7, 1e300", "1.5, 7, 'x'", "x'00', 'seven', 9e18", "x'00', 7, NULL", "'text', 7, 'x'"] {
        raw.execute_batch(&format!("REPLACE INTO cloakroom_session VALUES ('visitor', {values})")).unwrap();
        assert_eq!(store.load(&key()).await.unwrap(), None, "{values}");
        let saved = store.save(&key(), Expected::Absent, "x".into(), fixture.later(1_000)).await.unwrap();
        assert_eq!(saved, Saved::Conflict, "{values}");
        store.load(&key()).await.unwrap();
        store.touch(&key(), Version(8), fixture.later(1_000)).await.unwrap();
    }
}

#[tokio::test]
async fn its_connections_end_with_the_last_handle() {
    let fixture = Fixture::db();
    let open = || {
        let files =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.unwrap().path().read_link().ok());
        files.filter(|open| open.starts_with(file(&fixture))).count()
    };
    let store = fixture.open().await;
    let worker = store.clone().attach().await.unwrap();
    stored(&*worker, &key(), Expected::Absent, "x", fixture.later(1_000)).await;
    drop(store);
    worker.load(&key()).await.unwrap().unwrap();
    assert!(open() > 0);
    drop(worker);
    // The threads end by themselves.
    while open() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_load_does_not_wait_for_a_write() {
    let fixture = Fixture::db();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(1_000)).await;
    let blocker = Connection::open(file(&fixture)).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let late = {
        let (store, deadline) = (store.clone(), fixture.later(1_000));
        tokio::spawn(async move { store.save(&Key::new("late"), Expected::Absent, "y".into(), deadline).await })
    };
    for _ in 0..100 {
        assert!(store.load(&key()).await.unwrap().is_some());
    }
    assert!(!late.is_finished());
    blocker.execute_batch("COMMIT").unwrap();
    assert!(matches!(late.await.unwrap().unwrap(), Saved::Stored(_)));
}

#[tokio::test]
async fn two_processes_count_together() {
    let fixture = Fixture::db();
    let store = fixture.open().await;
    let deadline = fixture.later(3_600_000);
    stored(&*store, &key(), Expected::Absent, "0", deadline).await;
    let mut other = in_another_process("database::counts_for_another_process", &file(&fixture)).spawn().unwrap();
    count(&*store, &key(), 100, deadline).await;
    assert!(other.wait().unwrap().success());
    assert_eq!(store.load(&key()).await.unwrap().unwrap().value, "200");
}

#[tokio::test]
async fn a_sweep_takes_no_more_than_a_batch() {
    let fixture = Fixture::db();
    let store = fixture.open().await;
    let expired = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 501)
        INSERT INTO cloakroom_session (key, value, version, expires_at) SELECT 'key ' || n, x'', 1, 0 FROM n";
    Connection::open(file(&fixture)).unwrap().execute_batch(expired).unwrap();
    for swept in [500, 1, 0] {
        assert_eq!(store.sweep().await.unwrap(), swept);
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let fixture = Fixture::db();
    let crash = in_another_process("database::crashes_for_another_process", &file(&fixture)).status().unwrap();
    assert!(!crash.success());
    let store = fixture.open().await;
    for name in ["1", "2", "3"] {
        assert!(store.load(&Key::new(name)).await.unwrap().is_some(), "{name}");
    }
}

/// This test program again, for one test only, which works on `file` then.
fn in_another_process(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(FILE, file).stdout(std::process::Stdio::null());
    command
}

/// The other half of [`two_processes_count_together`]; alone it has nothing to do.
#[tokio::test]
async fn counts_for_another_process() {
    if let Some(file) = std::env::var_os(FILE) {
        let store = open(Path::new(&file)).await.unwrap();
        count(&*store, &key(), 100, START.plus(Duration::from_secs(3_600))).await;
    }
}

/// The other half of [`what_was_acknowledged_survives_a_crash`]; alone it has nothing to do.
#[tokio::test]
async fn crashes_for_another_process() {
    if let Some(file) = std::env::var_os(FILE) {
        let store = open(Path::new(&file)).await.unwrap();
        for name in ["1", "2", "3"] {
            stored(&*store, &Key::new(name), Expected::Absent, "x", START.plus(Duration::from_secs(60))).await;
        }
        std::process::abort();
    }
}
