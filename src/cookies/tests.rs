use proptest::prelude::*;
use serde::Deserialize as _;

use super::*;
use crate::problem::Problem;
use crate::secret::Secret;

mod vectors;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn checked(toml: &str) -> Result<CookieRules, Problem> {
    #[derive(serde::Deserialize)]
    struct File {
        cookies: Vec<CookieRuleSettings>,
    }
    CookieRules::new(&toml::from_str::<File>(toml).unwrap().cookies, "sessionid", None)
}

fn rules(toml: &str) -> CookieRules {
    checked(toml).unwrap()
}

fn signing(more: &str) -> CookieRules {
    signing_with("key", "s", more)
}

fn signing_with(key: &str, salt: &str, more: &str) -> CookieRules {
    rules(&format!("[[cookies]]\nname = 'user'\nsign = true\nsecret_key = '{key}'\nsalt = '{salt}'\n{more}"))
}

/// The `Set-Cookie` lines that become of these.
fn sent(rules: &CookieRules, lines: &[&[u8]]) -> (Vec<String>, usize) {
    let mut headers: HeaderMap =
        lines.iter().map(|line| (SET_COOKIE, HeaderValue::from_bytes(line).unwrap())).collect();
    let refused = rules.to_visitor(&mut headers, NOW);
    let text = |line: &HeaderValue| String::from_utf8(line.as_bytes().to_vec()).unwrap();
    (headers.get_all(SET_COOKIE).iter().map(text).collect(), refused)
}

/// The `Cookie` lines that become of these, and how many pairs went.
fn received(rules: &CookieRules, lines: &[&[u8]], now: Timestamp) -> (Vec<String>, usize) {
    let mut headers: HeaderMap = lines.iter().map(|line| (COOKIE, HeaderValue::from_bytes(line).unwrap())).collect();
    let refused = rules.to_backend(&mut headers, now);
    let text = |line: &HeaderValue| String::from_utf8_lossy(line.as_bytes()).into_owned();
    (headers.get_all(COOKIE).iter().map(text).collect(), refused)
}

/// What the browser sends back after a backend's line.
fn pair_of(rules: &CookieRules, line: &str) -> String {
    let (lines, refused) = sent(rules, &[line.as_bytes()]);
    assert_eq!((lines.len(), refused), (1, 0), "{line}");
    lines[0].split(';').next().unwrap().to_owned()
}

fn one(line: &str, refused: usize) -> (Vec<String>, usize) {
    (vec![line.to_owned()], refused)
}

#[test]
fn a_signed_cookie_goes_out_signed_and_comes_back_bare() {
    let rules = signing("");
    for (value, comes_back) in [
        ("lqz", "lqz"),
        ("a:b:c", "a:b:c"),
        ("a=b/c", "a=b/c"),
        ("\"quoted\"", "quoted"),
        ("\"a \\\"b\\\" c\\073d\\054e\"", "\"a \\\"b\\\" c\\073d\\054e\""),
        ("é", "é"),
        ("值", "值"),
    ] {
        let pair = pair_of(&rules, &format!("user={value}; Path=/"));
        assert!(pair.contains(":1r31eq:"), "{pair}");
        let cookies = format!("a=1;  {pair};b=\"x y\"; c");
        let expected = one(&format!("a=1;  user={comes_back};b=\"x y\"; c"), 0);
        assert_eq!(received(&rules, &[cookies.as_bytes()], NOW), expected, "{value}");
    }
}

#[test]
fn i13_what_is_not_signed_does_not_reach_the_backend_and_the_rest_does() {
    let rules = signing("max_age = '1h'");
    let good = pair_of(&rules, "user=ann");
    let other = pair_of(&signing_with("key", "t", ""), "user=ann");
    for (cookies, left, refused) in [
        ("user=ann".to_owned(), None, 1),
        ("user=".to_owned(), None, 1),
        ("user".to_owned(), None, 1),
        (good.replace("ann", "bob"), None, 1),
        (other, None, 1),
        (format!("a=1; user=ann; {good}; b=2; user=bob"), Some("a=1; user=ann; b=2"), 2),
        ("a=1;user=x;  b=2 ;c".to_owned(), Some("a=1;  b=2 ;c"), 1),
        (" user = x ; a=1".to_owned(), Some("a=1"), 1),
        ("a=1; users=ann; myuser=b; a=user".to_owned(), Some("a=1; users=ann; myuser=b; a=user"), 0),
    ] {
        let (lines, count) = received(&rules, &[cookies.as_bytes()], NOW);
        assert_eq!((lines.first().map(String::as_str), count), (left, refused), "{cookies}");
    }
    let text = format!("\"{}\"", good.split_once('=').unwrap().1);
    assert_eq!(received(&rules, &[format!("user={text}").as_bytes()], NOW), one("user=ann", 0), "quotes are writing");
    assert_eq!(received(&rules, &[b"user=\xff:1r31eq:x"], NOW), (vec![], 1));
}

#[test]
fn i13_what_a_backend_could_take_for_the_cookie_does_not_reach_it_either() {
    let rules = signing("");
    for cookie in [
        "User=x",
        "\u{a0}user=x",
        "%75ser=x",
        "user[0]=x",
        "user[=x",
        "a=1 user=x",
        "a=1,user=x",
        "a=1 user = x",
        "junk user=x",
        "user\u{85}=x",
    ] {
        assert_eq!(received(&rules, &[format!("b=2; {cookie}").as_bytes()], NOW), one("b=2", 1), "{cookie}");
    }
    let dotted = rules_named("my_user");
    for cookie in ["my.user=x", "my user=x", "my%2Euser=x"] {
        assert_eq!(received(&dotted, &[cookie.as_bytes()], NOW), (vec![], 1), "{cookie}");
    }
    for cookie in ["a=my user", "a=x/user=1", "a=user", "theuser=1"] {
        assert_eq!(received(&rules, &[cookie.as_bytes()], NOW), one(cookie, 0), "{cookie}");
    }
}

fn rules_named(name: &str) -> CookieRules {
    rules(&format!("[[cookies]]\nname = '{name}'\nsign = true\nsecret_key = 'key'"))
}

#[test]
fn i13_a_signature_ends_with_its_age_and_its_key() {
    let young = signing("max_age = '1h'");
    let pair = pair_of(&young, "user=ann");
    let at = |rules: &CookieRules, now| received(rules, &[pair.as_bytes()], now).1;
    assert_eq!(at(&young, NOW.plus(HOUR)), 0);
    assert_eq!(at(&young, NOW.plus(HOUR + Duration::from_millis(1))), 1);
    assert_eq!(at(&signing_with("new", "s", "secret_key_fallbacks = ['x', 'key']"), NOW), 0);
    assert_eq!(at(&signing_with("new", "s", ""), NOW), 1);
}

#[test]
fn attributes_are_added_and_a_rule_has_the_last_word() {
    let rules = rules(
        "[[cookies]]
        name = 'user'
        secure = true
        http_only = true
        same_site = 'Strict'
        path = '/p'
        domain = 'example.com'
        max_age = '1h'
        [[cookies]]
        name = 'lax'
        same_site = 'off'",
    );
    let age = "; Expires=Tue, 14 Nov 2023 23:13:20 GMT; Max-Age=3600";
    let all = "; Domain=example.com; HttpOnly; Path=/p; SameSite=Strict; Secure";
    for (line, expected) in [
        ("user=a b", format!("user=a b{all}{age}")),
        ("user=a; Priority=High;X", format!("user=a; Priority=High;X{all}{age}")),
        (
            "user=a; path=/; SAMESITE=Lax; secure;Domain = x; Max-Age=5; expires=Thu, 01 Jan 2026 00:00:00 GMT",
            format!("user=a{all}{age}"),
        ),
        ("user=; Path=/", format!("user={all}")),
        ("user=x; Max-Age=0; HttpOnly", format!("user=x; Max-Age=0{all}")),
        ("user=x; max-age = -1", format!("user=x; max-age = -1{all}")),
        ("user=x; Max-Age=00x", format!("user=x{all}{age}")),
        ("user=x; Max-Age=10", format!("user=x{all}{age}")),
        ("lax=1; SameSite=Lax; Secure", "lax=1; Secure".to_owned()),
        ("other=1; secure;  Foo", "other=1; secure;  Foo".to_owned()),
        ("User=1", "User=1".to_owned()),
    ] {
        assert_eq!(sent(&rules, &[line.as_bytes()]), one(&expected, 0), "{line}");
    }
    let lines: [&[u8]; 4] = [b"a=1", b"user=1", b"b=\xc3\xa9", b"user=2"];
    assert_eq!(
        sent(&rules, &lines).0.iter().map(|line| line.split(['=', ';']).nth(1).unwrap()).collect::<Vec<_>>(),
        ["1", "1", "é", "2"]
    );
    assert_eq!(received(&rules, &[b"user=anything"], NOW), one("user=anything", 0), "without a signature");
}

#[test]
fn a_removal_is_not_signed_and_what_cannot_be_signed_does_not_go_out() {
    let rules = signing("max_age = '1h'\nsecure = true");
    for line in
        ["user=; Path=/", "user=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/", "user=x; Max-Age=0"]
    {
        assert_eq!(sent(&rules, &[line.as_bytes()]), one(&format!("{line}; Secure"), 0), "{line}");
    }
    assert_eq!(sent(&rules, &[b"user=\xff", b"a=1"]), one("a=1", 1));
    let longest = 4096 - "user".len() - ":1r31eq:".len() - 43;
    let line = |length| format!("user={}", "x".repeat(length));
    let (lines, refused) = sent(&rules, &[line(longest).as_bytes()]);
    assert_eq!((lines[0].split(';').next().unwrap().len(), refused), (4096 + "=".len(), 0));
    assert_eq!(sent(&rules, &[line(longest + 1).as_bytes()]), (vec![], 1));
}

#[test]
fn several_lines_stay_several() {
    let rules = signing("");
    let good = pair_of(&rules, "user=ann");
    let lines: [&[u8]; 4] = [b"a=1", b"user=forged", good.as_bytes(), b"b=2"];
    let (left, refused) = received(&rules, &lines, NOW);
    assert_eq!((left, refused), (vec!["a=1".to_owned(), "user=ann".to_owned(), "b=2".to_owned()], 1));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let key = "secret_key = 'hidden'";
    for (text, place) in [
        ("name = 'a b'\nsecure = true", "cookies[0].name"),
        ("name = 'sessionid'\nsecure = true", "cookies[0].name"),
        ("name = 'SessionId'\nsecure = true", "cookies[0].name"),
        ("name = 'a'", "cookies[0].name"),
        ("name = 'a'\nsecure = true\n[[cookies]]\nname = 'a'\nhttp_only = true", "cookies[1].name"),
        ("name = 'a'\nsign = true", "cookies[0].sign"),
        (&format!("name = 'a'\nsecure = true\n{key}"), "cookies[0].secret_key"),
        ("name = 'a'\nsecure = true\nsalt = 'x'", "cookies[0].salt"),
        ("name = 'a'\nsecure = true\nsecret_key_fallbacks = ['hidden']", "cookies[0].secret_key_fallbacks"),
        ("name = 'a'\nsecure = true\nderivation = 'legacy'", "cookies[0].derivation"),
        ("name = 'a'\nsecure = true\naccept_legacy = true", "cookies[0].accept_legacy"),
        ("name = 'a'\nmax_age = 0", "cookies[0].max_age"),
        ("name = 'a'\npath = 'x'", "cookies[0].path"),
        ("name = 'a'\ndomain = 'a b'", "cookies[0].domain"),
        ("name = 'a'\nsame_site = 'None'", "cookies[0].same_site"),
        (&format!("name = '__Secure-a'\nsign = true\n{key}"), "cookies[0].name"),
        ("name = '__Host-a'\nsecure = true\ndomain = 'example.com'", "cookies[0].name"),
        ("name = '__host-a'\nsecure = true\npath = '/a'", "cookies[0].name"),
        ("name = '__Http-a'\nsecure = true", "cookies[0].name"),
    ] {
        let problem = checked(&format!("[[cookies]]\n{text}")).unwrap_err();
        assert_eq!(problem.key, place, "{text}: {problem}");
        assert!(!format!("{problem:?}").contains("hidden"), "{problem}");
    }
    assert!(checked("[[cookies]]\nname = '__Host-a'\nsecure = true\npath = '/'").is_ok());
}

#[test]
fn keys_come_from_the_rule_or_from_django() {
    let secret = |text: &str| Secret::deserialize(toml::Value::from(text)).unwrap();
    let (django, older) = (secret("key"), [secret("older")]);
    let settings: CookieRuleSettings = toml::from_str("name = 'user'\nsign = true\nsalt = 's'").unwrap();
    let rules = CookieRules::new(&[settings], "sessionid", Some((&django, &older))).unwrap();
    assert_eq!(pair_of(&rules, "user=ann"), pair_of(&signing(""), "user=ann"));
    let old = pair_of(&signing_with("older", "s", ""), "user=ann");
    assert_eq!(received(&rules, &[old.as_bytes()], NOW), one("user=ann", 0));
}

/// The names in a line of cookies, and their values, for the strict reader (Django's `parse_cookie`) and for the one that
/// takes white space and commas for an end too.
fn readings(line: &str) -> Vec<(String, String)> {
    let pairs = line.split(';').chain(line.split([';', ',', ' ', '\t']));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.trim().to_owned(), value.trim().to_owned())
    };
    pairs.map(pair).filter(|(_, value)| !value.is_empty()).collect()
}

proptest! {
    #[test]
    fn i13_no_line_makes_a_backend_read_what_was_not_signed(
        pieces in prop::collection::vec("user|=|=x|;|; | |,|\"|%75ser|\t|a=1|:1r31eq:|é|\u{a0}", 0..12),
        at in any::<prop::sample::Index>(),
    ) {
        let rules = signing("");
        let mut pieces = pieces;
        let good = format!(";{};", pair_of(&rules, "user=signed"));
        pieces.insert(at.index(pieces.len() + 1), good);
        let line = pieces.concat();
        let (left, _) = received(&rules, &[line.as_bytes()], NOW);
        let read = left.iter().flat_map(|line| readings(line)).filter(|(name, _)| name == "user");
        let values: Vec<String> = read.map(|(_, value)| value).collect();
        prop_assert!(!values.is_empty() && values.iter().all(|value| value == "signed"), "{:?} of {:?}", values, line);
    }

    #[test]
    fn lines_without_a_ruled_name_stay_byte_for_byte(
        line in prop::collection::vec(prop_oneof![Just(b';'), Just(b'='), Just(b' '), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..40),
    ) {
        prop_assume!(!loose(&line).contains("user"));
        let rules = signing("secure = true");
        let mut cookies = HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&line).unwrap())]);
        let mut answer = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_bytes(&line).unwrap())]);
        prop_assert_eq!((rules.to_backend(&mut cookies, NOW), rules.to_visitor(&mut answer, NOW)), (0, 0));
        prop_assert_eq!(cookies[COOKIE].as_bytes(), &line);
        prop_assert_eq!(answer[SET_COOKIE].as_bytes(), &line);
    }
}
