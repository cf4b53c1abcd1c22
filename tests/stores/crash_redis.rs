//! Redis killed at any moment, with a disk that has each write before it is acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Expected, Key, Record, Saved, SessionStore};
use tokio::task::JoinSet;

use crate::cases::stored;
use crate::fixture::{START, settings};
use crate::redis_server::RedisServer;

const ROUNDS: usize = 20;
const WRITERS: usize = 4;
const DAY: Duration = Duration::from_secs(86_400);

/// What a writer did until Redis was gone: the last value acknowledged, and one whose outcome is unknown.
struct Done {
    key: Key,
    acknowledged: u32,
    unknown: Option<u32>,
}

async fn write(
    store: Arc<dyn SessionStore>,
    key: Key,
    mut record: Record,
    tell: tokio::sync::mpsc::Sender<()>,
) -> Done {
    let mut acknowledged = number(&record);
    loop {
        let next = acknowledged + 1;
        let saved = store.save(&key, Expected::Version(record.version), next.to_string().into(), START.plus(DAY)).await;
        match saved {
            Ok(Saved::Stored(version)) => {
                record.version = version;
                acknowledged = next;
                let _ = tell.try_send(());
            }
            Ok(Saved::Conflict) => panic!("nobody else writes {}", key.as_str()),
            Err(_) => return Done { key, acknowledged, unknown: Some(next) },
        }
    }
}

fn number(record: &Record) -> u32 {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

async fn loaded(store: &dyn SessionStore, key: &Key) -> Record {
    loop {
        match store.load(key).await {
            Ok(record) => return record.unwrap_or_else(|| panic!("{} is lost", key.as_str())),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_save_that_was_acknowledged_survives_a_crash() {
    let mut server = RedisServer::with_options(&["--appendonly", "yes", "--appendfsync", "always"]);
    let text = format!("engine = 'redis'\nurl = '{}'\ntimeout = '10s'", server.tcp_url());
    let store = store::open_engine(&settings(&text), None, Clock::manual(START)).await.unwrap();
    let keys: Vec<Key> = (0..WRITERS).map(|writer| Key::new(writer.to_string())).collect();
    for key in &keys {
        stored(&*store, key, Expected::Absent, "0", START.plus(DAY)).await;
    }
    let (mut total, mut done_unknown, mut cut_off) = (0, 0, 0);
    let mut before: HashMap<Key, Done> = HashMap::new();
    for round in 0..ROUNDS {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let mut writers = JoinSet::new();
        for key in &keys {
            let record = loaded(&*store, key).await;
            let count = number(&record);
            if let Some(Done { acknowledged, unknown, .. }) = before.get(key) {
                assert!(count == *acknowledged || Some(count) == *unknown, "round {round}: {count}");
                done_unknown += usize::from(count != *acknowledged);
            }
            writers.spawn(write(Arc::clone(&store), key.clone(), record, tell.clone()));
        }
        // At another moment each round.
        for _ in 0..=round % 7 {
            told.recv().await.unwrap();
        }
        server.stop();
        for done in writers.join_all().await {
            total += done.acknowledged;
            cut_off += usize::from(done.unknown.is_some());
            before.insert(done.key.clone(), done);
        }
        server.restart();
    }
    for key in &keys {
        let (count, done) = (number(&loaded(&*store, key).await), &before[key]);
        assert!(count == done.acknowledged || Some(count) == done.unknown, "{count}");
    }
    assert!(total > 0 && cut_off == ROUNDS * WRITERS);
    println!("{done_unknown} of {cut_off} saves without an answer were done");
}
