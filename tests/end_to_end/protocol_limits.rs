//! The header protocol's limits: what just fits is taken, one more is refused whole; each can be set.

use serde_json::{Value, json};

use crate::backend::Reply;
use crate::scene::Scene;

const ADMIN: &str = "[admin]\nlisten = '127.0.0.1:0'\n";
/// Neither the session's nor the header's size is in the way of the other limits.
const ROOMY: &str = "headers = { on_overflow = 'announce' }\nsession.max_bytes = '1MiB'\n";

struct Limit {
    /// The lines that keep it, and the lines that exceed it by one.
    fits: Vec<String>,
    exceeds: Vec<String>,
    reason: &'static str,
}

/// Expects the first to be stored and the second to be refused for the reason given.
fn assert_limit(settings: &str, limit: &Limit) {
    let scene = Scene::new(&format!("{settings}{ADMIN}"));
    let counter = format!("cloakroom_refused_total{{reason=\"{}\"}}", limit.reason);
    let stored = |lines: &[String]| {
        let reply = lines.iter().fold(Reply::ok("ok"), |reply, line| {
            let (name, value) = line.split_once(": ").unwrap();
            reply.header(name, value)
        });
        scene.answer_next(reply);
        let answer = scene.visitor().get("/");
        assert_eq!(answer.status, 200, "{}", limit.reason);
        answer.session_cookie().is_some()
    };
    assert!(stored(&limit.fits), "{}: {:.80?}", limit.reason, limit.fits);
    assert_eq!(scene.counter(&counter), 0, "{}", limit.reason);
    assert!(!stored(&limit.exceeds), "{}: {:.80?}", limit.reason, limit.exceeds);
    assert_eq!(scene.counter(&counter), 1, "{}", limit.reason);
}

fn lines(name: &str, values: impl IntoIterator<Item = String>) -> Vec<String> {
    values.into_iter().map(|value| format!("{name}: {value}")).collect()
}

fn one(name: &str, fits: String, exceeds: String, reason: &'static str) -> Limit {
    Limit { fits: lines(name, [fits]), exceeds: lines(name, [exceeds]), reason }
}

fn members(count: usize) -> String {
    (0..count).map(|member| format!("k{member}=1")).collect::<Vec<_>>().join("&")
}

/// An object nested so deep, itself counted.
fn nested(depth: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

#[test]
fn keys_are_1_to_128_bytes_without_control_characters() {
    let key = |length: usize| format!("{}=1", "k".repeat(length));
    let quoted = |length: usize| format!("{{\"{}\":1}}", "k".repeat(length));
    assert_limit("", &one("X-Session-Set", key(128), key(129), "bad_key"));
    assert_limit("", &one("X-Session-Set", quoted(128), quoted(129), "bad_key"));
    assert_limit("", &one("X-Session-Patch", quoted(128), quoted(129), "bad_key"));
    assert_limit("", &one("X-Session-Incr", key(128), key(129), "bad_key"));
    // Bytes, not characters: é is two of them.
    let accented = |count: usize| format!("{}=1", "%C3%A9".repeat(count));
    assert_limit("", &one("X-Session-Set", accented(64), accented(65), "bad_key"));
    for control in ["%00", "%1F", "%7F", "%C2%80"] {
        assert_limit("", &one("X-Session-Set", "a=1".to_owned(), format!("a{control}=1"), "bad_key"));
    }
    assert_limit("", &one("X-Session-Set", "a=1".to_owned(), r#"{"a\u0001":1}"#.to_owned(), "bad_key"));
    assert_limit("session.limits.max_key_bytes = 4\n", &one("X-Session-Set", key(4), key(5), "bad_key"));
}

#[test]
fn json_nests_32_deep() {
    for header in ["X-Session-Set", "X-Session-Patch"] {
        assert_limit("", &one(header, nested(32), nested(33), "too_deep"));
    }
    assert_limit("session.limits.max_depth = 3\n", &one("X-Session-Set", nested(3), nested(4), "too_deep"));
}

#[test]
fn one_response_has_256_members_of_all_kinds_together() {
    assert_limit("", &one("X-Session-Set", members(256), members(257), "too_many_members"));
    let mixed = |unset: usize| {
        let mut all = lines("X-Session-Set", [members(100), r#"{"x":1,"y":{"z":1}}"#.to_owned()]);
        all.extend(lines("X-Session-Incr", [members(53).replace('k', "i")]));
        all.extend(lines("X-Session-Patch", [r#"{"p":{"q":1}}"#.to_owned()]));
        all.extend(lines("X-Session-Unset", [vec!["gone"; unset].join(",")]));
        all
    };
    assert_limit("", &Limit { fits: mixed(100), exceeds: mixed(101), reason: "too_many_members" });
    let settings = "session.limits.max_members = 2\n";
    assert_limit(settings, &one("X-Session-Set", members(2), members(3), "too_many_members"));
}

#[test]
fn every_member_may_have_a_line_of_its_own() {
    let each = |count: usize| lines("X-Session-Set", (0..count).map(|member| format!("k{member}=1")));
    assert_limit("", &Limit { fits: each(256), exceeds: each(257), reason: "too_many_members" });
}

#[test]
fn a_line_is_16_kib_and_all_of_them_64() {
    let value = |length: usize| format!("a={}", "x".repeat(length - 2));
    assert_limit(ROOMY, &one("X-Session-Set", value(16 << 10), value((16 << 10) + 1), "line_too_long"));
    let settings = format!("{ROOMY}session.limits.max_line_bytes = 10\n");
    assert_limit(&settings, &one("X-Session-Set", value(10), value(11), "line_too_long"));

    let four = |last: usize| lines("X-Session-Set", [value(16 << 10), value(16 << 10), value(16 << 10), value(last)]);
    let exceeds = [four(16 << 10), lines("X-Session-Unset", ["a".to_owned()])].concat();
    assert_limit(ROOMY, &Limit { fits: four(16 << 10), exceeds, reason: "update_too_long" });
    let settings = format!("{ROOMY}session.limits.max_update_bytes = 10\n");
    let two = |last: usize| lines("X-Session-Set", [value(5), value(last)]);
    assert_limit(&settings, &Limit { fits: two(5), exceeds: two(6), reason: "update_too_long" });
}

#[test]
fn a_session_is_64_kib_and_may_always_shrink() {
    let announce = "headers.on_overflow = 'announce'\n";
    let value = |key: &str, length: usize| format!("X-Session-Set: {key}={}", "x".repeat(length));
    let scene = Scene::new(&format!("{announce}{ADMIN}"));
    let mut visitor = scene.visitor();
    // {"a":"…", and so on to "e":"…"}: seven bytes for each of five members, and one more. No line is too long.
    let fifth = (64 << 10) / 5 - 17;
    for key in ["a", "b", "c", "d"] {
        scene.answer_next(reply(&value(key, fifth)));
        assert!(visitor.get("/").session_cookie().is_some(), "{key}");
    }
    let left = (64 << 10) - 4 * (fifth + 7) - 7 - 1;
    for (length, fits) in [(left + 1, false), (left, true)] {
        scene.answer_next(reply(&value("e", length)));
        assert_eq!(visitor.get("/").session_cookie().is_some(), fits, "{length}");
    }
    assert_eq!(scene.counter("cloakroom_refused_total{reason=\"session_too_large\"}"), 1);
    assert!(visitor.ask(&["X-Session-Unset: a"]).session_cookie().is_some(), "it may shrink");

    let small = |length: usize| json!({"a": "x".repeat(length)}).to_string();
    let settings = format!("{announce}session.max_bytes = 20\n");
    assert_limit(&settings, &one("X-Session-Set", small(12), small(13), "session_too_large"));
}

fn reply(line: &str) -> Reply {
    let (name, value) = line.split_once(": ").unwrap();
    Reply::ok("ok").header(name, value)
}

#[test]
fn the_header_has_4_kib_where_it_must_not_overflow() {
    let value = |length: usize| -> Value { json!({"a": "x".repeat(length - 8)}) };
    assert_limit("", &one("X-Session-Set", value(4096).to_string(), value(4097).to_string(), "header_too_large"));
    let settings = "headers.max_header_bytes = 20\n";
    assert_limit(settings, &one("X-Session-Set", value(20).to_string(), value(21).to_string(), "header_too_large"));
}
