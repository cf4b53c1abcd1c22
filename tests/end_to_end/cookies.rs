//! The cookie, as browsers get it and as they send it back.

use std::time::{Duration, UNIX_EPOCH};

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::config::Config;
use serde_json::json;

use crate::scene::{Scene, SetCookie, TRUSTING, raw};
use crate::visitor::Answer;

const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const HTTPS: (&str, &str) = ("X-Forwarded-Proto", "https");

/// The line that an answer sets our cookie with.
fn set(answer: &Answer) -> SetCookie {
    SetCookie::parse(answer.session_cookie().expect("a cookie"))
}

/// Creates a session over HTTPS; the `Set-Cookie` lines.
fn created(scene: &Scene) -> Vec<SetCookie> {
    let answer = scene.visitor().send("GET", "/", &[HTTPS, ("Reply", "X-Session-Set: a=1")], b"");
    answer.all("set-cookie").into_iter().map(SetCookie::parse).collect()
}

#[test]
fn c1_attributes_on_https_are_safe_by_default() {
    let scene = Scene::new(TRUSTING);
    let [cookie] = created(&scene).try_into().unwrap();
    assert_eq!(cookie.name, "sessionid");
    assert_eq!(cookie.fixed_attributes(), [("httponly", ""), ("path", "/"), ("samesite", "Lax"), ("secure", "")]);
    assert!(cookie.attribute("expires").is_some() && cookie.attribute("max-age") == Some("1209600"));

    let plain = scene.visitor().ask(&["X-Session-Set: a=1"]);
    assert_eq!(set(&plain).fixed_attributes(), [("httponly", ""), ("path", "/"), ("samesite", "Lax")]);
}

#[test]
fn c1_attributes_are_those_of_the_settings() {
    let text = "cookie = { path = '/shop', domain = 'shop.example', secure = true, http_only = false, \
                same_site = 'Strict', partitioned = true }";
    let [cookie] = created(&Scene::new(text)).try_into().unwrap();
    let expected =
        [("domain", "shop.example"), ("partitioned", ""), ("path", "/shop"), ("samesite", "Strict"), ("secure", "")];
    assert_eq!(cookie.fixed_attributes(), expected);
    let [cookie] = created(&Scene::new("cookie = { same_site = 'off', http_only = false }")).try_into().unwrap();
    assert_eq!(cookie.fixed_attributes(), [("path", "/")]);
}

/// The key that is at fault, if the `[cookie]` settings are refused.
fn fault(cookie: &str) -> Option<String> {
    let text = format!("upstreams.app.servers = ['http://127.0.0.1:9']\ncookie = {{ {cookie} }}\n");
    let error = Config::parse(&text, "cloakroom.toml").err()?.to_string();
    let key = ["cookie.name", "cookie.same_site", "cookie.partitioned"].into_iter().find(|key| error.contains(key));
    Some(key.unwrap_or_else(|| panic!("{cookie}: {error}")).to_owned())
}

/// Settings that go together with a name, and the key that is refused if they do not.
fn assert_matrix(cases: &[(&str, Option<&str>)]) {
    for (cookie, expected) in cases {
        assert_eq!(fault(cookie).as_deref(), *expected, "{cookie}");
    }
}

#[test]
fn c2_host_names_force_secure_root_and_no_domain() {
    assert_matrix(&[
        ("name = '__Host-id', secure = true", None),
        ("name = '__Host-id', secure = true, path = '/'", None),
        ("name = '__Host-id'", Some("cookie.name")),
        ("name = '__Host-id', secure = 'auto'", Some("cookie.name")),
        ("name = '__Host-id', secure = false", Some("cookie.name")),
        ("name = '__Host-id', secure = true, path = '/shop'", Some("cookie.name")),
        ("name = '__Host-id', secure = true, domain = 'shop.example'", Some("cookie.name")),
        ("name = '__hOST-id', secure = true, domain = 'shop.example'", Some("cookie.name")),
        ("name = '__Hostid'", None),
    ]);
    let scene = Scene::new("cookie = { name = '__Host-id', secure = true }");
    let [cookie] = created(&scene).try_into().unwrap();
    assert_eq!(cookie.name, "__Host-id");
    assert_eq!(cookie.fixed_attributes(), [("httponly", ""), ("path", "/"), ("samesite", "Lax"), ("secure", "")]);
}

#[test]
fn c3_other_prefixes_are_allowed_with_what_browsers_demand_of_them() {
    assert_matrix(&[
        ("name = '__Secure-id', secure = true", None),
        ("name = '__Secure-id', secure = true, path = '/shop', domain = 'shop.example'", None),
        ("name = '__Secure-id'", Some("cookie.name")),
        ("name = '__secure-id', secure = false", Some("cookie.name")),
        ("name = '__Http-id', secure = true", None),
        ("name = '__Http-id', secure = true, path = '/shop'", None),
        ("name = '__Http-id', secure = true, http_only = false", Some("cookie.name")),
        ("name = '__Http-id'", Some("cookie.name")),
        ("name = '__Host-Http-id', secure = true", None),
        ("name = '__Host-Http-id', secure = true, http_only = false", Some("cookie.name")),
        ("name = '__Host-Http-id', secure = true, path = '/shop'", Some("cookie.name")),
    ]);
    for name in ["__Secure-id", "__Http-id", "__Host-Http-id"] {
        let scene = Scene::new(&format!("cookie = {{ name = '{name}', secure = true }}"));
        let mut visitor = scene.visitor_named(name);
        assert_eq!(scene.session(&mut visitor), Some(json!({"a": "1"})), "{name}");
    }
}

#[test]
fn c4_cross_site_and_partitioned_cookies_need_secure() {
    assert_matrix(&[
        ("same_site = 'None', secure = true", None),
        ("same_site = 'None'", Some("cookie.same_site")),
        ("same_site = 'None', secure = false", Some("cookie.same_site")),
        ("partitioned = true, secure = true", None),
        ("partitioned = true", Some("cookie.partitioned")),
        ("partitioned = true, secure = false", Some("cookie.partitioned")),
        ("same_site = 'Strict', secure = false", None),
        ("same_site = 'off', secure = false", None),
    ]);
}

#[test]
fn c5_the_removal_cookie_matches_the_one_it_removes() {
    for settings in [
        "",
        "cookie = { path = '/shop', domain = 'shop.example', secure = true, same_site = 'None', partitioned = true }",
        "cookie = { secure = false, http_only = false, same_site = 'off' }",
    ] {
        let scene = Scene::new(settings);
        let mut visitor = scene.visitor();
        let given = set(&visitor.ask(&["X-Session-Set: a=1"]));
        let removal = set(&visitor.ask(&["X-Session-Action: flush"]));
        assert_eq!((removal.name.as_str(), removal.value.as_str()), ("sessionid", ""), "{settings}");
        assert_eq!(removal.attribute("max-age"), Some("0"), "{settings}");
        assert_eq!(removal.attribute("expires"), Some("Thu, 01 Jan 1970 00:00:00 GMT"), "{settings}");
        assert_eq!(removal.fixed_attributes(), given.fixed_attributes(), "{settings}");
    }
}

#[test]
fn c6_the_line_keeps_the_grammar_of_servers() {
    let scene = Scene::new("cookie = { domain = 'shop.example', secure = true, partitioned = true }");
    let mut visitor = scene.visitor();
    for asked in ["X-Session-Set: a=1", "X-Session-Expiry: 0", "X-Session-Action: cycle", "X-Session-Action: flush"] {
        let answer = visitor.ask(&[asked]);
        let line = answer.session_cookie().unwrap_or_else(|| panic!("no cookie for {asked}"));
        // `SetCookie` itself refuses an attribute that stands twice.
        let cookie = SetCookie::parse(line);
        assert!(!cookie.name.is_empty() && cookie.name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{line}");
        assert!(cookie.value.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"'), "{line}");
        assert!(line.split("; ").all(|part| part == part.trim() && !part.is_empty()), "{line}");
        for name in cookie.attributes.keys() {
            let known = ["domain", "expires", "httponly", "max-age", "partitioned", "path", "samesite", "secure"];
            assert!(known.contains(&name.as_str()), "{line}");
        }
        if let Some(expires) = cookie.attribute("expires") {
            assert!(httpdate::parse_http_date(expires).is_ok(), "{line}");
        }
    }
}

#[test]
fn c7_no_cookie_lasts_longer_than_400_days_and_a_browser_session_says_nothing() {
    const DAY: u64 = 86_400;

    let clock = Clock::manual(START);
    let cases: [(&str, &str, Option<u64>); 8] = [
        ("", "X-Session-Set: a=1", Some(14 * DAY)),
        ("session.max_age = '1h'", "X-Session-Set: a=1", Some(3600)),
        ("session.max_age = '400d'", "X-Session-Set: a=1", Some(400 * DAY)),
        ("session.max_age = '1000d'", "X-Session-Set: a=1", Some(400 * DAY)),
        ("", "X-Session-Set: a=1|X-Session-Expiry: 99999999999", Some(400 * DAY)),
        ("session.absolute_timeout = '2h'", "X-Session-Set: a=1", Some(7200)),
        ("session.expire_at_browser_close = true", "X-Session-Set: a=1", None),
        ("", "X-Session-Set: a=1|X-Session-Expiry: 0", None),
    ];
    for (settings, asked, age) in cases {
        let scene = Scene::with(settings, |setup| setup.clock(&clock));
        let cookie = set(&scene.visitor().ask(&[asked]));
        let expires = age.map(|age| {
            let start = Duration::from_millis(START.as_millis().unsigned_abs());
            httpdate::fmt_http_date(UNIX_EPOCH + start + Duration::from_secs(age))
        });
        assert_eq!(cookie.attribute("max-age").map(str::to_owned), age.map(|age| age.to_string()), "{settings}");
        assert_eq!(cookie.attribute("expires").map(str::to_owned), expires, "{settings} {asked}");
    }
}

#[test]
fn c8_name_and_value_are_never_longer_than_browsers_take() {
    let longest = "n".repeat(4096 - 32);
    assert_matrix(&[(&format!("name = '{longest}'"), None), (&format!("name = '{longest}n'"), Some("cookie.name"))]);
    let scene = Scene::new(&format!("cookie = {{ name = '{longest}' }}"));
    let mut visitor = scene.visitor_named(&longest);
    let (name, value) = visitor.jar.first_key_value().unwrap();
    assert_eq!(name.len() + value.len(), 4096);
    assert_eq!(scene.session(&mut visitor), Some(json!({"a": "1"})));
}

#[test]
fn c9_of_several_cookies_the_first_live_one_wins_in_any_order() {
    let scene = Scene::new("");
    let visitor = scene.visitor_with(&json!({"user": "ann"}));
    let id = visitor.session_id().unwrap();
    let dead = "z".repeat(32);
    for (values, found) in [
        (vec![id, dead.as_str()], true),
        (vec![dead.as_str(), id], true),
        (vec!["", "evil", "\"", id], true),
        (vec![id, id, id], true),
        (vec![dead.as_str(), "../.."], false),
    ] {
        let cookies: Vec<String> = values.iter().map(|value| format!("sessionid={value}")).collect();
        let seen = scene.seen("/", &[("Cookie", &cookies.join("; "))]);
        assert_eq!(seen.session(), found.then(|| json!({"user": "ann"})), "{cookies:?}");
        assert_eq!(seen.header("Cookie"), None);
    }
    let two = scene.visitor_with(&json!({"user": "bob"}));
    for (first, second, user) in [(id, two.session_id().unwrap(), "ann"), (two.session_id().unwrap(), id, "bob")] {
        let seen = scene.seen("/", &[("Cookie", &format!("sessionid={first}; sessionid={second}"))]);
        assert_eq!(seen.session(), Some(json!({"user": user})));
    }
}

#[test]
fn c9_no_more_than_eight_candidates_are_tried() {
    let scene = Scene::new("");
    let visitor = scene.visitor_with(&json!({"user": "ann"}));
    let shadows = |count: usize| -> String {
        let ids = (b'a'..).take(count).map(|letter| char::from(letter).to_string().repeat(32));
        ids.fold(String::new(), |line, id| line + "sessionid=" + &id + "; ")
    };
    for (count, found) in [(7, true), (8, false)] {
        let cookie = format!("{}sessionid={}", shadows(count), visitor.session_id().unwrap());
        assert_eq!(scene.seen("/", &[("Cookie", &cookie)]).session().is_some(), found, "{count} before it");
    }
}

#[test]
fn c10_several_cookie_lines_are_one() {
    let scene = Scene::new("");
    let visitor = scene.visitor_with(&json!({"user": "ann"}));
    let ours = format!("sessionid={}", visitor.session_id().unwrap());
    for (lines, expected) in [
        (vec!["a=1", &ours, "b=2"], Some("a=1; b=2")),
        (vec![ours.as_str(), "a=1; b=2"], Some("a=1; b=2")),
        (vec![ours.as_str(), ours.as_str()], None),
    ] {
        let lines: Vec<(&str, &str)> = lines.into_iter().map(|line| ("Cookie", line)).collect();
        let seen = scene.seen("/", &lines);
        assert_eq!(seen.session(), Some(json!({"user": "ann"})), "{lines:?}");
        assert_eq!(seen.header("Cookie"), expected, "{lines:?}");
    }
}

#[test]
fn c11_a_value_in_quotes_or_with_anything_else_is_another_value() {
    let scene = Scene::new("");
    let visitor = scene.visitor_with(&json!({"user": "ann"}));
    let id = visitor.session_id().unwrap();
    for (value, found) in [
        ("ID".to_owned(), true),
        (" ID ".to_owned(), true),
        ("\"ID\"".to_owned(), false),
        ("'ID'".to_owned(), false),
        ("ID=".to_owned(), false),
        ("=ID".to_owned(), false),
        ("ID x".to_owned(), false),
        ("ID,x".to_owned(), false),
        ("%49D".to_owned(), false),
    ] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nCookie: sessionid={}; a=1\r\n\r\n",
            value.replace("ID", id)
        );
        assert_eq!(raw(&scene.proxy, request.as_bytes()).status, 200, "{value}");
        let seen = scene.backend.last();
        assert_eq!(seen.session().is_some(), found, "{value}");
        assert_eq!(seen.header("Cookie"), Some("a=1"), "{value}");
    }
    let upper = id.to_uppercase();
    assert_eq!(scene.seen("/", &[("Cookie", &format!("sessionid={upper}"))]).session(), None);
}

#[test]
fn c13_the_name_is_the_operators_choice_and_no_other_name_is_ours() {
    let scene = Scene::new("cookie.name = 'id'");
    let mut visitor = scene.visitor_named("id");
    assert_eq!(visitor.jar.len(), 1, "one cookie, of that name");
    assert_eq!(scene.session(&mut visitor), Some(json!({"a": "1"})));
    let other = visitor.jar["id"].clone();
    let seen = scene.seen("/", &[("Cookie", &format!("sessionid={other}"))]);
    assert_eq!(seen.header("X-Session-State"), Some("none"));
    assert_eq!(seen.header("Cookie"), Some(format!("sessionid={other}").as_str()), "a cookie like any other");
    let answer = visitor.ask(&["Set-Cookie: sessionid=backend", "Set-Cookie: id=evil"]);
    assert_eq!(answer.all("set-cookie"), ["sessionid=backend"]);
}
