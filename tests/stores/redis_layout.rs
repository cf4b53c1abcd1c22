//! What lies in Redis: readable, forgotten in time, and harmless when it is not ours.

use std::time::Duration;

use cloakroom::clock::Timestamp;
use cloakroom::store::{Expected, Key, Saved, SessionStore, Version};
use redis::Commands as _;

use crate::cases::stored;
use crate::fixture::{Fixture, START};

const NAME: &str = "session:visitor";

fn key() -> Key {
    Key::new("visitor")
}

fn database(fixture: &Fixture) -> redis::Connection {
    let mut connection = fixture.redis.as_ref().unwrap().look();
    redis::cmd("SELECT").arg(3).exec(&mut connection).unwrap();
    connection
}

#[tokio::test]
async fn a_record_is_one_line_to_read_and_the_value() {
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let version = stored(&*store, &key(), Expected::Absent, "value", fixture.later(60_000)).await;
    let mut redis = database(&fixture);
    let deadline = START.as_millis() + 60_000;
    assert_eq!(redis.keys::<_, Vec<String>>("*").unwrap(), [NAME]);
    assert_eq!(redis.get::<_, String>(NAME).unwrap(), format!("c1 {deadline:019} {:016x}\nvalue", version.0));
    store.touch(&key(), version, fixture.later(90_000)).await.unwrap();
    let deadline = deadline + 30_000;
    assert_eq!(redis.get::<_, String>(NAME).unwrap(), format!("c1 {deadline:019} {:016x}\nvalue", version.0));
}

/// Redis's own clock runs on while ours stands still; what it forgets may be late but never early.
#[tokio::test]
async fn redis_forgets_by_itself_and_not_before_the_deadline() {
    let hour = Duration::from_secs(3_600);
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let mut redis = database(&fixture);
    let mut left = || redis.pttl::<_, i64>(NAME).unwrap();
    let soon = |left: i64, hours: u64| {
        let hours = i64::try_from(hours).unwrap() * 3_600_000;
        left > hours && left <= hours + 60_000
    };

    let version = stored(&*store, &key(), Expected::Absent, "x", fixture.clock.now().plus(hour)).await;
    assert!(soon(left(), 1), "{}", left());
    store.touch(&key(), version, fixture.clock.now().plus(hour * 2)).await.unwrap();
    assert!(soon(left(), 2), "{}", left());
    store.touch(&key(), version, fixture.clock.now()).await.unwrap();
    assert!(soon(left(), 2), "{}", left());
    let version = stored(&*store, &key(), Expected::Version(version), "x", START).await;
    assert!(soon(left(), 0), "{}", left());
    assert_eq!(store.load(&key()).await.unwrap(), None);
    assert!(!store.touch(&key(), version, fixture.clock.now().plus(hour)).await.unwrap());

    let never = Timestamp::from_millis(i64::MAX);
    let version = stored(&*store, &key(), Expected::Absent, "x", fixture.clock.now().plus(hour)).await;
    store.touch(&key(), version, never).await.unwrap();
    assert_eq!(left(), -1);
    stored(&*store, &key(), Expected::Version(version), "x", never).await;
    assert_eq!(left(), -1);
}

#[tokio::test]
async fn what_is_not_ours_is_absent_and_stays_as_it_is() {
    let header = format!("c1 {:019} {:016x}\n", START.as_millis() + 60_000, 7);
    let strings = [
        String::new(),
        "\n".to_owned(),
        "hello".to_owned(),
        "x".repeat(100),
        header[..39].to_owned(),
        header.replace("c1", "c2"),
        header.replace('\n', " "),
        header.replace("0000000007", "000000000G"),
        header.replace("000000000000007", "00000000000000A"),
    ];
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let mut redis = database(&fixture);
    for string in strings {
        redis.set::<_, _, ()>(NAME, &string).unwrap();
        is_left_alone(&*store, &fixture, &string).await;
        assert_eq!(redis.get::<_, String>(NAME).unwrap(), string);
        store.delete(&key()).await.unwrap();
    }
    for fill in
        [["LPUSH", NAME, "x", "y"], ["HSET", NAME, "x", "y"], ["SADD", NAME, "x", "y"], ["ZADD", NAME, "1", "y"]]
    {
        redis::cmd(fill[0]).arg(&fill[1..]).exec(&mut redis).unwrap();
        is_left_alone(&*store, &fixture, fill[0]).await;
        assert!(redis.exists::<_, bool>(NAME).unwrap(), "{}", fill[0]);
        store.delete(&key()).await.unwrap();
        assert!(!redis.exists::<_, bool>(NAME).unwrap(), "{}", fill[0]);
    }
}

async fn is_left_alone(store: &dyn SessionStore, fixture: &Fixture, what: &str) {
    assert_eq!(store.load(&key()).await.unwrap(), None, "{what}");
    for expected in [Expected::Absent, Expected::Version(Version(7)), Expected::Version(Version(0))] {
        let saved = store.save(&key(), expected, "ours".into(), fixture.later(60_000)).await.unwrap();
        assert_eq!(saved, Saved::Conflict, "{what}");
    }
    assert!(!store.touch(&key(), Version(7), fixture.later(90_000)).await.unwrap(), "{what}");
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_given_again() {
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let mut redis = database(&fixture);
    let mut version = stored(&*store, &key(), Expected::Absent, "x", fixture.later(1_000)).await;
    for _ in 0..3 {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap();
        version = stored(&*store, &key(), Expected::Version(version), "x", fixture.later(1_000)).await;
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap();
        assert!(store.touch(&key(), version, fixture.later(2_000)).await.unwrap());
    }
}

#[tokio::test]
async fn every_worker_has_a_connection_of_its_own() {
    let fixture = Fixture::redis_tcp();
    let connections = |redis: &mut redis::Connection| {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(redis).unwrap();
        list.lines().count()
    };
    let mut redis = database(&fixture);
    let before = connections(&mut redis);
    let store = fixture.open().await;
    assert_eq!(connections(&mut redis), before + 1);
    let workers = [store.clone().attach().await.unwrap(), store.clone().attach().await.unwrap()];
    assert_eq!(connections(&mut redis), before + 3);
    drop((workers, store));
    while connections(&mut redis) > before {
        tokio::task::yield_now().await;
    }
}
