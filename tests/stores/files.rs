//! Files: directories that cannot be, what lies there, processes that share it or die, and what others left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::store::{Cursor, Expected, Format, Key, Saved, SessionStore, StoreError, Version, open_engine};
use serde_json::Value;

use crate::cases::{HOUR, stored, value};
use crate::fixture::{Fixture, START, chain, settings};
use crate::races::count;

/// Tells the test that [`in_another_process`] runs which directory to work on.
const DIRECTORY: &str = "CLOAKROOM_TEST_DIRECTORY";
/// More than a page of the system's, so that a write takes a while.
const LARGE: usize = 300_000;

fn key() -> Key {
    Key::new("visitor")
}

fn directory(fixture: &Fixture) -> PathBuf {
    fixture.settings.path.clone().unwrap()
}

/// The names of what is there, without our own corner.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != ".cloakroom").collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
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

const ID: &str = "9uktbu9pzchpp1hynz3zncb9cp7j1cxc";

fn vectors(kind: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../data/django/12_file_engine.json")).unwrap();
    let vectors: Vec<Value> =
        file["vectors"].as_array().unwrap().iter().filter(|vector| vector["kind"] == kind).cloned().collect();
    assert!(vectors.len() >= 4, "{kind}");
    vectors
}

/// Django's own prefix, whatever it is, and Django's rules of expiry, for values that are the plain text of a vector.
struct Vectors {
    prefix: String,
    age: Duration,
    expiry: Option<i64>,
}

impl cloakroom::store::ForeignRecords for Vectors {
    fn file_prefix(&self) -> &str {
        &self.prefix
    }

    /// With the one difference: an expiry in seconds counts from the time of writing, while Django never looks.
    fn deadline(&self, _: &[u8], written_at: Timestamp) -> Timestamp {
        match self.expiry {
            Some(seconds @ ..0) => written_at.minus(Duration::from_secs(seconds.unsigned_abs())),
            Some(seconds) => written_at.plus(Duration::from_secs(seconds.unsigned_abs())),
            None => written_at.plus(self.age),
        }
    }

    fn to_cache(&self, _: &cloakroom::store::Record) -> Option<bytes::Bytes> {
        None
    }

    fn from_cache(&self, _: &cloakroom::store::Record) -> Option<bytes::Bytes> {
        None
    }
}

/// A store in a directory of its own, at so many seconds since the epoch.
async fn of_django(foreign: Vectors, now: i64) -> (Fixture, Arc<dyn SessionStore>) {
    let mut fixture = Fixture::file_foreign();
    fixture.foreign = Some(Arc::new(foreign));
    fixture.clock = Clock::manual(Timestamp::from_millis(now * 1_000));
    assert_eq!(fixture.settings.format, Format::Django);
    let store = fixture.open().await;
    (fixture, store)
}

#[tokio::test]
async fn a_file_is_called_and_kept_as_django_does() {
    for vector in vectors("save") {
        let prefix = vector["SESSION_COOKIE_NAME"].as_str().unwrap().to_owned();
        let foreign = Vectors { prefix, age: Duration::from_secs(60), expiry: None };
        let now = vector["now"].as_i64().unwrap();
        let (fixture, store) = of_django(foreign, now).await;
        let key = Key::new(vector["session_key"].as_str().unwrap());
        let files = vector["files_after"].as_object().unwrap();
        let (name, file) = files.iter().next().unwrap();
        let content = file["content"].as_str().unwrap();
        stored(&*store, &key, Expected::Absent, content.to_owned(), fixture.later(1)).await;
        assert_eq!(names(&directory(&fixture)), [name.as_str()]);
        let path = directory(&fixture).join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(format!("{:#o}", mode(&path)).replace("0o", ""), file["mode"].as_str().unwrap().replace("0o", ""));
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), SystemTime::from(fixture.clock.now()));
        let version = store.load(&key).await.unwrap().unwrap().version;
        assert!(store.touch(&key, version, fixture.later(HOUR)).await.unwrap());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), SystemTime::from(fixture.clock.now()));
        stored(&*store, &key, Expected::Version(version), "over", fixture.clock.now()).await;
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_file_lives_as_long_as_in_django_but_for_one_difference() {
    for vector in vectors("load") {
        let name = vector["name"].as_str().unwrap();
        let expiry = vector["stored"]["_session_expiry"].as_i64();
        let age = Duration::from_secs(vector["SESSION_COOKIE_AGE"].as_u64().unwrap());
        let foreign = Vectors { prefix: "sessionid".to_owned(), age, expiry };
        let (fixture, store) = of_django(foreign, vector["now"].as_i64().unwrap()).await;
        let path = directory(&fixture).join(format!("sessionid{ID}"));
        let content = vector["raw_content"].as_str().unwrap_or("some content");
        fs::write(&path, content).unwrap();
        let written_at: SystemTime = Timestamp::from_millis(vector["file_mtime"].as_i64().unwrap() * 1_000).into();
        fs::File::options().write(true).open(&path).unwrap().set_modified(written_at).unwrap();

        let key_is_kept = vector["session_key_after"] == vector["cookie_key"];
        // An expiry in seconds never comes in Django; here it does.
        let lives = key_is_kept && name != "load_int_expiry_never_expires";
        let found = store.load(&Key::new(ID)).await.unwrap();
        assert_eq!(found.map(|record| record.value), lives.then(|| content.to_owned().into()), "{name}");
        // Unlike Django a look at an expired session makes no new one.
        assert_eq!(names(&directory(&fixture)), [format!("sessionid{ID}")], "{name}");
        assert_eq!(store.sweep().await.unwrap(), u64::from(!lives), "{name}");
        assert_eq!(path.exists(), lives, "{name}");
    }
    for vector in vectors("load_unknown") {
        let fixture = Fixture::file_foreign();
        let store = fixture.open().await;
        let key = Key::new(vector["cookie_key"].as_str().unwrap());
        assert_eq!(store.load(&key).await.unwrap(), None);
        store.delete(&key).await.unwrap();
        let conflict = store.save(&key, Expected::Version(Version(7)), "x".into(), fixture.later(HOUR)).await.unwrap();
        assert_eq!(conflict, Saved::Conflict);
        assert!(names(&directory(&fixture)).is_empty());
    }
}

#[tokio::test]
async fn a_sweep_leaves_what_django_leaves_and_names_that_are_no_sessions() {
    let fixture = Fixture::file_foreign();
    let store = fixture.open().await;
    let directory = directory(&fixture);
    let old: SystemTime = START.minus(Duration::from_millis(HOUR)).into();
    for name in ["sessionidexpired1", "sessionidEXPIRED", "sessionid", "otherexpired1", "sessionida.b"] {
        fs::File::create(directory.join(name)).unwrap().set_modified(old).unwrap();
    }
    fs::write(directory.join("sessionidalive123"), "for=1").unwrap();
    let now: SystemTime = START.into();
    fs::File::options().write(true).open(directory.join("sessionidalive123")).unwrap().set_modified(now).unwrap();
    assert_eq!(store.sweep().await.unwrap(), 1);
    let left = ["otherexpired1", "sessionid", "sessionidEXPIRED", "sessionida.b", "sessionidalive123"];
    assert_eq!(names(&directory), left);
    assert_eq!(store.scan(None).await.unwrap().keys, [Key::new("alive123")]);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(store.load(&Key::new("alive123")).await.unwrap(), None);
    assert_eq!(store.sweep().await.unwrap(), 1);
}

/// Whoever writes as Django does, beside us and without a lock.
#[tokio::test]
async fn what_another_program_wrote_in_between_is_not_overwritten() {
    let fixture = Fixture::file_foreign();
    let store = fixture.open().await;
    let path = directory(&fixture).join("sessionidvisitor");
    let version = stored(&*store, &key(), Expected::Absent, "ours", fixture.later(HOUR)).await;
    fs::write(path.with_extension("aside"), "theirs").unwrap();
    let now = SystemTime::from(START);
    fs::File::options().write(true).open(path.with_extension("aside")).unwrap().set_modified(now).unwrap();
    fs::rename(path.with_extension("aside"), &path).unwrap();
    let saved = store.save(&key(), Expected::Version(version), "ours".into(), fixture.later(HOUR)).await.unwrap();
    assert_eq!(saved, Saved::Conflict);
    assert!(!store.touch(&key(), version, fixture.later(HOUR)).await.unwrap());
    assert_eq!(value(&*store, &key()).await.unwrap(), "theirs");
}
