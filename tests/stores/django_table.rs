//! Django's own table, held against what Django itself did with it.

use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::store::{Expected, Key, Saved};
use serde_json::Value;

use crate::cases::{HOUR, key, stored, value};
use crate::fixture::{Fixture, chain};

const VECTORS: &str = include_str!("../data/django/13_sql.json");
const NOW: i64 = 1_700_000_000_123;

macro_rules! each {
    ($($test:ident)+) => {
        $(mod $test {
            use super::*;
            #[tokio::test]
            async fn db() {
                super::$test(django(Fixture::db()), "sqlite").await;
            }
            #[tokio::test]
            async fn mysql() {
                super::$test(django(Fixture::mysql()), "mysql(mariadb)").await;
            }
            #[tokio::test]
            async fn postgres() {
                super::$test(django(Fixture::postgres()), "postgresql").await;
            }
        })+
    };
}

each! {
    a_row_that_django_wrote_is_read_and_the_other_way_round
    a_deadline_is_written_as_django_writes_it
    a_row_is_there_until_its_very_deadline
    a_key_that_is_only_like_it_is_another
    a_key_that_no_row_can_have_is_absent
    the_table_is_made_as_django_makes_it
    the_same_value_again_is_no_conflict
}

fn django(fixture: Fixture) -> Fixture {
    Fixture { clock: Clock::manual(Timestamp::from_millis(NOW)), ..fixture.with_djangos_table() }
}

fn vectors(kind: &str, vendor: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let is_meant = |one: &&Value| one["kind"] == kind && (one["vendor"] == vendor || one["vendor"].is_null());
    all["vectors"].as_array().unwrap().iter().filter(is_meant).cloned().collect()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} in {vector}"))
}

/// Of the row with this key: the value and the deadline, in the database's words and in UTC.
fn row(fixture: &Fixture, key: &str) -> (String, String) {
    let date = if fixture.postgres.is_some() { "(expire_date AT TIME ZONE 'UTC')::text" } else { "expire_date" };
    let found = fixture.sql(&format!("SELECT session_data, {date} FROM django_session WHERE session_key = '{key}'"));
    let (text, date) = found.split_once('|').unwrap_or_else(|| panic!("no row {key}: {found}"));
    (text.to_owned(), date.to_owned())
}

fn insert(fixture: &Fixture, key: &str, date: &str) {
    let zone = if fixture.postgres.is_some() { "+00:00" } else { "" };
    fixture.sql(&format!("INSERT INTO django_session VALUES ('{key}', 'data', '{date}{zone}')"));
}

async fn a_row_that_django_wrote_is_read_and_the_other_way_round(fixture: Fixture, vendor: &str) {
    let store = fixture.open().await;
    let script = vectors("script", vendor).remove(0);
    let steps = script["steps"].as_array().unwrap();
    let statement = |step: &str, number: usize| -> String {
        let step = steps.iter().find(|one| text(one, "step") == step).unwrap();
        step["sql"][number].as_str().unwrap().to_owned()
    };
    fixture.sql(&statement("create+save (new)", 2));
    let key = Key::new("9uktbu9pzchpp1hynz3zncb9cp7j1cxc");
    let record = store.load(&key).await.unwrap().unwrap();
    assert_eq!(
        record.value,
        "eyJuYW1lIjoiQUJDIiwic2V4IjoiXHU3NTM3In0:1r31eq:kKe-SNBSDRRA4stTXAMUNn_gsQetqmtsQmO8BKvgSPU"
    );
    // .123456 is over at the end of the millisecond .123.
    assert_eq!(record.expires_at, Timestamp::from_millis(NOW + 1_209_600_000 + 1));

    // Another process changes it: what was read before is no longer what is expected.
    fixture.sql(&statement("load+modify+save", 1));
    let late = store.save(&key, Expected::Version(record.version), "late".into(), fixture.later(HOUR)).await.unwrap();
    assert_eq!(late, Saved::Conflict);
    assert!(!store.touch(&key, record.version, fixture.later(HOUR)).await.unwrap());
    let changed = store.load(&key).await.unwrap().unwrap();
    assert!(changed.value.ends_with(b":vg5Oo_2w6TMuGcMIbaw_5QIeMmf_zGDEMVmpiY8zgdE"));

    stored(&*store, &key, Expected::Version(changed.version), "ours", fixture.later(HOUR)).await;
    let micros = "123000";
    let written = row(&fixture, key.as_str());
    let date = format!("2023-11-14 23:13:20.{}", if fixture.postgres.is_some() { "123" } else { micros });
    assert_eq!(written, ("ours".to_owned(), date));
    assert_eq!(fixture.sql(&statement("load", 0)).split('|').nth(1), Some("ours"), "Django's own SELECT");

    fixture.sql(&statement("cycle_key", 6));
    assert_eq!(store.load(&key).await.unwrap(), None);
    fixture.sql(&statement("clear_expired", 1));
}

async fn a_deadline_is_written_as_django_writes_it(mut fixture: Fixture, vendor: &str) {
    let vectors = vectors("expire_date", vendor);
    assert!(!vectors.is_empty());
    for vector in vectors {
        let (use_tz, zone) = (vector["USE_TZ"].as_bool().unwrap(), text(&vector, "TIME_ZONE"));
        fixture.settings.django = toml::from_str(&format!("use_tz = {use_tz}\ntime_zone = '{zone}'")).ok();
        let written = text(&vector, "stored_text");
        let whole = vector["now"].as_i64().is_some();
        let seconds = 1_700_000_000 + vector["expiry_age"].as_i64().unwrap();
        let store = fixture.open().await;
        // Ours has milliseconds: 20.123 where Django has 20.123456.
        let deadline = Timestamp::from_millis(seconds * 1000 + if whole { 0 } else { 123 });
        stored(&*store, &key(), Expected::Absent, "x", deadline).await;
        assert_eq!(store.load(&key()).await.unwrap().unwrap().expires_at, deadline, "{vector}");
        let expected = match (whole, vendor) {
            (true, _) => written.to_owned(),
            (false, "postgresql") => written.replace(".123456", ".123"),
            (false, _) => written.replace(".123456", ".123000"),
        };
        assert_eq!(row(&fixture, "visitor").1, expected, "{vector}");
        store.delete(&key()).await.unwrap();

        insert(&fixture, "visitor", written);
        let deadline = if whole { deadline } else { deadline.plus(Duration::from_millis(1)) };
        assert_eq!(store.load(&key()).await.unwrap().unwrap().expires_at, deadline, "{vector}");
        store.delete(&key()).await.unwrap();
    }
}

async fn a_row_is_there_until_its_very_deadline(fixture: Fixture, vendor: &str) {
    let fixture = Fixture { clock: Clock::manual(Timestamp::from_millis(1_700_000_000_000)), ..fixture };
    let store = fixture.open().await;
    let vectors = vectors("load_rule", vendor);
    assert_eq!(vectors.len(), 3);
    for (vector, date) in vectors.iter().zip(["2023-11-14 22:13:19", "2023-11-14 22:13:20", "2023-11-14 22:13:21"]) {
        insert(&fixture, "visitor", date);
        let found = store.load(&key()).await.unwrap().is_some();
        assert_eq!(found, vector["found"].as_bool().unwrap(), "{vector}");
        assert_eq!(store.sweep().await.unwrap(), u64::from(!found), "{vector}");
        store.delete(&key()).await.unwrap();
    }
}

async fn a_key_that_is_only_like_it_is_another(fixture: Fixture, vendor: &str) {
    let store = fixture.open().await;
    let vectors = vectors("collation", vendor);
    assert!(!vectors.is_empty());
    for vector in vectors {
        let (there, asked) = (Key::new(text(&vector, "stored_key")), Key::new(text(&vector, "cookie_key")));
        let version = stored(&*store, &there, Expected::Absent, "x", fixture.later(HOUR)).await;
        // Django may find it; nobody else's cookie is to open a session here.
        assert_eq!(store.load(&asked).await.unwrap(), None, "{vector}");
        assert!(!store.touch(&asked, version, fixture.later(HOUR)).await.unwrap(), "{vector}");
        let saved = store.save(&asked, Expected::Version(version), "y".into(), fixture.later(HOUR)).await.unwrap();
        assert_eq!(saved, Saved::Conflict, "{vector}");
        store.delete(&asked).await.unwrap();
        assert_eq!(value(&*store, &there).await.unwrap(), "x", "{vector}");
        store.delete(&there).await.unwrap();
    }
}

async fn a_key_that_no_row_can_have_is_absent(fixture: Fixture, _: &str) {
    let store = fixture.open().await;
    let version = stored(&*store, &Key::new("aaaaaaaa"), Expected::Absent, "x", fixture.later(HOUR)).await;
    for name in ["aaaaaaaa\0", "\0", "aaaaaaaa\u{e4}", &"a".repeat(41), &"a".repeat(400)] {
        let key = Key::new(name);
        assert_eq!(store.load(&key).await.unwrap(), None, "{name:?}");
        assert!(!store.touch(&key, version, fixture.later(HOUR)).await.unwrap(), "{name:?}");
        store.delete(&key).await.unwrap();
        let saved = store.save(&key, Expected::Version(version), "y".into(), fixture.later(HOUR)).await.unwrap();
        assert_eq!(saved, Saved::Conflict, "{name:?}");
        assert!(store.save(&key, Expected::Absent, "y".into(), fixture.later(HOUR)).await.is_err(), "{name:?}");
    }
    assert_eq!(value(&*store, &Key::new("aaaaaaaa")).await.unwrap(), "x");
}

async fn the_table_is_made_as_django_makes_it(fixture: Fixture, vendor: &str) {
    drop(fixture.open().await);
    let schema = match vendor {
        "sqlite" => "SELECT sql FROM sqlite_master WHERE tbl_name = 'django_session' AND sql IS NOT NULL",
        "postgresql" => "SELECT indexdef FROM pg_indexes WHERE tablename = 'django_session' ORDER BY indexname",
        _ => "SHOW CREATE TABLE django_session",
    };
    let made = fixture.sql(schema);
    if vendor == "postgresql" {
        let columns = "SELECT column_name, data_type, character_maximum_length, is_nullable
            FROM information_schema.columns WHERE table_name = 'django_session' ORDER BY ordinal_position";
        assert_eq!(
            fixture.sql(columns),
            "session_key|character varying|40|NO\nsession_data|text||NO\nexpire_date|timestamp with time zone||NO"
        );
        for index in [
            "INDEX django_session_expire_date_a5c62663 ON public.django_session USING btree (expire_date)",
            "UNIQUE INDEX django_session_pkey ON public.django_session USING btree (session_key)",
            "INDEX django_session_session_key_c0390e0f_like ON public.django_session USING btree \
             (session_key varchar_pattern_ops)",
        ] {
            assert!(made.contains(index), "{made}");
        }
        return;
    }
    let vector = vectors("ddl", vendor).remove(0);
    let statements = vector["actual_schema"].as_array().unwrap().iter().filter_map(Value::as_str);
    let expected: Vec<&str> = statements.collect();
    assert_eq!(made.trim_start_matches("django_session|"), expected.join("\n"));
}

async fn the_same_value_again_is_no_conflict(fixture: Fixture, _: &str) {
    let store = fixture.open().await;
    let mut version = stored(&*store, &key(), Expected::Absent, "same", fixture.later(HOUR)).await;
    for _ in 0..3 {
        version = stored(&*store, &key(), Expected::Version(version), "same", fixture.later(HOUR)).await;
        assert!(store.touch(&key(), version, fixture.later(HOUR)).await.unwrap());
    }
}

#[tokio::test]
async fn a_file_of_djangos_keeps_its_journal() {
    let fixture = Fixture::db().with_djangos_table();
    fixture.sql("CREATE TABLE django_session (session_key PRIMARY KEY, session_data, expire_date)");
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(HOUR)).await;
    assert_eq!(fixture.sql("PRAGMA journal_mode"), "delete");
    // Django at work: it reads while we do, and we write when it has written.
    let other = rusqlite::Connection::open(fixture.directory.path().join("sessions.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(value(&*store, &key()).await.unwrap(), "x");
    let late = {
        let (store, deadline) = (store.clone(), fixture.later(HOUR));
        tokio::spawn(async move { store.save(&Key::new("late"), Expected::Absent, "y".into(), deadline).await })
    };
    tokio::task::yield_now().await;
    other.execute_batch("COMMIT").unwrap();
    assert!(matches!(late.await.unwrap().unwrap(), Saved::Stored(_)));
}

#[tokio::test]
async fn a_place_without_a_time_zone_is_refused() {
    let mut fixture = Fixture::db().with_djangos_table();
    fixture.settings.django = toml::from_str("use_tz = false\ntime_zone = 'Europe/Atlantis'").ok();
    let error = fixture.try_open().await.err().unwrap();
    assert!(chain(&error).contains("store.django.time_zone = \"Europe/Atlantis\""), "{}", chain(&error));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_absent_and_stays() {
    let fixture = Fixture::db().with_djangos_table();
    let store = fixture.open().await;
    for (data, date) in [("'data'", "'soon and for ever'"), ("'data'", "x'ff'"), ("7.5", "'2999-13-01 00:00:00'")] {
        fixture.sql(&format!("REPLACE INTO django_session VALUES ('visitor', {data}, {date})"));
        assert_eq!(store.load(&key()).await.unwrap(), None, "{date}");
        assert_eq!(fixture.sql("SELECT count(*) FROM django_session"), "1", "{date}");
    }
}
