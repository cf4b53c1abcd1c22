use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::clock::Timestamp;
use crate::store::{Expected, Record, Saved, StoreError, Version};

/// A store that notes what it is asked; nothing here may write.
#[derive(Default)]
struct Asked {
    fails: bool,
    hangs: bool,
    loads: Mutex<Vec<Key>>,
}

#[async_trait]
impl SessionStore for Asked {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.loads.lock().unwrap().push(key.clone());
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if self.fails { Err(StoreError::Unreachable("10.0.0.7:6379 refused".into())) } else { Ok(None) }
    }

    async fn save(&self, _: &Key, _: Expected, _: Bytes, _: Timestamp) -> Result<Saved, StoreError> {
        panic!("the admin listener saved a session");
    }

    async fn touch(&self, _: &Key, _: Version, _: Timestamp) -> Result<bool, StoreError> {
        panic!("the admin listener touched a session");
    }

    async fn delete(&self, _: &Key) -> Result<(), StoreError> {
        panic!("the admin listener deleted a session");
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }
}

async fn ask(store: &Arc<Asked>, method: &str, path: &str) -> Response<String> {
    let request = Request::builder().method(method).uri(path).body(()).unwrap();
    answer(&request, &**store, &Metrics::new()).await
}

#[tokio::test]
async fn health_and_metrics_ask_the_store_nothing() {
    let store = Arc::new(Asked { fails: true, ..Asked::default() });
    for _ in 0..100 {
        assert_eq!(ask(&store, "GET", "/healthz").await.status(), 200);
        let metrics = ask(&store, "GET", "/metrics").await;
        assert_eq!(metrics.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        assert!(metrics.body().contains("# TYPE cloakroom_connections_total counter\n"));
    }
    assert!(store.loads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_scraper_that_asks_for_open_metrics_gets_them() {
    let request = Request::builder().uri("/metrics").header("accept", "application/openmetrics-text; version=1.0.0");
    let store = Asked::default();
    let metrics = answer(&request.body(()).unwrap(), &store, &Metrics::new()).await;
    assert_eq!(metrics.headers()[CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(metrics.body().ends_with("# EOF\n"));
}

#[tokio::test]
async fn readiness_is_the_stores_answer_and_says_no_more() {
    let store = Arc::new(Asked::default());
    assert_eq!(ask(&store, "GET", "/readyz").await.status(), 200);
    let asked = store.loads.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()), "might be a session's");

    let response = ask(&Arc::new(Asked { fails: true, ..Asked::default() }), "GET", "/readyz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.body(), "unavailable\n");
}

#[tokio::test]
async fn a_store_that_hangs_is_not_ready() {
    let store = Arc::new(Asked { hangs: true, ..Asked::default() });
    let limit = STORE_TIMEOUT + Duration::from_secs(3);
    let response = tokio::time::timeout(limit, ask(&store, "GET", "/readyz")).await.unwrap();
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let store = Arc::new(Asked::default());
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "//metrics", 404),
        ("POST", "/nothing", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/readyz", 405),
        ("HEAD", "/healthz", 200),
        ("GET", "/healthz?verbose", 200),
    ] {
        let response = ask(&store, method, path).await;
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers().contains_key(ALLOW), status == 405, "{method} {path}");
    }
    assert!(store.loads.lock().unwrap().is_empty());
}

/// What a served listener answers to `request`.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn serves_until_it_is_told_to_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, Arc::new(Asked::default()), Arc::new(Metrics::new()), shutdown));

    let response = exchange(address, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nok\n"), "{response}");
    let response = exchange(address, "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    let many = "X-Filler: x\r\n".repeat(HEADERS + 1);
    let response = exchange(address, &format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");

    // One that says nothing keeps neither a second visitor nor the shutdown waiting.
    let silent = TcpStream::connect(address).await.unwrap();
    exchange(address, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stop.send(()).unwrap();
    tokio::time::timeout(GRACE * 5, server).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    drop(silent);
}
