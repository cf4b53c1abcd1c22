use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::session::json;

fn data(text: &str) -> Data {
    Data::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn set(key: &str, value: &str) -> Change {
    Change::Set { key: key.to_owned(), value: value.to_owned() }
}

fn incr(key: &str, by: i64) -> Change {
    Change::Incr { key: key.to_owned(), by }
}

fn changing(changes: impl Into<Vec<Change>>) -> SessionPatch {
    SessionPatch { changes: changes.into(), ..SessionPatch::default() }
}

fn applied(change: Change, before: &str) -> Result<(String, bool), Reason> {
    let applied = changing([change]).apply(&data(before), &Limits::default());
    applied.map(|applied| (applied.data.as_str().to_owned(), applied.changed)).map_err(|refusal| refusal.reason)
}

fn merged(patch: &str, before: &str) -> String {
    applied(Change::Merge(patch.to_owned()), before).unwrap().0
}

#[test]
fn untouched_values_keep_their_exact_text() {
    let before = r#"{"n":1.0,"big":100000000000000000000,"s":"\u00FC\/","o":{"b":1e5,"a":[1.10]},"x":1}"#;
    let patch = changing([
        set("new", "1"),
        Change::Merge(r#"{"o":{"c":2}}"#.to_owned()),
        incr("hits", 1),
        Change::Unset("x".to_owned()),
    ]);
    let after = patch.apply(&data(before), &Limits::default()).unwrap().data;
    let expected =
        r#"{"n":1.0,"big":100000000000000000000,"s":"\u00FC\/","o":{"b":1e5,"a":[1.10],"c":2},"new":1,"hits":1}"#;
    assert_eq!(after.as_str(), expected);
}

#[test]
fn the_order_is_the_protocols_whatever_the_order_of_the_lines() {
    let mut changes = [
        Change::Unset("gone".to_owned()),
        incr("n", 1),
        Change::Merge(r#"{"n":10}"#.to_owned()),
        set("n", "1"),
        set("gone", "1"),
    ];
    for _ in 0..2 {
        let after = changing(changes.clone()).apply(&Data::empty(), &Limits::default()).unwrap();
        assert_eq!(after.data.as_str(), r#"{"n":11}"#);
        changes.reverse();
    }
}

/// RFC 7396, appendix A, as far as both sides are objects: headers carry nothing else.
#[test]
fn merges_as_rfc_7396_shows() {
    for (before, patch, after) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ("{}", r#"{"a":[{"b":null}]}"#, r#"{"a":[{"b":null}]}"#),
    ] {
        assert_eq!(merged(patch, before), after, "{before} {patch}");
    }
}

#[test]
fn counts_as_a_change_what_counts_in_django() {
    for (change, expected) in [
        (set("a", "1"), true),
        (Change::Merge("{}".to_owned()), false),
        (Change::Merge(r#"{"a":1}"#.to_owned()), true),
        (incr("a", 0), true),
        (Change::Unset("a".to_owned()), true),
        (Change::Unset("b".to_owned()), false),
    ] {
        let name = format!("{change:?}");
        assert_eq!(applied(change, r#"{"a":1}"#).unwrap().1, expected, "{name}");
    }
}

#[test]
fn increments_numbers_and_refuses_the_rest() {
    for (before, by, after) in [
        (r#"{"n":1}"#, 2, "3"),
        ("{}", -2, "-2"),
        (r#"{"n":-0}"#, 1, "1"),
        (r#"{"n":9223372036854775806}"#, 1, "9223372036854775807"),
        (r#"{"n":1.5}"#, 1, "2.5"),
        (r#"{"n":1.0}"#, 1, "2.0"),
        (r#"{"n":1e300}"#, 1, "1e300"),
    ] {
        assert_eq!(applied(incr("n", by), before).unwrap().0, format!("{{\"n\":{after}}}"), "{before}");
    }
    for (before, by, reason) in [
        (r#"{"n":"1"}"#, 1, Reason::NotANumber),
        (r#"{"n":null}"#, 1, Reason::NotANumber),
        (r#"{"n":true}"#, 1, Reason::NotANumber),
        (r#"{"n":[1]}"#, 1, Reason::NotANumber),
        (r#"{"n":9223372036854775807}"#, 1, Reason::NumberTooLarge),
        (r#"{"n":9223372036854775808}"#, -1, Reason::NumberTooLarge),
        (r#"{"n":-9223372036854775808}"#, -1, Reason::NumberTooLarge),
        (r#"{"n":1e400}"#, 1, Reason::NumberTooLarge),
    ] {
        assert_eq!(applied(incr("n", by), before), Err(reason), "{before}");
    }
}

#[test]
fn h16_larger_data_is_refused_but_may_shrink() {
    let large = format!("\"{}\"", "x".repeat(5000));
    let limits = Limits::default();
    let refused = changing([set("a", &large)]).apply(&Data::empty(), &limits).unwrap_err();
    assert_eq!((refused.header, refused.reason()), ("X-Session-Set", "header_too_large"));

    let announced = Limits { max_header_bytes: None, ..limits.clone() };
    assert!(changing([set("a", &large)]).apply(&Data::empty(), &announced).is_ok());
    let small = Limits { max_data_bytes: 100, ..announced };
    let refused = changing([set("a", &large)]).apply(&Data::empty(), &small).unwrap_err();
    assert_eq!(refused.reason(), "session_too_large");

    let foreign = data(&format!("{{\"a\":{large},\"b\":{large},\"n\":9}}"));
    assert!(changing([Change::Unset("b".to_owned())]).apply(&foreign, &limits).is_ok());
    assert!(changing([set("n", "1")]).apply(&foreign, &limits).is_ok());
    assert!(changing([incr("n", 1)]).apply(&foreign, &limits).is_err());
    let ended = SessionPatch { ending: Some(Ending::Flush), ..changing([set("a", &large)]) };
    assert!(ended.apply(&foreign, &limits).is_err(), "what was large before is gone");
}

#[test]
fn an_ending_starts_from_nothing() {
    for ending in [Ending::Clear, Ending::Delete, Ending::Flush] {
        let patch = SessionPatch { ending: Some(ending), ..changing([set("m", "\"bye\""), incr("u", 1)]) };
        let after = patch.apply(&data(r#"{"u":1}"#), &Limits::default()).unwrap();
        assert_eq!(after.data.as_str(), r#"{"m":"bye","u":1}"#);
    }
    let patch = SessionPatch { ending: Some(Ending::Clear), ..SessionPatch::default() };
    assert!(patch.apply(&data(r#"{"u":1}"#), &Limits::default()).unwrap().data.is_empty());
}

#[test]
fn u13_a_refused_patch_keeps_its_ending() {
    let patch = SessionPatch { ending: Some(Ending::Flush), cycle: true, touch: true, ..changing([set("a", "1")]) };
    let refusal = Refusal { header: "X-Session-Incr", reason: Reason::NotANumber };
    let left = patch.refuse(refusal);
    let expected = SessionPatch { ending: Some(Ending::Flush), refusal: Some(refusal), ..SessionPatch::default() };
    assert_eq!(left, expected);
    assert_eq!(refusal.to_string(), "X-Session-Incr: what is there is not a number");
}

#[test]
fn o7_values_and_keys_are_never_printed() {
    let patch = changing([set("secret", "\"hunter2\""), Change::Merge(r#"{"secret":"hunter2"}"#.to_owned())]);
    let text = format!("{patch:?} {:?}", patch.apply(&Data::empty(), &Limits::default()));
    assert!(!text.contains("hunter2") && !text.contains("secret"), "{text}");
}

/// Deep data, and as many patches into its depth as one response may have: linear in both, not in their product.
#[test]
fn u10_many_deep_patches_cost_no_more_than_their_length() {
    let nest = |inner: &str| format!("{}{inner}{}", "{\"a\":".repeat(31), "}".repeat(31));
    let before = data(&nest(&format!("{{\"x\":\"{}\"}}", "x".repeat(60_000))));
    let patches: Vec<Change> = (0..256).map(|number| Change::Merge(nest(&format!("{{\"n\":{number}}}")))).collect();
    let limits = Limits { max_header_bytes: None, ..Limits::default() };
    let started = std::time::Instant::now();
    let after = changing(patches).apply(&before, &limits).unwrap().data;
    assert!(after.as_str().ends_with(&format!("\"n\":255}}{}", "}".repeat(31))));
    // An unoptimised build takes some 50 ms; copying every level for every patch took six seconds.
    assert!(started.elapsed().as_millis() < 1_000, "{:?}", started.elapsed());
}

/// The same changes on an ordinary tree.
fn model(object: &mut Map<String, Value>, change: &Change) {
    match change {
        Change::Set { key, value } => {
            object.insert(key.clone(), serde_json::from_str(value).unwrap());
        }
        Change::Merge(patch) => {
            let mut target = Value::Object(std::mem::take(object));
            merge(&mut target, &serde_json::from_str(patch).unwrap());
            *object = target.as_object().unwrap().clone();
        }
        Change::Incr { key, by } => {
            let before = object.get(key).map_or(0, |value| value.as_i64().unwrap());
            object.insert(key.clone(), (before + by).into());
        }
        Change::Unset(key) => {
            object.remove(key);
        }
    }
}

/// RFC 7396, section 2, as the RFC writes it.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let wire = |value: Value| json::compact(value.to_string().as_bytes(), 128).unwrap();
    let object = prop::collection::btree_map("[a-c]|é", json::tests::any_json(), 0..3);
    prop_oneof![
        ("[a-c]|é", json::tests::any_json()).prop_map(move |(key, value)| Change::Set { key, value: wire(value) }),
        object.prop_map(move |members| Change::Merge(wire(Value::Object(members.into_iter().collect())))),
        ("n", -9..9_i64).prop_map(|(key, by)| Change::Incr { key, by }),
        "[a-c]|é".prop_map(Change::Unset),
    ]
}

proptest! {
    #[test]
    fn any_changes_equal_the_same_on_a_tree(updates in prop::collection::vec(prop::collection::vec(any_change(), 0..5), 0..6)) {
        let limits = Limits { max_data_bytes: 1 << 30, max_header_bytes: None, ..Limits::default() };
        let mut session = data(r#"{"keep":1.10}"#);
        let mut expected = serde_json::from_str::<Value>(session.as_str()).unwrap().as_object().unwrap().clone();
        for mut changes in updates {
            session = changing(changes.clone()).apply(&session, &limits).unwrap().data;
            changes.sort_by_key(Change::rank);
            for change in &changes {
                model(&mut expected, change);
            }
            prop_assert!(Data::parse(Bytes::copy_from_slice(session.wire())).is_ok());
            prop_assert_eq!(session.value("keep"), Some("1.10"));
            let actual: Value = serde_json::from_str(session.as_str()).unwrap();
            prop_assert_eq!(&actual, &Value::Object(expected.clone()));
        }
    }
}

/// Beside `{"a":1}` two members that have no JSON form, one of them under the name `price`.
fn data_with_opaque() -> Data {
    let price = OpaqueMember { key: Some("price".into()), written: b"a decimal".as_slice().into(), place: 1 };
    let unnamed = OpaqueMember { key: None, written: b"under a number".as_slice().into(), place: 0 };
    Data::from_wire(r#"{"a":1}"#.to_owned()).with_opaque(vec![price, unnamed])
}

fn keys_left(changes: Vec<Change>) -> Result<(String, Vec<Option<String>>), Reason> {
    let patch = SessionPatch { changes, ..SessionPatch::default() };
    let applied = patch.apply(&data_with_opaque(), &Limits::default()).map_err(|refusal| refusal.reason)?;
    assert!(applied.changed);
    let keys = applied.data.opaque().iter().map(|member| member.key.as_deref().map(str::to_owned)).collect();
    Ok((applied.data.as_str().to_owned(), keys))
}

#[test]
fn f7_opaque_members_stay_until_they_are_overwritten_unset_or_cleared() {
    let set = |key: &str| Change::Set { key: key.to_owned(), value: "2".to_owned() };
    let price = Some("price".to_owned());
    let cases = [
        (set("b"), r#"{"a":1,"b":2}"#, vec![price.clone(), None]),
        (set("price"), r#"{"a":1,"price":2}"#, vec![None]),
        (Change::Unset("price".to_owned()), r#"{"a":1}"#, vec![None]),
        (Change::Merge(r#"{"price":null}"#.to_owned()), r#"{"a":1}"#, vec![None]),
        (Change::Merge(r#"{"price":3,"a":{}}"#.to_owned()), r#"{"a":{},"price":3}"#, vec![None]),
        (Change::Incr { key: "a".to_owned(), by: 1 }, r#"{"a":2}"#, vec![price, None]),
    ];
    for (change, data, keys) in cases {
        assert_eq!(keys_left(vec![change]), Ok((data.to_owned(), keys)));
    }
    let clear = SessionPatch { ending: Some(Ending::Clear), ..SessionPatch::default() };
    assert!(clear.apply(&data_with_opaque(), &Limits::default()).unwrap().data.is_empty());
}

#[test]
fn f7_nothing_reaches_into_an_opaque_member() {
    let merge = Change::Merge(r#"{"price":{"x":1}}"#.to_owned());
    assert_eq!(keys_left(vec![merge]), Err(Reason::NotPlain));
    assert_eq!(keys_left(vec![Change::Incr { key: "price".to_owned(), by: 1 }]), Err(Reason::NotANumber));
}
