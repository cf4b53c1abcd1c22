//! Redis stopped, hung, restarted and spoilt under the proxy.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cloakroom::session::id::SessionId;
use serde_json::json;

use crate::backend::Backend;
use crate::life_stage::{eventually, forgets, looks, metric};
use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::visitor::{Answer, Connection, Visitor};

fn start(backend: &Backend, redis: &RedisServer, timeout: &str) -> Proxy {
    let url = redis.tcp_url();
    let text = format!(
        "[admin]\nlisten = '127.0.0.1:0'
        [[routes]]\npath = '/'\nupstream = 'app'
        [[routes]]\npath = '/degrade'\nupstream = 'app'\non_store_error = 'degrade'
        [store]\nengine = 'redis'\nurl = '{url}'\ntimeout = '{timeout}'"
    );
    Proxy::start(&backend.url(), &text)
}

fn record_of(visitor: &Visitor) -> String {
    let id = SessionId::parse(visitor.session_id().unwrap().as_bytes()).unwrap();
    format!("session:{}", id.digest().as_str())
}

/// Makes rubbish of a record.
type Spoil<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

#[test]
fn f6_f7_what_cannot_be_read_is_no_session_and_no_error() {
    let redis = RedisServer::start();
    let backend = Backend::obedient();
    let proxy = start(&backend, &redis, "20s");
    let mut look = redis.look();
    let pickle = b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01u\x94\x8c\x011\x94s.".to_vec();
    let spoils: [Spoil<'_>; 7] = [
        &|_| b"garbage".to_vec(),
        &|_| Vec::new(),
        &|_| pickle.clone(),
        &|_| br#"{"u":"1"}"#.to_vec(),
        &|record| record[..record.len() - 1].to_vec(),
        &|record| [record, b"\xff"].concat(),
        &|record| [&record[..40], pickle.as_slice()].concat(),
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        let mut visitor = proxy.visitor();
        visitor.ask(&["X-Session-Set: u=1"]);
        let name = record_of(&visitor);
        let record: Vec<u8> = redis::cmd("GET").arg(&name).query(&mut look).unwrap();
        assert!(record.len() > 40);
        let () = redis::cmd("SET").arg(&name).arg(spoil(&record)).query(&mut look).unwrap();
        let (answer, data) = looks(&mut visitor, &backend);
        assert_eq!((answer.session_cookie(), data), (None, None), "spoil {number}");
        assert_eq!(backend.last().header("x-session-state"), Some("none"));
        let id = visitor.session_id().map(str::to_owned);
        assert_eq!(visitor.ask(&["X-Session-Set: v=1"]).status, 200);
        assert_ne!(visitor.session_id().map(str::to_owned), id, "spoil {number}");
        assert_eq!(looks(&mut visitor, &backend).1, Some(json!({"v": "1"})));
    }
    let mut visitor = proxy.visitor();
    visitor.ask(&["X-Session-Set: u=1"]);
    let name = record_of(&visitor);
    let () = redis::pipe().del(&name).lpush(&name, 1).query(&mut look).unwrap();
    assert_eq!(looks(&mut visitor, &backend).1, None, "another type");
}

#[test]
fn a_logout_while_redis_hangs_is_done_when_it_answers_again() {
    let redis = RedisServer::start();
    let (backend, gate) = crate::life_stage::Gate::backend();
    let proxy = start(&backend, &redis, "200ms");
    let mut visitor = proxy.visitor();
    eventually("the session begins", || visitor.ask(&["X-Session-Set: u=1"]).session_cookie().is_some());
    let stolen = visitor.clone();
    let logout = gate.hold(&visitor, &["X-Session-Action: flush"]);
    redis.pause();
    let (answer, visitor) = logout.release();
    assert!(answer.status == 503 && forgets(&answer) && visitor.session_id().is_none());
    assert!(metric(&proxy, "cloakroom_flushes_pending") >= 1);
    redis.resume();
    eventually("the logout is done", || metric(&proxy, "cloakroom_flushes_pending") == 0);
    let mut look = redis.look();
    assert_eq!(redis::cmd("EXISTS").arg(record_of(&stolen)).query::<usize>(&mut look).unwrap(), 0);
}

/// What visitors under load do and count until they are told to stop.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    pub fine: AtomicUsize,
    pub refused: AtomicUsize,
    degraded: AtomicUsize,
}

/// Tells the visitors to stop, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Load {
    pub fn await_more(what: &str, counter: &AtomicUsize) {
        let before = counter.load(Ordering::SeqCst);
        eventually(what, || counter.load(Ordering::SeqCst) >= before + 20);
    }

    fn count(&self, answer: &Answer) {
        assert!([200, 503].contains(&answer.status), "{}", answer.status);
        if answer.status == 200 { &self.fine } else { &self.refused }.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts its own requests in its session until told to stop; how many were acknowledged, and how many made.
    fn visit(&self, visitor: &mut Visitor) -> (usize, usize) {
        let mut connection = Connection::open(visitor.proxy);
        let (mut acknowledged, mut made) = (0, 0);
        while !self.stop.load(Ordering::SeqCst) {
            let id = visitor.session_id().map(str::to_owned);
            let answer = visitor.ask_on(&mut connection, &["X-Session-Incr: n=1"]);
            made += 1;
            acknowledged += usize::from(answer.status == 200);
            assert_eq!(answer.status == 200, answer.session_cookie().is_some(), "a cookie for what is stored");
            assert!(!forgets(&answer), "a cookie was cleared because the store could not be asked");
            assert_eq!(visitor.session_id().map(str::to_owned), id, "and it stays the same");
            self.count(&answer);

            let answer = visitor.send_on(&mut connection, "GET", "/degrade", &[], b"");
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "reading goes on");

            let mut stranger = Visitor::new(visitor.proxy);
            let answer = stranger.ask_on(&mut connection, &[]);
            assert_eq!((answer.status, answer.session_cookie()), (200, None), "strangers need no store");
        }
        (acknowledged, made)
    }
}

/// Does something to the store while visitors count their requests in their sessions: nobody is logged out, and nothing
/// that was acknowledged is lost.
pub fn under_load(proxy: &Proxy, backend: &Backend, act: impl FnOnce(&Load)) {
    let load = Load::default();
    let counts = thread::scope(|scope| {
        let stop = Stop(&load.stop);
        let visitors: Vec<_> = (0..3)
            .map(|_| {
                let (mut visitor, load) = (proxy.visitor(), &load);
                eventually("a session begins", || visitor.ask(&["X-Session-Set: u=1"]).session_cookie().is_some());
                scope.spawn(move || (load.visit(&mut visitor), visitor))
            })
            .collect();
        act(&load);
        drop(stop);
        visitors.into_iter().map(|visitor| visitor.join().unwrap()).collect::<Vec<_>>()
    });
    for ((acknowledged, made), mut visitor) in counts {
        eventually("the store answers", || visitor.get("/").status == 200);
        let n = backend.last().session().unwrap()["n"].as_u64().unwrap();
        let bounds = acknowledged as u64..=made as u64;
        assert!(bounds.contains(&n) && acknowledged > 0, "{n} not in {bounds:?}");
    }
}

#[test]
fn a_hung_redis_under_load_logs_nobody_out_and_loses_nothing_acknowledged() {
    let redis = RedisServer::start();
    let backend = Backend::obedient();
    let proxy = start(&backend, &redis, "100ms");
    under_load(&proxy, &backend, |load| {
        for _ in 0..3 {
            Load::await_more("answers", &load.fine);
            redis.pause();
            Load::await_more("refusals", &load.refused);
            redis.resume();
            Load::await_more("answers again, from the same proxy", &load.fine);
        }
    });
}

#[test]
fn a_stopped_redis_under_load_logs_nobody_out_and_is_found_again() {
    let mut redis = RedisServer::start();
    let backend = Backend::obedient();
    let proxy = start(&backend, &redis, "250ms");
    let mut visitor = proxy.visitor();
    eventually("a session begins", || visitor.ask(&["X-Session-Set: u=1"]).session_cookie().is_some());
    let load = Load::default();
    thread::scope(|scope| {
        for _ in 0..3 {
            let (mut visitor, load) = (visitor.clone(), &load);
            scope.spawn(move || {
                let mut connection = Connection::open(visitor.proxy);
                while !load.stop.load(Ordering::SeqCst) {
                    let answer = visitor.ask_on(&mut connection, &[]);
                    assert_eq!(answer.session_cookie(), None, "a read sets and clears nothing");
                    load.count(&answer);
                    let answer = visitor.send_on(&mut connection, "GET", "/degrade", &[], b"");
                    assert_eq!((answer.status, answer.session_cookie()), (200, None));
                    load.degraded.fetch_add(1, Ordering::SeqCst);
                    let answer = Visitor::new(visitor.proxy).ask_on(&mut connection, &["X-Session-Unset: a"]);
                    assert_eq!((answer.status, answer.session_cookie()), (200, None));
                }
            });
        }
        for _ in 0..2 {
            Load::await_more("answers", &load.fine);
            redis.stop();
            Load::await_more("refusals", &load.refused);
            Load::await_more("pages without a session", &load.degraded);
            redis.restart();
            Load::await_more("answers again, from the same proxy", &load.fine);
        }
        load.stop.store(true, Ordering::SeqCst);
    });
    let degraded = backend.requests().iter().filter(|seen| seen.header("x-session-state") == Some("degraded")).count();
    assert!(degraded > 0);
    let id = visitor.session_id().map(str::to_owned);
    eventually("the restarted Redis is used", || visitor.ask(&["X-Session-Set: v=1"]).session_cookie().is_some());
    assert_ne!(visitor.session_id().map(str::to_owned), id, "it came back empty");
}
