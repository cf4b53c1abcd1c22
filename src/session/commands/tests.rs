use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::session::data::Data;
use crate::session::patch::Applied;

fn head(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn read(lines: &[(&str, &str)]) -> SessionPatch {
    SessionPatch::take_from(&mut head(lines), &Limits::default())
}

fn applied(patch: &SessionPatch, before: &str) -> Applied {
    let before = Data::parse(Bytes::copy_from_slice(before.as_bytes())).unwrap();
    patch.apply(&before, &Limits::default()).unwrap()
}

fn after(lines: &[(&str, &str)], before: &str) -> String {
    let patch = read(lines);
    assert_eq!(patch.refusal, None, "{lines:?}");
    applied(&patch, before).data.as_str().to_owned()
}

#[track_caller]
fn assert_refused(lines: &[(&str, &str)], header: &'static str, reason: Reason) {
    let patch = read(lines);
    assert_eq!(patch.refusal, Some(Refusal { header, reason }), "{lines:?}");
    let left = SessionPatch { ending: patch.ending, refusal: patch.refusal, ..SessionPatch::default() };
    assert_eq!(patch, left, "{lines:?}");
}

const SET: &str = "X-Session-Set";
const PATCH: &str = "X-Session-Patch";
const UNSET: &str = "X-Session-Unset";
const INCR: &str = "X-Session-Incr";
const EXPIRY: &str = "X-Session-Expiry";
const ACTION: &str = "X-Session-Action";

#[test]
fn does_what_the_protocol_shows() {
    for (lines, before, expected) in [
        (&[(SET, "a=1"), (SET, "b=2")][..], "{}", r#"{"a":"1","b":"2"}"#),
        (&[(SET, "a=1, b=2")], "{}", r#"{"a":"1","b":"2"}"#),
        (&[(SET, "city=K%C3%B6ln%2C+DE")], "{}", r#"{"city":"K\u00f6ln, DE"}"#),
        (&[(SET, "a=")], r#"{"a":"1"}"#, r#"{"a":""}"#),
        (&[(SET, "a=b=c")], "{}", r#"{"a":"b=c"}"#),
        (&[(SET, r#"{"n":1,"l":[1,{"x":null}]}"#)], r#"{"n":0}"#, r#"{"n":1,"l":[1,{"x":null}]}"#),
        (&[(PATCH, r#"{"c":{"x":null,"y":[1]}}"#)], r#"{"c":{"x":1,"z":2}}"#, r#"{"c":{"z":2,"y":[1]}}"#),
        (&[(PATCH, r#"{"a":1}, {"a":2}"#)], "{}", r#"{"a":2}"#),
        (&[(UNSET, "a, b%2Cc")], r#"{"a":1,"b,c":2,"d":3}"#, r#"{"d":3}"#),
        (&[(INCR, "hits=1"), (INCR, "hits=1")], "{}", r#"{"hits":2}"#),
        (&[(ACTION, "flush"), (SET, "m=bye")], r#"{"u":1}"#, r#"{"m":"bye"}"#),
    ] {
        assert_eq!(after(lines, before), expected, "{lines:?}");
    }
}

#[test]
fn forms_are_read_as_browsers_write_them() {
    for (line, expected) in [
        ("a=1&b=2,c=3", r#"{"a":"1","b":"2","c":"3"}"#),
        ("a=1&a=2", r#"{"a":"2"}"#),
        (" a=1 ,\t b=x y ", r#"{"a":"1","b":"x y"}"#),
        ("a%3Db=%26%2B+x", r#"{"a=b":"&+ x"}"#),
        ("a=é", r#"{"a":"\u00e9"}"#),
        ("a=%00%0d%0aX-Admin:1", r#"{"a":"\u0000\u000d\u000aX-Admin:1"}"#),
        ("", "{}"),
        ("{}", "{}"),
        ("  {\"a\" : 1.0} ,, {\"b\":null},", r#"{"a":1.0,"b":null}"#),
        ("__proto__=1&state=2", r#"{"__proto__":"1","state":"2"}"#),
    ] {
        assert_eq!(after(&[(SET, line)], "{}"), expected, "{line}");
    }
}

#[test]
fn u7_one_bad_member_refuses_all() {
    for bad in ["a=%zz&b=2", "a=1&b", "a=1,b", "=1", "a=%e", "a=%", "a=%ff", r#"a=1, {"b":"x=1"}"#] {
        let lines = [(SET, "c=3"), (SET, bad), (INCR, "n=1"), (EXPIRY, "60"), (ACTION, "cycle, touch"), (UNSET, "d")];
        let patch = read(&lines);
        assert!(patch.refusal.is_some_and(|refusal| refusal.header == SET), "{bad}");
        assert!(patch.is_empty(), "{bad}");
    }
    for (header, bad, reason) in [
        (SET, r#"{"a":1} b=2"#, Reason::Malformed),
        (SET, r#"{"a":1}, b=2"#, Reason::Malformed),
        (SET, r#"{"a":1}{"b":2}"#, Reason::Malformed),
        (SET, r#"{"a":"\ud800"}"#, Reason::Malformed),
        (PATCH, "a=1", Reason::Malformed),
        (PATCH, "[1]", Reason::Malformed),
        (PATCH, "null", Reason::Malformed),
        (INCR, "n", Reason::Malformed),
        (INCR, "n=", Reason::Malformed),
        (INCR, "n=1.5", Reason::Malformed),
        (INCR, "n=%2B1", Reason::Malformed),
        (INCR, "n=--1", Reason::Malformed),
        (INCR, "n=9223372036854775808", Reason::NumberTooLarge),
        (UNSET, "a, %zz", Reason::Malformed),
        (EXPIRY, "soon", Reason::Malformed),
        (ACTION, "touch, dance", Reason::UnknownAction),
    ] {
        assert_refused(&[(header, bad), (SET, "z=1")], header, reason);
    }
    let mut invalid = HeaderMap::new();
    invalid.insert("x-session-set", HeaderValue::from_bytes(b"a=1&b=\xff").unwrap());
    let patch = SessionPatch::take_from(&mut invalid, &Limits::default());
    assert!(patch.is_empty() && patch.refusal.is_some());
}

#[test]
fn u8_lines_are_read_in_order() {
    assert_eq!(after(&[(SET, "a=1"), (SET, r#"{"a":2}"#), (SET, "b=1")], "{}"), r#"{"a":2,"b":"1"}"#);
    assert_eq!(after(&[(SET, r#"{"a":2}"#), (SET, "a=1")], "{}"), r#"{"a":"1"}"#);
}

#[test]
fn u9_the_reserved_key_is_refused_everywhere() {
    for (header, line) in [
        (SET, "_session_expiry=1"),
        (SET, "%5fsession_expiry=1"),
        (SET, r#"{"a":1,"\u005fsession_expiry":1}"#),
        (PATCH, r#"{"_session_expiry":null}"#),
        (INCR, "_session_expiry=1"),
        (UNSET, "_session_expiry"),
    ] {
        assert_refused(&[(header, line)], header, Reason::ReservedKey);
    }
    assert_eq!(after(&[(SET, r#"{"a":{"_session_expiry":1}}"#)], "{}"), r#"{"a":{"_session_expiry":1}}"#);
}

#[test]
fn u10_every_limit_is_kept() {
    let key = |length: usize| format!("{}=1", "k".repeat(length));
    assert_eq!(read(&[(SET, &key(128))]).refusal, None);
    assert_refused(&[(SET, &key(129))], SET, Reason::BadKey);
    for line in ["%00=1", "a%0a=1", "%c2%85=1", r#"{"":1}"#, r#"{"\u007f":1}"#] {
        assert_refused(&[(SET, line)], SET, Reason::BadKey);
    }
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert_eq!(read(&[(SET, &nested(32))]).refusal, None);
    assert_refused(&[(SET, &nested(33))], SET, Reason::TooDeep);
    assert_refused(&[(PATCH, &nested(33))], PATCH, Reason::TooDeep);

    let members = |count: usize| (0..count).map(|number| format!("{number}=1")).collect::<Vec<_>>().join("&");
    assert_eq!(read(&[(SET, &members(256))]).refusal, None);
    assert_refused(&[(SET, &members(257))], SET, Reason::TooManyMembers);
    assert!(read(&[(SET, &members(250)), (UNSET, "a,b,c,d"), (PATCH, r#"{"e":1,"f":1,"g":1}"#)]).refusal.is_some());

    let line = |length: usize| format!("a={}", "x".repeat(length - 2));
    assert_eq!(read(&[(SET, &line(16 << 10))]).refusal, None);
    assert_refused(&[(SET, &line((16 << 10) + 1))], SET, Reason::LineTooLong);
    let full = line(16 << 10);
    assert_eq!(read(&[(SET, &*full); 4]).refusal, None);
    assert_refused(
        &[(SET, &*full), (SET, &full), (SET, &full), (SET, &full), (INCR, "n=1")],
        SET,
        Reason::UpdateTooLong,
    );

    let huge = format!("{{{}}}", "\"a\":1,".repeat(700_000));
    assert_refused(&[(SET, &huge)], SET, Reason::LineTooLong);
    assert_refused(&[(PATCH, &"[".repeat(10_000))], PATCH, Reason::Malformed);
}

#[test]
fn u11_odd_pairs_do_no_harm() {
    for line in ["", "&&", ",", "& ,&", " "] {
        assert_eq!(after(&[(SET, line), (UNSET, line.trim_matches('&')), (INCR, line)], "{}"), "{}", "{line}");
    }
    for line in ["=", "&=", "=x", "a=1&=", "&=&"] {
        assert!(read(&[(SET, line)]).refusal.is_some(), "{line}");
    }
}

#[test]
fn u12_duplicate_names_are_refused() {
    for header in [SET, PATCH] {
        for line in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":{"a":1,"a":2}}"#] {
            assert_refused(&[(header, line)], header, Reason::DuplicateName);
        }
    }
}

#[test]
fn u13_endings_are_obeyed_beside_anything_bad() {
    for (line, ending) in [
        ("flush", Ending::Flush),
        ("FLUSH", Ending::Flush),
        ("nonsense,flush", Ending::Flush),
        ("delete, nonsense", Ending::Delete),
        ("clear,delete,clear", Ending::Delete),
        ("clear", Ending::Clear),
    ] {
        assert_eq!(read(&[(SET, "a=%zz"), (ACTION, line)]).ending, Some(ending), "{line}");
    }
    assert_eq!(read(&[(ACTION, "clear"), (ACTION, "flush"), (ACTION, "delete")]).ending, Some(Ending::Flush));
    let long = format!("flush,{}", "x".repeat(20_000));
    assert_refused(&[(ACTION, &long)], ACTION, Reason::LineTooLong);
    assert_eq!(read(&[(ACTION, &long)]).ending, Some(Ending::Flush));
    let mut raw = HeaderMap::new();
    raw.insert("x-session-action", HeaderValue::from_bytes(b"\xff, flush").unwrap());
    assert_eq!(SessionPatch::take_from(&mut raw, &Limits::default()).ending, Some(Ending::Flush));
}

#[test]
fn increments_of_a_form_replace_each_other_and_lines_add_up() {
    for (line, expected) in [("n=1&n=2", r#"{"n":2}"#), ("n=1, n=2", r#"{"n":3}"#), ("n=-1&m=5", r#"{"n":-1,"m":5}"#)] {
        assert_eq!(after(&[(INCR, line)], "{}"), expected, "{line}");
    }
}

#[test]
fn expiries_are_read_in_every_form() {
    let instant = Timestamp::from_millis(784_111_777_000);
    for (line, expected) in [
        ("60", Expiry::After(Duration::from_secs(60))),
        ("0", Expiry::BrowserClose),
        ("default", Expiry::Default),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Expiry::At(instant)),
        ("1994-11-06T08:49:37Z", Expiry::At(instant)),
        ("1994-11-06T09:49:37+01:00", Expiry::At(instant)),
        ("60, 120", Expiry::After(Duration::from_secs(120))),
        ("60, Sun, 06 Nov 1994 08:49:37 GMT", Expiry::At(instant)),
        ("Sun, 06 Nov 1994 08:49:37 GMT, default", Expiry::Default),
    ] {
        assert_eq!(read(&[(EXPIRY, line)]).expiry, Some(expected), "{line}");
    }
    assert_eq!(read(&[(EXPIRY, "60"), (EXPIRY, "0")]).expiry, Some(Expiry::BrowserClose));
    let forever = read(&[(EXPIRY, "99999999999999999999999999")]).expiry;
    assert!(matches!(forever, Some(Expiry::After(age)) if age < Duration::from_secs(1 << 33)));
    for line in [
        "-1",
        "1.5",
        "60s",
        "1e3",
        "1994-11-06",
        "1994-11-06T08:49:37",
        "Sun, 06 Nov 1994",
        "1994-11-06T08:49:37Z[UTC]",
    ] {
        assert_refused(&[(EXPIRY, line)], EXPIRY, Reason::Malformed);
    }
    assert_refused(&[(EXPIRY, "60"), (EXPIRY, "x")], EXPIRY, Reason::Malformed);
}

#[test]
fn u1_all_that_could_be_ours_is_taken_out_and_only_exact_names_are_obeyed() {
    let mut headers = head(&[
        ("X-Session-SET", "a=1"),
        ("X_Session_Set", "b=1"),
        ("x-session.set", "c=1"),
        ("X-Session-Whatever", "d=1"),
        ("X-Sessions", "stays"),
        ("Trailer", "X-Session-Set, Server-Timing"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ]);
    let patch = SessionPatch::take_from(&mut headers, &Limits::default());
    assert_eq!(applied(&patch, "{}").data.as_str(), r#"{"a":"1"}"#);
    let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let expected =
        [("x-sessions", "stays"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("trailer", "Server-Timing")];
    assert_eq!(left.len(), expected.len());
    assert!(expected.iter().all(|line| left.contains(line)), "{left:?}");
}

#[test]
fn a_response_without_commands_asks_for_nothing() {
    let mut headers = head(&[("Trailer", "X_Session_Set")]);
    assert_eq!(SessionPatch::take_from(&mut headers, &Limits::default()), SessionPatch::default());
    assert!(headers.is_empty(), "a Trailer left empty goes");
}

#[test]
fn the_table_is_in_order_and_every_name_is_ours() {
    assert!(COMMANDS.is_sorted_by_key(|command| command.name));
    assert!(COMMANDS.iter().all(|command| names::is_ours(command.name)));
}

proptest! {
    #[test]
    fn no_lines_panic(lines in prop::collection::vec((0..COMMANDS.len(), prop::collection::vec(any::<u8>(), 0..48)), 0..6)) {
        let mut headers = HeaderMap::new();
        for (command, line) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                headers.append(HeaderName::from_bytes(COMMANDS[command].name.as_bytes()).unwrap(), value);
            }
        }
        let patch = SessionPatch::take_from(&mut headers, &Limits::default());
        prop_assert!(headers.is_empty());
        let _ = patch.apply(&Data::empty(), &Limits::default());
    }

    #[test]
    fn no_near_misses_panic(line in r#"[a{}:"\\u0d8,&=%2cF+ 1\[\]-]{0,24}"#, header in 0..COMMANDS.len()) {
        let patch = read(&[(COMMANDS[header].name, &line)]);
        let _ = patch.apply(&Data::empty(), &Limits::default());
    }
}
