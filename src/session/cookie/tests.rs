use cookie::Cookie;
use proptest::prelude::*;

use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb1";

fn settings(text: &str) -> CookieSettings {
    toml::from_str(text).unwrap()
}

fn policy(text: &str) -> CookiePolicy {
    settings(text).check().unwrap()
}

fn request(lines: &[&str]) -> HeaderMap {
    lines.iter().map(|line| (COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect()
}

fn taken(lines: &[&str]) -> (Vec<String>, Vec<String>) {
    let mut headers = request(lines);
    let ids = policy("").take(&mut headers);
    let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    (ids.iter().map(|id| id.as_str().to_owned()).collect(), headers.get_all(COOKIE).iter().map(text).collect())
}

#[test]
fn h14_only_our_cookie_goes_and_the_rest_stays_byte_for_byte() {
    for (line, left) in [
        (format!("sessionid={A}"), None),
        (format!("a=1; sessionid={A}; b=2"), Some("a=1; b=2")),
        (format!("sessionid={A}; a=1"), Some("a=1")),
        (format!("a=1; sessionid={A}"), Some("a=1")),
        (format!("a=1; sessionid={A};"), Some("a=1")),
        (format!("a=1;sessionid={A};b=\"x y\";  c"), Some("a=1;b=\"x y\";  c")),
        (format!(" sessionid = {A} ; é=ü"), Some("é=ü")),
        (format!("sessionid=../..; sessionid={A}; a=1"), Some("a=1")),
    ] {
        let (ids, lines) = taken(&[&line]);
        assert_eq!(ids, [A], "{line}");
        assert_eq!(lines.first().map(String::as_str), left, "{line}");
    }
}

#[test]
fn other_names_are_not_ours() {
    for line in [
        format!("Sessionid={A}"),
        format!("xsessionid={A}"),
        format!("sessionid2={A}; sessionid"),
        format!("a=sessionid={A}"),
        ";; a=1 ;".to_owned(),
        String::new(),
    ] {
        assert_eq!(taken(&[&line]), (vec![], vec![line.clone()]), "{line}");
    }
}

#[test]
fn i3_malformed_ids_are_none() {
    let long = "a".repeat(10_000);
    for value in ["", "../..", "a b", "%00", "*", "{tag}", &long, &A[1..], &A.to_uppercase(), &format!("{A}a"), "é"] {
        let (ids, lines) = taken(&[&format!("sessionid={value}; a=1")]);
        assert_eq!((ids, lines), (vec![], vec!["a=1".to_owned()]), "{value}");
    }
}

#[test]
fn c9_every_candidate_is_tried_once_and_eight_at_most() {
    assert_eq!(taken(&[&format!("sessionid={B}; sessionid={A}; sessionid={B}")]).0, [B, A]);
    let many: Vec<String> =
        (b'a'..=b'z').map(|letter| format!("sessionid={}{}", &A[1..], char::from(letter))).collect();
    let (ids, lines) = taken(&[&many.join("; ")]);
    assert_eq!(ids.len(), 8);
    assert!(ids[7].ends_with('h') && lines.is_empty());
}

#[test]
fn values_that_are_no_ids_come_as_they_are_and_once() {
    let mut headers = request(&["sessionid=; sessionid=1.a-b_c; a=1", "sessionid=\"x\"; sessionid=1.a-b_c"]);
    assert_eq!(policy("").take_values(&mut headers), [&b"1.a-b_c"[..], b"\"x\""]);
    assert_eq!(headers.get(COOKIE).unwrap(), "a=1");
}

#[test]
fn c8_a_value_has_4096_bytes_together_with_the_name() {
    let set = |length| policy("").set_value(&"x".repeat(length), None, Timestamp::from_millis(0), false);
    let longest = set(4096 - "sessionid".len()).unwrap();
    assert!(longest.to_str().unwrap().contains("x; HttpOnly; SameSite=Lax"), "{longest:?}");
    assert_eq!(set(4096 - "sessionid".len() + 1), None);
}

#[test]
fn c10_several_lines_are_one() {
    let ours = format!("sessionid={A}");
    assert_eq!(taken(&["a=1", &ours]), (vec![A.to_owned()], vec!["a=1".to_owned()]));
    assert_eq!(taken(&[&ours, "a=1", "b=2"]), (vec![A.to_owned()], vec!["a=1; b=2".to_owned()]));
    assert_eq!(taken(&["a=1", "b=2"]), (vec![], vec!["a=1; b=2".to_owned()]));
}

#[test]
fn c11_a_quoted_value_is_another_value() {
    assert_eq!(taken(&[&format!("sessionid=\"{A}\"")]), (vec![], vec![]));
    assert_eq!(taken(&[&format!("sessionid={A}=")]), (vec![], vec![]));
}

#[test]
fn u16_case_variants_of_a_prefixed_name_are_not_ours() {
    let policy = policy("name = '__Host-sessionid'\nsecure = true");
    let mut headers = request(&[&format!("__HOST-sessionid={A}; __Host-sessionid={B}")]);
    let ids = policy.take(&mut headers);
    assert_eq!(ids.iter().map(SessionId::as_str).collect::<Vec<_>>(), [B]);
    assert_eq!(headers[COOKIE], format!("__HOST-sessionid={A}"));

    let mut response = HeaderMap::new();
    response.append(SET_COOKIE, HeaderValue::from_static("__HOST-SessionID=evil; Path=/"));
    policy.drop_own(&mut response);
    assert!(response.is_empty());
}

#[test]
fn u14_u15_a_backend_cannot_set_our_cookie_and_its_others_stay_in_order() {
    let lines = [
        "a=1; Path=/",
        "sessionid=evil",
        "b=2; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        " sessionid =evil; Path=/x",
        "=sessionid=evil",
        "sessionid",
        "Sessionid=other",
        "c=sessionid=3",
        "sessionid=",
        "=x",
    ];
    let mut headers: HeaderMap = lines.iter().map(|line| (SET_COOKIE, HeaderValue::from_static(line))).collect();
    policy("").drop_own(&mut headers);
    let left: Vec<_> = headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(left, [lines[0], lines[2], lines[5], lines[6], lines[7], lines[9]]);
}

fn set(policy: &CookiePolicy, age: Option<u64>, https: bool) -> String {
    let id = SessionId::parse(A.as_bytes()).unwrap();
    let line = policy.set(&id, age.map(Duration::from_secs), Timestamp::from_millis(784_111_777_999), https);
    line.to_str().unwrap().to_owned()
}

#[test]
fn c1_attributes_are_those_of_the_settings() {
    assert_eq!(
        set(&policy(""), Some(60), true),
        format!(
            "sessionid={A}; Expires=Sun, 06 Nov 1994 08:50:37 GMT; Max-Age=60; HttpOnly; SameSite=Lax; Secure; Path=/"
        )
    );
    assert_eq!(set(&policy(""), None, false), format!("sessionid={A}; HttpOnly; SameSite=Lax; Path=/"));
    let bare =
        policy("name = 'x'\npath = '/a'\ndomain = 'example.com'\nhttp_only = false\nsame_site = 'off'\nsecure = false");
    assert_eq!(set(&bare, None, true), format!("x={A}; Path=/a; Domain=example.com"));
    let third = policy("same_site = 'None'\npartitioned = true\nsecure = true");
    assert_eq!(
        set(&third, None, false),
        format!("sessionid={A}; HttpOnly; SameSite=None; Partitioned; Secure; Path=/")
    );
}

#[test]
fn c5_the_removal_cookie_matches_the_one_it_removes() {
    for text in ["", "domain = 'example.com'\npath = '/a'", "same_site = 'Strict'\nsecure = true\npartitioned = true"] {
        let policy = policy(text);
        let set = set(&policy, None, true);
        let (_, attributes) = set.split_once("; ").unwrap();
        let expected = format!("sessionid=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; {attributes}");
        assert_eq!(policy.removal(true), expected);
    }
}

#[test]
fn c6_no_attribute_stands_twice_and_parsers_understand() {
    let policy = policy("domain = 'example.com'\nsame_site = 'None'\npartitioned = true\nsecure = true");
    for line in [set(&policy, Some(9), true), policy.removal(true).to_str().unwrap().to_owned()] {
        let mut names: Vec<_> = line.split("; ").map(|part| part.split('=').next().unwrap()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!((names.len(), count), (9, 9), "{line}");
        let cookie = Cookie::parse(line).unwrap();
        assert_eq!((cookie.name(), cookie.path(), cookie.secure()), ("sessionid", Some("/"), Some(true)));
        assert_eq!((cookie.domain(), cookie.http_only()), (Some("example.com"), Some(true)));
        assert!(cookie.expires_datetime().is_some() && cookie.max_age().is_some());
    }
}

#[test]
fn c7_no_cookie_lasts_longer_than_400_days() {
    let line = set(&policy(""), Some(500 * 86_400), true);
    assert!(line.contains("; Expires=Mon, 11 Dec 1995 08:49:37 GMT; Max-Age=34560000;"), "{line}");
    let late = Timestamp::from_millis(i64::MAX);
    let id = SessionId::parse(A.as_bytes()).unwrap();
    let line = policy("").set(&id, Some(MAX_AGE), late, true);
    assert!(line.to_str().unwrap().contains("Expires=Fri, 31 Dec 9999 23:59:59 GMT"));
}

#[test]
fn c8_name_and_value_are_what_browsers_take() {
    // The id takes 32.
    let name = "n".repeat(4064);
    let line = set(&policy(&format!("name = '{name}'")), None, true);
    assert_eq!(line.split(';').next().unwrap().len(), 4096 + "=".len());
    assert!(settings(&format!("name = '{}'", "n".repeat(4065))).check().is_err());
}

#[test]
fn c2_c3_c4_impossible_combinations_are_refused() {
    for text in [
        "name = '__Host-s'\nsecure = true",
        "name = '__HOST-s'\nsecure = true",
        "name = '__Secure-s'\nsecure = true\ndomain = 'a.b'\npath = '/x'",
        "name = '__Http-s'\nsecure = true\ndomain = 'a.b'",
        "name = '__Host-Http-s'\nsecure = true",
        "name = '__host'",
        "same_site = 'None'\nsecure = true",
        "partitioned = true\nsecure = true",
        "domain = '.example.com'",
    ] {
        assert!(settings(text).check().is_ok(), "{text}");
    }
    for (text, key) in [
        ("name = '__Host-s'", "cookie.name"),
        ("name = '__host-s'\nsecure = false", "cookie.name"),
        ("name = '__Host-s'\nsecure = true\npath = '/a'", "cookie.name"),
        ("name = '__hOST-s'\nsecure = true\ndomain = 'a.b'", "cookie.name"),
        ("name = '__Secure-s'\nsecure = 'auto'", "cookie.name"),
        ("name = '__Http-s'\nsecure = true\nhttp_only = false", "cookie.name"),
        ("name = '__Host-Http-s'\nsecure = true\nhttp_only = false", "cookie.name"),
        ("name = '__Host-Http-s'\nsecure = true\npath = '/a'", "cookie.name"),
        ("same_site = 'None'", "cookie.same_site"),
        ("partitioned = true", "cookie.partitioned"),
        ("name = ''", "cookie.name"),
        ("name = 'a b'", "cookie.name"),
        ("name = 'a=b'", "cookie.name"),
        ("name = 'é'", "cookie.name"),
        ("path = 'a'", "cookie.path"),
        ("path = '/a;b'", "cookie.path"),
        ("path = \"/a\\n\"", "cookie.path"),
        ("domain = ''", "cookie.domain"),
        ("domain = 'a;b'", "cookie.domain"),
        ("domain = 'a..b'", "cookie.domain"),
    ] {
        assert_eq!(settings(text).check().unwrap_err().key, key, "{text}");
    }
    for text in ["secure = 'yes'", "secure = 1", "same_site = 'lax'", "samesite = 'Lax'", "max_age = 3"] {
        assert!(toml::from_str::<CookieSettings>(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_ours_never_passes(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
        let policy = policy("name = 's'");
        let mut headers = HeaderMap::new();
        for line in lines {
            if let Ok(line) = HeaderValue::from_bytes(&line) {
                headers.append(COOKIE, line.clone());
                headers.append(SET_COOKIE, line);
            }
        }
        policy.take(&mut headers);
        policy.drop_own(&mut headers);
        prop_assert!(headers.get_all(COOKIE).iter().count() <= 1);
        prop_assert_eq!(policy.values(&headers).count(), 0);
    }

    #[test]
    fn the_others_stay_in_order(pairs in prop::collection::vec("(s=[a-z]?|[abc]=[a-z;]{0,3})", 0..8)) {
        let policy = policy("name = 's'");
        let line = pairs.join("; ");
        let mut headers = request(&[&line]);
        policy.take(&mut headers);
        let trimmed = |line: &str| -> Vec<String> {
            line.split(';').map(str::trim).filter(|pair| !pair.is_empty() && !pair.starts_with("s=")).map(str::to_owned).collect()
        };
        let left = headers.get(COOKIE).map_or("", |line| line.to_str().unwrap());
        prop_assert_eq!(trimmed(left), trimmed(&line));
    }
}
