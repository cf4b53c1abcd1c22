//! Whether workers get into each other's way where they share one near cache: a session is opened, by one worker and by
//! two at once, out of one cache for both and out of one for each.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::metrics::Metrics;
use cloakroom::routes::RouteSettings;
use cloakroom::session::id::SessionId;
use cloakroom::sessions::{Sessions, Shared};
use cloakroom::store::{self, Engine, Expected, Saved, SessionStore, StoreSettings};
use divan::{Bencher, black_box};
use hyper::header::{COOKIE, HeaderMap, HeaderValue};
use tokio::runtime::Builder;

use super::steps::sample::{NOW, config, session};

const WORKERS: usize = 2;
const SESSIONS: usize = 10_000;
const NEAR: &str = "store = { engine = 'redis', url = 'redis://127.0.0.1' }";

thread_local! {
    static WORKER: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % WORKERS
    };
}

#[divan::bench(threads = [1, WORKERS])]
fn one_near_cache_for_all(bencher: Bencher<'_, '_>) {
    let shared = shared();
    open(bencher, [shared.clone(), shared]);
}

#[divan::bench(threads = [1, WORKERS])]
fn one_near_cache_for_each(bencher: Bencher<'_, '_>) {
    open(bencher, [shared(), shared()]);
}

/// Each thread is a worker and opens sessions in an order of its own, all of them near.
fn open(bencher: Bencher<'_, '_>, workers: [Shared; WORKERS]) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("there is a runtime");
    let (workers, cookies) = runtime.block_on(async {
        let (store, cookies) = stored().await;
        let workers = workers
            .map(|shared| Sessions::new(shared, Arc::clone(&store), Clock::manual(NOW), Arc::new(Metrics::new())));
        for (worker, cookie) in workers.iter().flat_map(|worker| cookies.iter().map(move |cookie| (worker, cookie))) {
            assert!(worker.open(&mut headers(cookie), &RouteSettings::to("app"), "").await.is_ok());
        }
        (workers, cookies)
    });
    let route = RouteSettings::to("app");
    bencher.with_inputs(|| headers(&cookies[rand::random_range(0..cookies.len())])).bench_refs(|headers| {
        black_box(ready(workers[WORKER.with(|worker| *worker)].open(headers, &route, "")).is_ok())
    });
}

/// A store in memory with sessions, and the cookies that lead to them.
async fn stored() -> (Arc<dyn SessionStore>, Vec<HeaderValue>) {
    let codec = config(NEAR).codec;
    let memory = StoreSettings { engine: Engine::Memory, ..StoreSettings::default() };
    let store = store::open(&memory, codec.foreign(), Clock::manual(NOW), Arc::new(Metrics::new())).await;
    let store = store.expect("memory is there").attach().await.expect("memory is there");
    let mut cookies = Vec::new();
    for _ in 0..SESSIONS {
        let id = SessionId::generate().expect("the system gives random numbers");
        let key = codec.key(&id);
        let record = codec.encode(&key, &session(), NOW);
        let deadline = NOW.plus(Duration::from_secs(86_400));
        assert!(matches!(store.save(&key, Expected::Absent, record, deadline).await, Ok(Saved::Stored(_))));
        cookies.push(format!("theme=dark; sessionid={}", id.as_str()).parse().expect("is a header's value"));
    }
    (store, cookies)
}

/// What the workers of a process have in common; a near cache among it.
fn shared() -> Shared {
    let config = config(NEAR);
    let near = config.store.near_cache().expect("its settings are right");
    Shared::new(config.session, config.codec, config.cookie, config.headers, near)
}

fn headers(cookie: &HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, cookie.clone())])
}

/// What need not be waited for: a near cache lets nobody wait.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}
