//! What backends are told about who asks: by us, or by proxies before us that we were told to trust.

use crate::backend::{Backend, Seen};
use crate::proxy::Proxy;

const TRUSTING: &str =
    "[server]\nlisten = ['127.0.0.1:0']\nworkers = 1\ntrusted_proxies = ['127.0.0.1', '10.0.0.0/8']\n";

/// What the backend saw of a request with these headers.
fn seen(proxy: &Proxy, backend: &Backend, headers: &[(&str, &str)]) -> Seen {
    assert_eq!(proxy.visitor().send("GET", "/", headers, b"").status, 200);
    backend.last()
}

#[test]
fn m15_a_stranger_is_described_by_us_alone() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    let spoofs = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-For", "6.6.6.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=6.6.6.6;proto=https;host=evil.example"),
        ("X-Request-Id", "evil"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Forwarded-Port", "666"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-User", "evil"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X_Forwarded-Proto", "https"),
        ("x.forwarded.host", "evil.example"),
        ("X_Request_Id", "evil"),
        ("X_Real_IP", "6.6.6.6"),
        ("Proxy", "http://evil.example"),
    ];
    let seen = seen(&proxy, &backend, &spoofs);
    assert_eq!(seen.header("host"), Some("shop.example"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;proto=http;host=\"shop.example\""));
    let id = seen.header("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let all = format!("{:?}", seen.headers);
    assert!(!all.contains("evil") && !all.contains("6.6.6") && !all.contains("666"), "{all}");
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"] {
        assert_eq!(seen.twins(name), [name]);
    }
}

#[test]
fn m15_a_trusted_proxy_is_believed_and_added_to() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), TRUSTING);
    let headers = [
        ("X-Forwarded-For", "9.9.9.9, 10.0.0.3"),
        ("X-Forwarded-For", "10.0.0.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.example"),
        ("X-Forwarded-Port", "443"),
        ("Forwarded", "for=9.9.9.9;host=\"a,b\", for=\"[2001:db8::1]:4711\";proto=https"),
        ("X-Request-Id", "edge-1:abc/2_3.4"),
        ("X-Real-IP", "9.9.9.9"),
    ];
    let seen = seen(&proxy, &backend, &headers);
    assert_eq!(seen.header("host"), Some("shop.example"));
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 10.0.0.3, 10.0.0.4, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("public.example"));
    assert_eq!(seen.header("x-forwarded-port"), Some("443"));
    assert_eq!(seen.header("x-real-ip"), Some("9.9.9.9"));
    assert_eq!(seen.header("x-request-id"), Some("edge-1:abc/2_3.4"));
    assert_eq!(
        seen.header("forwarded"),
        Some(
            "for=9.9.9.9;host=\"a,b\", for=\"[2001:db8::1]:4711\";proto=https, \
             for=127.0.0.1;proto=https;host=\"shop.example\""
        )
    );
}

#[test]
fn m15_twins_go_from_trusted_proxies_too() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), TRUSTING);
    let twins = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded_Proto", "https"),
        ("X_Forwarded_Port", "666"),
        ("X~Request~Id", "evil"),
        ("X_Real_IP", "6.6.6.6"),
        ("Proxy", "evil"),
    ];
    let seen = seen(&proxy, &backend, &twins);
    let all = format!("{:?}", seen.headers);
    assert!(!all.contains("evil") && !all.contains("6.6.6.6") && !all.contains("666"), "{all}");
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.twins("x-forwarded-for"), ["x-forwarded-for"]);
}

#[test]
fn a_request_id_is_taken_over_only_if_it_is_plain() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), TRUSTING);
    let long = "a".repeat(128);
    let too_long = "a".repeat(129);
    for (given, taken) in
        [("abc", true), (&long, true), (&too_long, false), ("", false), ("a b", false), ("<b>", false), ("a\"b", false)]
    {
        let seen = seen(&proxy, &backend, &[("X-Request-Id", given)]);
        assert_eq!(seen.header("x-request-id") == Some(given), taken, "{given:?}");
    }
}

#[test]
fn the_cookie_is_secure_behind_a_trusted_https_proxy_only() {
    let backend = Backend::obedient();
    let set = ("Reply", "X-Session-Set: a=1");
    for (text, secure) in [("", false), (TRUSTING, true)] {
        let proxy = Proxy::start(&backend.url(), text);
        let answer = proxy.visitor().send("GET", "/", &[("X-Forwarded-Proto", "https"), set], b"");
        let cookie = answer.session_cookie().unwrap();
        assert_eq!(cookie.contains("; Secure"), secure, "{cookie}");
    }
}

#[test]
fn m17_no_user_agent_is_special() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "");
    for agent in ["kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Prometheus/2.50"] {
        for target in ["/", "/ping", "/healthz", "/readyz", "/metrics"] {
            let spoof = [("User-Agent", agent), ("X-Session-State", "active"), ("X-Session-Data", "{\"admin\":true}")];
            let answer = proxy.visitor().send("GET", target, &spoof, b"");
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
            let seen = backend.last();
            assert_eq!((seen.target.as_str(), seen.header("user-agent")), (target, Some(agent)));
            assert_eq!((seen.header("x-session-state"), seen.session()), (Some("none"), None), "{agent} {target}");
        }
    }
    assert_eq!(backend.requests().len(), 20);
}
