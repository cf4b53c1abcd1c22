//! `SESSION_ENGINE = "django.contrib.sessions.backends.cache"`, for each cache that processes can share.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::memcached_server::MemcachedServer;
use crate::redis_server::RedisServer;
use crate::shared::{Plain, keep_what_only_python_has, share};
use crate::site::{Site, Version};

const CACHE: &str = "django.contrib.sessions.backends.cache";

/// A cache of Django on Redis, and `[store.django]` for it.
struct OnRedis {
    backend: &'static str,
    options: Value,
    django: &'static str,
    /// Whether it takes any object of Python.
    pickles: bool,
}

fn django_redis(serializer: &str, compressor: &str, django: &'static str) -> OnRedis {
    let mut options = json!({});
    if serializer != "pickle" {
        let class = if serializer == "json" { "JSONSerializer" } else { "MSGPackSerializer" };
        options["SERIALIZER"] = json!(format!("django_redis.serializers.{serializer}.{class}"));
    }
    if !compressor.is_empty() {
        let class = match compressor {
            "zstd" => "ZStd".to_owned(),
            other => format!("{}{}", other[..1].to_uppercase(), &other[1..]),
        };
        options["COMPRESSOR"] = json!(format!("django_redis.compressors.{compressor}.{class}Compressor"));
    }
    OnRedis { backend: "django_redis.cache.RedisCache", options, django, pickles: serializer == "pickle" }
}

fn on_redis() -> Vec<OnRedis> {
    vec![
        OnRedis {
            backend: "django.core.cache.backends.redis.RedisCache",
            options: json!({}),
            django: "",
            pickles: true,
        },
        django_redis("pickle", "", "client = 'django-redis'"),
        django_redis("pickle", "zlib", "client = 'django-redis'\ncompressor = 'zlib'"),
        django_redis("pickle", "gzip", "client = 'django-redis'\ncompressor = 'gzip'"),
        django_redis("pickle", "lzma", "client = 'django-redis'\ncompressor = 'lzma'"),
        django_redis("pickle", "lz4", "client = 'django-redis'\ncompressor = 'lz4'"),
        django_redis("pickle", "zstd", "client = 'django-redis'\ncompressor = 'zstd'"),
        django_redis("json", "", "client = 'django-redis'\nserializer = 'json'"),
        django_redis("json", "zlib", "client = 'django-redis'\nserializer = 'json'\ncompressor = 'zlib'"),
        django_redis("msgpack", "", "client = 'django-redis'\nserializer = 'msgpack'"),
        django_redis("msgpack", "zstd", "client = 'django-redis'\nserializer = 'msgpack'\ncompressor = 'zstd'"),
    ]
}

/// Each in a database of its own on one server, and one process of Django for all.
fn share_redis(version: Version) {
    let server = RedisServer::start();
    let url = |number: usize| format!("{}/{number}", server.tcp_url());
    let mut caches = Map::new();
    for (number, cache) in on_redis().into_iter().enumerate() {
        let settings = json!({ "BACKEND": cache.backend, "LOCATION": url(number), "OPTIONS": cache.options });
        caches.insert(format!("c{number}"), settings);
    }
    caches.insert("default".to_owned(), json!({ "BACKEND": "django.core.cache.backends.dummy.DummyCache" }));
    let site = Site::start(version, json!({ "SESSION_ENGINE": CACHE, "CACHES": caches }));
    let mut pickles = 0;
    for (number, cache) in on_redis().into_iter().enumerate() {
        println!("{} {}", cache.backend, cache.options);
        site.set(json!({ "SESSION_CACHE_ALIAS": format!("c{number}") }));
        let store = store("redis", &url(number), cache.django);
        share(&site, &store);
        if cache.pickles {
            keep_what_only_python_has(&site, &store);
            pickles += 1;
        }
    }
    assert_eq!(pickles, 7);
}

fn store(engine: &str, url: &str, django: &str) -> String {
    // With a near cache what Django changes is seen a moment later.
    let near = "near_cache = { enabled = false, max_age = '1h' }";
    let mut text = format!("[store]\nengine = '{engine}'\nurl = '{url}'\nformat = 'django'\ntimeout = '60s'\n{near}\n");
    write!(text, "[store.django]\n{django}\n").unwrap();
    text
}

#[test]
fn every_cache_on_redis() {
    share_redis(Version::Newest);
}

#[test]
fn every_cache_on_redis_with_django_4_2() {
    share_redis(Version::V42);
}

#[test]
fn what_django_changes_in_redis_is_seen_though_a_near_cache_has_it() {
    let server = RedisServer::start();
    for (client, backend) in
        [("django", "django.core.cache.backends.redis.RedisCache"), ("django-redis", "django_redis.cache.RedisCache")]
    {
        let cache = json!({ "BACKEND": backend, "LOCATION": server.tcp_url() });
        let site = Site::start(Version::Newest, json!({ "SESSION_ENGINE": CACHE, "CACHES": { "default": cache } }));
        let store = store("redis", &server.tcp_url(), &format!("client = '{client}'"));
        let plain = Plain::new(&store.replace("enabled = false", "enabled = true"));
        let shows = |key: &str, expected: Option<Value>| {
            let start = Instant::now();
            while plain.look(key) != expected {
                assert!(start.elapsed() < Duration::from_secs(30), "{client}: never {expected:?}");
            }
            for _ in 0..5 {
                assert_eq!(plain.look(key), expected, "{client}");
            }
        };
        let key = site.work(None, &json!([["set", "n", 0]])).expect("a key");
        for number in 1..20 {
            site.work(Some(&key), &json!([["set", "n", number]]));
            shows(&key, Some(json!({ "n": number })));
        }
        let new = site.work(Some(&key), &json!([["cycle_key"]])).expect("a key");
        shows(&key, None);
        shows(&new, Some(json!({ "n": 19 })));
        site.work(Some(&new), &json!([["flush"]]));
        shows(&new, None);
    }
}

#[test]
fn a_prefix_and_a_version_are_part_of_the_name() {
    let server = RedisServer::start();
    let cache = json!({
        "BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": server.tcp_url(),
        "KEY_PREFIX": "shop", "VERSION": 3,
    });
    let site = Site::start(Version::Newest, json!({ "SESSION_ENGINE": CACHE, "CACHES": { "default": cache } }));
    share(&site, &store("redis", &server.tcp_url(), "key_prefix = 'shop'\nversion = 3"));
    let key = site.work(None, &json!([["set", "a", 1]])).expect("a key");
    assert_eq!(Plain::new(&store("redis", &server.tcp_url(), "")).look(&key), None, "another name");
}

#[test]
fn memcached() {
    let server = MemcachedServer::start();
    for version in [Version::Newest, Version::V42] {
        let site = Site::start(version, on_memcached(&[&server]));
        let store = store("memcached", &server.url(), "");
        share(&site, &store);
        keep_what_only_python_has(&site, &store);
    }
}

#[test]
fn several_servers_of_memcached() {
    let servers = [(); 3].map(|()| MemcachedServer::start());
    let site = Site::start(Version::Newest, on_memcached(&servers.each_ref()));
    let nodes = servers.each_ref().map(MemcachedServer::node).join(",");
    let store = store("memcached", &format!("memcached://{nodes}"), "");
    share(&site, &store);
    let plain = Plain::new(&store);
    for number in 0..30 {
        let key = site.work(None, &json!([["set", "n", number]])).expect("a key");
        assert_eq!(plain.look(&key), Some(json!({ "n": number })), "looked for on another server");
    }
}

fn on_memcached(servers: &[&MemcachedServer]) -> Value {
    let nodes: Vec<String> = servers.iter().map(|server| server.node()).collect();
    json!({
        "SESSION_ENGINE": CACHE,
        "CACHES": { "default": { "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": nodes } },
    })
}
