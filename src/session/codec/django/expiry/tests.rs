use serde_json::Value;

use super::super::{dict, json as python, session};
use super::*;
use crate::clock::Timestamp;
use crate::session::inject::HeaderSettings;
use crate::session::settings::{SessionRules, SessionSettings};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn data(object: &str) -> Data {
    dict::read(python::read(object.as_bytes()).unwrap()).unwrap()
}

fn rules(toml: &str) -> SessionRules {
    toml::from_str::<SessionSettings>(toml).unwrap().check(&HeaderSettings::default()).unwrap()
}

/// What would be written for a session with this data and expiry.
fn written(data: Data, expiry: Expiry, local: Option<&TimeZone>) -> Option<String> {
    let session = session(data, expiry, NOW);
    let mut fresh = String::new();
    member(&session, local, &mut fresh).map(|member| match member {
        Member::Plain { name, value } => {
            assert_eq!(name, NAME);
            value.to_owned()
        }
        Member::Opaque(written) => String::from_utf8(written.to_vec()).unwrap(),
    })
}

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../../../../../tests/data/django/08_expiry.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

#[test]
fn an_expiry_means_what_it_means_to_django() {
    let (mut understood, mut refused) = (0, 0);
    for vector in vectors().iter().filter(|vector| vector["kind"] == "get") {
        let name = vector["name"].as_str().unwrap();
        let rules = rules(&format!(
            "max_age = {}\nexpire_at_browser_close = {}",
            vector["SESSION_COOKIE_AGE"], vector["SESSION_EXPIRE_AT_BROWSER_CLOSE"]
        ));
        assert_eq!(vector["now"].as_i64().unwrap() * 1000, NOW.as_millis());
        let present = format!("{{\"_session_expiry\":{}}}", vector["_session_expiry"]);
        let object = if vector["present"] == true { present } else { "{}".to_owned() };
        let data = data(&object);
        assert!(data.members().next().is_none(), "{name}: it is no data");
        let expiry = read(&data, None);
        let session = session(data, expiry, NOW);
        let (age, ends) = (&vector["get_expiry_age"], &vector["get_expiry_date"]);
        if age["error"].is_string() || age.is_array() {
            assert_eq!(expiry, Expiry::Default, "{name}");
            refused += 1;
            continue;
        }
        understood += 1;
        let age = if age == true { 1.0 } else { age.as_f64().unwrap().max(0.0) };
        let ours = expiry.age(&rules, NOW).as_secs_f64();
        // Django cuts what is left until an instant down to whole seconds.
        assert!(ours - age >= 0.0 && ours - age < 1.0, "{name}: {ours}");
        if !matches!(expiry, Expiry::At(_)) {
            assert!((ours - age).abs() < 1e-9, "{name}: {ours}");
        }
        if let Some(ends) = ends.as_str() {
            let ends = iso::read(ends, None).unwrap();
            let ends = if matches!(expiry, Expiry::At(_)) { ends } else { ends.max(NOW) };
            assert_eq!(session.deadline(&rules, NOW), ends, "{name}");
        }
        if vector["_session_expiry"] != "" {
            let until_close = session.cookie_age(&rules, NOW).is_none();
            assert_eq!(until_close, vector["get_expire_at_browser_close"].as_bool().unwrap(), "{name}");
        }
    }
    assert_eq!((understood, refused), (32, 7));
}

#[test]
fn what_django_sets_is_kept_and_what_we_set_django_reads() {
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| vector["kind"] == "set_expiry") {
        let name = vector["name"].as_str().unwrap();
        let local = (vector["USE_TZ"] == false).then_some(TimeZone::UTC);
        let local = local.as_ref();
        let after = &vector["session_after"];
        let set = after.get("_session_expiry").map(Value::to_string);
        let data_set = data(&after.to_string());
        let expiry = read(&data_set, local);
        assert_eq!(data_set.as_str(), r#"{"a":1}"#, "{name}");
        assert_eq!(written(data_set, expiry, local), set, "{name}: not kept as it was");
        // Ours in the place of another.
        let fresh = written(data(r#"{"_session_expiry":7,"a":1}"#), expiry, local);
        let as_django = ["set_none", "set_0", "set_300", "set_timedelta_1h", "set_timedelta_neg", "set_datetime_aware"];
        if as_django.contains(&name) || name.ends_with("USE_TZ_False") {
            assert_eq!(fresh, set, "{name}");
        }
        let meant =
            fresh.map_or(Expiry::Default, |text| read(&data(&format!("{{\"_session_expiry\":{text}}}")), local));
        assert_eq!(meant, expiry, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn what_was_there_stays_for_as_long_as_it_is_meant() {
    for text in [
        "300",
        "1.5",
        "1e2",
        "true",
        "false",
        "0.0",
        "-0.0",
        "null",
        "-10",
        "\"\"",
        "[1]",
        "{}",
        "1e999",
        "99999999999999999999",
        "\"2023-11-15T07:13:20.123456+08:00\"",
        "\"2023-W47-1T00:00:00Z\"",
        "\"tomorrow\"",
        "\"2023-11-15T07:13:20\"",
    ] {
        let data = data(&format!("{{\"a\":1,\"_session_expiry\":{text},\"b\":2}}"));
        let expiry = read(&data, None);
        assert_eq!(written(data.clone(), expiry, None).as_deref(), Some(text));
        let other = Expiry::After(Duration::from_secs(77));
        assert_eq!(written(data, other, None).as_deref(), Some("77"), "{text}");
    }
    for text in ["NaN", "-Infinity", "\"\\ud800\""] {
        let data = data(&format!("{{\"_session_expiry\":{text}}}"));
        assert_eq!(read(&data, None), Expiry::Default);
        let kept = written(data, Expiry::Default, None);
        assert_eq!(kept, Some(format!("\"_session_expiry\":{text}")), "a whole member of the format it came in");
    }
}

#[test]
fn numbers_are_told_apart() {
    let after = |millis: u64| Some(Expiry::After(Duration::from_millis(millis)));
    for (text, expected) in [
        ("1", after(1000)),
        ("1.5", after(1500)),
        ("1e2", after(100_000)),
        ("-1", after(0)),
        ("-0.5", after(0)),
        ("0", Some(Expiry::BrowserClose)),
        ("-0", Some(Expiry::BrowserClose)),
        ("0e9", Some(Expiry::BrowserClose)),
        ("9007199254740993", after(LONGEST * 1000)),
        ("1e300", after(LONGEST * 1000)),
        ("1e999", None),
        ("[]", None),
        ("{}", None),
    ] {
        assert_eq!(meaning(text.as_bytes(), None), expected, "{text}");
    }
}

#[test]
fn ages_are_written_in_whole_seconds_that_are_long_enough() {
    for (age, text) in [
        (Duration::ZERO, "-1"),
        (Duration::from_millis(1), "1"),
        (Duration::from_secs(60), "60"),
        (Duration::from_millis(60_001), "61"),
        (Duration::MAX, "250000000000"),
    ] {
        assert_eq!(written(Data::empty(), Expiry::After(age), None).as_deref(), Some(text));
    }
    let instant = Expiry::At(Timestamp::from_millis(1_700_000_000_250));
    assert_eq!(written(Data::empty(), instant, None).as_deref(), Some("\"2023-11-14T22:13:20.250000+00:00\""));
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    assert_eq!(written(Data::empty(), instant, Some(&berlin)).as_deref(), Some("\"2023-11-14T23:13:20.250000\""));
    assert_eq!(written(Data::empty(), Expiry::BrowserClose, None).as_deref(), Some("0"));
    assert_eq!(written(Data::empty(), Expiry::Default, None), None);
}
