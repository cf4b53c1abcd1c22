//! Redis says what others change: what is told, what is not, and when word may have been missed.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, Key, SessionStore};
use redis::Connection;

use crate::cases::{HOUR, key, stored};
use crate::fixture::{Fixture, Rows, START, settings};
use crate::redis_server::{How, PASSWORD, RedisServer, USER};
use crate::words::{Word, Words, changed};

/// The database that the fixtures name.
const DATABASE: u8 = 3;
const NAME: &str = "session:visitor";

/// Another program's connection to the same database.
fn stranger(server: &RedisServer, database: u8) -> Connection {
    let client = redis::Client::open(format!("{}/{database}", server.tcp_url())).unwrap();
    client.get_connection().unwrap()
}

fn tell(stranger: &mut Connection, words: &str) {
    let mut words = words.split(' ');
    redis::cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).exec(stranger).unwrap();
}

/// A new record that `reader` has just read. What was said until then is of no interest.
async fn read_anew(store: &dyn SessionStore, reader: &dyn SessionStore, words: &mut Words) -> store::Version {
    store.delete(&key()).await.unwrap();
    let version = stored(store, &key(), Expected::Absent, "value", START.plus(Duration::from_millis(HOUR))).await;
    assert!(reader.load(&key()).await.unwrap().is_some());
    words.so_far();
    version
}

/// All that was said until now, also what is still under way on the reader's connection.
async fn all_so_far(reader: &dyn SessionStore, stranger: &mut Connection, words: &mut Words) -> Vec<Word> {
    reader.load(&Key::new("last")).await.unwrap();
    tell(stranger, "SET session:last x");
    words.until(&changed("last")).await
}

#[tokio::test]
async fn every_change_to_what_was_read_is_told() {
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let (reader, mut words) = Words::of(&store).await;
    let mut stranger = stranger(fixture.redis.as_ref().unwrap(), DATABASE);

    let version = read_anew(&*store, &*reader, &mut words).await;
    stored(&*store, &key(), Expected::Version(version), "other", fixture.later(HOUR)).await;
    assert_eq!(words.next().await, changed("visitor"), "save");
    let version = read_anew(&*store, &*reader, &mut words).await;
    assert!(store.touch(&key(), version, fixture.later(2 * HOUR)).await.unwrap());
    assert_eq!(words.next().await, changed("visitor"), "touch");
    read_anew(&*store, &*reader, &mut words).await;
    store.delete(&key()).await.unwrap();
    assert_eq!(words.next().await, changed("visitor"), "delete");

    for change in [
        "DEL session:visitor",
        "UNLINK session:visitor",
        "SET session:visitor x",
        "SETRANGE session:visitor 50 x",
        "EXPIRE session:visitor 1000",
        "PEXPIREAT session:visitor 1",
        "PERSIST session:visitor",
        "RENAME session:visitor session:other",
        "RENAME session:other session:visitor",
        "MOVE session:visitor 4",
        "EVAL redis.call('SET',KEYS[1],'x') 1 session:visitor",
        "EVAL redis.call('DEL',KEYS[1]) 1 session:visitor",
    ] {
        read_anew(&*store, &*reader, &mut words).await;
        tell(&mut stranger, change);
        assert_eq!(words.next().await, changed("visitor"), "{change}");
    }
    for change in ["FLUSHDB", "FLUSHALL", "FLUSHALL ASYNC"] {
        read_anew(&*store, &*reader, &mut words).await;
        tell(&mut stranger, change);
        assert_eq!(words.next().await, Word::AllChanged, "{change}");
    }
}

#[tokio::test]
async fn the_end_of_a_key_is_told() {
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let (reader, mut words) = Words::of(&store).await;
    let mut stranger = stranger(fixture.redis.as_ref().unwrap(), DATABASE);
    loop {
        tell(&mut stranger, &format!("SET {NAME} x PX 300"));
        reader.load(&key()).await.unwrap();
        words.so_far();
        // If it is there now, it was when it was read.
        if redis::cmd("EXISTS").arg(NAME).query(&mut stranger).unwrap() {
            break;
        }
    }
    assert_eq!(words.next().await, changed("visitor"));
}

#[tokio::test]
async fn what_nobody_here_read_and_what_one_changes_oneself_is_not_told() {
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let (reader, mut words) = Words::of(&store).await;
    let (other, mut others) = Words::of(&store).await;
    let mut stranger = stranger(fixture.redis.as_ref().unwrap(), DATABASE);

    for name in ["session:nobody", "elsewhere:visitor", "visitor", "session", "session:"] {
        tell(&mut stranger, &format!("SET {name} x"));
        tell(&mut stranger, &format!("DEL {name}"));
    }
    assert_eq!(all_so_far(&*reader, &mut stranger, &mut words).await, []);

    let deadline = fixture.later(HOUR);
    let version = stored(&*reader, &key(), Expected::Absent, "one", deadline).await;
    for handle in [&reader, &other] {
        handle.load(&key()).await.unwrap();
    }
    let version = stored(&*reader, &key(), Expected::Version(version), "two", deadline).await;
    assert_eq!(others.next().await, changed("visitor"), "another worker's");
    for handle in [&reader, &other] {
        handle.load(&key()).await.unwrap();
    }
    assert!(reader.touch(&key(), version, fixture.later(2 * HOUR)).await.unwrap());
    assert_eq!(others.next().await, changed("visitor"));
    for handle in [&reader, &other] {
        handle.load(&key()).await.unwrap();
    }
    reader.delete(&key()).await.unwrap();
    assert_eq!(others.next().await, changed("visitor"));
    assert_eq!(all_so_far(&*reader, &mut stranger, &mut words).await, [], "one's own");

    reader.load(&key()).await.unwrap();
    other.delete(&key()).await.unwrap();
    stored(&*other, &key(), Expected::Absent, "three", deadline).await;
    assert_eq!(words.next().await, changed("visitor"), "also that it is there now");
    tell(&mut stranger, "SET session:visitor x");
    assert_eq!(all_so_far(&*reader, &mut stranger, &mut words).await, [], "it was not read again");
}

#[tokio::test]
async fn names_as_django_has_them_are_told_too_and_scripts_read() {
    for client in ["django", "django-redis"] {
        let server = RedisServer::start();
        let text = format!(
            "engine = 'redis'\nurl = '{}'\nformat = 'django'\ntimeout = '60s'\ndjango = {{ client = '{client}', key_prefix = 'app' }}",
            server.tcp_url()
        );
        let clock = Clock::manual(START);
        let store = store::open_engine(&settings(&text), Some(Arc::new(Rows)), clock).await.unwrap();
        let (reader, mut words) = Words::of(&store).await;
        let mut stranger = stranger(&server, 0);
        for (change, forgotten) in [("SET {} x", false), ("EXPIRE {} 9", true), ("PERSIST {}", false), ("DEL {}", true)]
        {
            read_anew(&*store, &*reader, &mut words).await;
            if forgotten {
                tell(&mut stranger, "SCRIPT FLUSH");
                assert!(reader.load(&key()).await.unwrap().is_some(), "the script travels again");
            }
            let names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut stranger).unwrap();
            assert!(names.len() == 1 && names[0].starts_with("app:1:"), "{names:?}");
            tell(&mut stranger, &change.replace("{}", &names[0]));
            assert_eq!(words.next().await, changed("visitor"), "{client}: {change}");
        }
    }
}

#[tokio::test]
async fn what_is_written_where_replicas_are_waited_for_is_told_to_who_reads() {
    let master = RedisServer::with_options(&["--repl-diskless-sync-delay", "0"]);
    let _replica = RedisServer::with_options(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    while crate::redis_topologies::following(&master) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = format!("engine = 'redis'\nurl = '{}'\nwait_replicas = 1\ntimeout = '60s'", master.tcp_url());
    let store = store::open_engine(&settings(&text), None, Clock::manual(START)).await.unwrap();
    let (reader, mut words) = Words::of(&store).await;
    let version = read_anew(&*store, &*reader, &mut words).await;
    let deadline = START.plus(Duration::from_millis(2 * HOUR));
    let version = stored(&*reader, &key(), Expected::Version(version), "two", deadline).await;
    assert_eq!(words.next().await, changed("visitor"));
    reader.load(&key()).await.unwrap();
    assert!(reader.touch(&key(), version, deadline.plus(Duration::from_secs(60))).await.unwrap());
    assert_eq!(words.next().await, changed("visitor"));
    reader.load(&key()).await.unwrap();
    reader.delete(&key()).await.unwrap();
    assert_eq!(words.next().await, changed("visitor"));
}

#[tokio::test]
async fn changes_are_told_on_a_unix_socket_and_over_tls() {
    let unix = Fixture::redis_unix();
    let tls = RedisServer::with_tls_as(How { permissions: "+client|tracking", ..How::default() });
    let login = format!("username = '{USER}'\npassword = '{PASSWORD}'\ntimeout = '60s'");
    let text = format!("engine = 'redis'\nurl = '{}'\nca_file = {:?}\n{login}", tls.tls_url(), tls.ca_file());
    let over_tls = store::open_engine(&settings(&text), None, Clock::manual(START)).await.unwrap();
    for store in [unix.open().await, over_tls] {
        let (reader, mut words) = Words::of(&store).await;
        read_anew(&*store, &*reader, &mut words).await;
        store.delete(&key()).await.unwrap();
        assert_eq!(words.next().await, changed("visitor"));
    }
}

/// What is logged here.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn where_redis_does_not_tell_every_read_is_as_good_as_changed_and_one_warning_says_so() {
    let log = Log::default();
    let writer = log.clone();
    let logging = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(logging);
    // A user who may not ask for it, and a server before Redis 6.
    let tls = Fixture::redis_tls();
    let old = RedisServer::with_options(&["--rename-command", "HELLO", ""]);
    let text = format!("engine = 'redis'\nurl = '{}'\ntimeout = '60s'", old.tcp_url());
    let on_old = store::open_engine(&settings(&text), None, Clock::manual(START)).await.unwrap();
    let warnings = || {
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains("WARN") && line.contains("CLIENT TRACKING")).count()
    };
    for (store, server) in [(tls.open().await, None), (on_old, Some(&old))] {
        let before = warnings();
        let (reader, mut words) = Words::of(&store).await;
        assert!(reader.load(&key()).await.unwrap().is_none());
        stored(&*reader, &key(), Expected::Absent, "x", START.plus(Duration::from_millis(HOUR))).await;
        assert_eq!(words.so_far(), [changed("visitor")]);
        for _ in 0..3 {
            if let Some(server) = server {
                tell(&mut server.look(), "CLIENT KILL TYPE normal SKIPME yes");
            }
            assert!(reader.load(&key()).await.unwrap().is_some());
            assert_eq!(words.so_far().last(), Some(&changed("visitor")));
        }
        assert_eq!(warnings(), before + 1);
    }
}
