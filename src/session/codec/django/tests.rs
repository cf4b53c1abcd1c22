use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::session::data::OpaqueMember;
use crate::session::inject::HeaderSettings;
use crate::session::json as wire;
use crate::session::json::tests::any_json;
use crate::session::settings::SessionSettings;
use crate::store::Version;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const KEY: &str = "django.secret_key = 'django-insecure-vector-key-A-0123456789abcdefghijklmnop'";

fn new(store: &str, session: &str) -> Result<Django, Problem> {
    let rules = toml::from_str::<SessionSettings>(session).unwrap().check(&HeaderSettings::default()).unwrap();
    Django::new(&toml::from_str(&format!("format = 'django'\n{store}")).unwrap(), &rules, "sessionid")
}

/// With the key of the vectors.
fn django(engine: &str, session: &str) -> Django {
    new(&format!("engine = '{engine}'\n{KEY}"), session).unwrap()
}

fn record(value: impl Into<Bytes>, expires_at: Timestamp) -> Record {
    Record { value: value.into(), version: Version(1), expires_at }
}

/// The session with these members, of which `_session_expiry` is one or not.
fn of(django: &Django, json: &str) -> Session {
    let (data, expiry) = django.understand(json::read(json.as_bytes()).unwrap()).unwrap();
    session(data, expiry, NOW)
}

fn row(django: &Django, json: &str) -> Bytes {
    django.encode(&of(django, json), NOW)
}

fn json_of(django: &Django, session: &Session) -> String {
    String::from_utf8(json::write(&django.members(session, &mut String::new()))).unwrap()
}

#[test]
fn what_has_no_words_in_json_keeps_its_place_and_text() {
    let django = django("db", "");
    let text = r#"{"n":NaN,"a":1,"s":"\ud800","b":2.50,"_session_expiry":300,"c":[{"x":1,"x":2}],"d":""}"#;
    let session = of(&django, text);
    assert_eq!(session.data.as_str(), r#"{"a":1,"b":2.50,"d":""}"#);
    let keys: Vec<_> = session.data.opaque().iter().map(|member| member.key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["n", "s", "_session_expiry", "c"]);
    assert_eq!(json_of(&django, &session), text);
    let changed = Session { expiry: Expiry::After(HOUR), ..session.clone() };
    assert_eq!(json_of(&django, &changed), text.replace("300", "3600"));
    let cleared = Session { expiry: Expiry::Default, ..session };
    assert_eq!(json_of(&django, &cleared), text.replace(r#""_session_expiry":300,"#, ""));
    let new = of(&django, r#"{"a":1}"#);
    let closing = Session { expiry: Expiry::BrowserClose, ..new };
    assert_eq!(json_of(&django, &closing), r#"{"a":1,"_session_expiry":0}"#, "a new one comes last");
}

#[test]
fn the_last_of_a_name_counts_in_the_place_of_the_first() {
    let django = django("db", "");
    for (text, expected) in [
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        (r#"{"a":1,"b":2,"\u0061":NaN}"#, r#"{"\u0061":NaN,"b":2}"#),
        (r#"{"a":NaN,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        (r#"{"\ud800":1,"b":2}"#, r#"{"\ud800":1,"b":2}"#),
        (r#"{"_session_expiry":5,"b":2,"_session_expiry":6}"#, r#"{"_session_expiry":6,"b":2}"#),
    ] {
        let session = of(&django, text);
        assert_eq!(json_of(&django, &session), expected, "{text}");
        assert!(session.data.value("a").is_none_or(|value| value == "3"));
    }
}

/// The store's deadline is what the session's deadline comes to, so that reading moves nothing.
#[test]
fn a_record_says_when_it_was_saved() {
    let at = |text: &str| iso::read(text, None).unwrap();
    for (json, expires_at, deadline) in [
        ("{}", NOW.plus(HOUR), NOW.plus(HOUR)),
        (r#"{"_session_expiry":0}"#, NOW.plus(HOUR), NOW.plus(HOUR)),
        (r#"{"_session_expiry":60.25}"#, NOW.plus(HOUR), NOW.plus(HOUR)),
        (r#"{"_session_expiry":"x"}"#, NOW.plus(HOUR), NOW.plus(HOUR)),
        (r#"{"_session_expiry":-10}"#, NOW, NOW),
        // An instant counts whatever stands beside it.
        (r#"{"_session_expiry":"2023-12-01T00:00:00Z"}"#, NOW, at("2023-12-01T00:00:00Z")),
    ] {
        for engine in ["db", "file", "cached_db", "signed_cookies"] {
            let django = django(engine, "max_age = '5h'");
            let session = django.decode(&record(row(&django, json), expires_at)).unwrap();
            assert_eq!(session.deadline(&django.rules, NOW), deadline, "{engine} {json}");
            assert_eq!((session.created_at, session.retired), (session.saved_at, None));
        }
    }
    let daily = django("db", "max_age = '24h'");
    let session = daily.decode(&record(row(&daily, "{}"), NOW.plus(HOUR))).unwrap();
    assert_eq!(session.saved_at, NOW.minus(23 * HOUR));
}

/// Where nothing else tells of the save, such a session must not seem to be saved when it ends: it would be newer than
/// whatever is done to a copy of it.
#[test]
fn a_cached_session_that_ends_at_an_instant_was_not_saved_then() {
    let django = new("engine = 'redis'", "max_age = '5h'").unwrap();
    let session = Session { expiry: Expiry::At(NOW.plus(HOUR)), ..of(&django, r#"{"a":1}"#) };
    let read = django.decode(&record(django.encode(&session, NOW), NOW.plus(HOUR))).unwrap();
    assert_eq!(read.expiry, session.expiry);
    assert_eq!(read.saved_at, NOW.minus(4 * HOUR));
    assert_eq!(read.deadline(&django.rules, NOW), NOW.plus(HOUR));
}

#[test]
fn an_idle_deadline_does_not_hide_the_last_save() {
    let django = django("db", "max_age = '5h'\nidle_timeout = '1h'");
    for json in ["{}", r#"{"_session_expiry":18000}"#] {
        let session = django.decode(&record(row(&django, json), NOW.plus(HOUR))).unwrap();
        assert_eq!(session.saved_at, NOW);
        assert_eq!(session.deadline(&django.rules, NOW.plus(HOUR / 2)), NOW.plus(HOUR + HOUR / 2));
        assert_eq!(session.deadline(&django.rules, NOW.plus(9 * HOUR / 2)), NOW.plus(5 * HOUR));
    }
}

#[test]
fn nothing_in_a_file_is_an_empty_session() {
    let files = django("file", "max_age = '1h'");
    assert!(files.decode(&record("", NOW)).unwrap().data.is_empty());
    assert_eq!(files.deadline(b"", NOW), NOW.plus(HOUR));
    assert!(matches!(django("db", "").decode(&record("", NOW)), Err(DecodeError::Forged)));
}

#[test]
fn a_file_ends_when_it_says() {
    let files = django("file", "max_age = '1h'");
    assert_eq!(files.file_prefix(), "sessionid");
    for (json, deadline) in [
        ("{}", NOW.plus(HOUR)),
        (r#"{"_session_expiry":null}"#, NOW.plus(HOUR)),
        (r#"{"_session_expiry":0}"#, NOW.plus(HOUR)),
        (r#"{"_session_expiry":"soon"}"#, NOW.plus(HOUR)),
        (r#"{"_session_expiry":7200}"#, NOW.plus(2 * HOUR)),
        (r#"{"_session_expiry":-1}"#, NOW),
        (r#"{"_session_expiry":"2023-11-14T23:13:30+00:00"}"#, NOW.plus(HOUR + Duration::from_secs(10))),
        (r#"{"_session_expiry":"2022-11-14T23:13:30+00:00"}"#, iso::read("2022-11-14T23:13:30Z", None).unwrap()),
    ] {
        let value = row(&files, json);
        assert_eq!(files.deadline(&value, NOW), deadline, "{json}");
        let session = files.decode(&record(value, deadline)).unwrap();
        assert_eq!(session.deadline(&files.rules, NOW), deadline, "{json}");
    }
    assert_eq!(files.deadline(b"no session", NOW), NOW.plus(HOUR));
}

#[test]
fn cookies_are_djangos_and_end_when_they_say() {
    let file: Value =
        serde_json::from_str(include_str!("../../../../tests/data/django/04_signed_cookie_sessions.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 25);
    let text = |vector: &Value, key: &str| vector[key].as_str().unwrap().to_owned();
    let secret = |vector: &Value| String::from_utf8(hex::decode(text(vector, "secret_hex")).unwrap()).unwrap();
    let (mut exact, mut loaded) = (0, 0);
    for vector in vectors {
        let name = text(vector, "name");
        let fallbacks: Vec<_> = vector["fallbacks"].as_array().into_iter().flatten().map(secret).collect();
        let store = format!(
            "engine = 'signed_cookies'\n[django]\nsecret_key = {:?}\nsecret_key_fallbacks = {fallbacks:?}",
            secret(vector)
        );
        let django = new(&store, "max_age = 1209600").unwrap();
        if vector["kind"] == "encode" {
            let input = text(vector, "input_json_ascii");
            let written = django.write_cookie(&of(&django, &input), NOW);
            // Whether a text becomes shorter depends on who compresses: ours may leave as it is what Python's shortens.
            if vector["is_compressed"] == false {
                exact += 1;
                assert_eq!(written, text(vector, "expected"), "{name}");
            }
            for cookie in [written, text(vector, "expected")] {
                match django.read_cookie(&cookie, NOW) {
                    Ok(session) => {
                        assert_eq!(json_of(&django, &session), input, "{name}");
                        assert_eq!(session.saved_at, NOW);
                    }
                    Err(error) => {
                        assert!(matches!(error, DecodeError::Ended), "{name}");
                        assert_eq!(name, "encode_expiry_int_negative");
                    }
                }
            }
            continue;
        }
        loaded += 1;
        #[expect(clippy::cast_possible_truncation, reason = "seconds of this century in milliseconds")]
        let now = Timestamp::from_millis((vector["now"].as_f64().unwrap() * 1000.0) as i64);
        match django.read_cookie(&text(vector, "input"), now) {
            Ok(session) => {
                assert_eq!(vector["modified_after_load"], false, "{name}");
                let found: Value = serde_json::from_str(&json_of(&django, &session)).unwrap();
                assert_eq!(found, vector["expected"], "{name}");
            }
            // Django believes it for as long as any other.
            Err(DecodeError::Ended) if name == "load_set_expiry_ignored" => {}
            Err(error) => {
                assert!(vector["modified_after_load"] == true || vector["key_accepted"] == false, "{name}: {error}");
            }
        }
    }
    assert_eq!((exact, loaded), (10, 6));
}

#[test]
fn cookies_end_with_their_own_expiry_or_that_of_all() {
    let django = django("signed_cookies", "max_age = '1h'");
    let cookie = |json: &str| django.write_cookie(&of(&django, json), NOW);
    let alive = |json: &str, age: Duration| django.read_cookie(&cookie(json), NOW.plus(age)).is_ok();
    let millisecond = Duration::from_millis(1);
    assert!(alive("{}", HOUR) && !alive("{}", HOUR + millisecond));
    assert!(alive(r#"{"_session_expiry":0}"#, HOUR));
    let (minute, almost) = (Duration::from_secs(60), Duration::from_millis(59_999));
    assert!(alive(r#"{"_session_expiry":60}"#, almost) && !alive(r#"{"_session_expiry":60}"#, minute));
    assert!(!alive(r#"{"_session_expiry":7200}"#, HOUR + millisecond), "as long as Django believes it");
    let until = r#"{"_session_expiry":"2023-11-14T22:14:20+00:00"}"#;
    assert!(alive(until, almost) && !alive(until, minute));
    assert!(matches!(
        django.read_cookie(&row(&self::django("db", ""), "{}").escape_ascii().to_string(), NOW),
        Err(DecodeError::Forged)
    ));
}

#[test]
fn the_salt_is_the_classes_own() {
    let stock = django("db", "");
    let own = new(&format!("{KEY}\ndjango.salt = 'django.contrib.sessions.MySessionStore'"), "").unwrap();
    let value = row(&own, r#"{"a":1}"#);
    assert!(own.decode(&record(value.clone(), NOW)).is_ok());
    assert!(matches!(stock.decode(&record(value, NOW)), Err(DecodeError::Forged)));
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_key_and_without_its_secret() {
    for (store, session, key) in [
        ("engine = 'db'", "", "store.django.secret_key"),
        ("engine = 'file'", "", "store.django.secret_key"),
        ("engine = 'cached_db'", "", "store.django.secret_key"),
        ("engine = 'signed_cookies'", "", "store.django.secret_key"),
        ("engine = 'db'", "absolute_timeout = '1h'", "session.absolute_timeout"),
        ("engine = 'redis'", "absolute_timeout = '1h'", "session.absolute_timeout"),
        ("engine = 'file'", "idle_timeout = '1h'", "session.idle_timeout"),
        ("engine = 'signed_cookies'", "idle_timeout = '1h'", "session.idle_timeout"),
        ("engine = 'redis'", "idle_timeout = '1h'", "session.idle_timeout"),
        ("engine = 'redis'\ndjango = { use_tz = false, time_zone = 'Mars/Base' }", "", "store.django.time_zone"),
    ] {
        assert_eq!(new(store, session).unwrap_err().key, key, "{store} {session}");
    }
    for engine in ["redis", "memcached"] {
        assert!(new(&format!("engine = '{engine}'"), "").is_ok(), "{engine} signs nothing");
    }
    assert!(!format!("{:?}", django("db", "")).contains("insecure"));
}

/// A whole number of seconds, and instants that calendars have.
fn any_expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        (-62_135_510_400_000_i64..253_402_207_200_000).prop_map(|millis| Expiry::At(Timestamp::from_millis(millis))),
        Just(Expiry::BrowserClose),
        Just(Expiry::Default),
        (1..1_000_000_000_u64).prop_map(|seconds| Expiry::After(Duration::from_secs(seconds))),
    ]
}

fn any_session() -> impl Strategy<Value = Session> {
    let plain = prop::collection::btree_map(any::<String>(), any_json(), 0..5).prop_map(|members| {
        let text = Value::Object(members.into_iter().collect()).to_string();
        Data::parse(wire::compact(text.as_bytes(), 128).unwrap().into()).unwrap()
    });
    let opaque =
        prop::collection::vec((0..6_usize, prop::sample::select(vec!["NaN", "\"\\udfff\"", "-Infinity"])), 0..3);
    (plain, opaque, any_expiry()).prop_map(|(data, opaque, expiry)| {
        let mut places: Vec<_> =
            opaque.into_iter().map(|(place, value)| (place.min(data.members().count()), value)).collect();
        places.sort_unstable();
        let opaque = places.into_iter().enumerate().map(|(index, (place, value))| {
            let key = format!("opaque {index} \u{10ffff}");
            let written = format!("{}:{value}", json::literal(&key)).into();
            OpaqueMember { key: Some(key.into()), written, place }
        });
        let opaque = opaque.collect();
        session(data.with_opaque(opaque), expiry, NOW)
    })
}

proptest! {
    #[test]
    fn every_session_comes_back(session in any_session()) {
        for engine in ["db", "file", "signed_cookies"] {
            let django = django(engine, "");
            let value = django.encode(&session, NOW);
            prop_assert!(value.is_ascii());
            let read = django.decode(&record(value.clone(), session.deadline(&django.rules, NOW))).unwrap();
            prop_assert_eq!(read.data.wire(), session.data.wire());
            prop_assert_eq!((read.expiry, read.saved_at), (session.expiry, NOW));
            let beside: Vec<_> = read.data.opaque().iter().filter(|member| member.key.as_deref() != Some("_session_expiry")).cloned().collect();
            prop_assert_eq!(beside.as_slice(), session.data.opaque());
            prop_assert_eq!(django.encode(&read, NOW), value);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), seconds in any::<i64>(), expiry in ".{0,30}") {
        let at = Timestamp::from_millis(seconds);
        for engine in ["db", "file", "redis", "signed_cookies", "cached_db"] {
            let django = django(engine, "");
            let record = record(bytes.clone(), at);
            let _ = (django.decode(&record), django.deadline(&bytes, at), django.cache_value(&record), django.row_value(&record));
            let _ = django.read_cookie(&String::from_utf8_lossy(&bytes), at);
        }
        let files = django("file", "");
        for text in [json::literal(&expiry), seconds.to_string(), format!("{seconds}.5e{}", bytes.len())] {
            let value = row(&files, &format!("{{\"_session_expiry\":{text}}}"));
            let _ = files.decode(&record(value.clone(), files.deadline(&value, at))).unwrap();
        }
    }
}
