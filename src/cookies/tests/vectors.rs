//! Held against what Django itself signed and believed.

use serde_json::Value;

use super::*;
use crate::signing::SignError;

/// A vector's text under a name.
fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}"))
}

fn secret(vector: &Value) -> String {
    String::from_utf8(hex::decode(text(vector, "secret_hex")).unwrap()).unwrap()
}

#[test]
fn signs_and_believes_exactly_what_django_does() {
    let file: Value =
        serde_json::from_str(include_str!("../../../tests/data/django/05_signed_cookies_and_set_cookie.json")).unwrap();
    let mut counts = [0, 0, 0];
    for vector in file["vectors"].as_array().unwrap() {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century")]
        let now = Timestamp::from_millis((vector["now"].as_f64().unwrap() * 1000.0) as i64);
        let kind = text(vector, "kind");
        if kind == "set_cookie" {
            // The line as `delete_cookie` and `set_cookie` write it.
            counts[0] += usize::from(quotes_as_expected(vector));
            continue;
        }
        let (name, salt) = (text(vector, "key"), text(vector, "salt"));
        let mut signature = Signature::new(name, salt, &secret(vector), &[]);
        if kind == "get_signed_cookie" {
            counts[1] += 1;
            signature.reads_legacy = vector["SIGNED_COOKIE_LEGACY_SALT_FALLBACK"].as_bool().unwrap();
            signature.max_age = vector["max_age"].as_u64().map(Duration::from_secs);
            let outcome = signature.unsign(text(vector, "input"), now);
            let expected = match vector["expected"]["error"].as_str() {
                None => Ok(text(&vector["expected"], "value")),
                Some("SignatureExpired") => Err(SignError::Expired),
                Some("BadSignature") => Err(SignError::Forged),
                other => panic!("{other:?}"),
            };
            assert_eq!(outcome, expected, "{vector}");
            continue;
        }
        counts[2] += 1;
        if kind == "legacy_value" {
            signature.writes = Derivation::Legacy;
        }
        let signed = signature.sign(text(vector, "value"), now);
        assert_eq!(signed, text(vector, "expected_value"), "{vector}");
        if let Some(header) = vector["expected_header"].as_str() {
            assert_eq!(format!("{name}={}; Path=/", value::quote(&signed)), header);
            let rule = Rule {
                name: name.to_owned(),
                loose_name: loose(name.as_bytes()),
                signature: Some(signature),
                attributes: Vec::new(),
                max_age: None,
            };
            let rules = CookieRules(vec![rule]);
            let bare = text(vector, "value");
            let line = format!("{name}={}; Path=/", value::quote(bare));
            if !bare.is_empty() {
                assert_eq!(sent(&rules, &[line.as_bytes()]), one(header, 0));
            }
            let cookie = header.strip_suffix("; Path=/").unwrap();
            let bare = format!("{name}={}", value::for_backend(bare));
            assert_eq!(received(&rules, &[cookie.as_bytes()], now), one(&bare, 0));
        }
    }
    assert_eq!(counts, [8, 11, 11]);
}

/// Whether a vector of `set_cookie` tells the value it sets, and so whether it was compared.
fn quotes_as_expected(vector: &Value) -> bool {
    let Some(value) = text(vector, "call").strip_prefix("value ") else { return false };
    let value = value.trim_matches('\'').replace("\\t", "\t");
    let expected = format!("k={}; Path=/", value::quote(&value));
    assert_eq!(vector["expected_headers"][0], expected, "{vector}");
    true
}
