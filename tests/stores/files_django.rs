//! Files as Django's file engine has them, held against what Django itself made.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::store::{Expected, ForeignRecords, Format, Key, Record, Saved, SessionStore, Version};
use serde_json::Value;

use crate::cases::{HOUR, stored, value};
use crate::files::{directory, key, mode, names};
use crate::fixture::{Fixture, START};

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

impl ForeignRecords for Vectors {
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

    fn cache_value(&self, _: &Record) -> Option<Bytes> {
        None
    }

    fn row_value(&self, _: &Record) -> Option<Bytes> {
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
