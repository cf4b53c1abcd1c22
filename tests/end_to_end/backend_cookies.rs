//! The backend's own cookies under the rules of `[[cookies]]`.

use std::time::Duration;

use cloakroom::clock::Clock;

use crate::backend::{Backend, obey};
use crate::life_stage::START;
use crate::proxy::{Proxy, Setup};
use crate::scene::{OFF_ROUTES, SetCookie};
use crate::visitor::Visitor;

const RULES: &str = "
    [[cookies]]
    name = 'user'
    sign = true
    salt = 's'
    max_age = '1h'
    secret_key = 'a key of the test'
    http_only = true

    [[cookies]]
    name = 'theme'
    secure = true
    same_site = 'Strict'

    [admin]
    listen = '127.0.0.1:0'
";

fn scene() -> (Backend, Proxy, Clock) {
    let (backend, clock) = (Backend::start(obey), Clock::manual(START));
    let proxy = Setup::new(&backend.url(), &format!("{OFF_ROUTES}{RULES}")).clock(&clock).start();
    (backend, proxy, clock)
}

/// What the backend sees of a visitor's cookies.
fn cookies(visitor: &mut Visitor, backend: &Backend, target: &str) -> Option<String> {
    assert_eq!(visitor.get(target).status, 200);
    backend.last().header("cookie").map(str::to_owned)
}

#[test]
fn i13_a_backend_writes_and_reads_plain_cookies_that_visitors_cannot_change() {
    let (backend, proxy, clock) = scene();
    let mut visitor = proxy.visitor();
    let answer = visitor.ask(&["Set-Cookie: user=ann; Path=/", "Set-Cookie: other=1", "X-Session-Set: a=1"]);
    let lines = answer.all("set-cookie");
    assert_eq!((lines.len(), lines[1]), (3, "other=1"), "{lines:?}");
    let line = SetCookie::parse(lines[0]);
    assert!(line.value.starts_with("ann:") && line.value.len() == "ann:1xxxxx:".len() + 43, "{line:?}");
    assert_eq!(line.fixed_attributes(), [("httponly", ""), ("path", "/")]);
    assert_eq!(line.attribute("max-age"), Some("3600"));
    for target in ["/", "/off"] {
        assert_eq!(cookies(&mut visitor, &backend, target).as_deref(), Some("other=1; user=ann"), "{target}");
    }

    let mut thief = visitor.clone();
    let forged = thief.jar["user"].replace("ann", "bob");
    thief.jar.insert("user".to_owned(), forged);
    for target in ["/", "/off"] {
        assert_eq!(cookies(&mut thief, &backend, target).as_deref(), Some("other=1"), "{target}");
    }
    assert_eq!(proxy.metric("cloakroom_refused_total{reason=\"cookie_forged\"}"), Some(2));

    clock.advance(Duration::from_secs(3600));
    assert_eq!(cookies(&mut visitor, &backend, "/").as_deref(), Some("other=1; user=ann"));
    clock.advance(Duration::from_secs(1));
    assert_eq!(cookies(&mut visitor, &backend, "/").as_deref(), Some("other=1"));

    let removed = visitor.ask(&["Set-Cookie: user=; Max-Age=0; Path=/"]);
    assert_eq!(removed.header("set-cookie"), Some("user=; Max-Age=0; Path=/; HttpOnly"));
    assert!(!visitor.jar.contains_key("user"));
}

#[test]
fn attributes_come_on_every_route_and_every_answer() {
    let (_backend, proxy, _) = scene();
    for (target, status) in [("/", "200"), ("/off", "404"), ("/off/x", "500")] {
        let headers = [("Reply", "Set-Cookie: theme=dark; Path=/; SameSite=Lax"), ("Reply-Status", status)];
        let answer = proxy.visitor().send("GET", target, &headers, b"");
        assert_eq!(answer.header("set-cookie"), Some("theme=dark; Path=/; SameSite=Strict; Secure"), "{target}");
    }
}

#[test]
fn c8_a_cookie_that_would_be_too_long_with_its_signature_is_dropped_and_told() {
    let (_backend, proxy, _) = scene();
    let answer = proxy.visitor().ask(&[&format!("Set-Cookie: user={}", "x".repeat(4060)), "Set-Cookie: other=1"]);
    assert_eq!(answer.all("set-cookie"), ["other=1"]);
    assert_eq!(proxy.metric("cloakroom_refused_total{reason=\"cookie_unsigned\"}"), Some(1));
}
