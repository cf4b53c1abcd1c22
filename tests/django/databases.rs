//! `SESSION_ENGINE = "django.contrib.sessions.backends.db"` and `cached_db`.

use std::path::Path;

use serde_json::{Value, json};

use crate::memcached_server::MemcachedServer;
use crate::mysql_server::{self, MySqlServer};
use crate::postgres_server::{self, PostgresServer};
use crate::redis_server::RedisServer;
use crate::shared::{Plain, answer, share};
use crate::site::{SECRET_KEY, Site, Version};

pub fn sqlite(file: &Path) -> Value {
    // Others write too: wait for them.
    json!({ "default": { "ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": { "timeout": 30 } } })
}

fn postgres(server: &PostgresServer) -> Value {
    json!({ "default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": server.port(), "NAME": "postgres",
        "USER": postgres_server::USER, "PASSWORD": postgres_server::PASSWORD,
    } })
}

fn mysql(server: &MySqlServer) -> Value {
    json!({ "default": {
        "ENGINE": "django.db.backends.mysql", "HOST": "127.0.0.1", "PORT": server.port(), "NAME": "sessions",
        "USER": mysql_server::USER, "PASSWORD": mysql_server::PASSWORD,
    } })
}

/// A `[store]` on a database that Django uses; `more` is added to `[store.django]`.
pub fn store(url: &str, more: &str) -> String {
    format!(
        "[store]\nengine = 'db'\nurl = '{url}'\nformat = 'django'\ntimeout = '60s'\n\
         [store.django]\nsecret_key = '{SECRET_KEY}'\n{more}"
    )
}

fn cached(database: &str, cache: &str) -> String {
    format!(
        "[store]\nengine = 'cached_db'\nformat = 'django'\ntimeout = '60s'\n[store.db]\n{database}\n\
         [store.cache]\n{cache}\n[store.django]\nsecret_key = '{SECRET_KEY}'\n"
    )
}

fn share_sqlite(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.sqlite3");
    let site = Site::start(version, json!({ "DATABASES": sqlite(&file) }));
    site.manage(&["migrate", "sessions"]);
    share(&site, &store(&format!("sqlite://{}", file.display()), ""));
}

#[test]
fn db_on_sqlite() {
    share_sqlite(Version::Newest);
}

#[test]
fn db_on_sqlite_with_django_4_2() {
    share_sqlite(Version::V42);
}

/// Both versions of Django on one table.
#[test]
fn db_on_postgresql() {
    let server = PostgresServer::start();
    for version in [Version::Newest, Version::V42] {
        let site = Site::start(version, json!({ "DATABASES": postgres(&server) }));
        site.manage(&["migrate", "sessions"]);
        share(&site, &store(&server.url(), ""));
    }
}

/// Both versions of Django on one table; then as databases have times that were not meant for the world.
#[test]
fn db_on_mysql() {
    let server = MySqlServer::start();
    for version in [Version::Newest, Version::V42] {
        let site = Site::start(version, json!({ "DATABASES": mysql(&server) }));
        site.manage(&["migrate", "sessions"]);
        share(&site, &store(&server.url(), ""));
    }
    let settings = json!({ "DATABASES": mysql(&server), "USE_TZ": false, "TIME_ZONE": "Asia/Kolkata" });
    let site = Site::start(Version::Newest, settings);
    share(&site, &store(&server.url(), "use_tz = false\ntime_zone = 'Asia/Kolkata'\n"));
}

#[test]
fn db_with_times_of_one_zone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.sqlite3");
    let url = format!("sqlite://{}", file.display());
    for (version, zone) in [(Version::Newest, "America/Chicago"), (Version::V42, "Pacific/Kiritimati")] {
        let settings = json!({ "DATABASES": sqlite(&file), "USE_TZ": false, "TIME_ZONE": zone });
        let site = Site::start(version, settings);
        site.manage(&["migrate", "sessions"]);
        share(&site, &store(&url, &format!("use_tz = false\ntime_zone = '{zone}'\n")));
    }
}

#[test]
fn a_table_that_the_proxy_made_is_djangos() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.sqlite3");
    let store = store(&format!("sqlite://{}", file.display()), "");
    let plain = Plain::new(&store);
    let key = answer(&mut plain.proxy.visitor(), &["X-Session-Set: a=1"]).expect("a key");
    let site = Site::start(Version::Newest, json!({ "DATABASES": sqlite(&file) }));
    site.manage(&["migrate", "--fake-initial"]);
    assert_eq!(site.items(&key), json!({ "a": "1" }));
    share(&site, &store);
}

#[test]
fn an_older_secret_key_is_still_believed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.sqlite3");
    let old = Site::start(Version::Newest, json!({ "DATABASES": sqlite(&file), "SECRET_KEY": "the old one" }));
    old.manage(&["migrate", "sessions"]);
    let keys = [(); 2].map(|()| old.work(None, &json!([["set", "a", 1]])).expect("a key"));
    drop(old);
    let settings = json!({ "DATABASES": sqlite(&file), "SECRET_KEY_FALLBACKS": ["the old one"] });
    let site = Site::start(Version::Newest, settings);
    let url = format!("sqlite://{}", file.display());
    let plain = Plain::new(&store(&url, "secret_key_fallbacks = ['the old one']\n"));
    let strict = Plain::new(&store(&url, ""));
    assert_eq!(strict.look(&keys[0]), None);
    assert_eq!(plain.look(&keys[0]), Some(json!({ "a": 1 })));
    assert_eq!(site.items(&keys[0]), json!({ "a": 1 }));
    // What is written is signed with the new key.
    answer(&mut plain.visitor(&keys[0]), &["X-Session-Set: b=1"]);
    assert_eq!(strict.look(&keys[0]), Some(json!({ "a": 1, "b": "1" })));
    site.work(Some(&keys[1]), &json!([["set", "b", 1]]));
    assert_eq!(strict.look(&keys[1]), Some(json!({ "a": 1, "b": 1 })));
}

#[test]
fn cached_db_on_sqlite_and_redis() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.sqlite3");
    let server = RedisServer::start();
    let cache = format!("{}/2", server.tcp_url());
    for version in [Version::Newest, Version::V42] {
        let settings = json!({
            "SESSION_ENGINE": "django.contrib.sessions.backends.cached_db",
            "DATABASES": sqlite(&file),
            "CACHES": { "default": { "BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": cache } },
        });
        let site = Site::start(version, settings);
        site.manage(&["migrate", "sessions"]);
        let database = format!("engine = 'db'\nurl = 'sqlite://{}'", file.display());
        share(&site, &cached(&database, &format!("engine = 'redis'\nurl = '{cache}'")));
    }
}

#[test]
fn cached_db_on_postgresql_and_memcached() {
    let server = PostgresServer::start();
    let cache = MemcachedServer::start();
    let settings = json!({
        "SESSION_ENGINE": "django.contrib.sessions.backends.cached_db",
        "DATABASES": postgres(&server),
        "CACHES": { "default": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": cache.node(),
        } },
    });
    let site = Site::start(Version::Newest, settings);
    site.manage(&["migrate", "sessions"]);
    let database = format!("engine = 'db'\nurl = '{}'", server.url());
    let store = cached(&database, &format!("engine = 'memcached'\nurl = '{}'", cache.url()));
    share(&site, &store);

    // The row is the truth: what the cache lost is there all the same.
    let plain = Plain::new(&store);
    let key = answer(&mut plain.proxy.visitor(), &["X-Session-Set: a=1"]).expect("a key");
    cache.tell("flush_all\r\n");
    assert_eq!(site.items(&key), json!({ "a": "1" }));
    let key = site.work(None, &json!([["set", "a", 1]])).expect("a key");
    cache.tell("flush_all\r\n");
    assert_eq!(plain.look(&key), Some(json!({ "a": 1 })));
}

#[test]
fn an_application_that_pickles_its_rows_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.sqlite3");
    let site = Site::start(
        Version::V42,
        json!({ "DATABASES": sqlite(&file), "SESSION_SERIALIZER": "django.contrib.sessions.serializers.PickleSerializer" }),
    );
    site.manage(&["migrate", "sessions"]);
    let key = site.work(None, &json!([["set", "a", { "$set": [1] }]])).expect("a key");
    let plain = Plain::new(&store(&format!("sqlite://{}", file.display()), ""));
    assert_eq!(plain.look(&key), None);
    assert_eq!(site.items(&key), json!({ "a": { "$set": [1] } }), "and not spoilt");
}
