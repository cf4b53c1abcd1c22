//! Database servers that hang up, go away, do not answer, or serve several proxies at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, Key, Saved, SessionStore, StoreError};
use tokio::task::JoinSet;

use crate::cases::{HOUR, key, stored, value};
use crate::fixture::{Fixture, START, chain, settings};
use crate::mysql_server::MySqlServer;
use crate::postgres_server::PostgresServer;

/// A test below for every kind of database that is named with it.
macro_rules! each {
    ($($test:ident: $($fixture:ident)+;)+) => {
        $(mod $test {
            use super::*;
            $(#[tokio::test]
            async fn $fixture() {
                super::$test(Fixture::$fixture()).await;
            })+
        })+
    };
}

each! {
    a_connection_that_was_ended_while_idle_costs_no_call: mysql postgres;
    a_restart_under_load_loses_nothing_that_was_acknowledged: mysql postgres;
    a_second_sweeper_leaves_it_to_the_first: mysql postgres;
    a_table_that_is_missing_is_made_or_told: db mysql postgres;
    many_who_start_at_once_make_one_table: db mysql postgres;
    every_key_is_on_one_page: db mysql postgres;
    every_key_of_djangos_is_on_one_page: db mysql postgres;
}

async fn comes_back(store: &dyn SessionStore) {
    while store.load(&key()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_connection_that_was_ended_while_idle_costs_no_call(mut fixture: Fixture) {
    const ROUNDS: usize = 4;
    let sockets =
        [fixture.postgres.as_ref().map(PostgresServer::unix_url), fixture.mysql.as_ref().map(MySqlServer::unix_url)];
    let socket = sockets.into_iter().flatten().next().unwrap();
    for url in [None, Some(socket)] {
        if let Some(url) = url {
            fixture.settings.url = settings(&format!("url = '{url}'")).url;
        }
        let store = fixture.open().await;
        let worker = Arc::clone(&store).attach().await.unwrap();
        store.delete(&key()).await.unwrap();
        let deadline = fixture.later(HOUR);
        let mut version = stored(&*store, &key(), Expected::Absent, "0", deadline).await;
        worker.load(&key()).await.unwrap();
        let mut ended = 0;
        for round in 1..=ROUNDS {
            // What comes first meets the dead connection; every operation is to be it.
            ended += fixture.end_all_connections();
            for (handle, turn) in [&store, &worker].into_iter().zip(round..) {
                match turn % 4 {
                    0 => assert_eq!(handle.load(&key()).await.unwrap().unwrap().version, version),
                    1 => assert!(handle.touch(&key(), version, deadline).await.unwrap()),
                    2 => handle.delete(&Key::new("other")).await.unwrap(),
                    _ => {}
                }
                let text = format!("{round} {turn}");
                version = stored(&**handle, &key(), Expected::Version(version), text.clone(), deadline).await;
                assert_eq!(value(&**handle, &key()).await.unwrap(), text);
            }
        }
        assert_eq!(ended, ROUNDS * 2);
        // The next round of these finds no connection of this one.
        drop((store, worker));
    }
}

async fn a_restart_under_load_loses_nothing_that_was_acknowledged(mut fixture: Fixture) {
    let store = fixture.open().await;
    let (stop, total, lost) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let deadline = fixture.later(HOUR);
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let (store, stop, total, lost) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&total), Arc::clone(&lost));
        tasks.spawn(async move {
            let key = Key::new(format!("writer {number}"));
            let mut version = stored(&*store, &key, Expected::Absent, "0", deadline).await;
            let (mut acknowledged, mut next) = (0_u32, 1);
            while !stop.load(Ordering::SeqCst) {
                match store.save(&key, Expected::Version(version), next.to_string().into(), deadline).await {
                    Ok(Saved::Stored(new)) => {
                        (version, acknowledged) = (new, next);
                        next += 1;
                        total.fetch_add(1, Ordering::SeqCst);
                    }
                    // Only what ended without an answer can have been stored after all.
                    outcome => {
                        assert!(outcome.is_err(), "a conflict with nobody");
                        lost.fetch_add(1, Ordering::SeqCst);
                        let found = loop {
                            match store.load(&key).await {
                                Ok(found) => break found.unwrap(),
                                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                            }
                        };
                        let number: u32 = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
                        assert!(number == acknowledged || number == next, "{number} after {acknowledged}");
                        (version, acknowledged, next) = (found.version, number, number + 1);
                    }
                }
            }
            assert!(acknowledged > 0);
        });
    }
    let reaches = async |goal: u32| {
        while total.load(Ordering::SeqCst) < goal {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    reaches(20).await;
    fixture.stop_server();
    while lost.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fixture.restart_server();
    comes_back(&*store).await;
    reaches(total.load(Ordering::SeqCst) + 20).await;
    stop.store(true, Ordering::SeqCst);
    tasks.join_all().await;
}

async fn a_second_sweeper_leaves_it_to_the_first(fixture: Fixture) {
    let [first, second] = fixture.open_twice().await;
    stored(&*first, &key(), Expected::Absent, "x", fixture.later(10)).await;
    fixture.clock.advance(Duration::from_millis(10));
    let (mut blocker, is_blocked, unblock) = if let Some(server) = &fixture.postgres {
        let lock = "BEGIN; LOCK TABLE cloakroom_session IN EXCLUSIVE MODE; SELECT pg_sleep(3600)";
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let blocker = server.sql_meanwhile(lock);
        while fixture.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != "1" {}
        (blocker, waits, end.to_owned())
    } else {
        let server = fixture.mysql.as_ref().unwrap();
        let blocker = server.sql_meanwhile("LOCK TABLES cloakroom_session WRITE; SELECT SLEEP(3600)");
        let sleeps = "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'";
        let id = loop {
            let id = fixture.sql(sleeps);
            if !id.is_empty() {
                break id;
            }
        };
        let waits = "SELECT count(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table%'";
        (blocker, waits, format!("KILL {id}"))
    };
    let sweep = tokio::spawn(async move { first.sweep().await.unwrap() });
    while fixture.sql(is_blocked) != "1" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(second.sweep().await.unwrap(), 0);
    assert!(!sweep.is_finished());
    fixture.sql(&unblock);
    blocker.wait().unwrap();
    assert_eq!(sweep.await.unwrap(), 1);
    // The turn is over.
    stored(&*second, &key(), Expected::Absent, "x", fixture.later(10)).await;
    fixture.clock.advance(Duration::from_millis(10));
    assert_eq!(second.sweep().await.unwrap(), 1);
}

async fn a_table_that_is_missing_is_made_or_told(mut fixture: Fixture) {
    fixture.settings.auto_migrate = Some(false);
    let error = fixture.try_open().await.err().unwrap();
    assert!(chain(&error).contains("`cloakroom sessions migrate`"), "{}", chain(&error));
    store::migrate(&fixture.settings, None).await.unwrap();
    store::migrate(&fixture.settings, None).await.unwrap();
    let store = fixture.open().await;
    stored(&*store, &key(), Expected::Absent, "x", fixture.later(HOUR)).await;

    let mut fixture = fixture.with_djangos_table();
    fixture.settings.auto_migrate = None;
    fixture.settings.django = Some(toml::from_str("table = 'account_session'").unwrap());
    let error = fixture.try_open().await.err().unwrap();
    assert!(chain(&error).contains("`manage.py migrate`"), "{}", chain(&error));
}

async fn many_who_start_at_once_make_one_table(fixture: Fixture) {
    let opened = at_once((0..8).map(|_| fixture.open())).await;
    stored(&*opened[0], &key(), Expected::Absent, "x", fixture.later(HOUR)).await;
    assert_eq!(value(&*opened[7], &key()).await.unwrap(), "x");
    let fixture = fixture.with_djangos_table();
    assert_eq!(at_once((0..8).map(|_| fixture.open())).await.len(), 8);
}

/// All on this thread, none waiting for another.
async fn at_once<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|task| {
        for (future, done) in &mut waiting {
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(task)
            {
                *done = Some(output);
            }
        }
        if waiting.iter().all(|(_, done)| done.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

async fn every_key_of_djangos_is_on_one_page(fixture: Fixture) {
    every_key_is_on_one_page(fixture.with_djangos_table()).await;
}

async fn every_key_is_on_one_page(fixture: Fixture) {
    let store = fixture.open().await;
    let page = store.scan(None).await.unwrap();
    assert!(page.keys.is_empty() && page.next.is_none());
    let names: BTreeSet<String> = (0..2_100).map(|number| format!("key{number}")).collect();
    let mut tasks = JoinSet::new();
    for name in names.clone() {
        let (store, deadline) = (Arc::clone(&store), fixture.later(HOUR));
        tasks.spawn(async move { stored(&*store, &Key::new(name), Expected::Absent, "x", deadline).await });
    }
    tasks.join_all().await;
    let (mut found, mut pages, mut from) = (Vec::new(), 0, None);
    loop {
        let page = store.scan(from.as_ref()).await.unwrap();
        assert!(page.keys.len() <= 1_000);
        pages += 1;
        found.extend(page.keys.iter().map(|key| key.as_str().to_owned()));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!((pages, found.len()), (3, names.len()));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), names);
}

#[tokio::test]
async fn what_is_larger_than_a_packet_is_too_large_and_harms_nobody() {
    let fixture = Fixture::mysql();
    let store = fixture.open().await;
    let deadline = fixture.later(HOUR);
    for length in [4 << 20, 5 << 20] {
        let saved = store.save(&key(), Expected::Absent, vec![b'x'; length].into(), deadline).await;
        assert!(matches!(saved, Err(StoreError::TooLarge)), "{saved:?}");
    }
    let most = vec![b'x'; (4 << 20) - 2_048];
    stored(&*store, &key(), Expected::Absent, most.clone(), deadline).await;
    assert!(value(&*store, &key()).await.unwrap() == most);
}

#[tokio::test]
async fn a_deaf_server_costs_the_time_limit_and_is_asked_again_when_it_hears() {
    let server = MySqlServer::start();
    let text = format!("url = '{}'\ntimeout = '300ms'", server.url());
    let clock = Clock::manual(START);
    let metrics = Arc::new(cloakroom::metrics::Metrics::new());
    let store = store::open(&settings(&text), None, clock, metrics).await.unwrap();
    comes_back(&*store).await;
    server.pause();
    // It may still hear what is said while the signal is on its way.
    let error = loop {
        if let Err(error) = store.load(&key()).await {
            break error;
        }
    };
    assert!(matches!(error, StoreError::Timeout), "{}", chain(&error));
    server.resume();
    comes_back(&*store).await;
}
