//! Whole requests: the visitor's and the backend's connections are pipes in memory, and everything between is real.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cloakroom::app::{App, RequestLimits};
use cloakroom::clock::Clock;
use cloakroom::config::Config;
use cloakroom::metrics::Metrics;
use cloakroom::server::Visitors;
use cloakroom::sessions::{Sessions, Shared};
use cloakroom::store::{self, Engine, Expected, Saved, StoreSettings};
use cloakroom::upstream::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sample::{ID, NOW, config, key, session};
use super::{Run, Step};

pub const STEPS: &[Step] = &[
    Step { name: "request/route without sessions", prepare: |times| requests(times, OFF, false, "") },
    Step { name: "request/visitor without session", prepare: |times| requests(times, MEMORY, false, "") },
    Step { name: "request/session read", prepare: |times| requests(times, MEMORY, true, "") },
    Step { name: "request/session read, near", prepare: |times| requests(times, NEAR, true, "") },
    Step { name: "request/session changed", prepare: |times| requests(times, MEMORY, true, INCREMENT) },
];

const OFF: &str = "store.engine = 'memory'\nroutes = [{ upstream = 'app', session = false }]";
const MEMORY: &str = "store.engine = 'memory'";
/// With a near cache. Its store is memory all the same: after the first request nobody asks it.
const NEAR: &str = "store = { engine = 'redis', url = 'redis://127.0.0.1' }";
const INCREMENT: &str = "X-Session-Incr: visits=1\r\n";

/// A hundred bytes.
const BODY: &str =
    "<!doctype html><title>Cart</title><p>Two lamps, one kettle, no teapot. Shall we send them today?</p>";
const HEAD_END: &[u8] = b"\r\n\r\n";
const PIPE: usize = 64 << 10;

/// So many requests, one after the other, over one kept connection.
fn requests(times: usize, settings: &str, known: bool, update: &'static str) -> Run {
    // Time stands still, so that it is no matter how fast this runs: every answer comes before anything times out.
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().expect("there is a runtime");
    let mut visitor = runtime.block_on(visitor(config(settings), update));
    let cookie = if known { format!("; sessionid={ID}") } else { String::new() };
    let request = format!(
        "GET /cart/items?page=2 HTTP/1.1\r\n\
         Host: shop.example.com\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
         Accept-Language: en-US,en;q=0.5\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Cookie: theme=dark; lang=en{cookie}\r\n\r\n"
    );
    let answer = runtime.block_on(ask(&mut visitor, request.as_bytes()));
    check(&String::from_utf8_lossy(&answer), known, !update.is_empty());
    Box::new(move || {
        runtime.block_on(async {
            for _ in 0..times {
                ask(&mut visitor, request.as_bytes()).await;
            }
        });
        Box::new((runtime, visitor))
    })
}

/// That this is the answer that was meant to be measured.
fn check(answer: &str, known: bool, changed: bool) {
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(answer.contains("x-seen: true"), known, "{answer}");
    assert_eq!(answer.contains("set-cookie: sessionid="), changed, "{answer}");
}

async fn ask(visitor: &mut DuplexStream, request: &[u8]) -> Vec<u8> {
    visitor.write_all(request).await.expect("the connection is kept");
    message(visitor, BODY.as_bytes()).await.expect("there is an answer")
}

/// The next message of a stream on which each has this end; `None` at the stream's.
async fn message(stream: &mut DuplexStream, end: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(4096);
    while !message.ends_with(end) {
        if stream.read_buf(&mut message).await.expect("a pipe does not break") == 0 {
            return None;
        }
    }
    Some(message)
}

/// A visitor's connection to a worker whose backend always answers with `update` in the head.
async fn visitor(config: Config, update: &'static str) -> DuplexStream {
    let settings = config.server.clone();
    let visitors = Visitors::new(Arc::new(app(config, update).await), &settings, &CancellationToken::new());
    let (near, far) = duplex(PIPE);
    tokio::spawn(async move { visitors.serve(near, SocketAddr::from((Ipv4Addr::LOCALHOST, 4711))).await });
    far
}

async fn app(config: Config, update: &'static str) -> App {
    let (clock, metrics) = (Clock::manual(NOW), Arc::new(Metrics::new()));
    let memory = StoreSettings { engine: Engine::Memory, ..StoreSettings::default() };
    let store = store::open(&memory, config.codec.foreign(), clock.clone(), Arc::clone(&metrics)).await;
    let store = store.expect("memory is there").attach().await.expect("memory is there");
    let deadline = NOW.plus(Duration::from_secs(86_400));
    let stored = store.save(&key(), Expected::Absent, config.codec.encode(&key(), &session(), NOW), deadline).await;
    assert!(matches!(stored, Ok(Saved::Stored(_))), "memory has room");
    let (near, far) = duplex(PIPE);
    tokio::spawn(backend(far, update));
    let upstream = Upstream::new(config.upstreams["app"].clone(), "upstreams.app").expect("its settings are right");
    upstream.adopt(near).await.expect("the backend is there");
    let near = config.store.near_cache().expect("its settings are right");
    let shared = Shared::new(config.session, config.codec, config.cookie, config.headers, near);
    App {
        routes: Arc::new(config.routes),
        sessions: Sessions::new(shared, store, clock.clone(), Arc::clone(&metrics)),
        cookies: Arc::new(config.cookies),
        upstreams: HashMap::from([("app".to_owned(), upstream)]),
        metrics,
        clock,
        limits: RequestLimits {
            max_uri_bytes: config.server.max_uri_bytes,
            max_header_bytes: config.server.max_header_bytes,
            max_body_bytes: config.server.max_body_bytes,
        },
        trusted_proxies: config.server.trusted_proxies,
        access_log: false,
        tasks: TaskTracker::new(),
    }
}

/// Looks at the first request only, so that as little as possible of what is counted is its own.
async fn backend(mut stream: DuplexStream, update: &str) {
    let Some(first) = message(&mut stream, HEAD_END).await else { return };
    let seen = String::from_utf8_lossy(&first).contains("x-session-state: active");
    let answer = format!(
        "HTTP/1.1 200 OK\r\n\
         Server: backend\r\n\
         Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\n\
         X-Seen: {seen}\r\n\
         {update}\r\n{BODY}",
        BODY.len(),
    );
    while stream.write_all(answer.as_bytes()).await.is_ok() && message(&mut stream, HEAD_END).await.is_some() {}
}
