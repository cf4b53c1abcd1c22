//! Sessions in cookies as a Django application with `signed_cookies` writes and reads them.

use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::backend::{Backend, obey};
use crate::life_stage::{DAY, events, forgets, looks, max_age};
use crate::proxy::{Proxy, Setup};
use crate::visitor::Visitor;

/// When Django signed what is in the vectors.
const SIGNED: Timestamp = Timestamp::from_millis(1_700_000_000_000);

struct Vectors(Value);

impl Vectors {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("../data/django/04_signed_cookie_sessions.json")).unwrap())
    }

    fn get(&self, name: &str) -> &Value {
        let vectors = self.0["vectors"].as_array().unwrap();
        vectors.iter().find(|vector| vector["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn text(&self, name: &str, field: &str) -> &str {
        self.get(name)[field].as_str().unwrap()
    }

    fn key(&self) -> String {
        text_of(&self.get("encode_empty")["secret_hex"])
    }

    fn older_key(&self) -> String {
        text_of(&self.get("load_fallback")["fallbacks"][0]["secret_hex"])
    }
}

fn text_of(hexadecimal: &Value) -> String {
    String::from_utf8(hex::decode(hexadecimal.as_str().unwrap()).unwrap()).unwrap()
}

fn proxy(backend: &Backend, clock: &Clock, key: &str, fallbacks: &[&str]) -> Proxy {
    let text = format!(
        "[admin]\nlisten = '127.0.0.1:0'\n[store]\nengine = 'signed_cookies'\nformat = 'django'\n\
         [store.django]\nsecret_key = {key:?}\nsecret_key_fallbacks = {fallbacks:?}\n"
    );
    Setup::new(&backend.url(), &text).clock(clock).start()
}

fn visitor_with(proxy: &Proxy, cookie: &str) -> Visitor {
    let mut visitor = proxy.visitor();
    visitor.jar.insert("sessionid".to_owned(), cookie.to_owned());
    visitor
}

#[test]
fn a_session_goes_back_and_forth_byte_for_byte() {
    let (vectors, backend, clock) = (Vectors::read(), Backend::start(obey), Clock::manual(SIGNED));
    let proxy = proxy(&backend, &clock, &vectors.key(), &[]);
    let mut compared = 0;
    for name in ["encode_seed_example", "encode_key_order", "encode_test_cookie", "encode_auth_login"] {
        let data = vectors.text(name, "input_json_ascii");
        let cookie = vectors.text(name, "expected");
        let mut visitor = visitor_with(&proxy, cookie);
        assert_eq!(looks(&mut visitor, &backend).1, Some(serde_json::from_str(data).unwrap()), "{name}");
        let mut fresh = proxy.visitor();
        let answer = fresh.ask(&[&format!("X-Session-Set: {data}")]);
        assert_eq!(max_age(&answer), Some(14 * DAY));
        if !cookie.starts_with('.') {
            compared += 1;
            assert_eq!(fresh.session_id(), Some(cookie), "{name}");
        }
    }
    assert_eq!(compared, 3);
}

#[test]
fn a_whole_life() {
    let (vectors, backend, clock) = (Vectors::read(), Backend::start(obey), Clock::manual(SIGNED));
    let proxy = proxy(&backend, &clock, &vectors.key(), &[]);
    let mut visitor = visitor_with(&proxy, vectors.text("encode_seed_example", "expected"));
    visitor.ask(&["X-Session-Unset: name, sex", "X-Session-Set: {\"n\":1}"]);
    assert_eq!(looks(&mut visitor, &backend).1, Some(json!({"age": "18", "n": 1})));
    visitor.ask(&["X-Session-Action: cycle"]);
    let copy = visitor.session_id().unwrap().to_owned();
    assert!(forgets(&visitor.ask(&["X-Session-Action: flush"])));
    // Whoever keeps the cookie keeps the session, in Django too.
    assert_eq!(looks(&mut visitor_with(&proxy, &copy), &backend).1, Some(json!({"age": "18", "n": 1})));
    assert_eq!(events(&proxy, "unknown"), 0);
    for forged in [copy.replacen('e', "f", 1), copy[1..].to_owned(), format!("{copy}x"), "abc:def:ghi".to_owned()] {
        assert_eq!(looks(&mut visitor_with(&proxy, &forged), &backend).1, None, "{forged}");
    }
    assert_eq!(events(&proxy, "unknown"), 4);
}

#[test]
fn i14_ages_are_djangos_and_an_expiry_of_its_own_ends_a_session_earlier() {
    let (vectors, backend, clock) = (Vectors::read(), Backend::start(obey), Clock::manual(SIGNED));
    let proxy = proxy(&backend, &clock, &vectors.key(), &[]);
    let look = |name, field| looks(&mut visitor_with(&proxy, vectors.text(name, field)), &backend).1.is_some();
    clock.advance(Duration::from_secs(299));
    assert!(look("encode_expiry_int_300", "expected"));
    clock.advance(Duration::from_secs(1));
    assert!(!look("encode_expiry_int_300", "expected"), "Django would believe it for two weeks");
    assert!(look("encode_expiry_int_0", "expected"));
    clock.advance(Duration::from_secs(14 * DAY - 300));
    assert!(look("load_age_exact", "input"));
    clock.advance(Duration::from_millis(500));
    assert!(!look("load_age_plus_half", "input"));
}

#[test]
fn i13_a_fallback_key_opens_and_the_cookie_comes_back_under_the_first_with_its_age() {
    let (vectors, backend, clock) = (Vectors::read(), Backend::start(obey), Clock::manual(SIGNED));
    let older = vectors.older_key();
    let proxy = proxy(&backend, &clock, &vectors.key(), &[&older]);
    clock.advance(Duration::from_secs(DAY));
    let mut visitor = visitor_with(&proxy, vectors.text("load_fallback", "input"));
    let (answer, session) = looks(&mut visitor, &backend);
    assert_eq!(session, Some(json!({"name": "ABC", "age": "18", "sex": "男"})));
    assert_eq!(max_age(&answer), Some(13 * DAY));
    assert_eq!(visitor.session_id(), Some(vectors.text("encode_seed_example", "expected")));
    assert_eq!(visitor.get("/").session_cookie(), None);
}
