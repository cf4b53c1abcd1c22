use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn compacted(text: &str) -> Result<String, JsonError> {
    compact(text.as_bytes(), 32)
}

#[test]
fn keeps_numbers_escapes_and_order_as_written() {
    for (text, expected) in [
        (" { \"b\" : 1.0 , \"a\" : [ ] } ", r#"{"b":1.0,"a":[]}"#),
        ("[1e5,-0,1.10,100000000000000000000]", "[1e5,-0,1.10,100000000000000000000]"),
        (r#"["\u00FC\/\n"]"#, r#"["\u00FC\/\n"]"#),
        ("\"a b\"", "\"a b\""),
        ("\t\r\n{}\n", "{}"),
        ("[true,false,null]", "[true,false,null]"),
    ] {
        assert_eq!(compacted(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn h10_only_printable_ascii_comes_out() {
    assert_eq!(compacted("\"é漢😀\u{7f}\"").unwrap(), r#""\u00e9\u6f22\ud83d\ude00\u007f""#);
    assert_eq!(encode("é\u{1f600}\r\n\"\\\u{7f}"), r#""\u00e9\ud83d\ude00\u000d\u000a\"\\\u007f""#);
}

#[test]
fn refuses_what_is_not_json() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "{]",
        "[}",
        "[1,]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "NaN",
        "Infinity",
        "tru",
        "nulll",
        "1 2",
        "{} {}",
        "'a'",
        "\"",
        "\"a",
        "\"\n\"",
        "\"\u{0}\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\"#,
        "\u{feff}{}",
        "\u{a0}{}",
        "[1 2]",
        "/**/{}",
    ] {
        assert_eq!(compacted(text), Err(JsonError::Malformed), "{text}");
    }
    assert_eq!(compact(b"\"\xff\"", 32), Err(JsonError::Utf8));
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud800x""#, r#""\ud800\ud800""#] {
        assert_eq!(compacted(text), Err(JsonError::LoneSurrogate), "{text}");
    }
}

#[test]
fn u12_duplicate_names_are_refused_however_they_are_written() {
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"b":2,"\u0061":3}"#,
        "{\"é\":1,\"\\u00e9\":2}",
        r#"[{"x":{"a":{},"a":[]}}]"#,
        r#"{"":1,"":1}"#,
    ] {
        assert_eq!(compacted(text), Err(JsonError::DuplicateName), "{text}");
        assert!(check_object(text.as_bytes(), 32).is_err(), "{text}");
    }
    for text in [r#"{"a":{"a":1},"b":{"a":1}}"#, r#"[{"a":1},{"a":1}]"#, r#"{"a":1,"A":1}"#] {
        assert!(compacted(text).is_ok(), "{text}");
    }
}

#[test]
fn depth_counts_from_the_outermost() {
    for (text, depth) in [("{}", 1), ("[[]]", 2), (r#"{"a":{"b":[]}}"#, 3), (r#"{"a":[],"b":[]}"#, 2)] {
        assert!(compact(text.as_bytes(), depth).is_ok(), "{text}");
        assert_eq!(compact(text.as_bytes(), depth - 1), Err(JsonError::TooDeep), "{text}");
    }
}

/// Each of these takes milliseconds; quadratic work or recursion would take minutes or the stack.
#[test]
fn u10_hostile_sizes_cost_linear_time() {
    let deep = "[".repeat(100_000);
    assert_eq!(compacted(&deep), Err(JsonError::TooDeep));
    assert_eq!(compact(deep.as_bytes(), usize::MAX), Err(JsonError::Malformed));
    let many: Vec<String> = (0..100_000).map(|number| format!("\"{number}\":0")).collect();
    let wide = format!("{{{}}}", many.join(","));
    assert_eq!(compacted(&wide).as_deref(), Ok(wide.as_str()));
    assert_eq!(Members::new(&wide).count(), 100_000);
    let long = format!("\"{}\"", "x".repeat(4 << 20));
    assert_eq!(compacted(&long).map(|text| text.len()), Ok(long.len()));
}

#[test]
fn stored_text_has_to_be_in_wire_form_already() {
    for text in [r#"{"a":[1,{"b":"\u00e9 x"}]}"#, "{}"] {
        assert_eq!(check_object(text.as_bytes(), 32), Ok(text));
    }
    for text in [
        "[]",
        "1",
        " {}",
        "{} ",
        "{ }",
        "{\"a\": 1}",
        "{\"a\":[1, 2]}",
        "{\"a\":\"é\"}",
        "{\"a\":\"\u{7f}\"}",
        "{}\n",
        "",
    ] {
        assert_eq!(check_object(text.as_bytes(), 32), Err(JsonError::Malformed), "{text}");
    }
}

#[test]
fn an_object_is_read_from_the_start_of_a_text() {
    assert_eq!(read_object(" {\"a\" :1}, x", 9), Ok(("{\"a\":1}".to_owned(), ", x")));
    for text in ["[1]", "a=1", "1", "", "\"{}\""] {
        assert_eq!(read_object(text, 9), Err(JsonError::Malformed), "{text}");
    }
}

#[test]
fn members_end_where_they_end() {
    let text = r#"{"a":"}],\"","b":{"x":[1,"]"]},"\u0063":[],"d":-1.5e3}"#;
    let members: Vec<_> = Members::new(text).map(|member| (member.key().into_owned(), member.value)).collect();
    let expected = [("a", r#""}],\"""#), ("b", r#"{"x":[1,"]"]}"#), ("c", "[]"), ("d", "-1.5e3")];
    assert_eq!(members, expected.map(|(key, value)| (key.to_owned(), value)));
}

pub(in crate::session) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]|é|", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn means_the_same_as_before(value in any_json()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let wire = compacted(&text).unwrap();
            prop_assert!(wire.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(&serde_json::from_str::<Value>(&wire).unwrap(), &value);
            prop_assert_eq!(compacted(&wire).unwrap(), wire);
        }
    }

    #[test]
    fn strings_come_back(text in any::<String>()) {
        let literal = encode(&text);
        prop_assert_eq!(decode(&literal).unwrap(), text.as_str());
        prop_assert_eq!(compacted(&literal).unwrap(), literal);
    }

    /// Whatever we accept an ordinary reader accepts, and the other way round but for what we refuse on purpose.
    #[test]
    fn agrees_with_serde_json(text in r#"[\[\]{}:,"\\ue0d81.\-+tn é]{0,16}"#) {
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        match compacted(&text) {
            Ok(_) => prop_assert!(theirs),
            Err(JsonError::Malformed) => prop_assert!(!theirs),
            Err(_) => {}
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = compact(&bytes, 4);
        let _ = check_object(&bytes, 4);
        if let Ok(text) = str::from_utf8(&bytes) {
            let _ = (decode(text), Members::new(text).count());
        }
    }
}
