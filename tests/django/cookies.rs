//! `SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"`: the cookie is the session.

use serde_json::{Value, json};

use crate::shared::Plain;
use crate::site::{SECRET_KEY, Site, Version};
use crate::visitor::Visitor;

fn share_cookies(version: Version) {
    let settings = json!({ "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies" });
    let site = Site::start(version, settings);
    let plain = Plain::new(&format!(
        "[store]\nengine = 'signed_cookies'\nformat = 'django'\n[store.django]\nsecret_key = '{SECRET_KEY}'\n"
    ));
    let mut at_site = site.visitor();
    work(&mut at_site, &json!([["set", "user", "Jürgen 😀"], ["set", "cart", [1, { "coat": "x".repeat(600) }]]]));
    let mut visitor = moved(&at_site, plain.proxy.visitor());
    visitor.get("/");
    let mut all = json!({ "user": "Jürgen 😀", "cart": [1, { "coat": "x".repeat(600) }] });
    assert_eq!(plain.backend.last().session(), Some(all.clone()));
    let before = visitor.session_id().map(str::to_owned);
    visitor.ask(&["X-Session-Set: n=1"]);
    assert_ne!(visitor.session_id().map(str::to_owned), before);
    all["n"] = json!("1");
    assert_eq!(work(&mut moved(&visitor, site.visitor()), &json!([["keys"]]))["items"], all);

    let mut fresh = plain.proxy.visitor();
    fresh.ask(&["X-Session-Set: a=1", "X-Session-Expiry: 300"]);
    let seen = work(&mut moved(&fresh, site.visitor()), &json!([["get", "a"], ["get_expiry_age"]]));
    assert_eq!(seen["results"], json!(["1", 300]));
    assert_eq!(fresh.ask(&["X-Session-Action: flush"]).status, 200);
    assert_eq!(fresh.session_id(), None);

    // Whose signature is not Django's is nobody's session.
    let mut forged = moved(&at_site, plain.proxy.visitor());
    let value = forged.jar.get_mut("sessionid").expect("a cookie");
    let last = value.pop().expect("a signature");
    value.push(if last == 'A' { 'B' } else { 'A' });
    forged.get("/");
    assert_eq!(plain.backend.last().session(), None);
}

#[test]
fn signed_cookies() {
    share_cookies(Version::Newest);
}

#[test]
fn signed_cookies_with_django_4_2() {
    share_cookies(Version::V42);
}

/// The same cookies at another place.
fn moved(from: &Visitor, mut to: Visitor) -> Visitor {
    to.jar.clone_from(&from.jar);
    to
}

/// What a view of Django does with the session of a visitor to the site itself.
fn work(visitor: &mut Visitor, operations: &Value) -> Value {
    let answer = visitor.send("POST", "/site/work", &[], operations.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}
