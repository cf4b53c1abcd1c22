//! Files: directories that cannot be, what lies there, processes that share it or die, and what others left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloakroom::clock::Clock;
use cloakroom::store::{Cursor, Expected, Key, Saved, SessionStore, StoreError, Version, open_engine};

use crate::cases::{HOUR, stored, value};
use crate::fixture::{Fixture, START, chain, settings};
use crate::races::count;

/// Tells the test that [`in_another_process`] runs which directory to work on.
const DIRECTORY: &str = "CLOAKROOM_TEST_DIRECTORY";
/// More than a page of the system's, so that a write takes a while.
const LARGE: usize = 300_000;

pub fn key() -> Key {
    Key::new("visitor")
}

pub fn directory(fixture: &Fixture) -> PathBuf {
    fixture.settings.path.clone().unwrap()
}

/// The names of what is there, without our own corner.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != ".cloakroom").collect();
    names.sort();
    names
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn open(path: &Path) -> Result<Arc<dyn SessionStore>, StoreError> {
    let settings = settings(&format!("engine = 'file'\npath = '{}'\nfsync = false", path.display()));
    open_engine(&settings, None, Clock::manual(START)).await
}

#[tokio::test]
async fn a_record_is_one_line_to_read_and_the_value_for_its_owner_only() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    let version = stored(&*store, &key(), Expected::Absent, "value", fixture.later(60_000)).await;
    let directory = directory(&fixture);
    assert_eq!(names(&directory), ["session%3avisitor"]);
    let file = directory.join("session%3avisitor");
    let line = |deadline: i64| format!("c1 {deadline:019} {:016x}\nvalue", version.0);
    assert_eq!(fs::read_to_string(&file).unwrap(), line(START.as_millis() + 60_000));
    store.touch(&key(), version, fixture.later(90_000)).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), line(START.as_millis() + 90_000));
    assert_eq!((mode(&file), mode(&directory)), (0o600, 0o700));
    stored(&*store, &key(), Expected::Version(version), "over", START).await;
    assert!(names(&directory).is_empty());
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_told_with_its_name() {
    let fixture = Fixture::file();
    let parent = fixture.directory.path();
    fs::write(parent.join("file"), "x").unwrap();
    for (path, told) in [
        (parent.join("missing/sessions"), "cannot be made"),
        (parent.join("file"), "no directory"),
        (PathBuf::from("/proc"), "cannot be written to"),
    ] {
        let error = open(&path).await.err().unwrap_or_else(|| panic!("{} opened", path.display()));
        let told_all = chain(&error);
        assert!(matches!(error, StoreError::Unreachable(_)), "{told_all}");
        assert!(told_all.contains(told) && told_all.contains(path.to_str().unwrap()), "{told_all}");
    }
    let mut foreign = Fixture::file().foreign();
    let error = foreign.try_open().await.err().map(|error| chain(&error)).unwrap();
    assert!(error.contains("No such file"), "{error}");
    foreign.settings.path = Some(parent.to_owned());
    foreign.open().await;
}

/// Such as one on a disk that is no longer mounted.
#[tokio::test]
async fn a_directory_that_went_away_is_a_failure_and_not_the_end_of_all_sessions() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(HOUR)).await;
    let away = fixture.directory.path().join("away");
    fs::rename(directory(&fixture), &away).unwrap();
    store.load(&key()).await.unwrap_err();
    fs::create_dir(directory(&fixture)).unwrap();
    store.load(&key()).await.unwrap_err();
    store.save(&key(), Expected::Absent, "x".into(), fixture.later(HOUR)).await.unwrap_err();
    fs::remove_dir(directory(&fixture)).unwrap();
    fs::rename(&away, directory(&fixture)).unwrap();
    assert_eq!(value(&*store, &key()).await.unwrap(), "x");
}

#[tokio::test]
async fn what_is_not_ours_is_absent_and_stays() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    let path = directory(&fixture).join("session%3avisitor");
    let elsewhere = fixture.directory.path().join("elsewhere");
    fs::write(&elsewhere, format!("c1 {:019} {:016x}\nvalue", i64::MAX, 7)).unwrap();
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let makes: [&dyn Fn(&Path); 5] = [
        &|path| fs::write(path, "").unwrap(),
        &|path| fs::write(path, "hello").unwrap(),
        &|path| symlink(&elsewhere, path).unwrap(),
        &|path| symlink("nowhere", path).unwrap(),
        &pipe,
    ];
    for (number, make) in makes.iter().enumerate() {
        make(&path);
        assert_eq!(store.load(&key()).await.unwrap(), None, "{number}");
        for expected in [Expected::Absent, Expected::Version(Version(7))] {
            let saved = store.save(&key(), expected, "ours".into(), fixture.later(HOUR)).await.unwrap();
            assert_eq!(saved, Saved::Conflict, "{number}");
        }
        assert!(!store.touch(&key(), Version(7), fixture.later(HOUR)).await.unwrap(), "{number}");
        assert_eq!(store.sweep().await.unwrap(), 0, "{number}");
        assert!(fs::symlink_metadata(&path).is_ok(), "{number}");
        store.delete(&key()).await.unwrap();
        assert!(fs::symlink_metadata(&path).is_err(), "{number}");
    }
    assert!(elsewhere.exists());
}

#[tokio::test]
async fn a_sweep_takes_what_was_left_half_written_and_nothing_else() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    let directory = directory(&fixture);
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(HOUR)).await;
    let old: SystemTime = START.minus(Duration::from_secs(3_601)).into();
    let young: SystemTime = START.minus(Duration::from_secs(3_599)).into();
    for (name, written_at) in [
        ("session%3aold_out_abcdefg_", old),
        ("session%3ayoung_out_abcdefgh", young),
        ("session%3aold_out_abc", old),
        ("other_out_abcdefgh", old),
        ("notes.txt", old),
    ] {
        fs::File::create(directory.join(name)).unwrap().set_modified(written_at).unwrap();
    }
    assert_eq!(store.sweep().await.unwrap(), 0);
    let left = [
        "notes.txt",
        "other_out_abcdefgh",
        "session%3aold_out_abc",
        "session%3avisitor",
        "session%3ayoung_out_abcdefgh",
    ];
    assert_eq!(names(&directory), left);
}

#[tokio::test]
async fn one_sweeps_at_a_time() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(1)).await;
    fixture.clock.advance(Duration::from_millis(1));
    let turn = fs::File::create(directory(&fixture).join(".cloakroom/sweep")).unwrap();
    turn.lock().unwrap();
    assert_eq!(store.sweep().await.unwrap(), 0);
    turn.unlock().unwrap();
    assert_eq!(store.sweep().await.unwrap(), 1);
    assert!(names(&directory(&fixture)).is_empty());
}

#[tokio::test]
async fn all_keys_are_listed_in_pages() {
    let mut fixture = Fixture::file();
    fixture.settings.fsync = Some(false);
    let store = fixture.open().await;
    for number in 0..2_345 {
        stored(&*store, &Key::new(format!("Key {number}")), Expected::Absent, "x", fixture.later(HOUR)).await;
    }
    fs::write(directory(&fixture).join("notes.txt"), "x").unwrap();
    let (mut found, mut pages, mut from) = (Vec::new(), 0, None::<Cursor>);
    loop {
        let page = store.scan(from.as_ref()).await.unwrap();
        found.extend(page.keys);
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    found.sort();
    let mut expected: Vec<Key> = (0..2_345).map(|number| Key::new(format!("Key {number}"))).collect();
    expected.sort();
    assert!(found == expected && pages == 3, "{} keys on {pages} pages", found.len());
}

#[tokio::test]
async fn two_processes_count_together() {
    let fixture = Fixture::file();
    let store = fixture.open().await;
    let deadline = fixture.later(HOUR);
    stored(&*store, &key(), Expected::Absent, "0", deadline).await;
    let mut other = in_another_process("files::counts_for_another_process", &directory(&fixture)).spawn().unwrap();
    count(&*store, &key(), 100, deadline).await;
    assert!(other.wait().unwrap().success());
    assert_eq!(store.load(&key()).await.unwrap().unwrap().value, "200");
}

#[tokio::test]
async fn whoever_is_killed_while_writing_leaves_the_old_record_or_the_new_one() {
    const DEATHS: usize = 12;
    let fixture = Fixture::file();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, vec![b'a'; LARGE], fixture.later(HOUR)).await;
    let mut half_written = 0;
    for death in 0..DEATHS {
        let before = store.load(&key()).await.unwrap().unwrap().version;
        let mut writer = in_another_process("files::writes_until_it_is_killed", &directory(&fixture)).spawn().unwrap();
        while store.load(&key()).await.unwrap().unwrap().version == before {
            tokio::task::yield_now().await;
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let record = store.load(&key()).await.unwrap().unwrap();
        let whole = record.value.len() == LARGE && record.value.iter().all(|byte| *byte == record.value[0]);
        assert!(whole, "half a record after {death} deaths");
        half_written += names(&directory(&fixture)).len() - 1;
        // The lock died with it, and what it was writing is in nobody's way.
        stored(&*store, &key(), Expected::Version(record.version), record.value, fixture.later(HOUR)).await;
    }
    println!("{half_written} of {DEATHS} died while writing");
}

/// This test program again, for one test only, which works on `directory` then.
fn in_another_process(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The other half of [`two_processes_count_together`]; alone it has nothing to do.
#[tokio::test]
async fn counts_for_another_process() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let store = open(Path::new(&directory)).await.unwrap();
        count(&*store, &key(), 100, START.plus(Duration::from_millis(HOUR))).await;
    }
}

/// The other half of [`whoever_is_killed_while_writing_leaves_the_old_record_or_the_new_one`].
#[tokio::test]
async fn writes_until_it_is_killed() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let store = open(Path::new(&directory)).await.unwrap();
        let mut version = store.load(&key()).await.unwrap().unwrap().version;
        for letter in (b'a'..=b'z').cycle() {
            let deadline = START.plus(Duration::from_millis(HOUR));
            version = stored(&*store, &key(), Expected::Version(version), vec![letter; LARGE], deadline).await;
        }
    }
}
