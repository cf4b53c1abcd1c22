use proptest::prelude::*;

use super::*;

/// What is read, written again; `None` for what Python refuses.
fn again(text: &str) -> Option<String> {
    let entries = read(text.as_bytes())?;
    let members: Vec<_> = entries.iter().map(|entry| Member::Opaque(&entry.written)).collect();
    Some(String::from_utf8(write(&members)).unwrap())
}

#[test]
fn what_python_takes_is_taken_as_it_stands() {
    for (text, expected) in [
        (" {\t}\r\n", "{}"),
        ("{ \"a\" : [ 1 , { } , [ ] ] , \"b\":null}", r#"{"a":[1,{},[]],"b":null}"#),
        (r#"{"a":[NaN,-Infinity,Infinity,true,false]}"#, r#"{"a":[NaN,-Infinity,Infinity,true,false]}"#),
        (r#"{"a":-0.10E+05,"b":0,"c":1e9}"#, r#"{"a":-0.10E+05,"b":0,"c":1e9}"#),
        (r#"{"\ud800":"\uDC00 \/\n"}"#, r#"{"\ud800":"\uDC00 \/\n"}"#),
        (r#"{"a":{"b":1,"b":2}}"#, r#"{"a":{"b":1,"b":2}}"#),
        (r#"{"":""}"#, r#"{"":""}"#),
        ("{\"\u{7f}\":[\"\u{7f}\"]}", r#"{"\u007f":["\u007f"]}"#),
    ] {
        assert_eq!(again(text).as_deref(), Some(expected), "{text}");
    }
    let written = read(b"{\"\xe4\" : [ \"\xff\" ]}").unwrap();
    assert_eq!(written[0].written, r#""\u00e4":["\u00ff"]"#, "each byte is a character");
    assert_eq!(written[0].key.as_deref(), Some("ä"));
}

#[test]
fn what_python_refuses_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[]",
        "1",
        "null",
        "\"a\"",
        "{}{}",
        "{} x",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":[1,]}",
        "{\"a\":[,]}",
        "{a:1}",
        "{'a':1}",
        "{1:2}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":-NaN}",
        "{\"a\":nan}",
        "{\"a\":Infinit}",
        "{\"a\":-Infinit}",
        "{\"a\":True}",
        "{\"a\":tru}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\u{1f}\"}",
        "{\"a\":\"\\x41\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\\"}",
        "{\"a\":\"",
        "{\"a\":[1}",
        "{\"a\":[1 2]}",
        "{\"a\":{\"b\"}}",
        "{\"a\":{1:2}}",
        "{\"a\" 1}",
        "\u{feff}{}",
        "{\u{a0}}",
        "{\"a\":1;}",
        "{\"a\":/**/1}",
        "{\"a\":0x10}",
        "{\"a\":1_000}",
        "{\"a\":1\u{c}}",
    ] {
        assert_eq!(again(text), None, "{text:?}");
    }
}

#[test]
fn only_what_has_a_wire_form_is_plain() {
    let deep = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    let fits = deep.strip_prefix('[').unwrap().strip_suffix(']').unwrap();
    for (value, plain) in [
        ("1.10", true),
        ("[{\"a\":\"\\u00e9\"}]", true),
        (fits, true),
        (&deep, false),
        ("[1,NaN]", false),
        ("\"\\ud800\"", false),
        ("{\"a\":1,\"a\":1}", false),
    ] {
        let entries = read(format!("{{\"k\":{value}}}").as_bytes()).unwrap();
        assert_eq!(entries[0].json.as_deref(), plain.then_some(value), "{value}");
        assert_eq!(entries[0].written, format!("\"k\":{value}"));
    }
    let lone = read(br#"{"\ud800":1}"#).unwrap();
    assert_eq!((lone[0].key.as_deref(), lone[0].json.as_deref()), (None, Some("1")));
}

#[test]
fn integers_may_be_as_long_as_python_reads_them() {
    let value = |number: &str| read(format!("{{\"a\":[{number}]}}").as_bytes()).is_some();
    let longest = "9".repeat(4300);
    assert!(value(&longest) && value(&format!("-{longest}")));
    assert!(!value(&format!("{longest}9")) && !value(&format!("-{longest}9")));
    assert!(value(&format!("{longest}9.0")) && value(&format!("0.{longest}9")), "floats have no limit");
}

/// Each of these takes milliseconds; quadratic work or recursion would take minutes or the stack.
#[test]
fn u10_hostile_sizes_cost_linear_time() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(nested(9_000).as_bytes()).is_some());
    assert!(read(nested(200_000).as_bytes()).is_none());
    assert!(read("{\"a\":".repeat(200_000).as_bytes()).is_none());
    let wide = format!("{{{}}}", (0..50_000).map(|number| format!("\"{number}\":0")).collect::<Vec<_>>().join(","));
    assert_eq!(read(wide.as_bytes()).unwrap().len(), 50_000);
}

#[test]
fn texts_are_written_as_python_writes_them() {
    let text = "\"\\/\u{8}\t\n\u{c}\r\u{0}\u{1f} ~\u{7f}é漢😀";
    assert_eq!(literal(text), r#""\"\\/\b\t\n\f\r\u0000\u001f ~\u007f\u00e9\u6f22\ud83d\ude00""#);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in r#"\{[\[\]{}:,"\\ue0d81.\-+tnNI é]{0,24}\}"#) {
        let _ = read(&bytes);
        if let Some(written) = again(&text) {
            prop_assert!(written.is_ascii());
            prop_assert_eq!(again(&written), Some(written));
        }
    }

    #[test]
    fn texts_come_back(text in any::<String>()) {
        let entries = read(format!("{{{}:1}}", literal(&text)).as_bytes()).unwrap();
        prop_assert_eq!(entries[0].key.as_deref(), Some(text.as_str()));
    }
}
