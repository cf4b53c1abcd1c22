use std::borrow::Borrow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::session::codec::tokens::{Token, Tokens};
use crate::session::data::MAX_DEPTH;
use crate::session::json;
use crate::session::json::tests::any_json;

const SERIALIZERS: [Serializer; 3] = [Serializer::Json, Serializer::Msgpack, Serializer::Pickle];
const COMPRESSORS: [Compressor; 6] =
    [Compressor::Gzip, Compressor::Lz4, Compressor::Lzma, Compressor::None, Compressor::Zlib, Compressor::Zstd];

const REDIS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/10_redis.json"));
const MEMCACHED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/11_memcached.json"));
const OTHERS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/14_other_caches.json"));

fn vectors(file: &str, kind: &str) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(file).unwrap();
    let mut vectors: Vec<Value> = serde_json::from_value(file["vectors"].take()).unwrap();
    vectors.retain(|vector| vector["kind"] == kind);
    vectors
}

fn unhex(text: &Value) -> Vec<u8> {
    hex::decode(text.as_str().unwrap()).unwrap()
}

/// Wire form's pieces, whichever way they are written.
fn pieces(json: &str) -> Vec<String> {
    let text = |token| match token {
        Token::String(text) => json::decode(text).unwrap().into_owned(),
        Token::Number(text) if text.contains(['.', 'e']) => format!("{:?}", text.parse::<f64>().unwrap()),
        other => format!("{other:?}"),
    };
    Tokens::new(json).map(text).collect()
}

/// The object that the entries are, if all of them have JSON.
fn object(entries: &[Entry]) -> String {
    let member =
        |entry: &Entry| format!("{}:{}", json::encode(entry.key.as_ref().unwrap()), entry.json.as_ref().unwrap());
    format!("{{{}}}", entries.iter().map(member).collect::<Vec<_>>().join(","))
}

fn plain(object: &str) -> impl Iterator<Item = Member<'_>> {
    json::Members::new(object).map(|member| Member::Plain { name: member.name, value: member.value })
}

/// The serializer and the compressor that the application has in its settings.
fn settings(vector: &Value) -> (Serializer, Compressor) {
    let options = &vector["CACHES"]["OPTIONS"];
    let named = |key: &str| options[key].as_str().map(|path| path.rsplit('.').next().unwrap().to_owned());
    let serializer = match named("SERIALIZER").as_deref() {
        None => Serializer::Pickle,
        Some("JSONSerializer") => Serializer::Json,
        Some("MSGPackSerializer") => Serializer::Msgpack,
        Some(other) => panic!("{other}"),
    };
    let compressor = match named("COMPRESSOR").as_deref() {
        None => Compressor::None,
        Some("GzipCompressor") => Compressor::Gzip,
        Some("Lz4Compressor") => Compressor::Lz4,
        Some("LzmaCompressor") => Compressor::Lzma,
        Some("ZStdCompressor") => Compressor::Zstd,
        Some("ZlibCompressor") => Compressor::Zlib,
        Some(other) => panic!("{other}"),
    };
    (serializer, compressor)
}

#[test]
fn values_in_redis_are_read_and_written() {
    let vectors = vectors(REDIS, "value");
    assert_eq!(vectors.len(), 54);
    let mut exact = 0;
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let (serializer, compressor) = settings(&vector);
        let value = unhex(&vector["value_hex"]);
        let expected = vector["expected_json_ascii"].as_str().unwrap();
        let entries = decode(&value, serializer, compressor).unwrap_or_else(|| panic!("{name}"));
        let object = object(&entries);
        assert_eq!(pieces(&object), pieces(expected), "{name}");
        let written = encode(plain(&object), serializer, compressor);
        assert_eq!(decode(&written, serializer, compressor), Some(entries), "{name}");
        if compressor == Compressor::None && serializer != Serializer::Pickle {
            exact += 1;
            assert_eq!(written, value, "{name}");
        }
    }
    assert_eq!(exact, 11);
}

#[test]
fn copies_of_rows_are_read() {
    let vectors = vectors(REDIS, "refill");
    assert_eq!(vectors.len(), 2);
    let mut read = 0;
    for vector in vectors {
        for command in vector["wire"].as_array().unwrap().iter().filter(|command| command[0] == "SET") {
            read += 1;
            let entries = decode(&unhex(&command[2]["hex"]), Serializer::Pickle, Compressor::None).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&object(&entries)).unwrap(), vector["result"]);
        }
    }
    assert!(read > 0);
}

/// Django takes none of these for a session either.
#[test]
fn f7_other_values_are_refused() {
    assert_eq!(vectors(REDIS, "garbage").len(), 2);
    for serializer in SERIALIZERS {
        for compressor in COMPRESSORS {
            for value in [
                b"123".as_slice(),
                b"-1",
                b" 1 ",
                b"",
                b"garbage",
                b"not a pickle",
                b"[1]",
                b"\x90",
                b"\x80\x05K\x01.",
                b"\xc1",
            ] {
                assert_eq!(decode(value, serializer, compressor), None, "{value:?}");
            }
        }
    }
}

#[test]
fn values_in_memcached_are_read() {
    let vectors = vectors(MEMCACHED, "value");
    assert_eq!(vectors.len(), 13);
    for vector in vectors {
        // Flag 8: compressed by the client.
        let compressed = vector["flags"].as_u64().unwrap() & 8 != 0;
        let compressor = if compressed { Compressor::Zlib } else { Compressor::None };
        let entries = decode(&unhex(&vector["value_hex"]), Serializer::Pickle, compressor).unwrap();
        assert_eq!(pieces(&object(&entries)), pieces(vector["expected_json_ascii"].as_str().unwrap()));
    }
}

#[test]
fn values_in_other_caches_are_read() {
    let files = vectors(OTHERS, "FileBasedCache");
    let rows = vectors(OTHERS, "DatabaseCache");
    assert_eq!((files.len(), rows.len()), (3, 3));
    for vector in files {
        let content = unhex(&vector["content_hex"]);
        // In front stands the deadline, a pickle of a float.
        let entries = decode(&content[21..], Serializer::Pickle, Compressor::Zlib).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&object(&entries)).unwrap(), vector["expected"]);
    }
    for vector in rows {
        let value = STANDARD.decode(vector["value"].as_str().unwrap()).unwrap();
        let entries = decode(&value, Serializer::Pickle, Compressor::None).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&object(&entries)).unwrap(), vector["expected"]);
    }
}

#[test]
fn json_is_spaced_as_pythons() {
    let object = r#"{"a,b:":[1,{"c\"":"\\"},[],{}],"d":"[1,2]:\\\","}"#;
    let written = encode(plain(object), Serializer::Json, Compressor::None);
    assert_eq!(written, r#"{"a,b:": [1, {"c\"": "\\"}, [], {}], "d": "[1,2]:\\\","}"#);
    assert_eq!(encode(plain("{}"), Serializer::Json, Compressor::None), "{}");
}

#[test]
fn members_that_json_has_no_words_for_come_back_as_bytes() {
    let members: [&[u8]; 10] = [
        b"\xa1a\xc4\x02\xff\0",
        b"\xa1b\xcb\x7f\xf8\0\0\0\0\0\0",
        b"\xa1c\xd6\xff\0\0\0\x01",
        b"\x07\x01",
        b"\xc4\x01k\x01",
        b"\xa1d\x91\x81\x01\x02",
        b"\xa1e\xa1\xff",
        b"\xa1\xff\xa1e",
        b"\xa1f\x82\xa1x\x01\xa1x\x02",
        b"\xa1g\xca\x7f\x80\0\0",
    ];
    let value = [b"\x8b".as_slice(), &members.concat(), b"\xa1h\xca\x3f\xc0\0\0"].concat();
    let entries = decode(&value, Serializer::Msgpack, Compressor::None).unwrap();
    assert_eq!(entries.len(), 11);
    for (entry, member) in entries.iter().zip(members) {
        assert_eq!((entry.json.as_deref(), entry.written.borrow()), (None, member));
    }
    assert_eq!(entries[10].json.as_deref(), Some("1.5"));
    let opaque = entries[..10].iter().map(|entry| Member::Opaque(&entry.written));
    let written = encode(opaque, Serializer::Msgpack, Compressor::None);
    assert_eq!(written, [b"\x8a".as_slice(), &members.concat()].concat());
    // Nested as deep as data may be, and one deeper.
    for (levels, shown) in [(127, true), (128, false), (100_000, false)] {
        let value = [b"\x81\xa1a".as_slice(), &vec![0x91; levels - 1], b"\x90"].concat();
        let entries = decode(&value, Serializer::Msgpack, Compressor::None).unwrap();
        assert_eq!(entries[0].json.is_some(), shown, "{levels}");
    }
    for broken in [
        b"\x81\xa1a".as_slice(),
        b"\x81\xa1a\x01\x01",
        b"\x82\xa1a\x01",
        b"\x81\xa1a\xc1",
        b"\xdf\xff\xff\xff\xff\xa1a\x01",
    ] {
        assert_eq!(decode(broken, Serializer::Msgpack, Compressor::None), None, "{broken:?}");
    }
}

#[test]
fn numbers_in_messagepack_are_as_close_as_it_can() {
    for (number, written) in [
        ("-0", b"\0".as_slice()),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
        ("-33", b"\xd0\xdf"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("18446744073709551616", b"\xcb\x43\xf0\0\0\0\0\0\0"),
        ("1.0", b"\xcb\x3f\xf0\0\0\0\0\0\0"),
        ("1e400", b"\xcb\x7f\xf0\0\0\0\0\0\0"),
    ] {
        let value =
            encode([Member::Plain { name: "\"a\"", value: number }].into_iter(), Serializer::Msgpack, Compressor::None);
        assert_eq!(value, [b"\x81\xa1a".as_slice(), written].concat(), "{number}");
    }
}

fn any_object() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<f64>().prop_filter_map("finite", |number| serde_json::Number::from_f64(number).map(Value::from)),
        any::<u64>().prop_map(Value::from),
    ];
    prop::collection::btree_map(any::<String>(), prop_oneof![any_json(), number], 0..6).prop_map(|members| {
        let text = Value::Object(members.into_iter().collect()).to_string();
        json::compact(text.as_bytes(), MAX_DEPTH).unwrap()
    })
}

proptest! {
    #[test]
    fn every_object_comes_back(text in any_object()) {
        for serializer in SERIALIZERS {
            for compressor in COMPRESSORS {
                let entries = decode(&encode(plain(&text), serializer, compressor), serializer, compressor).unwrap();
                prop_assert_eq!(pieces(&object(&entries)), pieces(&text));
            }
        }
    }

    #[test]
    fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..64), text in any_object(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for serializer in SERIALIZERS {
            for compressor in COMPRESSORS {
                let _ = decode(&noise, serializer, compressor);
                let mut value = encode(plain(&text), serializer, compressor).to_vec();
                let at = at.index(value.len());
                value[at] = byte;
                let _ = decode(&value, serializer, compressor);
                value.truncate(at);
                let _ = decode(&value, serializer, compressor);
            }
        }
    }
}
