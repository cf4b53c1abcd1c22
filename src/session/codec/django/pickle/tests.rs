use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const OBJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/objects.py");

fn vectors(kind: &str) -> Vec<Value> {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/09_pickle.json"));
    let mut file: Value = serde_json::from_str(file).unwrap();
    let mut vectors: Vec<Value> = serde_json::from_value(file["vectors"].take()).unwrap();
    vectors.retain(|vector| vector["kind"] == kind);
    vectors
}

fn bytes(vector: &Value) -> Vec<u8> {
    hex::decode(vector["hex"].as_str().unwrap()).unwrap()
}

/// Wire form's pieces, with strings decoded: Python escapes some characters in other ways.
fn pieces(json: &str) -> Vec<String> {
    let text = |token| match token {
        Token::String(text) => json::decode(text).unwrap().into_owned(),
        other => format!("{other:?}"),
    };
    Tokens::new(json).map(text).collect()
}

fn object(entries: &[Entry]) -> String {
    let members = entries
        .iter()
        .filter_map(|entry| Some(format!("{}:{}", json::encode(entry.key.as_ref().unwrap()), entry.json.as_ref()?)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn rewritten(entries: &[Entry], more: &[(&str, &str)]) -> Vec<u8> {
    let names: Vec<String> = entries.iter().map(|entry| json::encode(entry.key.as_deref().unwrap_or(""))).collect();
    let members = entries.iter().zip(&names).map(|(entry, name)| match &entry.json {
        Some(value) => Member::Plain { name, value },
        None => Member::Opaque(&entry.written),
    });
    let more = more.iter().map(|&(name, value)| Member::Plain { name, value });
    write(&members.chain(more).collect::<Vec<_>>())
}

#[test]
fn what_django_pickled_is_read() {
    let mut read_as_text = 0;
    let vectors = vectors("decode");
    assert_eq!(vectors.len(), 76);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let entries = read(&bytes(&vector)).unwrap_or_else(|| panic!("{name}"));
        if name.starts_with("nan_inf") {
            assert!(entries.iter().all(|entry| entry.json.is_none() && !entry.written.is_empty()), "{name}");
            continue;
        }
        assert!(entries.iter().all(|entry| entry.json.is_some()), "{name}");
        let object = object(&entries);
        if let Some(expected) = vector["expected_json_ascii"].as_str() {
            read_as_text += 1;
            assert_eq!(pieces(&object), pieces(expected), "{name}");
        } else {
            assert_eq!(serde_json::from_str::<Value>(&object).unwrap(), vector["expected"], "{name}");
        }
    }
    assert_eq!(read_as_text, 66);
}

#[test]
fn what_json_has_no_words_for_stays_as_it_is() {
    let vectors = vectors("opaque");
    assert_eq!(vectors.len(), 23);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let entries = read(&bytes(&vector)).unwrap_or_else(|| panic!("{name}"));
        let long = name.starts_with("python_only_long");
        assert!(entries.iter().all(|entry| entry.json.is_some() == long), "{name}");
        assert!(entries.iter().all(|entry| entry.key.is_some() != name.starts_with("python_only_int_keys")), "{name}");
    }
}

#[test]
fn f7_what_is_no_dictionary_is_refused_and_nothing_is_called() {
    let vectors = vectors("reject");
    assert_eq!(vectors.len(), 5);
    for vector in vectors {
        assert_eq!(read(&bytes(&vector)), None, "{}", vector["name"]);
    }
    for pickle in [
        b"".as_slice(),
        b".",
        b"}",
        b"N.",
        b"]N.",
        b"K\x01.",
        b"}(.",
        b"(0.",
        b"}(K\x01u.",
        b"}K\x01u.",
        b"}K\x01s.",
        b"]K\x01K\x02s.",
        b"}K\x01a.",
        b")K\x01a.",
        b"}K\x01b.",
        b"(u.",
        b"s.",
        b"}1.",
        b"}g0\n.",
        b"}h\0.",
        b"}X\xff\xff\xff\xffa.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x95\xff\0\0\0\0\0\0\0}.",
        b"}(X\x01\0\0\0\xffNu.",
        b"}(Va\\u12\nNu.",
        b"}(I1_0\nNu.",
        b"}(Fx\nNu.",
        b"}(P1\nNu.",
        b"}(NQNu.",
        b"}(X\x01\0\0\0a\x82\x01u.",
        b"}(X\x01\0\0\0aNN\x93u.",
        b"}(X\x01\0\0\0aN)Ru.",
        b"}(X\x01\0\0\0acm\nn\nNRu.",
        b"}(X\x01\0\0\0acm\nn\nN\x81u.",
        b"}(X\x01\0\0\0acm\nn\n)N\x92u.",
        b"}(X\x01\0\0\0a(ou.",
        b"}(X\x01\0\0\0a\x97u.",
        b"ccollections\nOrderedDict\n)R.",
        b"cbuiltins\ndict\n)R.",
    ] {
        assert_eq!(read(pickle), None, "{:?}", pickle.escape_ascii().to_string());
    }
}

#[test]
fn every_form_of_a_value_is_understood() {
    for (pickle, expected) in [
        (
            b"(dp0\nS'a'\np1\nI01\nsS'b'\nI00\nsS'c'\nL-12L\nsS'd'\nF1\ns.".as_slice(),
            r#"{"a":true,"b":false,"c":-12,"d":1.0}"#,
        ),
        (b"(Va\n(I1\nL2\nlVb\n(lVc\n(dVd\nF1e+16\nd.", r#"{"a":[1,2],"b":[],"c":{},"d":1e+16}"#),
        (b"\x80\x02}(U\x01aK\xffT\x01\0\0\0bM\xff\xffX\x01\0\0\0cJ\xff\xff\xff\xffu.", r#"{"a":255,"b":65535,"c":-1}"#),
        (
            b"}(\x8d\x01\0\0\0\0\0\0\0a\x8a\0\x8c\x01b\x8a\x01\xff\x8c\x01c\x8b\x02\0\0\0\xff\0u.",
            r#"{"a":0,"b":-1,"c":255}"#,
        ),
        (b"}(X\x01\0\0\0aK\x01X\x01\0\0\0bNX\x01\0\0\0aK\x02u.", r#"{"a":1,"b":null,"a":2}"#),
        (b"}X\x01\0\0\0a}(X\x01\0\0\0bK\x01X\x01\0\0\0cNX\x01\0\0\0bK\x02us.", r#"{"a":{"b":2,"c":null}}"#),
        // Things that come and go.
        (b"}q\x07K\x010(NNN1(K\x010020h\x07.", "{}"),
        (b"}r\0\x01\0\0p5\n0(Nt0j\0\x01\0\0g5\n0.", "{}"),
        (b"}\x94]\x940h\0X\x01\0\0\0ah\x01s.", r#"{"a":[]}"#),
        (b"}.what follows does not matter", "{}"),
    ] {
        let read = read(pickle).map(|entries| object(&entries));
        assert_eq!(read.as_deref(), Some(expected), "{}", pickle.escape_ascii());
    }
}

#[test]
fn plain_data_is_written_as_python_would_have_it() {
    let vectors = vectors("encode_minimal");
    assert_eq!(vectors.len(), 18);
    for vector in vectors {
        let input = vector["input_json_ascii"].as_str().unwrap();
        let members: Vec<_> = json::Members::new(input).map(|member| (member.name, member.value)).collect();
        let expected = vector["expected_hex"].as_str().unwrap();
        assert_eq!(hex::encode(rewritten(&[], &members)), expected, "{}", vector["name"]);
    }
    assert_eq!(write(&[]), b"\x80\x02}.");
    for (number, written) in [
        ("-0", b"J\0\0\0\0".as_slice()),
        ("-0.0", b"G\x80\0\0\0\0\0\0\0"),
        ("1e5", b"G\x40\xf8\x6a\0\0\0\0\0"),
        ("1E400", b"G\x7f\xf0\0\0\0\0\0\0"),
        ("-1e400", b"G\xff\xf0\0\0\0\0\0\0"),
        ("-2147483649", b"\x8a\x05\xff\xff\xff\x7f\xff"),
    ] {
        let mut out = Vec::new();
        write_json(&mut out, number);
        assert_eq!(out, written, "{number}");
    }
}

/// Python itself compares what was written with what it was. Nothing in these pickles does harm.
#[test]
fn the_application_finds_its_objects_as_it_left_them() {
    let output = Command::new("python3").args([OBJECTS, "write"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let samples = String::from_utf8(output.stdout).unwrap();
    let samples = samples.lines().map(|line| ("exact", hex::decode(line).unwrap()));
    let vectors = ["decode", "opaque"].into_iter().flat_map(vectors);
    let all: Vec<_> = samples.chain(vectors.map(|vector| ("same", bytes(&vector)))).collect();
    assert!(all.len() > 150, "{}", all.len());

    let mut lines = String::new();
    let mut count = 0;
    for (kind, pickle) in all {
        let before = hex::encode(&pickle);
        let entries = read(&pickle).unwrap_or_else(|| panic!("{}", &before[..before.len().min(2000)]));
        let once = rewritten(&entries, &[]);
        let again = rewritten(&read(&once).unwrap(), &[]);
        let twice = rewritten(&read(&again).unwrap(), &[]);
        assert_eq!(again.len(), twice.len(), "it must not grow with every update");
        for after in [once, again] {
            count += 1;
            writeln!(lines, "{kind} {before} {}", hex::encode(after)).unwrap();
        }
        if let [_, rest @ ..] = entries.as_slice() {
            count += 1;
            let changed = rewritten(rest, &[("\"added\"", r#"[1,"\u00e9"]"#)]);
            writeln!(lines, "changed {before} {}", hex::encode(changed)).unwrap();
        }
    }

    let mut python = Command::new("python3");
    python.args([OBJECTS, "check"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    // It answers after the last line; should it give up before, it says why.
    let _ = python.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), count.to_string());
}

/// A hundred bytes that would be more JSON than there is memory, and the like. Each takes a moment.
#[test]
fn f7_small_pickles_do_not_grow_without_end() {
    let mut doubled = b"]q\x000".to_vec();
    for place in 1..100_u8 {
        doubled.extend_from_slice(&[b']', b'q', place, b'(', b'h', place - 1, b'h', place - 1, b'e', b'0']);
    }
    doubled.extend_from_slice(b"}(X\x01\0\0\0aK\x01X\x01\0\0\0bh\x63u.");
    let entries = read(&doubled).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.json.is_some()).collect::<Vec<_>>(), [true, false]);
    assert!(entries[1].written.len() < 4000);

    for (open, close) in [("]", "a"), ("", "\u{85}")] {
        let close: Vec<u8> = close.chars().map(|character| u8::try_from(character).unwrap()).collect();
        let deep = [b"}X\x01\0\0\0a".as_slice(), &open.repeat(40_000).into_bytes(), b"]", &close.repeat(40_000), b"s."];
        let entries = read(&deep.concat()).unwrap();
        assert_eq!(entries[0].json, None);
        assert_eq!(read(&rewritten(&entries, &[])).unwrap()[0].json, None);
    }

    // What each of many members needs is large: to copy it for all would take forever.
    let mut shared = b"}(X\x01\0\0\0a(".to_vec();
    shared.extend(b"K\x01\x85".repeat(30_000));
    shared.extend_from_slice(b"tq\0");
    for number in 0..30_000_u32 {
        shared.push(b'J');
        shared.extend_from_slice(&number.to_le_bytes());
        shared.extend_from_slice(b"h\0");
    }
    shared.extend_from_slice(b"u.");
    assert_eq!(read(&shared), None);
    // More values than any session has.
    assert_eq!(read(&[b"}(".as_slice(), &b"K\x01".repeat(1 << 20), b"u."].concat()), None);
}

static PICKLES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| ["decode", "opaque"].into_iter().flat_map(vectors).map(|vector| bytes(&vector)).collect());

proptest! {
    #[test]
    fn no_bytes_panic(vector in 0..99_usize, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), noise in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read(&noise);
        let mut pickle = PICKLES[vector].clone();
        if pickle.len() < 2000 {
            for (at, byte) in edits {
                let at = at.index(pickle.len());
                pickle[at] = byte;
            }
            if let Some(entries) = read(&pickle) {
                let again = read(&rewritten(&entries, &[])).unwrap();
                let shown = |entries: &[Entry]| -> Vec<_> {
                    entries.iter().map(|entry| (entry.key.clone(), entry.json.clone())).collect()
                };
                prop_assert_eq!(shown(&again), shown(&entries));
            }
        }
    }
}
