//! memcached: what lies there, what it forgets, what it refuses, and when it goes away.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::metrics::Metrics;
use cloakroom::store::{self, Expected, Key, Saved, StoreError, Version, open_engine};

use crate::cases::{HOUR, stored, value};
use crate::fixture::{Fixture, START, chain, settings};
use crate::memcached_server::MemcachedServer;

const NAME: &str = "session:visitor";
const DJANGOS: &str = ":1:django.contrib.sessions.cachevisitor";
/// What memcached takes for an item of ours beside its key and value, and the line before the value.
const BESIDE: usize = 63 + NAME.len() + 40;

fn key() -> Key {
    Key::new("visitor")
}

fn one() -> Fixture {
    Fixture::memcached_on(vec![MemcachedServer::start()])
}

fn number(answer: &str, flag: char) -> i64 {
    let line = answer.lines().next().unwrap();
    line.split(' ').find_map(|word| word.strip_prefix(flag)?.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn a_record_is_one_line_to_read_and_the_value() {
    let fixture = one();
    let store = fixture.open().await;
    let server = &fixture.memcached[0];
    let version = stored(&*store, &key(), Expected::Absent, "value", fixture.later(60_000)).await;
    let lies_there = |deadline: i64| {
        let answer = server.tell(&format!("mg {NAME} v t f\r\n"));
        let ttl = number(&answer, 't');
        assert_eq!(answer, format!("VA 45 t{ttl} f0\nc1 {deadline:019} {:016x}", version.0));
        ttl
    };
    let ttl = lies_there(START.as_millis() + 60_000);
    assert!((60..=120).contains(&ttl), "{ttl}");
    store.touch(&key(), version, fixture.later(90_000)).await.unwrap();
    let ttl = lies_there(START.as_millis() + 90_000);
    assert!((90..=150).contains(&ttl), "{ttl}");
    // Beyond thirty days it is told in another way.
    store.touch(&key(), version, fixture.later(HOUR * 24 * 60)).await.unwrap();
    let ttl = lies_there(START.as_millis() + 5_184_000_000);
    assert!((5_184_000..=5_184_062).contains(&ttl), "{ttl}");
    store.touch(&key(), version, Timestamp::from_millis(i64::MAX)).await.unwrap();
    assert_eq!(lies_there(i64::MAX), -1);
    stored(&*store, &key(), Expected::Version(version), "over", START).await;
    assert_eq!(server.tell(&format!("mg {NAME} v\r\n")), "EN");
}

#[tokio::test]
async fn what_is_not_ours_is_absent_and_stays_as_it_is() {
    let fixture = one();
    let store = fixture.open().await;
    let server = &fixture.memcached[0];
    for text in ["", "hello", "c1 0001800000000000000 00000000000000XX"] {
        assert_eq!(server.tell(&format!("ms {NAME} {} T0\r\n{text}\r\n", text.len())), "HD");
        assert_eq!(store.load(&key()).await.unwrap(), None, "{text}");
        for expected in [Expected::Absent, Expected::Version(Version(7))] {
            let saved = store.save(&key(), expected, "ours".into(), fixture.later(HOUR)).await.unwrap();
            assert_eq!(saved, Saved::Conflict, "{text}");
        }
        assert!(!store.touch(&key(), Version(7), fixture.later(HOUR)).await.unwrap());
        assert_eq!(server.tell(&format!("mg {NAME} v\r\n")), format!("VA {}\n{text}", text.len()).trim_end());
        store.delete(&key()).await.unwrap();
    }
}

#[tokio::test]
async fn in_djangos_layout_an_item_is_the_value_with_its_flags_and_lifetime() {
    let fixture = one().foreign();
    let store = fixture.open().await;
    let server = &fixture.memcached[0];
    let version = stored(&*store, &key(), Expected::Absent, "pickle", fixture.later(300_000)).await;
    let answer = server.tell(&format!("mg {DJANGOS} v t f\r\n"));
    let ttl = number(&answer, 't');
    assert_eq!(answer, format!("VA 6 t{ttl} f1\npickle"));
    assert!((240..=300).contains(&ttl), "{ttl}");
    assert!(store.touch(&key(), version, fixture.later(HOUR)).await.unwrap());
    let answer = server.tell(&format!("mg {DJANGOS} v t f\r\n"));
    assert!(number(&answer, 't') > 3_000 && answer.ends_with("f1\npickle"), "{answer}");
    let record = store.load(&key()).await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.version), (&b"pickle"[..], version));
    let left = record.expires_at.since(START).as_secs();
    assert!((3_000..=3_600).contains(&left), "{left}");

    // Django writes without comparing.
    assert_eq!(server.tell(&format!("set {DJANGOS} 1 300 6\r\ntheirs\r\n")), "STORED");
    let saved = store.save(&key(), Expected::Version(version), "ours".into(), fixture.later(HOUR)).await.unwrap();
    assert_eq!(saved, Saved::Conflict);
    let theirs = store.load(&key()).await.unwrap().unwrap();
    assert_eq!(theirs.value, "theirs");
    stored(&*store, &key(), Expected::Version(theirs.version), "over", START).await;
    assert_eq!(server.tell(&format!("mg {DJANGOS} v\r\n")), "EN");
    for strange in ["a b", "a\r\nb", &"k".repeat(250)] {
        assert_eq!(store.load(&Key::new(strange)).await.unwrap(), None, "{strange:?}");
        store.delete(&Key::new(strange)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_old_record_stays() {
    let fixture = one();
    let store = fixture.open().await;
    let fits = (1 << 20) - BESIDE;
    let version = stored(&*store, &key(), Expected::Absent, vec![b'x'; fits], fixture.later(HOUR)).await;
    for size in [fits + 1, 2 << 20] {
        for (name, expected) in [("visitor", Expected::Version(version)), ("someone", Expected::Absent)] {
            let saved = store.save(&Key::new(name), expected, vec![0; size].into(), fixture.later(HOUR)).await;
            assert!(matches!(saved, Err(StoreError::TooLarge)), "{size}: {saved:?}");
        }
        assert_eq!(value(&*store, &key()).await.unwrap().len(), fits);
    }
    // The connection is as good as before.
    stored(&*store, &key(), Expected::Version(version), "small", fixture.later(HOUR)).await;
}

#[tokio::test]
async fn what_memcached_had_no_room_for_is_absent_and_is_not_revived() {
    let fixture = Fixture::memcached_on(vec![MemcachedServer::with(&["-m", "2"])]);
    let store = fixture.open().await;
    let version = stored(&*store, &key(), Expected::Absent, vec![0; 10_000], fixture.later(HOUR)).await;
    // Fifteen times what it has room for.
    for number in 0..3_000 {
        let name = Key::new(number.to_string());
        stored(&*store, &name, Expected::Absent, vec![0; 10_000], fixture.later(HOUR)).await;
    }
    assert_eq!(store.load(&key()).await.unwrap(), None);
    let late = store.save(&key(), Expected::Version(version), "late".into(), fixture.later(HOUR)).await.unwrap();
    assert_eq!(late, Saved::Conflict);
}

#[tokio::test]
async fn connections_that_the_server_closed_while_idle_cost_no_call() {
    let mut fixture = one();
    let store = fixture.open().await;
    let worker = Arc::clone(&store).attach().await.unwrap();
    for round in 0..8_usize {
        let version = stored(&*worker, &Key::new("visitor"), Expected::Absent, "x", fixture.later(HOUR)).await;
        // Several connections are open now.
        let key = key();
        let (one, two, three) = tokio::join!(worker.load(&key), worker.load(&key), store.load(&key));
        assert!([one, two, three].into_iter().all(|found| found.unwrap().is_some()));
        fixture.memcached[0].restart();
        match round % 4 {
            0 => assert_eq!(worker.load(&key).await.unwrap(), None),
            1 => assert!(!worker.touch(&key, version, fixture.later(HOUR)).await.unwrap()),
            2 => worker.delete(&key).await.unwrap(),
            // The server came back empty: what was deleted must not be revived.
            _ => {
                let late = worker.save(&key, Expected::Version(version), "x".into(), fixture.later(HOUR)).await;
                assert_eq!(late.unwrap(), Saved::Conflict);
            }
        }
        store.load(&key).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_went_away_is_unreachable_until_it_is_back() {
    let mut fixture = one();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(HOUR)).await;
    fixture.memcached[0].stop();
    for _ in 0..3 {
        assert!(matches!(store.load(&key()).await, Err(StoreError::Unreachable(_))));
        let saved = store.save(&key(), Expected::Absent, "x".into(), fixture.later(HOUR)).await;
        assert!(matches!(saved, Err(StoreError::Unreachable(_))), "{saved:?}");
    }
    assert!(matches!(fixture.try_open().await, Err(StoreError::Unreachable(_))));
    fixture.memcached[0].restart();
    stored(&*store, &key(), Expected::Absent, "new", fixture.later(HOUR)).await;
}

#[tokio::test]
async fn a_deaf_server_costs_the_time_limit_and_no_connection_is_used_again_that_it_owes_an_answer() {
    let server = MemcachedServer::start();
    let settings = settings(&format!("engine = 'memcached'\nurl = '{}'\ntimeout = '300ms'", server.url()));
    let store = store::open(&settings, None, Clock::manual(START), Arc::new(Metrics::new())).await.unwrap();
    let deadline = START.plus(Duration::from_secs(3_600));
    stored(&*store, &key(), Expected::Absent, "x", deadline).await;
    server.pause();
    let late = store.save(&Key::new("late"), Expected::Absent, "late".into(), deadline).await;
    assert!(matches!(late, Err(StoreError::Timeout)), "{late:?}");
    server.resume();
    for _ in 0..10 {
        assert_eq!(value(&*store, &key()).await.unwrap(), "x");
        assert_eq!(value(&*store, &Key::new("nobody")).await, None);
    }
}

#[tokio::test]
async fn each_key_is_on_one_server_and_goes_with_it() {
    const KEYS: usize = 60;
    let mut fixture = Fixture::memcached_three();
    let store = fixture.open().await;
    for number in 0..KEYS {
        stored(&*store, &Key::new(number.to_string()), Expected::Absent, "x", fixture.later(HOUR)).await;
    }
    let on = |fixture: &Fixture, server: usize, number: usize| {
        fixture.memcached[server].tell(&format!("mg session:{number}\r\n")) == "HD"
    };
    let places: Vec<usize> = (0..KEYS)
        .map(|number| {
            let places: Vec<usize> = (0..3).filter(|server| on(&fixture, *server, number)).collect();
            assert_eq!(places.len(), 1, "{number}");
            places[0]
        })
        .collect();
    assert!((0..3).all(|server| places.contains(&server)), "{places:?}");

    let (mut listed, mut from, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.scan(from.as_ref()).await.unwrap();
        listed.extend(page.keys);
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    listed.sort();
    let mut expected: Vec<Key> = (0..KEYS).map(|number| Key::new(number.to_string())).collect();
    expected.sort();
    assert_eq!((listed == expected, pages), (true, 3));

    fixture.memcached[1].stop();
    for (number, place) in places.iter().enumerate() {
        let found = store.load(&Key::new(number.to_string())).await;
        if *place == 1 {
            assert!(matches!(found, Err(StoreError::Unreachable(_))), "{found:?}");
        } else {
            assert!(found.unwrap().is_some(), "{number}");
        }
    }
}

#[tokio::test]
async fn only_our_keys_are_listed() {
    for fixture in [one(), one().foreign()] {
        let store = fixture.open().await;
        stored(&*store, &key(), Expected::Absent, "x", fixture.later(HOUR)).await;
        for other in ["other:visitor", "session", ":2:django.contrib.sessions.cachevisitor"] {
            assert_eq!(fixture.memcached[0].tell(&format!("ms {other} 1 T0\r\nx\r\n")), "HD");
        }
        let page = store.scan(None).await.unwrap();
        assert_eq!((page.keys, page.next), (vec![key()], None));
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_refused_at_start() {
    let text = |url: &str| settings(&format!("engine = 'memcached'\nurl = '{url}'"));
    let without_cas = MemcachedServer::with(&["-C"]);
    let redis = crate::redis_server::RedisServer::start();
    let other = redis.tcp_url().replace("redis://", "memcached://");
    for (url, told) in [
        (without_cas.url(), "-C"),
        (other, "does not speak"),
        ("memcached+unix:///nonexistent/memcached.sock".to_owned(), "/nonexistent/memcached.sock"),
    ] {
        let error = open_engine(&text(&url), None, Clock::manual(START)).await.err().unwrap();
        assert!(matches!(error, StoreError::Unreachable(_)) && chain(&error).contains(told), "{}", chain(&error));
    }
}
