use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::session::data::Data;
use crate::session::expiry::Expiry;

const ID_KEY: &str = "id_key = '0123456789abcdef0123456789abcdef'\n";

fn check(text: &str) -> Result<Injector, Problem> {
    toml::from_str::<HeaderSettings>(text).unwrap().check()
}

fn session(data: &str) -> Session {
    let start = Timestamp::from_millis(0);
    Session {
        data: Data::parse(data.to_owned().into()).unwrap(),
        created_at: start,
        saved_at: start,
        expiry: Expiry::Default,
        retired: None,
        predecessors: Vec::new(),
    }
}

fn added(settings: &str, data: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let session = session(data);
    let key = Key::new("k");
    let left = Some(Duration::from_millis(61_999));
    check(settings).unwrap().add(&mut headers, State::Active, Some((&session, Some(&key))), left);
    headers
}

#[test]
fn tells_what_is_asked_for() {
    let headers = added("", r#"{"a":1.0,"b":"\u00e9"}"#);
    assert_eq!(headers["x-session-state"], "active");
    assert_eq!(headers["x-session-data"], r#"{"a":1.0,"b":"\u00e9"}"#);
    assert_eq!(headers.len(), 2);

    let headers = added("data = false\nexpires_in = true", "{}");
    assert_eq!(headers["x-session-expires-in"], "61");
    assert_eq!(headers.len(), 2);
}

#[test]
fn h11_the_state_is_always_told() {
    for (state, text) in [(State::None, "none"), (State::Degraded, "degraded")] {
        let mut headers = HeaderMap::new();
        check("expires_in = true").unwrap().add(&mut headers, state, None, None);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-session-state"], text);
    }
}

#[test]
fn h1_to_h4_forged_headers_go_and_ours_are_one_line() {
    let injector = check("expose = { user_id = 'X-Remote-User' }").unwrap();
    let forged = [
        "X-Session-Data",
        "X_Session_Data",
        "X-Session_Data",
        "x.session.data",
        "X~Session~Data",
        "X!Session!State",
        "x-session-anything",
        "X-Session-Set",
        "X-Remote-User",
        "X_Remote_User",
        "x.remote-user",
    ];
    let mut headers = HeaderMap::new();
    for name in forged.iter().chain(&["X-Sessions", "X-Remote-User2", "Remote-User"]) {
        for value in ["evil", "evil2"] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
        }
    }
    headers.append("trailer", HeaderValue::from_static("X-Checksum, x_session_data"));
    headers.append("trailer", HeaderValue::from_static("X_REMOTE_USER"));
    injector.strip(&mut headers);
    assert_eq!(headers["trailer"], "X-Checksum");
    assert_eq!(headers.keys_len(), 4);
    injector.add(&mut headers, State::Active, Some((&session(r#"{"user_id":7}"#), Some(&Key::new("k")))), None);
    for (name, value) in [("x-session-state", "active"), ("x-session-data", r#"{"user_id":7}"#), ("x-remote-user", "7")]
    {
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(lines, [value], "{name}");
    }
}

#[test]
fn h9_h10_values_of_one_key_are_one_printable_line() {
    for (value, expected) in [
        (r#""plain text""#, "plain text"),
        (r#""a\u000d\u000aX-Admin:1\u0000""#, "a%0D%0AX-Admin:1%00"),
        (r#""\u00e9\ud83d\ude00""#, "%C3%A9%F0%9F%98%80"),
        (r#""100%+1\u007f""#, "100%25+1%7F"),
        (r#""  a b ""#, "%20%20a b%20"),
        (r#""  ""#, "%20%20"),
        (r#""\"q\"""#, "\"q\""),
        (r#""""#, ""),
        ("7", "7"),
        ("1.10", "1.10"),
        ("false", "false"),
        (r#"{"a":["\u00e9","5%"]}"#, r#"{"a":["\u00e9","5%25"]}"#),
    ] {
        let headers = added("expose = ['user_id']", &format!("{{\"user_id\":{value}}}"));
        assert_eq!(headers["x-session-attr-user-id"], expected, "{value}");
    }
    for data in ["{}", r#"{"user_id":null}"#, r#"{"user":1}"#] {
        assert!(!added("expose = ['user_id']", data).contains_key("x-session-attr-user-id"), "{data}");
    }
    assert_eq!(added("expose = ['user_id']", r#"{"user\u005fid":7}"#)["x-session-attr-user-id"], "7");
}

#[test]
fn h16_what_does_not_fit_announces_itself() {
    let fits = format!("{{\"u\":1,\"a\":\"{}\"}}", "x".repeat(4096 - 14));
    assert_eq!(fits.len(), 4096);
    assert!(added("", &fits).contains_key(DATA));
    let large = fits.replace("\"u\":1", "\"u\":12");
    let headers = added("expose = ['u']", &large);
    assert_eq!(headers[OVERFLOW], "bytes=4097");
    assert_eq!(headers["x-session-attr-u"], "12");
    assert!(!headers.contains_key(DATA));
}

#[test]
fn a_public_id_is_an_hmac_of_the_key() {
    let headers = added(&format!("{ID_KEY}id = true"), "{}");
    // printf k | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    assert_eq!(headers[ID], "92ffef4ccf8e1c5dff19791bbeb6317c5377401e97e3e11af411257be55f551b");
}

#[test]
fn h12_names_that_stand_for_one_another_are_refused() {
    for text in [
        "expose = ['user_id', 'user-id']",
        "expose = ['user_id', 'USER.ID']",
        "expose = ['user_id', 'user_id']",
        "expose = { a = 'X-Remote-User', b = 'x_remote_user' }",
        "expose = { user_id = 'X-Remote-User', other = 'X-Remote-User' }",
    ] {
        let problem = check(text).unwrap_err();
        assert!(problem.to_string().contains("could not tell"), "{text}: {problem}");
    }
}

#[test]
fn names_that_are_not_free_are_refused() {
    for name in [
        "Host",
        "Cookie",
        "Forwarded",
        "X-Forwarded-For",
        "x_forwarded_proto",
        "Connection",
        "Transfer-Encoding",
        "content_length",
        "TE",
        "Trailer",
        "Upgrade",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy",
        "X-Session-Data",
        "x_session_foo",
        "a b",
        "",
        "é",
        "a:",
    ] {
        let problem = check(&format!("expose = {{ k = '{name}' }}")).unwrap_err();
        assert_eq!(problem.key, "headers.expose.k", "{name}");
    }
    for text in ["expose = ['']", "expose = ['_session_expiry']", "expose = { _session_expiry = 'X-A' }"] {
        assert!(check(text).is_err(), "{text}");
    }
    for text in ["expose = ['state', 'set', 'größe']", "expose = { k = 'X-Session-Attr-K', l = 'Remote-User' }"] {
        assert!(check(text).is_ok(), "{text}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (text, key) in [
        ("id = true", "headers.id"),
        ("id = true\nid_key = 'short'", "headers.id_key"),
        ("max_header_bytes = 1", "headers.max_header_bytes"),
    ] {
        assert_eq!(check(text).unwrap_err().key, key, "{text}");
    }
    for text in ["on_overflow = 'ignore'", "expose = 'user_id'", "date = true"] {
        assert!(toml::from_str::<HeaderSettings>(text).is_err(), "{text}");
    }
    let refused_above = |text| toml::from_str::<HeaderSettings>(text).unwrap().refused_above();
    assert_eq!(refused_above(""), Some(4096));
    assert_eq!(refused_above("on_overflow = 'announce'"), None);
    assert_eq!(refused_above("data = false"), None);
}

proptest! {
    #[test]
    fn one_decoding_gives_back_every_string(text in any::<String>()) {
        let value = attribute(&json::encode(&text));
        prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == value);
        prop_assert_eq!(percent_decode_str(&value).decode_utf8().unwrap(), text);
    }
}
