//! Records in Django's format. Any bytes may be in a store, and a row is read before it is known who signed it; a signed
//! one may hold any dictionary. Reading never panics, and what was read is written so that it reads the same again.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use cloakroom::clock::Timestamp;
use cloakroom::session::codec::Codec;
use cloakroom::session::inject::HeaderSettings;
use cloakroom::session::settings::SessionSettings;
use cloakroom::signing::{Signer, b64_encode};
use cloakroom::store::{Key, Record, Version};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SECRET: &str = "secret";

/// Rows, files, and the entries of a cache in each of its serializers.
static CODECS: LazyLock<Vec<Codec>> = LazyLock::new(|| {
    let rules = SessionSettings::default().check(&HeaderSettings::default()).expect("defaults are good");
    let engines = ["db", "file", "redis", "redis", "redis"];
    let serializers = ["pickle", "pickle", "pickle", "json", "msgpack"];
    let codec = |(engine, serializer): (&str, &str)| {
        let settings = serde_json::json!({
            "engine": engine,
            "format": "django",
            "django": { "secret_key": SECRET, "legacy": true, "client": "django-redis", "serializer": serializer },
        });
        let settings = serde_json::from_value(settings).expect("good settings");
        Codec::new(&settings, &rules, "sessionid").expect("good settings")
    };
    engines.into_iter().zip(serializers).map(codec).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let signer = Signer::new("django.contrib.sessions.SessionStore", SECRET.as_bytes(), [b""; 0]);
    let row = signer.sign(&b64_encode(bytes), NOW);
    let deflated = signer.sign(&format!(".{}", b64_encode(bytes)), NOW);
    for codec in CODECS.iter() {
        for value in [bytes, row.as_bytes(), deflated.as_bytes()] {
            read(codec, Bytes::copy_from_slice(value));
        }
    }
});

fn read(codec: &Codec, value: Bytes) {
    let record = |value| Record { value, version: Version(1), expires_at: NOW };
    let foreign = codec.foreign().expect("Django's records are not ours");
    let (key, record_read) = (Key::new("key"), record(value));
    let _ =
        (foreign.deadline(&record_read.value, NOW), foreign.cache_value(&record_read), foreign.row_value(&record_read));
    let Ok(session) = codec.decode(&key, &record_read) else { return };
    assert!(session.data.wire().iter().all(|byte| (0x20..=0x7e).contains(byte)), "not what a header may be");
    let written = codec.encode(&key, &session, NOW);
    let again = codec.decode(&key, &record(written.clone())).expect("what was written can be read");
    assert_eq!((&again.data, again.expiry), (&session.data, session.expiry));
    assert_eq!(codec.encode(&key, &again, NOW), written);
}
