//! What a backend is told of the session comes from the proxy alone, whole, and as one printable line.

use cloakroom::config::Config;
use serde_json::{Value, json};

use crate::backend::{Backend, Seen};
use crate::proxy::Proxy;
use crate::scene::{OFF_ROUTES, Scene, raw, session_lines};
use crate::visitor::{Connection, Visitor};

/// Every character of a header's name that is no letter, no digit and no `-` (RFC 9110, section 5.6.2).
const SEPARATORS: &str = "!#$%&'*+.^_`|~";

/// Sends these headers with and without a session; asserts that the backend sees the proxy's own lines and no others.
fn assert_removed(scene: &Scene, forged: &[(&str, &str)]) {
    let mut known = scene.visitor_with(&json!({"user": "ann"}));
    known.send("GET", "/", forged, b"");
    let active = [("x-session-data", r#"{"user":"ann"}"#), ("x-session-state", "active")];
    assert_eq!(sorted(&scene.backend.last()), active, "{forged:?}");

    scene.visitor().send("GET", "/", forged, b"");
    assert_eq!(sorted(&scene.backend.last()), [("x-session-state", "none")], "{forged:?}");
}

fn sorted(seen: &Seen) -> Vec<(&'static str, &'static str)> {
    let mut lines = session_lines(&seen.headers);
    lines.sort();
    // The text of a test lives long enough to be compared with literals.
    let text = |text: String| -> &'static str { text.leak() };
    lines.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn h1_a_client_cannot_send_an_injected_header() {
    let scene = Scene::new("");
    let names = [
        "X-Session-Data",
        "X-Session-State",
        "X-Session-Attr-User-Id",
        "X-Session-Overflow",
        "X-Session-Id",
        "X-Session-Expires-In",
        "X-Session-",
        "X-Session-Anything-Else",
    ];
    for name in names {
        assert_removed(&scene, &[(name, r#"{"admin":1}"#)]);
    }
    assert_removed(&scene, &names.map(|name| (name, "active")));
}

#[test]
fn h1_a_client_cannot_send_a_header_that_the_operator_named() {
    let scene = Scene::new("[headers]\nexpose = { user_id = 'X-Remote-User' }");
    let forged = [("X-Remote-User", "root"), ("X_Remote_User", "root"), ("x.remote.user", "root")];
    assert!(scene.seen("/", &forged).twins("X-Remote-User").is_empty());

    let mut visitor = scene.visitor_with(&json!({"user_id": "ann"}));
    visitor.send("GET", "/", &forged, b"");
    assert_eq!(scene.backend.last().twins("X-Remote-User").len(), 1);
    assert_eq!(scene.backend.last().header("X-Remote-User"), Some("ann"));
}

#[test]
fn h2_underscore_twin_is_removed() {
    let scene = Scene::new("");
    for name in ["X_Session_Data", "X-Session_Data", "x_session-data", "X_SESSION_STATE", "X_Session-Attr_User"] {
        assert_removed(&scene, &[(name, r#"{"admin":1}"#)]);
    }
}

#[test]
fn h3_twins_with_any_other_separator_are_removed() {
    let scene = Scene::new("");
    for separator in SEPARATORS.chars() {
        let twins = [format!("X{separator}Session{separator}Data"), format!("X-Session{separator}State")];
        assert_removed(&scene, &[(&twins[0], "{}"), (&twins[1], "active")]);
    }
}

#[test]
fn h4_case_variants_and_duplicates_leave_exactly_our_line() {
    let scene = Scene::new("");
    assert_removed(&scene, &[("x-SESSION-data", "1"), ("X-Session-Data", "2"), ("X-SESSION-DATA", "3")]);
}

#[test]
fn h5_forged_headers_are_removed_without_a_cookie_and_where_sessions_are_off() {
    let scene = Scene::new(OFF_ROUTES);
    let forged = [("X-Session-Data", r#"{"admin":1}"#), ("X_Session_State", "active"), ("x.session.attr.user", "root")];
    assert_eq!(sorted(&scene.seen("/", &forged)), [("x-session-state", "none")]);
    assert!(sorted(&scene.seen("/off/page", &forged)).is_empty());

    let mut known = scene.visitor_with(&json!({"user": "ann"}));
    known.send("GET", "/off", &forged, b"");
    assert_eq!(scene.backend.last().target, "/off");
    assert!(sorted(&scene.backend.last()).is_empty());

    let host = b"GET /host HTTP/1.1\r\nHost: off.example\r\nX_Session_Data: {}\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&scene.proxy, host).status, 200);
    assert_eq!(scene.backend.last().target, "/host");
    assert!(sorted(&scene.backend.last()).is_empty());
}

#[test]
fn h6_connection_cannot_name_an_injected_header_away() {
    let scene = Scene::new("[headers]\nexpose = { user = 'X-Remote-User' }");
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    for options in ["close, X-Session-Data", "x-session-data, X-Remote-User", "X_Session_Data,x-remote-user"] {
        visitor.send("GET", "/", &[("Connection", options)], b"");
        let seen = scene.backend.last();
        assert_eq!(seen.session(), Some(json!({"user": "ann"})), "{options}");
        assert_eq!(seen.header("X-Remote-User"), Some("ann"), "{options}");
    }
}

#[test]
fn h7_connection_cannot_name_away_what_the_proxy_vouches_for() {
    let scene = Scene::new("");
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    visitor.jar.insert("theme".to_owned(), "dark".to_owned());
    visitor.send("GET", "/", &[("Connection", "X-Session-State, Cookie, X-Forwarded-For, Host")], b"");
    let seen = scene.backend.last();
    assert_eq!(seen.header("X-Session-State"), Some("active"));
    assert_eq!(seen.header("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(seen.header("Host"), Some("shop.example"));
    // RFC 9110, section 7.6.1: what is named goes. The session was found before.
    assert_eq!(seen.header("Cookie"), None);
}

#[test]
fn h8_h14_h17_trailers_carry_nothing_that_heads_may_not() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let names = ["Cookie", "Proxy", "X-Forwarded-For", "X_Real_IP", "Authorization", "Host", "Connection", "Checksum"];
    let trailers: String = names.iter().fold(String::new(), |lines, name| lines + name + ": 7\r\n");
    let mut connection = Connection::open(proxy.address);
    connection.write(
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: {}\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nab\r\n0\r\n{trailers}\r\n",
            names.join(", ")
        )
        .as_bytes(),
    );
    assert_eq!(connection.answer().unwrap().status, 200);
    assert_eq!(backend.last().trailers, [("checksum".to_owned(), "7".to_owned())]);
}

#[test]
fn h8_request_trailers_never_become_headers() {
    let scene = Scene::new("[headers]\nexpose = { user = 'X-Remote-User' }");
    let request = b"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Session-Data, Checksum, x_remote_user\r\n\r\n2\r\nhi\r\n0\r\n\
        X-Session-Data: {\"admin\":1}\r\nChecksum: 7\r\nX_Remote_User: root\r\nX_Session_State: active\r\n\r\n";
    assert_eq!(raw(&scene.proxy, request).status, 200);
    let seen = scene.backend.last();
    assert_eq!(seen.body, b"hi");
    assert_eq!(sorted(&seen), [("x-session-state", "none")]);
    assert_eq!(seen.header("Trailer"), Some("Checksum"));
    assert_eq!(seen.trailers, [("checksum".to_owned(), "7".to_owned())]);

    let only_ours = b"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Session-Data\r\n\r\n0\r\nX-Session-Data: {}\r\n\r\n";
    assert_eq!(raw(&scene.proxy, only_ours).status, 200);
    let seen = scene.backend.last();
    assert_eq!((seen.header("Trailer"), seen.trailers.len()), (None, 0));
}

#[test]
fn h9_line_breaks_in_a_value_stay_inside_one_header_line() {
    let scene = Scene::new("[headers]\nexpose = { a = 'X-A' }");
    let mut visitor = scene.visitor();
    visitor.ask(&["X-Session-Set: a=x%0D%0AX-Admin:%201%00%0A%0Dy"]);
    visitor.get("/");
    let seen = scene.backend.last();
    assert_eq!(seen.header("X-Admin"), None);
    assert_eq!(seen.header("X-Session-Data"), Some(r#"{"a":"x\u000d\u000aX-Admin: 1\u0000\u000a\u000dy"}"#));
    assert_eq!(seen.header("X-A"), Some("x%0D%0AX-Admin: 1%00%0A%0Dy"));
    assert_eq!(seen.session(), Some(json!({"a": "x\r\nX-Admin: 1\0\n\ry"})));
}

#[test]
fn h10_other_alphabets_come_back_whole_in_printable_ascii() {
    let text = "é漢😀\u{7f}\u{2028}";
    let scene = Scene::new("[headers]\nexpose = { word = 'X-Word' }");
    for line in [
        "X-Session-Set: word=%C3%A9%E6%BC%A2%F0%9F%98%80%7F%E2%80%A8".to_owned(),
        format!("X-Session-Set: {}", json!({"word": text}).to_string().replace('\u{7f}', "\\u007f")),
        r#"X-Session-Patch: {"word":"\u00e9\u6f22\ud83d\ude00\u007f\u2028"}"#.to_owned(),
    ] {
        let mut visitor = scene.visitor();
        visitor.ask(&[&line]);
        assert_eq!(scene.session(&mut visitor), Some(json!({"word": text})), "{line}");
        let seen = scene.backend.last();
        for (name, value) in session_lines(&seen.headers).iter().chain([&(String::new(), word(&seen))]) {
            assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {value:?}");
        }
        assert_eq!(word(&seen), "%C3%A9%E6%BC%A2%F0%9F%98%80%7F%E2%80%A8");
    }
}

fn word(seen: &Seen) -> String {
    seen.header("X-Word").expect("the exposed key").to_owned()
}

#[test]
fn h11_the_state_is_told_on_every_request_of_a_session_route() {
    let scene = Scene::new(OFF_ROUTES);
    let unknown = format!("sessionid={}", "a".repeat(32));
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        for cookie in ["", "a=1", "sessionid=", "sessionid=../..", &unknown] {
            let headers = [("Cookie", cookie), ("X-Forwarded-Proto", "https")];
            scene.visitor().send(method, "/", if cookie.is_empty() { &[] } else { &headers }, b"");
            let seen = scene.backend.last();
            assert_eq!(seen.method, method);
            assert_eq!(sorted(&seen), [("x-session-state", "none")], "{method} {cookie}");
        }
        let mut known = scene.visitor_with(&json!({"a": 1}));
        known.send(method, "/", &[], b"");
        assert_eq!(scene.backend.last().header("X-Session-State"), Some("active"), "{method}");
        known.send(method, "/off", &[], b"");
        assert_eq!(scene.backend.last().header("X-Session-State"), None, "{method}");
    }
}

#[test]
fn h12_names_that_collide_are_refused_at_start() {
    for (expose, refused) in [
        ("['user_id', 'user-id']", true),
        ("['user_id', 'user.id']", true),
        ("['a', 'A']", true),
        ("{ a = 'X-Remote-User', b = 'x_remote_user' }", true),
        ("{ a = 'X-Session-Attr-A', b = 'X-Session.Attr.A' }", true),
        ("{ a = 'X-Session-Data' }", true),
        ("{ a = 'x_session_state' }", true),
        ("{ a = 'Cookie' }", true),
        ("{ a = 'Host' }", true),
        ("{ a = 'Content-Length' }", true),
        ("{ a = 'Connection' }", true),
        ("{ a = 'Forwarded' }", true),
        ("{ a = 'X_Forwarded_For' }", true),
        ("['user_id', 'user_name']", false),
        ("{ a = 'X-Remote-User', b = 'X-Remote-User-Name' }", false),
    ] {
        let text = format!("upstreams.app.servers = ['http://127.0.0.1:9']\n[headers]\nexpose = {expose}\n");
        match Config::parse(&text, "cloakroom.toml") {
            Err(error) => assert!(refused && error.to_string().contains("headers.expose"), "{expose}: {error}"),
            Ok(_) => assert!(!refused, "{expose}"),
        }
    }
}

#[test]
fn h14_the_cookie_never_reaches_the_backend_and_the_others_stay_byte_for_byte() {
    let scene = Scene::new(OFF_ROUTES);
    let visitor = scene.visitor_with(&json!({"user": "ann"}));
    let id = visitor.session_id().unwrap();
    let cases = [
        ("sessionid=<id>", None),
        ("sessionid=<id>;", None),
        ("a=1; sessionid=<id>; b=2", Some("a=1; b=2")),
        ("sessionid=<id>; a=1; b=2", Some("a=1; b=2")),
        ("a=1; b=2; sessionid=<id>", Some("a=1; b=2")),
        ("a=1;sessionid=<id>;b=2", Some("a=1;b=2")),
        ("sessionid=x; a=1; sessionid=<id>; sessionid=y", Some("a=1")),
        ("q=\"x y\";  e==;sessionid=<id>; %=%zz; a=\u{e9}", Some("q=\"x y\";  e==; %=%zz; a=\u{e9}")),
        ("xsessionid=1; sessionid=<id>; sessionidx=2; SESSIONID=3", Some("xsessionid=1; sessionidx=2; SESSIONID=3")),
        ("a=1; b=2", Some("a=1; b=2")),
    ];
    for path in ["/", "/off"] {
        for (sent, expected) in cases {
            let seen = scene.seen(path, &[("Cookie", &sent.replace("<id>", id))]);
            assert_eq!(seen.header("Cookie"), expected, "{path} {sent}");
            assert!(seen.headers.iter().all(|(_, value)| !value.contains(id)), "{path} {sent}");
        }
    }
}

#[test]
fn h15_taking_the_cookie_out_loses_no_data() {
    let scene = Scene::new("");
    let mut visitor = scene.visitor_with(&json!({"old": [1, {"x": null}], "user": "ann"}));
    visitor.get("/");
    visitor.ask(&["X-Session-Set: new=1"]);
    assert_eq!(scene.session(&mut visitor), Some(json!({"old": [1, {"x": null}], "user": "ann", "new": "1"})));
}

#[test]
fn h16_a_session_that_does_not_fit_announces_itself() {
    let settings = "[headers]\nexpose = ['user']\nmax_header_bytes = '1KiB'\non_overflow = 'announce'";
    let scene = Scene::new(settings);
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    visitor.ask(&[&format!("X-Session-Set: large={}", "x".repeat(1500))]);
    visitor.get("/");
    let seen = scene.backend.last();
    let length = json!({"user": "ann", "large": "x".repeat(1500)}).to_string().len();
    assert_eq!(seen.header("X-Session-Overflow"), Some(format!("bytes={length}").as_str()));
    assert_eq!(seen.header("X-Session-Data"), None);
    assert_eq!(seen.header("X-Session-Attr-User"), Some("ann"));
    assert_eq!(seen.header("X-Session-State"), Some("active"));
    let bytes: usize = seen.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    assert!(bytes < 1024, "{bytes} bytes of headers");
}

#[test]
fn h16_an_update_that_would_not_fit_is_refused_whole_by_default() {
    let scene = Scene::new("[admin]\nlisten = '127.0.0.1:0'");
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    // {"user":"ann","large":"…"} is 25 bytes around the value.
    for (length, fits) in [(4096 - 25, true), (4096 - 24, false)] {
        let before = scene.session(&mut visitor);
        let answer = visitor.ask(&[&format!("X-Session-Set: large={}", "x".repeat(length)), "X-Session-Set: b=1"]);
        assert_eq!((answer.status, answer.session_cookie().is_some()), (200, false), "the member b is too much");
        assert_eq!(scene.session(&mut visitor), before);
        let answer = visitor.ask(&[&format!("X-Session-Set: large={}", "x".repeat(length))]);
        assert_eq!(answer.session_cookie().is_some(), fits, "{length}");
        let expected = if fits { json!({"user": "ann", "large": "x".repeat(length)}) } else { before.unwrap() };
        assert_eq!(scene.session(&mut visitor), Some(expected), "{length}");
    }
    assert_eq!(scene.backend.last().header("X-Session-Overflow"), None);
    assert_eq!(scene.counter("cloakroom_refused_total{reason=\"header_too_large\"}"), 3);
}

#[test]
fn h17_the_proxy_header_is_removed() {
    let scene = Scene::new(OFF_ROUTES);
    for path in ["/", "/off"] {
        let seen = scene.seen(path, &[("Proxy", "http://evil.example"), ("PROXY", "http://evil.example")]);
        assert!(seen.twins("proxy").is_empty());
    }
}

#[test]
fn a_session_key_called_like_a_command_or_a_state_is_data() {
    let scene = Scene::new("[headers]\nexpose = ['state', 'set']");
    let mut visitor: Visitor = scene.visitor();
    let data: Value = json!({"state": "active", "set": "a=1", "data": "{}"});
    visitor.ask(&[&format!("X-Session-Set: {data}")]);
    assert_eq!(scene.session(&mut visitor), Some(data));
    let seen = scene.backend.last();
    assert_eq!(seen.header("X-Session-Attr-State"), Some("active"));
    assert_eq!(seen.header("X-Session-Attr-Set"), Some("a=1"));
    assert_eq!(seen.header("X-Session-Set"), None);
}
