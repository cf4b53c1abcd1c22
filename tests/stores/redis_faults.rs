//! Redis that is not there, does not answer, goes away, comes back or refuses us.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::metrics::Metrics;
use cloakroom::store::{self, Expected, ForeignRecords, Key, Saved, SessionStore, StoreError, StoreSettings, Version};
use socket2::{Domain, Socket, Type};

use crate::cases::stored;
use crate::fixture::{Fixture, START, chain, settings};
use crate::foreign::Stub;
use crate::redis_server::{PASSWORD, RedisServer, USER};

fn key() -> Key {
    Key::new("visitor")
}

async fn open(settings: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    store::open(settings, None, Clock::manual(START), Arc::new(Metrics::new())).await
}

/// Why it does not open.
async fn refusal(settings: &StoreSettings) -> StoreError {
    match open(settings).await {
        Ok(_) => panic!("opened with {settings:?}"),
        Err(error) => error,
    }
}

/// Asks until it answers; that it never does is for whoever runs the tests to notice.
async fn comes_back(store: &dyn SessionStore) {
    while store.load(&key()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    // Bound and not listening: nobody else can take the port and answer.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let missing = "redis+unix:///nonexistent/redis.sock".to_owned();
    for url in [format!("redis://127.0.0.1:{port}"), missing] {
        let error = refusal(&settings(&format!("engine = 'redis'\nurl = '{url}'"))).await;
        assert!(matches!(error, StoreError::Unreachable(_)), "{url}: {}", chain(&error));
    }
}

#[tokio::test]
async fn deaf_redis_costs_the_time_limit_and_then_nothing_until_it_hears_again() {
    let server = RedisServer::start();
    let url = server.tcp_url();
    let store = open(&settings(&format!("engine = 'redis'\nurl = '{url}'\ntimeout = '500ms'"))).await.unwrap();
    comes_back(&*store).await;
    server.pause();
    assert!(matches!(store.load(&key()).await, Err(StoreError::Timeout)));
    for _ in 0..4 {
        let error = store.load(&key()).await.unwrap_err();
        assert!(matches!(error, StoreError::Timeout | StoreError::Unreachable(_)), "{}", chain(&error));
    }
    assert!(matches!(store.load(&key()).await, Err(StoreError::Open)));
    server.resume();
    comes_back(&*store).await;
}

#[tokio::test]
async fn a_worker_survives_a_restart_of_redis_without_being_opened_again() {
    let mut fixture = Fixture::redis_tcp();
    for guarded in [false, true] {
        if guarded {
            fixture = fixture.guarded();
        }
        let store = fixture.open().await;
        let worker = Arc::clone(&store).attach().await.unwrap();
        let version = stored(&*worker, &key(), Expected::Absent, "x", fixture.later(60_000)).await;
        fixture.redis.as_mut().unwrap().stop();
        for handle in [&store, &worker].iter().cycle().take(10) {
            let error = handle.load(&key()).await.unwrap_err();
            assert!(!matches!(error, StoreError::Timeout), "{}", chain(&error));
        }
        fixture.redis.as_mut().unwrap().restart();
        comes_back(&*store).await;
        comes_back(&*worker).await;
        // The server came back empty: what was deleted must not be revived.
        let late = worker.save(&key(), Expected::Version(version), "late".into(), fixture.later(60_000)).await;
        assert_eq!(late.unwrap(), Saved::Conflict);
        stored(&*store, &key(), Expected::Absent, "new", fixture.later(60_000)).await;
        store.delete(&key()).await.unwrap();
    }
}

/// Ends every connection but that of `admin`, and returns when Redis has none of them left; how many there were.
fn end_all_connections(admin: &mut redis::Connection) -> usize {
    let ended = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(admin).unwrap();
    while clients(admin) > 1 {
        std::thread::yield_now();
    }
    ended
}

fn clients(admin: &mut redis::Connection) -> usize {
    redis::cmd("CLIENT").arg("LIST").query::<String>(admin).unwrap().lines().count()
}

#[tokio::test]
async fn a_connection_that_redis_closed_while_idle_costs_no_call() {
    const ROUNDS: usize = 8;
    let fixture = Fixture::redis_tcp();
    let store = fixture.open().await;
    let mut handles = vec![Arc::clone(&store)];
    for _ in 0..2 {
        handles.push(Arc::clone(&store).attach().await.unwrap());
    }
    let mut admin = fixture.redis.as_ref().unwrap().look();
    let deadline = fixture.later(60_000);
    let mut version = stored(&*store, &key(), Expected::Absent, "0", deadline).await;
    let mut ended = 0;
    for round in 1..=ROUNDS {
        // What comes first meets the dead connection; every operation is to be it.
        ended += end_all_connections(&mut admin);
        for (handle, turn) in handles.iter().zip(round..) {
            match turn % 4 {
                0 => assert_eq!(handle.load(&key()).await.unwrap().unwrap().version, version),
                1 => assert!(handle.touch(&key(), version, deadline).await.unwrap()),
                2 => handle.delete(&Key::new("other")).await.unwrap(),
                _ => {}
            }
            let value = format!("{round} {turn}");
            version = stored(&**handle, &key(), Expected::Version(version), value.clone(), deadline).await;
            let found = handle.load(&key()).await.unwrap().unwrap();
            assert_eq!((found.version, found.value), (version, value.into()));
        }
    }
    assert_eq!(ended, ROUNDS * handles.len());
}

/// A server that greets every connection and finds nothing once, then hangs up on every command; tells their names.
/// `hello` is its answer to who asks for RESP3.
fn hangs_up_on_commands(hello: &'static str) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, commands) = mpsc::channel();
    std::thread::spawn(move || {
        let mut patience = 1;
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = connection.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let greetings = text.matches("SETINFO").count();
                if greetings > 0 {
                    let hello = if text.contains("HELLO") { hello } else { "" };
                    let _ = connection.write_all((hello.to_owned() + &"+OK\r\n".repeat(greetings)).as_bytes());
                    continue;
                }
                let name = text.lines().nth(2).unwrap_or_default();
                if tell.send(name.to_owned()).is_err() || patience == 0 {
                    break;
                }
                patience -= 1;
                let _ = connection.write_all(b"$-1\r\n");
            }
        }
    });
    (port, commands)
}

#[tokio::test]
async fn only_what_may_be_done_twice_is_asked_again_and_only_once() {
    // In RESP3, and with a server before Redis 6.
    for hello in ["%1\r\n+proto\r\n:3\r\n", "-ERR unknown command `HELLO`\r\n"] {
        let (port, commands) = hangs_up_on_commands(hello);
        let text = format!("engine = 'redis'\nurl = 'redis://127.0.0.1:{port}'\ntimeout = '60s'");
        let store = store::open_engine(&settings(&text), None, Clock::manual(START)).await.unwrap();
        let deadline = START.plus(Duration::from_secs(60));
        let saved = store.save(&key(), Expected::Absent, "x".into(), deadline).await;
        assert!(matches!(saved, Err(StoreError::Failed(_))), "{saved:?}");
        let loaded = store.load(&key()).await;
        assert!(matches!(loaded, Err(StoreError::Failed(_))), "{loaded:?}");
        let touched = store.touch(&key(), Version(1), deadline).await;
        assert!(matches!(touched, Err(StoreError::Failed(_))), "{touched:?}");
        let deleted = store.delete(&key()).await;
        assert!(matches!(deleted, Err(StoreError::Failed(_))), "{deleted:?}");
        drop(store);
        let expected = ["GET", "EVALSHA", "GET", "GET", "EVALSHA", "DEL", "DEL"];
        assert_eq!(commands.try_iter().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_wrong_login_is_told_without_the_password() {
    let server = RedisServer::with_tls();
    let (port, ca_file) = (server.port(), server.ca_file());
    let tls = format!("engine = 'redis'\nca_file = {ca_file:?}\n");
    for (login, secret) in [
        (format!("url = 'rediss://{USER}:hunter2@localhost:{port}'"), "hunter2"),
        (format!("url = 'rediss://localhost:{port}'\nusername = '{USER}'\npassword = 'hunter2'"), "hunter2"),
        (format!("url = 'rediss://localhost:{port}'\nusername = 'stranger'\npassword = '{PASSWORD}'"), PASSWORD),
    ] {
        let settings = settings(&format!("{tls}{login}"));
        let error = refusal(&settings).await;
        let told = format!("{} {error:?} {settings:?}", chain(&error));
        assert!(matches!(error, StoreError::Failed(_)) && told.contains("authentication failed"), "{told}");
        assert!(!told.contains(secret), "{told}");
    }
}

#[tokio::test]
async fn a_login_that_is_missing_is_told_at_start() {
    let server = RedisServer::with_tls();
    let text = format!("engine = 'redis'\nurl = '{}'\nca_file = {:?}", server.tls_url(), server.ca_file());
    let error = refusal(&settings(&text)).await;
    assert!(chain(&error).contains("NOAUTH"), "{}", chain(&error));
    let other_prefix = format!("{text}\nusername = '{USER}'\npassword = '{PASSWORD}'\nprefix = 'other:'");
    let error = refusal(&settings(&other_prefix)).await;
    assert!(chain(&error).contains("no permissions"), "{}", chain(&error));
}

/// It is no conflict, which would be tried again and told of as one.
#[tokio::test]
async fn a_permission_that_is_missing_is_an_error_of_every_script() {
    let server = RedisServer::start();
    let user =
        |rules: &[&str]| redis::cmd("ACL").arg("SETUSER").arg("ann").arg(rules).exec(&mut server.look()).unwrap();
    let later = START.plus(Duration::from_secs(60));
    let django: Arc<dyn ForeignRecords> = Arc::new(Stub);
    for (foreign, reads) in [(None, "-getrange"), (Some(django), "-get")] {
        user(&["on", ">secret", "~*", "+@all"]);
        let text = format!("engine = 'redis'\nurl = 'redis://ann:secret@127.0.0.1:{}'", server.port());
        let store = store::open_engine(&settings(&text), foreign.clone(), Clock::manual(START)).await;
        let store = store.unwrap_or_else(|error| panic!("{}", chain(&error)));
        user(&[reads]);
        let mut refused = vec![
            ("save", store.save(&key(), Expected::Absent, "x".into(), later).await.map(drop)),
            ("touch", store.touch(&key(), Version(1), later).await.map(drop)),
        ];
        if foreign.is_some() {
            refused.push(("load", store.load(&key()).await.map(drop)));
        }
        for (what, refused) in refused {
            let error = refused.expect_err(what);
            // As Redis 7.0 has it, and as later ones.
            let told = ["can't run this command", "no permissions"].iter().any(|words| chain(&error).contains(words));
            assert!(matches!(error, StoreError::Failed(_)) && told, "{}", chain(&error));
        }
    }
}

#[tokio::test]
async fn a_certificate_by_a_stranger_is_refused() {
    let server = RedisServer::with_tls();
    let other = RedisServer::with_tls();
    let stranger = format!("ca_file = {:?}", other.ca_file());
    for (ca_file, told) in [
        (stranger.as_str(), "certificate"),
        ("", "certificate"),
        ("ca_file = '/nonexistent/ca.pem'", "/nonexistent/ca.pem"),
        ("ca_file = '/dev/null'", "no certificate"),
    ] {
        let settings = settings(&format!("engine = 'redis'\nurl = '{}'\n{ca_file}", server.tls_url()));
        let error = refusal(&settings).await;
        assert!(chain(&error).contains(told), "{ca_file}: {}", chain(&error));
    }
}
