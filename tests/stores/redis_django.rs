//! Sessions as Django's cache backends for Redis keep them: the vectors were recorded from Django itself.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::store::{self, CacheClient, DjangoSettings, Expected, ForeignRecords, Key, Record, Saved, SessionStore};
use redis::Commands as _;
use serde_json::Value;

use crate::cases::stored;
use crate::fixture::{START, chain, settings};
use crate::redis_server::RedisServer;
use crate::redis_topologies::{Cluster, Watched};

/// What Redis may have counted down since a moment ago.
const SLACK: i64 = 30_000;

/// Where a value lies tells all that this engine needs.
struct Unasked;

impl ForeignRecords for Unasked {
    fn file_prefix(&self) -> &str {
        unreachable!()
    }

    fn deadline(&self, _: &[u8], _: Timestamp) -> Timestamp {
        unreachable!()
    }

    fn cache_value(&self, _: &Record) -> Option<Bytes> {
        unreachable!()
    }

    fn row_value(&self, _: &Record) -> Option<Bytes> {
        unreachable!()
    }
}

async fn open(url: &str, django: DjangoSettings) -> Arc<dyn SessionStore> {
    let mut settings = settings(&format!("engine = 'redis'\nurl = '{url}'\nformat = 'django'\ntimeout = '30s'"));
    settings.django = Some(django);
    let opened = store::open_engine(&settings, Some(Arc::new(Unasked)), Clock::manual(START)).await;
    opened.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn after(millis: i64) -> Timestamp {
    START.plus(Duration::from_millis(millis.try_into().unwrap()))
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        value => {
            let digits = value["hex"].as_str().unwrap().as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(byte).collect()
        }
    }
}

/// Tells with which words a key was set.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn start(server: &RedisServer) -> Self {
        let mut connection = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        connection.write_all(b"MONITOR\r\n").unwrap();
        let mut monitor = Self(BufReader::new(connection));
        assert_eq!(monitor.line(), "+OK");
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The last two words of the next `SET` that a script does.
    fn expiry(&mut self) -> [String; 2] {
        loop {
            let line = self.line();
            if line.contains(" lua] \"SET\"") {
                let mut words = line.rsplit(' ').map(|word| word.trim_matches('"').to_owned());
                let amount = words.next().unwrap();
                return [words.next().unwrap(), amount];
            }
        }
    }
}

#[tokio::test]
async fn what_django_does_and_what_we_do_comes_to_the_same() {
    let vectors: Value = serde_json::from_str(include_str!("../data/django/10_redis.json")).unwrap();
    let (mut scripts, mut sets, mut reads, mut deletions) = (0, 0, 0, 0);
    for vector in vectors["vectors"].as_array().unwrap().iter().filter(|vector| vector["kind"] == "script") {
        scripts += 1;
        let cache = &vector["CACHES"];
        let before_db = vector["engine"] == "cached_db";
        let client = match cache["BACKEND"].as_str().unwrap() {
            "django_redis.cache.RedisCache" => CacheClient::DjangoRedis,
            _ => CacheClient::Django,
        };
        let django = DjangoSettings {
            key_prefix: cache["KEY_PREFIX"].as_str().unwrap_or_default().to_owned(),
            version: cache["VERSION"].as_u64().unwrap_or(1).try_into().unwrap(),
            client,
            before_db,
            ..DjangoSettings::default()
        };
        // Django's commands go to one server, what we do for the same reasons to another.
        let [theirs, ours] = [RedisServer::start(), RedisServer::start()];
        let [reader, writer] = [open(&theirs.tcp_url(), django.clone()).await, open(&ours.tcp_url(), django).await];
        let [mut theirs, mut look] = [theirs.look(), ours.look()].map(|connection| connection);
        let mut monitor = Monitor::start(&ours);
        let begins = if before_db { "django.contrib.sessions.cached_db" } else { "django.contrib.sessions.cache" };
        for step in vector["steps"].as_array().unwrap() {
            for words in step["wire"].as_array().unwrap() {
                let words: Vec<Vec<u8>> = words.as_array().unwrap().iter().map(bytes).collect();
                let text = |number: usize| String::from_utf8_lossy(&words[number]).into_owned();
                let mut command = redis::cmd(&text(0));
                command.arg(&words[1..]).exec(&mut theirs).unwrap();
                let (name, place) = (text(1), format!("{} {:?} {step}", vector["name"], text(0)));
                let key = Key::new(name.split_once(begins).unwrap().1);
                match text(0).as_str() {
                    "SET" => {
                        sets += 1;
                        let option = text(words.len() - 2);
                        let expected = match writer.load(&key).await.unwrap() {
                            Some(record) => Expected::Version(record.version),
                            None => Expected::Absent,
                        };
                        if words.len() == 4 {
                            // What follows is a DEL: it is to last no time at all.
                            stored(&*writer, &key, expected, words[2].clone(), START).await;
                            continue;
                        }
                        let unit = if option == "EX" { 1_000 } else { 1 };
                        let millis = text(words.len() - 1).parse::<i64>().unwrap() * unit;
                        stored(&*writer, &key, expected, words[2].clone(), after(millis)).await;
                        assert_eq!(monitor.expiry(), [option, text(words.len() - 1)], "{place}");
                        let record = reader.load(&key).await.unwrap().unwrap();
                        assert!(record.expires_at <= after(millis), "{place}");
                        assert!(record.expires_at > after(millis - SLACK), "{place}");
                    }
                    "DEL" => {
                        deletions += 1;
                        writer.delete(&key).await.unwrap();
                    }
                    _ => reads += 1,
                }
                // Both servers hold the same, and each is read alike.
                let value: Option<Vec<u8>> = look.get(&name).unwrap();
                assert_eq!(value, theirs.get::<_, Option<Vec<u8>>>(&name).unwrap(), "{place}");
                for store in [&reader, &writer] {
                    assert_eq!(store.load(&key).await.unwrap().map(|record| record.value.to_vec()), value, "{place}");
                }
                let left: [i64; 2] = [&mut look, &mut theirs].map(|server| server.pttl(&name).unwrap());
                assert!((left[0] - left[1]).abs() < SLACK, "{place}: {left:?}");
            }
        }
        let names = |server: &mut redis::Connection| -> Vec<String> { server.keys("*").unwrap() };
        assert_eq!(names(&mut look), names(&mut theirs), "{}", vector["name"]);
    }
    assert!(scripts >= 6 && sets >= 40 && reads >= 20 && deletions >= 10, "{scripts} {sets} {reads} {deletions}");
}

#[tokio::test]
async fn only_the_value_that_was_read_is_replaced() {
    for client in [CacheClient::Django, CacheClient::DjangoRedis] {
        let server = RedisServer::start();
        let store = open(&server.tcp_url(), DjangoSettings { client, ..DjangoSettings::default() }).await;
        let mut redis = server.look();
        let (key, name) = (Key::new("abc"), ":1:django.contrib.sessions.cacheabc");
        let conflicts =
            async |expected| store.save(&key, expected, "late".into(), after(60_000)).await.unwrap() == Saved::Conflict;
        let first = stored(&*store, &key, Expected::Absent, "one", after(60_000)).await;
        assert!(conflicts(Expected::Absent).await);
        let second = stored(&*store, &key, Expected::Version(first), "two", after(60_000)).await;
        assert!(conflicts(Expected::Version(first)).await);
        assert_eq!(store.load(&key).await.unwrap().unwrap().version, second);
        // Django writes between our reading and writing.
        redis.set::<_, _, ()>(name, "theirs").unwrap();
        assert!(conflicts(Expected::Version(second)).await);
        assert!(!store.touch(&key, second, after(90_000)).await.unwrap());
        let record = store.load(&key).await.unwrap().unwrap();
        assert_eq!((&record.value[..], record.expires_at.as_millis()), (&b"theirs"[..], i64::MAX), "for ever");
        // What lasts for ever is not shortened by a touch, and not made to last by one that is for ever.
        assert!(store.touch(&key, record.version, after(60_000)).await.unwrap());
        assert_eq!(redis.pttl::<_, i64>(name).unwrap(), -1);
        let third = stored(&*store, &key, Expected::Version(record.version), "three", after(60_000)).await;
        for (wanted, least, most) in [(30_000, 60_000 - SLACK, 60_000), (90_000, 60_001, 90_000), (0, 60_001, 90_000)] {
            assert!(store.touch(&key, third, after(wanted)).await.unwrap());
            let left: i64 = redis.pttl(name).unwrap();
            assert!(left > least && left <= most, "{wanted}: {left}");
        }
        assert!(store.touch(&key, third, Timestamp::from_millis(i64::MAX)).await.unwrap());
        assert_eq!(redis.pttl::<_, i64>(name).unwrap(), -1);
        // The end of a session, by a deadline that has come.
        assert!(conflicts(Expected::Version(second)).await);
        stored(&*store, &key, Expected::Version(third), "four", START).await;
        assert!(!redis.exists::<_, bool>(name).unwrap());
        assert!(conflicts(Expected::Version(third)).await);
        stored(&*store, &key, Expected::Absent, "for ever", Timestamp::from_millis(i64::MAX)).await;
        assert_eq!(redis.pttl::<_, i64>(name).unwrap(), -1);
    }
}

#[tokio::test]
async fn another_type_under_the_name_is_absent_and_left_alone() {
    let server = RedisServer::start();
    let store = open(&server.tcp_url(), DjangoSettings::default()).await;
    let (key, name) = (Key::new("abc"), ":1:django.contrib.sessions.cacheabc");
    let mut redis = server.look();
    redis.lpush::<_, _, ()>(name, 1).unwrap();
    assert_eq!(store.load(&key).await.unwrap(), None);
    assert_eq!(store.save(&key, Expected::Absent, "x".into(), after(1_000)).await.unwrap(), Saved::Conflict);
    assert!(!store.touch(&key, store::Version(1), after(1_000)).await.unwrap());
    assert!(redis.exists::<_, bool>(name).unwrap());
    store.delete(&key).await.unwrap();
    assert!(!redis.exists::<_, bool>(name).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_layout_is_the_same_behind_sentinels_and_in_a_cluster() {
    let (watched, cluster) = (Watched::start(1, 60_000), Cluster::start(0, 60_000));
    for url in [watched.url(), cluster.url()] {
        let store = open(&url, DjangoSettings::default()).await;
        for number in 0..20 {
            let key = Key::new(format!("key{number}"));
            let version = stored(&*store, &key, Expected::Absent, "one", after(60_000)).await;
            assert!(store.touch(&key, version, after(90_000)).await.unwrap());
            assert_eq!(store.load(&key).await.unwrap().unwrap().version, version);
            stored(&*store, &key, Expected::Version(version), "two", after(60_000)).await;
        }
        let mut listed = store.scan(None).await.unwrap();
        let mut keys = listed.keys;
        while let Some(next) = listed.next {
            listed = store.scan(Some(&next)).await.unwrap();
            keys.append(&mut listed.keys);
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 20);
        assert!(keys.iter().all(|key| key.as_str().starts_with("key")));
    }
}
