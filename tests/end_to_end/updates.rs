//! What a backend says of the session stays between it and the proxy, counts whole or not at all, and harms nobody.

use serde_json::{Value, json};

use crate::backend::{Backend, Reply, obey};
use crate::proxy::Proxy;
use crate::scene::{OFF_ROUTES, Scene, raw, session_lines};
use crate::visitor::{Answer, Connection};

const ADMIN: &str = "[admin]\nlisten = '127.0.0.1:0'\n";

fn assert_nothing_leaks(answer: &Answer, case: &str) {
    assert_eq!(session_lines(&answer.headers), [], "{case}");
    assert_eq!(session_lines(&answer.trailers), [], "{case}");
    let named = answer.all("trailer").join(",").to_lowercase();
    assert!(!named.contains("session"), "{case}: Trailer: {named}");
}

#[test]
fn u1_no_status_and_no_method_shows_the_client_a_session_header() {
    let scene = Scene::new("");
    let lines = "X-Session-Set: a=1|X_Session_Set: b=1|x.session.patch: {}|X-Session-Data: {}|X-SESSION-Anything: 1\
                 |X-Session-: 1|X-Session-Action: nonsense|Trailer: X-Session-Data, x_session_set|X-Other: stays";
    let mut checked = 0;
    for status in ["200", "201", "204", "302", "304", "401", "404", "500", "502", "503"] {
        for method in ["GET", "HEAD", "POST"] {
            let headers = [("Reply", lines), ("Reply-Status", status)];
            let answer = scene.visitor().send(method, "/", &headers, b"");
            assert_eq!(answer.status.to_string(), status);
            assert_nothing_leaks(&answer, &format!("{method} {status}"));
            assert_eq!(answer.header("trailer"), None);
            assert_eq!(answer.header("x-other"), Some("stays"));
            checked += 1;
        }
    }
    assert_eq!(checked, 30);
}

#[test]
fn u2_session_headers_are_removed_and_not_obeyed_where_sessions_are_off() {
    let scene = Scene::new(OFF_ROUTES);
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    for asked in ["X-Session-Set: a=1", "X_Session_Set: a=1", "X-Session-Action: flush", "X-Session-Expiry: 0"] {
        let answer = visitor.send("GET", "/off", &[("Reply", asked)], b"");
        assert_nothing_leaks(&answer, asked);
        assert_eq!(answer.session_cookie(), None, "{asked}");
        let head = format!("GET / HTTP/1.1\r\nHost: off.example\r\nReply: {asked}\r\nConnection: close\r\n\r\n");
        let answer = raw(&scene.proxy, head.as_bytes());
        assert_nothing_leaks(&answer, asked);
        assert_eq!(answer.session_cookie(), None, "{asked}");
    }
    assert_eq!(scene.session(&mut visitor), Some(json!({"user": "ann"})));
}

#[test]
fn u3_interim_answers_and_trailers_are_cleaned_and_never_obeyed() {
    let scene = Scene::new("");
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    scene.answer_next(Reply::raw(
        "HTTP/1.1 103 Early Hints\r\nX-Session-Set: early=1\r\nX_Session_Data: {}\r\n\r\n\
         HTTP/1.1 100 Continue\r\nX-Session-Action: flush\r\n\r\n\
         HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Session-Set, Checksum\r\nX-Session-Set: head=1\r\n\r\n\
         2\r\nok\r\n0\r\nX-Session-Set: late=1\r\nx_session_unset: user\r\nX-Session-Action: flush\r\nChecksum: 7\r\n\r\n",
    ));
    let mut connection = Connection::open(scene.proxy.address);
    let id = visitor.session_id().unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: shop.example\r\nTE: trailers\r\nConnection: close, TE\r\nCookie: sessionid={id}\r\n\r\n"
    );
    connection.write(head.as_bytes());
    let lines: Vec<String> = std::iter::from_fn(|| connection.line()).collect();
    assert!(lines.iter().any(|line| line == "ok"), "the answer came: {lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("set-cookie: sessionid=")), "the head was obeyed: {lines:?}");
    let text = lines.join("\n").to_lowercase().replace(['_', '.'], "-");
    assert!(!text.contains("x-session"), "{text}");
    assert_eq!(scene.session(&mut visitor), Some(json!({"user": "ann", "head": "1"})));
}

#[test]
fn u4_there_is_nothing_for_cors_to_expose() {
    let scene = Scene::new("");
    let answer = scene.visitor().send(
        "GET",
        "/",
        &[
            ("Origin", "https://evil.example"),
            ("Reply", "Access-Control-Expose-Headers: *|Access-Control-Allow-Origin: *|X-Session-Set: a=1"),
        ],
        b"",
    );
    assert_eq!(answer.header("access-control-expose-headers"), Some("*"));
    assert_nothing_leaks(&answer, "CORS");
}

#[test]
fn u5_a_client_cannot_update_its_session() {
    let scene = Scene::new(OFF_ROUTES);
    let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
    let commands = [
        ("X-Session-Set", "user=root"),
        ("X-Session-Patch", r#"{"user":"root"}"#),
        ("X-Session-Incr", "n=1"),
        ("X-Session-Unset", "user"),
        ("X-Session-Expiry", "0"),
        ("X-Session-Action", "flush"),
        ("X_Session_Set", "user=root"),
    ];
    for path in ["/", "/off"] {
        let answer = visitor.send("GET", path, &commands, b"");
        assert_eq!(answer.session_cookie(), None);
        let seen = scene.backend.last();
        let left = session_lines(&seen.headers).into_iter().map(|(name, _)| name);
        assert!(left.into_iter().all(|name| ["x-session-state", "x-session-data"].contains(&name.as_str())));
    }
    assert_eq!(scene.session(&mut visitor), Some(json!({"user": "ann"})));
    assert_eq!(scene.visitor().send("GET", "/", &commands, b"").session_cookie(), None);
}

#[test]
fn u6_a_backend_that_echoes_headers_reflects_no_update() {
    let backend = Backend::start(|seen| {
        if seen.target == "/create" {
            return Reply::ok("").header("X-Session-Set", r#"{"user":"ann"}"#);
        }
        let framing = ["content-length", "connection", "transfer-encoding"];
        let echoed = seen.headers.iter().filter(|(name, _)| !framing.contains(&name.to_lowercase().as_str()));
        echoed.fold(Reply::ok("echo"), |reply, (name, value)| reply.header(name, value.as_bytes()))
    });
    let proxy = Proxy::start(&backend.url(), "");
    let mut visitor = proxy.visitor();
    visitor.get("/create");
    for (name, value) in [("X-Session-Set", "user=root"), ("X-Session-Action", "flush"), ("X_Session_Set", "a=1")] {
        let answer = visitor.send("GET", "/", &[(name, value), ("X-Plain", "1")], b"");
        assert_eq!(answer.header("x-plain"), Some("1"), "the backend echoes");
        assert_nothing_leaks(&answer, name);
        visitor.get("/");
        assert_eq!(backend.last().session(), Some(json!({"user": "ann"})), "{name}");
    }
}

#[test]
fn u7_one_bad_member_and_nothing_is_applied() {
    let scene = Scene::new(ADMIN);
    let mut visitor = scene.visitor_with(&json!({"b": "1", "t": "text"}));
    let good = "X-Session-Set: b=2|X-Session-Unset: t";
    let bad = [
        ("X-Session-Set: a=%zz&b=2", "malformed"),
        ("X-Session-Set: a=1, b", "malformed"),
        ("X-Session-Set: a=%ff", "malformed"),
        ("X-Session-Set: {\"a\":1", "malformed"),
        ("X-Session-Set: {\"a\":01}", "malformed"),
        ("X-Session-Set: {\"a\":1} b=2", "malformed"),
        ("X-Session-Patch: [1]", "malformed"),
        ("X-Session-Patch: a=1", "malformed"),
        ("X-Session-Unset: %", "malformed"),
        ("X-Session-Incr: n=1.5", "malformed"),
        ("X-Session-Incr: n=", "malformed"),
        ("X-Session-Incr: n=9223372036854775808", "number_too_large"),
        ("X-Session-Incr: t=1", "not_a_number"),
        ("X-Session-Expiry: soon", "malformed"),
        ("X-Session-Action: explode", "unknown_action"),
    ];
    let refused = |reason: &str| scene.counter(&format!("cloakroom_refused_total{{reason=\"{reason}\"}}"));
    for (line, reason) in bad {
        for lines in [format!("{good}|{line}"), format!("{line}|{good}")] {
            let before = refused(reason);
            let answer = visitor.ask(&[&lines]);
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{line}");
            assert_eq!(answer.session_cookie(), None, "{line}");
            assert_eq!(refused(reason), before + 1, "{line} is counted once");
            assert_eq!(scene.session(&mut visitor), Some(json!({"b": "1", "t": "text"})), "{line}");
        }
    }
    let id = visitor.session_id().unwrap().to_owned();
    visitor.ask(&["X-Session-Action: cycle, touch, explode"]);
    assert_eq!(visitor.session_id(), Some(id.as_str()), "cycle falls with the data");
    assert!(visitor.ask(&[good]).session_cookie().is_some(), "what was refused is good by itself");
    assert_eq!(scene.session(&mut visitor), Some(json!({"b": "2"})));
}

#[test]
fn u8_several_lines_are_applied_in_order() {
    let scene = Scene::new("");
    for (lines, after) in [
        (vec!["X-Session-Set: a=1", "X-Session-Set: b=2"], json!({"a": "1", "b": "2"})),
        (vec!["X-Session-Set: a=1", "X-Session-Set: a=2"], json!({"a": "2"})),
        (vec!["X-Session-Set: a=1", "x-session-set: {\"a\":[3]}"], json!({"a": [3]})),
        (
            vec!["X-Session-Patch: {\"a\":{\"x\":1}}", "X-Session-Patch: {\"a\":{\"y\":2}}"],
            json!({"a": {"x": 1, "y": 2}}),
        ),
    ] {
        let mut visitor = scene.visitor();
        visitor.ask(&lines);
        assert_eq!(scene.session(&mut visitor), Some(after), "{lines:?}");
    }
}

#[test]
fn u9_the_reserved_key_is_refused_and_odd_keys_are_harmless_data() {
    let scene = Scene::new(ADMIN);
    let mut visitor = scene.visitor_with(&json!({"a": "1"}));
    let refused = [
        "X-Session-Set: _session_expiry=1",
        "X-Session-Set: %5Fsession_expiry=1",
        "X-Session-Set: {\"_session_expiry\":1}",
        "X-Session-Set: {\"_session\\u005fexpiry\":1}",
        "X-Session-Patch: {\"_session_expiry\":null}",
        "X-Session-Incr: _session_expiry=1",
        "X-Session-Unset: _session_expiry",
    ];
    for line in refused {
        assert_eq!(visitor.ask(&["X-Session-Set: a=2", line]).session_cookie(), None, "{line}");
    }
    assert_eq!(scene.counter("cloakroom_refused_total{reason=\"reserved_key\"}"), refused.len() as u64);
    assert_eq!(scene.session(&mut visitor), Some(json!({"a": "1"})));

    let odd = json!({"_expiry": "1", "_user": "u", "__proto__": {"admin": true}, "constructor": "c", "": 0});
    let mut with_empty_key = scene.visitor();
    assert_eq!(with_empty_key.ask(&[&format!("X-Session-Set: {odd}")]).session_cookie(), None, "an empty key is bad");
    let mut odd = odd;
    odd.as_object_mut().unwrap().remove("");
    let mut visitor = scene.visitor_with(&odd);
    assert_eq!(scene.session(&mut visitor), Some(odd));
    visitor.ask(&["X-Session-Patch: {\"__proto__\":{\"admin\":null,\"x\":1}}", "X-Session-Set: hasOwnProperty=1"]);
    assert_eq!(scene.session(&mut visitor).unwrap()["__proto__"], json!({"x": 1}));
}

#[test]
fn u10_hostile_sizes_are_ignored_or_refused_and_the_proxy_goes_on() {
    let wide = "[upstreams.wide]\nservers = ['URL']\nmax_header_bytes = '32MiB'\n\
                [[routes]]\nupstream = 'wide'\n[[routes]]\npath = '/narrow'\nupstream = 'app'\n\
                [session.limits]\nmax_line_bytes = '16MiB'\nmax_update_bytes = '16MiB'\n";
    let cases: [(&str, String, u16, u16); 6] = [
        ("a line of 10 MB", format!("a={}", "x".repeat(10 << 20)), 502, 200),
        ("100000 members", "a=1&".repeat(100_000), 502, 200),
        ("100000 empty members", "&".repeat(100_000), 200, 200),
        ("JSON 10000 deep", format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)), 200, 200),
        ("JSON 10000 deep, open", "{\"a\":".repeat(10_000), 200, 200),
        ("a value of 4 MB", format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20)), 502, 200),
    ];
    for wide_open in [false, true] {
        let lines: Vec<(String, String)> =
            cases.iter().map(|(name, line, ..)| (name.replace(' ', "-"), line.clone())).collect();
        let backend = Backend::start(move |seen| {
            let hostile = lines.iter().find(|(name, _)| seen.target == format!("/{name}"));
            match hostile {
                Some((_, line)) => Reply::ok("ok").header("X-Session-Set", line.as_bytes()),
                None => obey(seen),
            }
        });
        let settings = if wide_open { wide.replace("URL", &backend.url()) } else { String::new() };
        let proxy = Proxy::start(&backend.url(), &settings);
        let mut visitor = proxy.visitor();
        visitor.ask(&["X-Session-Set: good=1"]);
        for (name, _, narrow_status, wide_status) in &cases {
            let answer = visitor.get(&format!("/{}", name.replace(' ', "-")));
            assert_eq!(answer.status, if wide_open { *wide_status } else { *narrow_status }, "{name}");
            assert_eq!(answer.session_cookie(), None, "{name}");
            visitor.get("/");
            assert_eq!(backend.last().session(), Some(json!({"good": "1"})), "{name}");
        }
    }
}

#[test]
fn u11_empty_and_odd_pairs_crash_nothing() {
    let scene = Scene::new("");
    for (line, after) in [
        ("", None),
        ("=", None),
        ("&&", None),
        ("&=", None),
        ("=x", None),
        (",", None),
        ("&", None),
        ("a", None),
        ("%", None),
        ("{", None),
        ("{}", None),
        ("{},{}", None),
        ("}", None),
        ("a=&&b=", Some(json!({"a": "", "b": ""}))),
        (",,a==,&", Some(json!({"a": "="}))),
        ("+=+", Some(json!({" ": " "}))),
        ("expiry=&", Some(json!({"expiry": ""}))),
    ] {
        for header in ["X-Session-Set", "X-Session-Patch", "X-Session-Incr", "X-Session-Unset", "X-Session-Expiry"] {
            let mut visitor = scene.visitor();
            let answer = visitor.ask(&[&format!("{header}: {line}")]);
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{header}: {line}");
            let expected = after.clone().filter(|_| header == "X-Session-Set");
            assert_eq!(scene.session(&mut visitor), expected, "{header}: {line}");
        }
    }
}

#[test]
fn u12_duplicate_json_names_are_refused() {
    let scene = Scene::new(ADMIN);
    let mut visitor = scene.visitor_with(&json!({"a": 0}));
    let duplicates = [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"b":{"x":1,"x":1}}"#,
        r#"{"b":[{"x":1,"x":1}]}"#,
        r#"{"a":1}, {"b":1,"b":1}"#,
    ];
    for text in duplicates {
        for header in ["X-Session-Set", "X-Session-Patch"] {
            assert_eq!(visitor.ask(&[&format!("{header}: {text}")]).session_cookie(), None, "{header}: {text}");
        }
    }
    assert_eq!(scene.session(&mut visitor), Some(json!({"a": 0})));
    assert_eq!(scene.counter("cloakroom_refused_total{reason=\"duplicate_name\"}"), 2 * duplicates.len() as u64);
    visitor.ask(&[r#"X-Session-Set: {"a":1}, {"a":2}"#]);
    assert_eq!(scene.session(&mut visitor), Some(json!({"a": 2})), "in two objects they are no duplicates");
}

#[test]
fn u13_an_ending_is_obeyed_beside_anything_bad_and_on_any_status() {
    let scene = Scene::new("");
    let beside =
        ["", "|X-Session-Set: a=%zz", "|X-Session-Action: explode", "|X-Session-Expiry: soon", "|X-Session-Patch: ["];
    let mut checked = 0;
    for status in ["200", "302", "404", "500", "503"] {
        for bad in beside {
            for (action, after) in [("flush", None), ("delete", None), ("clear", Some(json!({})))] {
                let mut visitor = scene.visitor_with(&json!({"user": "ann"}));
                let id = visitor.session_id().unwrap().to_owned();
                let asked = format!("X-Session-Action: {action}{bad}");
                let answer = visitor.send("GET", "/", &[("Reply", &asked), ("Reply-Status", status)], b"");
                assert_eq!(answer.status.to_string(), status);
                let removed = answer.session_cookie().is_some_and(|line| line.starts_with("sessionid=;"));
                assert_eq!(removed, action == "flush", "{status} {asked}");
                let replayed = scene.seen("/", &[("Cookie", &format!("sessionid={id}"))]).session();
                assert_eq!(replayed, after, "{status} {asked}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 5 * 5 * 3);
}

#[test]
fn u14_a_backend_cannot_set_the_proxys_cookie() {
    let scene = Scene::new(OFF_ROUTES);
    let evil = [
        "sessionid=evil",
        "sessionid=evil; Path=/; HttpOnly",
        "sessionid = evil",
        " sessionid\t=evil",
        "sessionid=",
        "=sessionid=evil",
        "sessionid=; Max-Age=0",
    ];
    for line in evil {
        for path in ["/", "/off"] {
            let answer = scene.visitor().send("GET", path, &[("Reply", &format!("Set-Cookie: {line}"))], b"");
            assert_eq!(answer.all("set-cookie"), [""; 0], "{path} {line}");
        }
        let asked = format!("X-Session-Set: a=1|Set-Cookie: {line}|Set-Cookie: {line}");
        let answer = scene.visitor().ask(&[&asked]);
        let [ours] = answer.all("set-cookie").try_into().unwrap();
        assert!(ours.starts_with("sessionid=") && !ours.contains("evil") && ours.contains("Max-Age=1209600"), "{ours}");
    }
}

/// Without a jar, which knows no cookie without a name.
fn ask_raw(scene: &Scene, path: &str, asked: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nReply: {asked}\r\nConnection: close\r\n\r\n");
    raw(&scene.proxy, head.as_bytes())
}

#[test]
fn u15_other_cookies_of_the_backend_pass_untouched_in_order() {
    let scene = Scene::new(OFF_ROUTES);
    let lines = ["b=2; Path=/, x", "a=1; Expires=Thu, 01 Jan 2099 00:00:00 GMT", "b=3", "SESSIONID=other", "c"];
    let asked = lines.map(|line| format!("Set-Cookie: {line}")).join("|Set-Cookie: sessionid=evil|");
    for path in ["/", "/off"] {
        let answer = ask_raw(&scene, path, &asked);
        assert_eq!(answer.all("set-cookie"), lines, "{path}");
    }
    let answer = ask_raw(&scene, "/", &format!("{asked}|X-Session-Set: a=1"));
    let all = answer.all("set-cookie");
    let others: Vec<&str> = all.iter().copied().filter(|line| !line.starts_with("sessionid=")).collect();
    assert_eq!((others.as_slice(), all.len()), (&lines[..], lines.len() + 1));
}

#[test]
fn u16_case_variants_of_a_prefixed_name_are_not_ours_and_cannot_shadow_it() {
    let scene = Scene::new("cookie = { name = '__Host-id', secure = true }");
    let visitor = scene.visitor_named("__Host-id");
    let id = &visitor.jar["__Host-id"];
    for name in ["__HOST-id", "__host-id", "__Host-ID"] {
        let asked = format!("Set-Cookie: {name}=evil; Secure; Path=/");
        assert_eq!(scene.visitor().ask(&[&asked]).all("set-cookie"), [""; 0], "{name} from the backend");
        let seen = scene.seen("/", &[("Cookie", &format!("{name}={id}"))]);
        assert_eq!(seen.header("X-Session-State"), Some("none"), "{name} from the client");
        let both = scene.seen("/", &[("Cookie", &format!("{name}=evil; __Host-id={id}"))]);
        assert_eq!(both.session(), Some::<Value>(json!({"a": "1"})), "{name} before ours");
    }
}
