//! The keys there are, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{self, Cursor, Expected, Key, SessionStore, StoreError};
use redis::Commands as _;
use tokio::task::JoinSet;

use crate::cases::stored;
use crate::fixture::{START, chain, settings};
use crate::redis_server::RedisServer;
use crate::redis_topologies::{Cluster, Watched};

const SESSIONS: usize = 3_000;

async fn open(url: &str, prefix: &str) -> Arc<dyn SessionStore> {
    let mut settings = settings(&format!("engine = 'redis'\nurl = '{url}'\ntimeout = '30s'"));
    prefix.clone_into(&mut settings.prefix);
    let opened = store::open_engine(&settings, None, Clock::manual(START)).await;
    opened.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// So many sessions that no page holds them all.
async fn filled(store: &Arc<dyn SessionStore>) -> BTreeSet<Key> {
    let mut tasks = JoinSet::new();
    for number in 0..SESSIONS {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let key = Key::new(format!("key*{number}"));
            stored(&*store, &key, Expected::Absent, "x", START.plus(Duration::from_secs(60))).await;
            key
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// All pages, `between` them something may happen.
async fn listed(store: &dyn SessionStore, mut between: impl FnMut(usize)) -> Result<BTreeSet<Key>, StoreError> {
    let (mut keys, mut next, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let page = store.scan(next.as_ref()).await?;
        keys.extend(page.keys);
        pages += 1;
        next = page.next;
        if next.is_none() {
            assert!(pages > 2, "{pages} pages");
            return Ok(keys);
        }
        between(pages);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_is_listed_and_nothing_else() {
    let server = RedisServer::start();
    let [own, other] = [open(&server.tcp_url(), "s[a-z]*?\\:").await, open(&server.tcp_url(), "sa:").await];
    let keys = filled(&own).await;
    stored(&*other, &Key::new("other"), Expected::Absent, "x", START.plus(Duration::from_secs(60))).await;
    server.look().set::<_, _, ()>(b"s[a-z]*?\\:\xff".as_slice(), "no text").unwrap();
    assert_eq!(listed(&*own, |_| {}).await.unwrap(), keys);
    assert_eq!(listed(&*other, |_| {}).await.unwrap(), BTreeSet::from([Key::new("other")]));
    let wrong = own.scan(Some(&Cursor("no place".to_owned()))).await;
    assert!(matches!(wrong, Err(StoreError::Failed(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_started_again_meanwhile_is_listed_anew() {
    let mut server = RedisServer::with_options(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.tcp_url(), "session:").await;
    let keys = filled(&store).await;
    let first = store.scan(None).await.unwrap();
    let mut found: BTreeSet<Key> = first.keys.into_iter().collect();
    server.restart();
    let mut next = first.next;
    assert!(next.is_some());
    while let Some(cursor) = next {
        match store.scan(Some(&cursor)).await {
            Ok(page) => {
                found.extend(page.keys);
                next = page.next;
            }
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                next = Some(cursor);
            }
        }
    }
    assert_eq!(found, keys);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_listed_server_by_server_and_again_when_slots_moved() {
    let cluster = Cluster::start(0, 60_000);
    let store = open(&cluster.url(), "session:").await;
    let keys = filled(&store).await;
    let mut all = 0;
    assert_eq!(listed(&*store, |pages| all = pages).await.unwrap(), keys);

    // A slot goes from a server that is listed late to one that was listed.
    let mut seen = 0;
    let found = listed(&*store, |pages| {
        seen = pages;
        if pages == 2 {
            let mut order: Vec<usize> = (0..3).collect();
            order.sort_by_key(|server| cluster.servers[*server].port());
            let slots: Vec<u16> =
                (0..16_384).step_by(997).filter(|slot| cluster.master_of(*slot, 0) == order[2]).collect();
            let moved: usize = slots.iter().map(|slot| cluster.move_slot(*slot, order[2], order[0], || {})).sum();
            assert!(!slots.is_empty() && moved < SESSIONS);
        }
    });
    assert_eq!(found.await.unwrap(), keys);
    assert!(seen > all, "it began again: {seen} pages after {all}");

    let (slot, holder) = (1, cluster.master_of(1, 0));
    let other = cluster.id((holder + 1) % 3);
    let () = cluster.ask(holder, &["SETSLOT", &slot.to_string(), "MIGRATING", &other]);
    let error = listed(&*store, |_| {}).await.unwrap_err();
    assert!(chain(&error).contains("being moved"), "{}", chain(&error));
}

/// As the documentation has them: each permission is needed somewhere, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_that_are_documented_are_enough() {
    const ALL: &str = "~session:* +get +set +del +exists +getrange +setrange +pexpire +persist +evalsha +script|load";
    const LISTING: &str = "+scan +info";
    let (watched, cluster) = (Watched::start(1, 60_000), Cluster::start(0, 60_000));
    for sentinel in &watched.sentinels {
        let user = ["SETUSER", "watcher", "on", ">s3cret", "+sentinel"];
        redis::cmd("ACL").arg(&user).exec(&mut sentinel.look()).unwrap();
    }
    let sentinels = watched.url().replace("://", "://watcher:s3cret@");
    for (url, more, servers) in [
        (format!("{sentinels}/3"), "+select +role +wait", &watched.servers),
        (cluster.url(), "+cluster|slots +asking +cluster|nodes", &cluster.servers),
    ] {
        for server in servers {
            let mut user = redis::cmd("ACL");
            user.arg("SETUSER").arg("cloakroom").arg(&["on", ">hunter2"]);
            user.arg([ALL, LISTING, more].join(" ").split(' ').collect::<Vec<_>>());
            user.exec(&mut server.look()).unwrap();
        }
        let wait = if more.contains("wait") { "wait_replicas = 1" } else { "" };
        let login = format!("username = 'cloakroom'\npassword = 'hunter2'\n{wait}");
        let settings = settings(&format!("engine = 'redis'\nurl = '{url}'\ntimeout = '30s'\n{login}"));
        let store = store::open_engine(&settings, None, Clock::manual(START)).await;
        let store = store.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let key = Key::new("visitor");
        let later = |seconds| START.plus(Duration::from_secs(seconds));
        let version = stored(&*store, &key, Expected::Absent, "x", later(60)).await;
        assert!(store.touch(&key, version, later(90)).await.unwrap());
        assert!(store.load(&key).await.unwrap().is_some());
        let page = store.scan(None).await.unwrap();
        assert!(page.keys == [key.clone()] || page.next.is_some());
        store.delete(&key).await.unwrap();
    }
}
