//! Our cookie beside the one that Django writes and reads: `SessionMiddleware` and `parse_cookie`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::data::Data;
use super::super::expiry::Expiry;
use super::super::inject::HeaderSettings;
use super::super::settings::SessionSettings;
use super::super::{Session, id::SessionId};
use super::*;

const PARSING: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/06_cookie_header_parsing.json"));
const KEYS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/07_session_keys.json"));
const WRITING: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/16_set_cookie_headers.json"));

fn vectors(file: &str) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(file).unwrap();
    serde_json::from_value(file["vectors"].take()).unwrap()
}

/// `[cookie]` for these settings of Django's, if it can say so.
fn policy(django: &Value) -> Option<CookiePolicy> {
    let mut text = String::new();
    if django.get("SESSION_COOKIE_PATH") == Some(&Value::Null) {
        return None;
    }
    for (name, value) in django.as_object().unwrap() {
        let line = match (name.as_str(), value) {
            ("SESSION_COOKIE_NAME", Value::String(name)) => format!("name = {name:?}"),
            ("SESSION_COOKIE_PATH", Value::String(path)) => format!("path = {path:?}"),
            ("SESSION_COOKIE_DOMAIN", Value::String(domain)) => format!("domain = {domain:?}"),
            ("SESSION_COOKIE_SECURE", secure) => format!("secure = {secure}"),
            ("SESSION_COOKIE_HTTPONLY", http_only) => format!("http_only = {http_only}"),
            ("SESSION_COOKIE_SAMESITE", Value::String(same_site)) => format!("same_site = {same_site:?}"),
            ("SESSION_COOKIE_SAMESITE", _) => "same_site = 'off'".to_owned(),
            ("SESSION_COOKIE_AGE" | "SESSION_EXPIRE_AT_BROWSER_CLOSE", _) => continue,
            (name, value) => panic!("{name} = {value}"),
        };
        text.push_str(&format!("{line}\n"));
    }
    toml::from_str::<CookieSettings>(&text).ok()?.check().ok()
}

/// The line for what the vector's view did, at its moment.
fn written(vector: &Value, policy: &CookiePolicy) -> String {
    let django = &vector["settings"];
    let https = django["SESSION_COOKIE_SECURE"] == true;
    if vector["action"] == "delete" {
        return policy.removal(https).to_str().unwrap().to_owned();
    }
    let close = django["SESSION_EXPIRE_AT_BROWSER_CLOSE"] == true;
    let age = django["SESSION_COOKIE_AGE"].as_u64().unwrap_or(1_209_600);
    let settings = format!("max_age = {age}\nexpire_at_browser_close = {close}\n");
    let settings: SessionSettings = toml::from_str(&settings).unwrap();
    let rules = settings.check(&HeaderSettings::default()).unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "a moment in seconds, perhaps with a fraction")]
    let now = Timestamp::from_millis((vector["now"].as_f64().unwrap() * 1000.0) as i64);
    let asked = vector["ops"].as_array().unwrap().iter().find(|op| op[0] == "set_expiry").map(|op| &op[1]);
    let expiry = match asked {
        None => Expiry::Default,
        Some(Value::Number(zero)) if zero.as_u64() == Some(0) => Expiry::BrowserClose,
        Some(Value::Number(seconds)) => Expiry::After(Duration::from_secs(seconds.as_u64().unwrap())),
        Some(moment) => {
            let moment: jiff::Timestamp = moment["datetime"].as_str().unwrap().parse().unwrap();
            Expiry::At(Timestamp::from_millis(moment.as_millisecond()))
        }
    };
    let data = Data::empty();
    let session = Session { data, created_at: now, saved_at: now, expiry, retired: None, predecessors: Vec::new() };
    let id = SessionId::parse(vector["session_key"].as_str().unwrap().as_bytes()).unwrap();
    policy.set(&id, session.cookie_age(&rules, now), now, https).to_str().unwrap().to_owned()
}

/// The pair, and the attributes in no order; names are not told apart by case (RFC 6265, section 5.2).
fn parts(line: &str) -> (String, BTreeSet<String>) {
    let mut parts = line.split("; ");
    let pair = parts.next().unwrap().replace("=\"\"", "=");
    let lower = |attribute: &str| match attribute.split_once('=') {
        // A dot before the domain means nothing any more (RFC 6265, section 5.2.3).
        Some((name, value)) => format!("{}={}", name.to_lowercase(), value.trim_start_matches('.')),
        None => attribute.to_lowercase(),
    };
    (pair, parts.map(lower).collect())
}

#[test]
fn writes_what_django_writes() {
    let (mut same, mut removals, mut refused) = (0, 0, Vec::new());
    for vector in vectors(WRITING) {
        let name = vector["name"].as_str().unwrap().to_owned();
        let Some(policy) = policy(&vector["settings"]) else {
            refused.push(name);
            continue;
        };
        let (pair, mut attributes) = parts(&written(&vector, &policy));
        let (djangos_pair, djangos) = parts(vector["expected_set_cookie"][0].as_str().unwrap());
        assert_eq!(pair, djangos_pair, "{name}");
        if vector["action"] == "delete" {
            // Ours has the flags of the cookie it removes, so that no browser keeps both.
            for flag in ["httponly", "secure"] {
                if !djangos.contains(flag) {
                    attributes.remove(flag);
                }
            }
            removals += 1;
        }
        assert_eq!(attributes, djangos, "{name}");
        same += 1;
    }
    // An empty domain is written by leaving it out, and no path would be that of the page. The others are refused by
    // browsers, or by Django itself.
    let expected = [
        "set_domain_empty",
        "delete_domain_empty",
        "set_path_empty",
        "delete_path_empty",
        "delete_samesite_none_str",
        "delete_samesite_lower",
        "set_samesite_invalid",
        "delete_name_host_not_secure",
        "set_bare",
    ];
    assert_eq!(refused, expected);
    assert_eq!((same, removals), (41, 16));
}

#[test]
fn reads_the_cookie_that_django_reads() {
    let policy = CookieSettings::default().check().unwrap();
    let vectors = vectors(PARSING);
    for vector in &vectors {
        let line = HeaderValue::from_bytes(vector["input"].as_str().unwrap().as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(COOKIE, line)]);
        let found = policy.last_value(&headers).map(|value| String::from_utf8(value.to_vec()).unwrap());
        assert_eq!(found.as_deref(), vector["expected"]["sessionid"].as_str(), "{vector}");
    }
    assert_eq!(vectors.len(), 13);
}

#[test]
fn i3_takes_no_key_that_django_would_not_and_every_one_it_makes() {
    let vectors = vectors(KEYS);
    let mut taken = 0;
    for vector in &vectors {
        if let Some(key) = vector["key"].as_str() {
            let accepted = SessionId::parse(key.as_bytes()).is_some();
            assert!(!accepted || vector["accepted_by_SessionBase"] == true, "{vector}");
            assert_eq!(accepted, key.len() == 32 && vector["file_engine_charset_ok"] == true, "{vector}");
            taken += u32::from(accepted);
        }
    }
    let generator = vectors.iter().find(|vector| vector["name"] == "generator").unwrap();
    assert_eq!((generator["length"].as_u64(), taken), (Some(32), 1));
    let made: String = generator["alphabet"].as_str().unwrap().chars().take(32).collect();
    assert!(SessionId::parse(made.as_bytes()).is_some());
}
