//! One process, several workers, one near cache: what was acknowledged through one worker is what all show.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::backend::{Backend, Reply, obey};
use crate::life_stage::{forgets, metric};
use crate::pair::{gets, settings};
use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::visitor::{Connection, Visitor};

const CONNECTIONS: usize = 16;

const HITS: &str = "cloakroom_near_cache_lookups_total{outcome=\"hit\"}";

fn start(redis: &RedisServer, backend: &Backend) -> Proxy {
    let text = settings(&redis.tcp_url(), true).replace("workers = 2", "workers = 4");
    Proxy::start(&backend.url(), &text.replace("cycle_grace = '10m'", "cycle_grace = 0"))
}

/// By which worker each connection is answered: the workers ask Redis on connections of their own.
fn workers(redis: &RedisServer, visitor: &Visitor, connections: &mut [Connection]) -> Vec<String> {
    let mut monitor = Connection::open(([127, 0, 0, 1], redis.port()).into());
    monitor.write(b"MONITOR\r\n");
    assert_eq!(monitor.line().as_deref(), Some("+OK"));
    let asked = connections.iter_mut().map(|connection| {
        assert_eq!(visitor.clone().send_on(connection, "GET", "/exact", &[], b"").status, 200);
        loop {
            // +TIME [DATABASE ADDRESS] "GET" "KEY"
            let line = monitor.line().expect("Redis tells what it is asked");
            if line.contains("\"GET\"") {
                break line.split(['[', ']']).nth(1).expect("an address").to_owned();
            }
        }
    });
    asked.collect()
}

#[test]
fn a_read_after_an_answered_update_sees_it_whichever_worker_answers() {
    const ROUNDS: usize = 100;
    /// Of each the session by then; a new key has all that the old one had.
    const UPDATES: [&str; 5] = [
        "X-Session-Set: a=2",
        "X-Session-Incr: n=1",
        "X-Session-Action: cycle",
        "X-Session-Action: flush",
        "X-Session-Action: delete",
    ];

    let (redis, backend) = (RedisServer::start(), Backend::obedient());
    let proxy = start(&redis, &backend);
    let mut connections: Vec<Connection> = (0..CONNECTIONS).map(|_| Connection::open(proxy.address)).collect();
    let mut first = proxy.visitor();
    first.ask(&["X-Session-Set: a=1"]);
    let workers = workers(&redis, &first, &mut connections);
    let distinct: HashSet<&String> = workers.iter().collect();
    println!("{} workers", distinct.len());
    assert!(distinct.len() > 1, "all connections are at one worker");
    let look = |visitor: &Visitor, connection: &mut Connection| -> Option<Value> {
        assert_eq!(visitor.clone().ask_on(connection, &[]).status, 200);
        backend.last().session()
    };
    let asked = gets(&redis);
    for round in 0..ROUNDS {
        let update = UPDATES[round % UPDATES.len()];
        let mut visitor = proxy.visitor();
        visitor.ask(&["X-Session-Set: a=1"]);
        for connection in &mut connections {
            assert_eq!(look(&visitor, connection), Some(json!({"a": "1"})));
        }
        let old = visitor.clone();
        let answer = visitor.ask_on(&mut connections[round % CONNECTIONS], &[update]);
        assert_eq!(answer.status, 200);
        let cycles = update.contains("cycle");
        let expected = match update.split(' ').nth(1) {
            Some("a=2") => Some(json!({"a": "2"})),
            Some("n=1") => Some(json!({"a": "1", "n": 1})),
            Some("cycle") => Some(json!({"a": "1"})),
            _ => None,
        };
        assert_eq!(
            (forgets(&answer), visitor.session_id() != old.session_id()),
            (update.contains("flush"), { cycles || update.contains("flush") })
        );
        for (connection, worker) in connections.iter_mut().zip(&workers) {
            let of_old = if cycles { None } else { expected.clone() };
            assert_eq!(look(&old, connection), of_old, "{update}, worker {worker}");
            if cycles {
                assert_eq!(look(&visitor, connection), expected, "{update}, worker {worker}");
            }
        }
    }
    let asked = gets(&redis) - asked;
    println!("{asked} GETs, {} hits", metric(&proxy, HITS));
    assert!(metric(&proxy, HITS) > (ROUNDS * CONNECTIONS / 2) as u64, "they were not at hand");
}

#[test]
fn no_reader_is_behind_what_was_answered_before_it_asked() {
    const UPDATES: u64 = 500;
    const READERS: usize = 6;

    let redis = RedisServer::start();
    // What a reader's own request was told comes back to it.
    let backend = Backend::start(|seen| match seen.header("reply") {
        Some(_) => obey(seen),
        None => Reply::ok(seen.header("x-session-data").unwrap_or("null")),
    });
    let proxy = start(&redis, &backend);
    let mut writer = proxy.visitor();
    writer.ask(&["X-Session-Set: {\"n\":0}"]);
    let (answered, over, reads) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..READERS {
            let (mut visitor, answered, over, reads) = (writer.clone(), &answered, &over, &reads);
            scope.spawn(move || {
                let mut connection = Connection::open(visitor.proxy);
                while !over.load(Ordering::SeqCst) {
                    let before = answered.load(Ordering::SeqCst);
                    let session: Value = serde_json::from_str(&visitor.ask_on(&mut connection, &[]).text()).unwrap();
                    let seen = session["n"].as_u64().expect("a session");
                    if seen < before {
                        over.store(true, Ordering::SeqCst);
                        panic!("{seen} is shown after {before} was answered");
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut connection = Connection::open(proxy.address);
        for number in 1..=UPDATES {
            if over.load(Ordering::SeqCst) {
                break;
            }
            assert_eq!(writer.ask_on(&mut connection, &["X-Session-Incr: n=1"]).status, 200);
            answered.store(number, Ordering::SeqCst);
            // Somebody has it at hand before the next one.
            let before = reads.load(Ordering::SeqCst);
            while number % 2 == 0 && reads.load(Ordering::SeqCst) == before && !over.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    println!("{} reads, {} hits", reads.load(Ordering::SeqCst), metric(&proxy, HITS));
    assert!(metric(&proxy, HITS) > 0);
}
