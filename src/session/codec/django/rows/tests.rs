use proptest::prelude::*;
use serde_json::Value;

use super::super::dict;
use super::*;
use crate::session::data::EXPIRY_KEY;

const SALT: &str = "django.contrib.sessions.SessionStore";
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn vectors(file: &str, count: usize) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).unwrap();
    let vectors = file["vectors"].as_array().unwrap().clone();
    assert_eq!((vectors.len(), &file["count"]), (count, &count.into()));
    vectors
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_else(|| panic!("{}: no {key}", vector["name"]))
}

fn secrets(vector: &Value) -> Vec<Vec<u8>> {
    let fallbacks = vector["fallbacks"].as_array().into_iter().flatten();
    std::iter::once(vector).chain(fallbacks).map(|key| hex::decode(text(key, "secret_hex")).unwrap()).collect()
}

fn rows(salt: &str, secrets: &[Vec<u8>]) -> Rows {
    let keys: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
    Rows::new(salt, keys[0], &keys[1..])
}

/// Data and the expiry beside it, through our own form and back.
fn through_data(entries: Vec<Entry>, write: impl FnOnce(&[Member<'_>]) -> String) -> String {
    let data = dict::read(entries).unwrap();
    let expiry = data.opaque().iter().find(|member| member.key.as_deref() == Some(EXPIRY_KEY));
    let expiry = expiry.map(|expiry| std::str::from_utf8(&expiry.written).unwrap());
    write(&dict::members(&data, expiry.map(|value| Member::Plain { name: "\"_session_expiry\"", value })))
}

fn json_text(entries: Vec<Entry>) -> String {
    through_data(entries, |members| String::from_utf8(json::write(members)).unwrap())
}

fn read_text(rows: &Rows, text: &str) -> Option<String> {
    rows.read(text.as_bytes()).ok().map(|row| json_text(row.entries))
}

#[test]
fn what_is_written_is_what_django_writes() {
    let mut exact = 0;
    for vector in vectors(include_str!("../../../../../tests/data/django/02_session_encode.json"), 33) {
        let name = text(&vector, "name");
        let rows = rows(text(&vector, "salt"), &secrets(&vector));
        let input = text(&vector, "input_json_ascii");
        let now = Timestamp::from_millis(vector["now"].as_i64().unwrap() * 1000);
        let written = through_data(json::read(input.as_bytes()).unwrap(), |members| rows.write(members, now));
        // Whether a text becomes shorter depends on who compresses: ours may leave as it is what Python's shortens.
        if vector["is_compressed"] == false {
            exact += 1;
            assert_eq!(written, text(&vector, "expected"), "{name}");
        }
        for text in [&written, text(&vector, "expected")] {
            assert_eq!(read_text(&rows, text).as_deref(), Some(input), "{name}");
            let signed_at = rows.read(text.as_bytes()).unwrap().signed_at;
            assert_eq!(signed_at, Some(now), "{name}");
        }
    }
    assert_eq!(exact, 19);
}

#[test]
fn f7_what_django_reads_is_read_and_nothing_else() {
    let (mut read, mut forged, mut malformed) = (0, 0, 0);
    for vector in vectors(include_str!("../../../../../tests/data/django/03_session_decode.json"), 48) {
        let name = text(&vector, "name");
        let rows = rows(text(&vector, "salt"), &secrets(&vector));
        let corrupted = vector["logs_session_data_corrupted"].as_bool().unwrap();
        let expected = text(&vector, "expected_json_ascii");
        match rows.read(text(&vector, "input").as_bytes()) {
            Ok(row) => {
                assert_eq!(json_text(row.entries), expected, "{name}");
                assert!(!corrupted, "{name}");
                read += 1;
            }
            Err(DecodeError::Forged) => {
                assert!(corrupted, "{name}");
                forged += 1;
            }
            Err(error) => {
                assert!(matches!(error, DecodeError::Malformed), "{name}: {error}");
                assert!(!corrupted, "{name}");
                // What Django takes though it is no dictionary is no session of ours.
                assert!(expected == "{}" || !expected.starts_with('{'), "{name}");
                malformed += 1;
            }
        }
    }
    assert_eq!((read, forged, malformed), (18, 15, 15));
}

/// What Django 1.11 to 6.1 wrote, and which of it the releases of today and of the change read.
#[test]
fn older_releases_are_read_where_that_is_asked_for() {
    let file: Value = serde_json::from_str(include_str!("../../../../../tests/data/django/18_versions.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 12);
    let secrets = secrets(&vectors[0]);
    let keys: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
    let today = rows(SALT, &secrets);
    let legacy = rows(SALT, &secrets).with_sha1(SALT, &keys).with_envelope(SALT, &keys);
    let cookie_salt = "django.contrib.sessions.backends.signed_cookies";
    let cookies = rows(cookie_salt, &secrets).with_sha1(cookie_salt, &keys);

    let (mut old, mut new) = (0, 0);
    for vector in vectors {
        let version = text(vector, "version");
        for (payload, expected) in file["inputs"]["payloads"].as_object().unwrap() {
            let entries = json::read(expected.to_string().as_bytes()).unwrap();
            let plain = json_text(entries.clone());
            let written = text(&vector["encode"], payload);
            assert_eq!(value(read_text(&legacy, written)), Some(expected.clone()), "{version} {payload}");
            if vector["same_db_format_as_6.1.3"] == true {
                new += 1;
                assert_eq!(value(read_text(&today, written)), Some(expected.clone()), "{version} {payload}");
                if !written.starts_with('.') {
                    // A dictionary out of serde_json has lost its order; the row has it.
                    let row = today.read(written.as_bytes()).unwrap();
                    assert_eq!(through_data(row.entries, |members| today.write(members, NOW)), written);
                }
            } else {
                old += 1;
                assert!(matches!(today.read(written.as_bytes()), Err(DecodeError::Forged)), "{version} {plain}");
                assert_eq!(legacy.read(written.as_bytes()).unwrap().signed_at, None);
            }
            if let Some(cookie) = vector["cookie"][payload].as_str() {
                assert_eq!(value(read_text(&cookies, cookie)), Some(expected.clone()), "{version} {payload}");
            }
        }
        // Which release reads which layout: today's like 6.1, the one for migrations like 3.2.
        let reader = match version {
            "6.1.3" => &today,
            "3.2.25" if vector["settings"] == serde_json::json!({}) => &legacy,
            _ => continue,
        };
        for (layout, input) in file["inputs"]["decode_inputs"].as_object().unwrap() {
            let expected = &vector["decode"][layout];
            let found = value(read_text(reader, input.as_str().unwrap()));
            assert_eq!(found.unwrap_or_else(|| serde_json::json!({})), *expected, "{version} {layout}");
            new += 1;
        }
    }
    assert_eq!((old, new), (15, 27));
}

fn value(text: Option<String>) -> Option<Value> {
    text.map(|text| serde_json::from_str(&text).unwrap())
}

#[test]
fn an_envelope_is_believed_by_its_own_keys_alone() {
    let envelope =
        "MDY4ZWRhNDBhMzlhNGU3NGRmOGRjNjhmZWE4ZDdjOTgyNmJkYzlhNDp7Im5hbWUiOiJBQkMiLCJhZ2UiOiIxOCIsInNleCI6Ilx1NzUzNyJ9";
    let key: &[u8] = b"django-insecure-vector-key-A-0123456789abcdefghijklmnop";
    let rows = |salt: &str, keys: &[&[u8]]| Rows::new(SALT, b"other", &[]).with_envelope(salt, keys);
    assert!(rows(SALT, &[b"other", key]).read(envelope.as_bytes()).is_ok());
    assert!(matches!(rows(SALT, &[b"other"]).read(envelope.as_bytes()), Err(DecodeError::Forged)));
    assert!(rows("django.contrib.sessions.Other", &[key]).read(envelope.as_bytes()).is_err());
    let mut changed = 0;
    for place in 0..envelope.len() {
        let mut bytes = envelope.as_bytes().to_vec();
        bytes[place] ^= 1;
        assert!(rows(SALT, &[key]).read(&bytes).is_err(), "{place}");
        changed += 1;
    }
    assert_eq!(changed, envelope.len());
}

/// As `base64.urlsafe_b64decode` and `base64.b64decode` of Python do.
#[test]
fn base64_is_as_lenient_as_pythons() {
    let read =
        |text: &str, alphabet| base64(text.bytes(), alphabet).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    for (text, url_safe, standard) in [
        ("", Some(""), Some("")),
        ("YWJj", Some("abc"), Some("abc")),
        ("YWI=", Some("ab"), Some("ab")),
        ("YQ==", Some("a"), Some("a")),
        ("YR==", Some("a"), Some("a")),
        ("YQ", None, None),
        ("YWI", None, None),
        ("Y", None, None),
        ("Y===", None, None),
        ("YQ=", None, None),
        ("Y Q=\n=", Some("a"), Some("a")),
        ("YQ==YWJj", Some("a"), Some("a")),
        ("=YWJj", Some("abc"), Some("abc")),
        ("YQ=Q=", Some("a\u{4}"), Some("a\u{4}")),
        ("YW=Jj", Some("abc"), Some("abc")),
        ("@@@@", Some(""), Some("")),
        ("Pz8_", Some("???"), None),
        ("Pz8/", Some("???"), Some("???")),
        ("fn5-", Some("~~~"), None),
        ("fn5+", Some("~~~"), Some("~~~")),
    ] {
        assert_eq!(read(text, URL_SAFE).as_deref(), url_safe, "{text}");
        assert_eq!(read(text, STANDARD).as_deref(), standard, "{text}");
    }
}

#[test]
fn f7_a_small_row_that_becomes_large_is_refused() {
    let bomb = |bytes: usize| {
        let json = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
        deflate(json.as_bytes()).unwrap()
    };
    assert_eq!(inflate(&bomb(MAX_BYTES - 8)).unwrap().len(), MAX_BYTES);
    let large = bomb(MAX_BYTES - 7);
    assert!(large.len() < MAX_BYTES / 500);
    assert_eq!(inflate(&large), None);
    let whole = bomb(9);
    assert_eq!(inflate(&[whole.as_slice(), b"junk"].concat()), inflate(&whole));
    for length in 0..whole.len() {
        assert_eq!(inflate(&whole[..length]), None, "{length}");
    }
}

fn signed(bytes: &[u8], compressed: bool) -> String {
    let dot = if compressed { "." } else { "" };
    Signer::new(SALT, b"key", [b""; 0]).sign(&format!("{dot}{}", b64_encode(bytes)), NOW)
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let rows = Rows::new(SALT, b"key", &[]).with_sha1(SALT, &[b"key"]).with_envelope(SALT, &[b"key"]);
        prop_assert!(rows.read(&bytes).is_err());
        let _ = rows.read(signed(&bytes, true).as_bytes());
        let _ = rows.read(signed(&bytes, false).as_bytes());
        let deflated = deflate(&bytes).unwrap();
        prop_assert_eq!(inflate(&deflated), Some(bytes));
        let _ = rows.read(signed(&deflated, true).as_bytes());
    }
}
