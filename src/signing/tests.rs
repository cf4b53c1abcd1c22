use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NO_KEYS: [&[u8]; 0] = [];

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn signer() -> Signer {
    Signer::new("salt", b"new", ["old", "older"])
}

fn forge(key: &[u8], text: &str) -> String {
    format!("{text}:{}", b64_encode(&mac(&keyed::<Sha256>("salt", key), text).finalize().into_bytes()))
}

/// Made with Django itself.
#[test]
fn everything_is_written_as_django_writes_it() {
    let file: Value = serde_json::from_str(include_str!("../../tests/data/django/01_signing.json")).unwrap();
    let mut tried = 0;
    for vector in file["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let text = |key: &str| vector[key].as_str().unwrap();
        let bytes = |key: &str| hex::decode(text(key)).unwrap();
        match text("kind") {
            "b62" => {
                let number = vector["input"].as_i64().unwrap();
                assert_eq!(b62_encode(number), text("expected"), "{name}");
                assert_eq!(b62_decode(text("expected")), Some(number), "{name}");
            }
            "b64url_nopad" => assert_eq!(b64_encode(&bytes("input_hex")), text("expected"), "{name}"),
            "hmac" => {
                let mac = mac(&keyed::<Sha256>(text("salt"), &bytes("secret_hex")), text("message"));
                let digest = mac.finalize().into_bytes();
                assert_eq!(hex::encode(digest), text("digest_hex"), "{name}");
                assert_eq!(b64_encode(&digest), text("signature"), "{name}");
                let message = format!("{}:{}", text("message"), text("signature"));
                let signer = Signer::new(text("salt"), &bytes("secret_hex"), NO_KEYS);
                assert_eq!(signer.unsign(&message, None, at(0)), Ok("e30"), "{name}");
            }
            "signing.dumps" => {
                let (value, _) = text("expected").split_once(':').unwrap();
                let now = at(vector["now"].as_u64().unwrap());
                let signer = Signer::new(text("salt"), &bytes("secret_hex"), NO_KEYS);
                assert_eq!(signer.sign(value, now), text("expected"), "{name}");
            }
            "timestamp" => {
                let signed = signer().sign("", at(vector["now"].as_u64().unwrap()));
                assert_eq!(signed.split(':').nth(1), Some(text("expected")), "{name}");
            }
            kind => panic!("{name}: {kind}"),
        }
        tried += 1;
    }
    assert_eq!(tried, 36);
    assert_eq!(file["count"], 36);
}

#[test]
fn the_first_key_signs_and_all_are_believed() {
    let signed = signer().sign("value", at(7));
    assert_eq!(signed, forge(b"new", "value:7"));
    for key in ["new", "old", "older"] {
        assert_eq!(signer().unsign(&forge(key.as_bytes(), "value:7"), None, at(0)), Ok("value"), "{key}");
    }
    assert_eq!(signer().unsign(&forge(b"other", "value:7"), None, at(0)), Err(SignError::Forged));
    let other_salt = Signer::new("other", b"new", NO_KEYS).sign("value", at(7));
    assert_eq!(signer().unsign(&other_salt, None, at(0)), Err(SignError::Forged));
}

#[test]
fn no_change_of_the_text_is_believed() {
    let signed = signer().sign("value", at(1_700_000_000));
    let mut tried = 0;
    for place in 0..signed.len() {
        for bit in 0..7 {
            let mut bytes = signed.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(signer().unsign(&changed, None, at(0)), Err(SignError::Forged), "{changed}");
            tried += 1;
        }
    }
    assert_eq!(tried, signed.len() * 7);
    for changed in [format!("{signed}="), format!("x{signed}"), format!("{signed}\n"), signed[1..].to_owned()] {
        assert_eq!(signer().unsign(&changed, None, at(0)), Err(SignError::Forged), "{changed}");
    }
    for text in ["", ":", "::", "value", "value:7", "value:7:"] {
        assert_eq!(signer().unsign(text, None, at(0)), Err(SignError::Forged), "{text:?}");
    }
}

#[test]
fn a_text_is_too_old_once_it_is_older_than_its_age() {
    let signed = signer().sign("v", at(1000) + SECOND / 2);
    assert_eq!(signer().verify(&signed), Ok(Signed { value: "v", at: 1000 }), "whole seconds, downwards");
    let read = |age: u64, now: SystemTime| signer().unsign(&signed, Some(Duration::from_secs(age)), now);
    assert_eq!(read(60, at(1060)), Ok("v"));
    assert_eq!(read(60, at(1060) + Duration::from_millis(1)), Err(SignError::Expired));
    assert_eq!(read(0, at(1000)), Ok("v"));
    assert_eq!(read(0, at(999)), Ok("v"), "from the future");
    assert_eq!(signer().unsign(&signed, Some(Duration::MAX), at(1 << 40)), Ok("v"));
    assert_eq!(signer().unsign(&signed, None, at(1 << 40)), Ok("v"));
    let long_ago = signer().sign("v", UNIX_EPOCH - SECOND / 2);
    assert_eq!(signer().verify(&long_ago), Ok(Signed { value: "v", at: -1 }));
}

#[test]
fn a_time_is_a_number_of_base_62() {
    for (text, number) in [
        ("0", Some(0)),
        ("-", Some(0)),
        ("-1", Some(-1)),
        ("00z", Some(61)),
        ("zzzzzzzzzzzz", Some(i64::MAX)),
        ("-zzzzzzzzzzzz", Some(i64::MIN)),
        ("", None),
        ("1 ", None),
        ("1_", None),
        ("--1", None),
        ("é", None),
    ] {
        assert_eq!(b62_decode(text), number, "{text:?}");
        let expected = number.map_or(Err(SignError::Timeless), |at| Ok(Signed { value: "a:b", at }));
        assert_eq!(signer().verify(&forge(b"new", &format!("a:b:{text}"))), expected, "{text:?}");
    }
    assert_eq!(signer().verify(&forge(b"new", "value")), Err(SignError::Timeless));
}

#[test]
fn sha1_is_believed_only_where_it_is_asked_for() {
    let text = "e30:1r31eq:M7F_psXfJwFpOtu1R7DbbknaJaw";
    let (salt, key) =
        ("django.contrib.sessions.SessionStore", "django-insecure-vector-key-A-0123456789abcdefghijklmnop");
    let signer = Signer::new(salt, key.as_bytes(), NO_KEYS);
    assert_eq!(signer.verify(text), Err(SignError::Forged));
    assert_eq!(signer.with_sha1(salt, ["other", key]).unsign(text, None, at(0)), Ok("e30"));
}

#[test]
fn keys_are_not_printed() {
    assert_eq!(format!("{:?}", signer()), "Signer(3 keys)");
}

proptest! {
    #[test]
    fn what_was_signed_is_read(value in any::<String>(), seconds in 0..u64::from(u32::MAX)) {
        let signed = signer().sign(&value, at(seconds));
        prop_assert_eq!(signer().unsign(&signed, Some(Duration::ZERO), at(seconds)), Ok(value.as_str()));
    }

    #[test]
    fn numbers_come_back(number in any::<i64>()) {
        prop_assert_eq!(b62_decode(&b62_encode(number)), Some(number));
    }

    #[test]
    fn no_text_panics(text in ".{0,40}", time in "[0-9A-Za-z-]{0,24}") {
        let _ = signer().verify(&text);
        let signed = forge(b"new", &format!("{text}:{time}"));
        let _ = signer().unsign(&signed, Some(SECOND), at(0));
    }
}
