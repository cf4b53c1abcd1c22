//! Django's own pages: who logs in there is known behind the proxy, and Django itself may stand there too.

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::databases::{self, sqlite};
use crate::guide;
use crate::proxy::{Proxy, Setup};
use crate::redis_server::RedisServer;
use crate::shared::{Plain, answer};
use crate::site::{SECRET_KEY, Site, Version};
use crate::visitor::{Answer, Visitor};

const FORM: [(&str, &str); 1] = [("Content-Type", "application/x-www-form-urlencoded")];

/// Sends a form of Django's with the token that every form needs.
fn submit(visitor: &mut Visitor, path: &str, fields: &str) -> Answer {
    let page = visitor.get("/site/login").text();
    let token = page.split("value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token in the form");
    visitor.send("POST", path, &FORM, format!("csrfmiddlewaretoken={token}&{fields}").as_bytes())
}

fn log_in(visitor: &mut Visitor) -> String {
    let answer = submit(visitor, "/site/login", "user=ada&password=secret");
    assert_eq!((answer.status, answer.header("location")), (302, Some("/site/who")), "{}", answer.text());
    assert_eq!(visitor.get("/site/who").text(), "ada");
    visitor.session_id().expect("a key").to_owned()
}

/// A site on SQLite with a user, and the database's URL; the database is in `directory`.
fn site_with_ada(version: Version, directory: &tempfile::TempDir, more: Value) -> (Site, String) {
    let file = directory.path().join("site.sqlite3");
    let mut settings = more;
    settings["DATABASES"] = sqlite(&file);
    let site = Site::start(version, settings);
    site.manage(&["migrate"]);
    site.make_user("ada", "secret");
    (site, format!("sqlite://{}", file.display()))
}

fn see_logins(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let (site, url) = site_with_ada(version, &directory, json!({}));
    let plain = Plain::new(&databases::store(&url, ""));
    let mut browser = site.visitor();
    assert_eq!(submit(&mut browser, "/site/login", "user=ada&password=wrong").status, 403);
    let key = log_in(&mut browser);
    let session = plain.look(&key).expect("a session");
    assert_eq!(session["_auth_user_id"], json!("1"));
    assert_eq!(session["_auth_user_backend"], json!("django.contrib.auth.backends.ModelBackend"));
    answer(&mut plain.visitor(&key), &["X-Session-Set: n=1"]);
    assert_eq!(browser.get("/site/who").text(), "ada", "a change of ours logs nobody out");
    answer(&mut plain.visitor(&key), &["X-Session-Action: flush"]);
    assert_eq!(browser.get("/site/who").text(), "nobody");
}

#[test]
fn a_login_at_django_is_seen_and_ended_behind_the_proxy() {
    see_logins(Version::Newest);
}

#[test]
fn a_login_at_django_4_2_is_seen_and_ended_behind_the_proxy() {
    see_logins(Version::V42);
}

/// Django under `/site`, where it owns the cookie, and a plain backend for all else, as in the guide's example but for
/// what `store` replaces there.
fn beside_each_other(site: &Site, store: &[(&str, &str)]) {
    let backend = Backend::obedient();
    let of_this_test = [
        ("127.0.0.1:8080", "127.0.0.1:0"),
        ("http://127.0.0.1:9000", &backend.url()),
        ("http://127.0.0.1:8000", &site.url()),
        ("/accounts", "/site"),
    ];
    let mut text = guide::example();
    for (example, own) in of_this_test.iter().chain(store) {
        assert!(text.contains(example), "the guide's example has no {example}:\n{text}");
        text = text.replace(example, own);
    }
    let proxy = Setup::whole(&text).start();
    let session = |visitor: &mut Visitor| {
        visitor.get("/");
        backend.last().session()
    };

    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Set: {\"cart\":[1]}"]);
    let anonymous = visitor.session_id().expect("a key").to_owned();
    assert_eq!(visitor.get("/site/who").text(), "nobody");
    assert_eq!(visitor.session_id(), Some(anonymous.as_str()), "who only looks keeps the cookie");

    let forged = visitor.send("POST", "/site/login", &FORM, b"user=ada&password=secret");
    assert_eq!(forged.status, 403, "without a token");
    let key = log_in(&mut visitor);
    assert_ne!(key, anonymous, "a login brings a new key");
    let seen = session(&mut visitor).expect("a session");
    assert_eq!((&seen["cart"], &seen["_auth_user_id"]), (&json!([1]), &json!("1")));
    assert_eq!(look(&proxy, &backend, &anonymous), None, "the key from before the login opens nothing");

    visitor.ask(&["X-Session-Set: colour=red"]);
    let done = work(&mut visitor, &json!([["get", "colour"], ["set", "size", 7]]));
    assert_eq!(done["results"], json!(["red", null]));
    assert_eq!(session(&mut visitor).expect("a session")["size"], json!(7));
    assert_eq!(visitor.session_id(), Some(key.as_str()));

    assert_eq!(submit(&mut visitor, "/site/say", "text=Gr%C3%BC%C3%9Fe").status, 302);
    assert!(session(&mut visitor).expect("a session").get("_messages").is_some());
    assert_eq!(visitor.get("/site/said").text(), r#"["Gr\u00fc\u00dfe"]"#);
    assert_eq!(session(&mut visitor).expect("a session").get("_messages"), None, "a message is read once");

    let moved = work(&mut visitor, &json!([["cycle_key"]]))["key"].as_str().expect("a key").to_owned();
    assert_eq!(visitor.session_id(), Some(moved.as_str()), "Django's cookie passes");
    assert_eq!(look(&proxy, &backend, &key), None);
    assert_eq!(visitor.get("/site/who").text(), "ada");

    assert_eq!(submit(&mut visitor, "/site/logout", "").status, 302);
    assert_eq!(visitor.session_id(), None, "a logout at Django removes the cookie");
    assert_eq!(look(&proxy, &backend, &moved), None);
    assert_eq!(session(&mut visitor), None);

    let key = log_in(&mut visitor);
    visitor.ask(&["X-Session-Action: flush"]);
    assert_eq!(visitor.session_id(), None);
    assert_eq!(visitor.get("/site/who").text(), "nobody");
    assert!(site.look(&key).is_none(), "a logout at the plain backend is one at Django");

    work(&mut visitor, &json!([["set", "a", 1], ["set_expiry", 300]]));
    let line = visitor.send("POST", "/site/work", &[], br#"[["set", "a", 2]]"#);
    assert!(line.session_cookie().expect("Django's cookie").contains("Max-Age=300"));
}

fn look(proxy: &Proxy, backend: &Backend, key: &str) -> Option<Value> {
    let mut visitor = proxy.visitor();
    visitor.jar.insert("sessionid".to_owned(), key.to_owned());
    visitor.get("/");
    backend.last().session()
}

fn work(visitor: &mut Visitor, operations: &Value) -> Value {
    let answer = visitor.send("POST", "/site/work", &[], operations.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn beside_each_other_on_sqlite(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let (site, url) = site_with_ada(version, &directory, json!({}));
    let secret = format!("'{SECRET_KEY}'");
    let store = [("sqlite:///srv/shop/db.sqlite3", url.as_str()), ("{ env = \"DJANGO_SECRET_KEY\" }", &secret)];
    beside_each_other(&site, &store);
}

#[test]
fn django_and_a_plain_backend_behind_one_proxy() {
    beside_each_other_on_sqlite(Version::Newest);
}

#[test]
fn django_4_2_and_a_plain_backend_behind_one_proxy() {
    beside_each_other_on_sqlite(Version::V42);
}

#[test]
fn django_with_sessions_in_a_cache_and_a_plain_backend_behind_one_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let server = RedisServer::start();
    let url = format!("{}/1", server.tcp_url());
    let settings = json!({
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "CACHES": { "default": { "BACKEND": "django_redis.cache.RedisCache", "LOCATION": url } },
    });
    let (site, _) = site_with_ada(Version::Newest, &directory, settings);
    let store = [
        ("engine = \"db\"", "engine = \"redis\""),
        ("sqlite:///srv/shop/db.sqlite3", url.as_str()),
        ("secret_key = { env = \"DJANGO_SECRET_KEY\" }", "client = \"django-redis\""),
    ];
    beside_each_other(&site, &store);
}
