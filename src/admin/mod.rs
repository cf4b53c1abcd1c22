//! The operators' own listener: is it alive, is it ready, what has it done. To add a page: an arm in `answer`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::store::{Key, SessionStore};
use crate::telemetry::Causes;

/// No session has this key: ours are hexadecimal digits, and Django's are small letters and digits.
const NO_SESSION: &str = "readiness-probe";
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// For a whole connection, which is one request: long enough for a scrape over a bad line.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;
const HEADERS: usize = 32;
const BUFFER: usize = 16 << 10;
/// How long answers under way may take after the shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// `[admin]`; without it there is no such listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Who can reach this address can read the metrics, so it belongs on the loopback or a network of the operators'.
    pub listen: SocketAddr,
}

/// Answers `/healthz`, `/readyz` and `/metrics` until `shutdown`. No page reads or renews a session.
pub async fn serve(
    listener: TcpListener,
    store: Arc<dyn SessionStore>,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) {
    let connections = TaskTracker::new();
    tokio::select! {
        () = accept(listener, store, metrics, &connections) => {}
        () = shutdown => {}
    }
    connections.close();
    tokio::time::timeout(GRACE, connections.wait()).await.ok();
}

async fn accept(listener: TcpListener, store: Arc<dyn SessionStore>, metrics: Arc<Metrics>, connections: &TaskTracker) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (store, metrics) = (Arc::clone(&store), Arc::clone(&metrics));
                connections.spawn(async move {
                    tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, store, metrics)).await.ok();
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors is the usual reason, and that does not pass in the next microsecond.
                warn!(error = %error, "a connection to the admin listener was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, store: Arc<dyn SessionStore>, metrics: Arc<Metrics>) {
    let service = service_fn(|request: Request<_>| {
        let (store, metrics) = (Arc::clone(&store), Arc::clone(&metrics));
        async move { Ok::<_, Infallible>(answer(&request, &*store, &metrics).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(error = %Causes(&error), "a connection to the admin listener broke");
    }
}

async fn answer<B>(request: &Request<B>, store: &dyn SessionStore, metrics: &Metrics) -> Response<String> {
    let path = request.uri().path();
    if !["/healthz", "/metrics", "/readyz"].contains(&path) {
        return page(StatusCode::NOT_FOUND, "not found\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let (text, content_type) = match accept {
                Some(accept) if accept.contains("application/openmetrics-text") => {
                    (metrics.open_metrics(), Metrics::OPEN_METRICS)
                }
                _ => (metrics.prometheus(), Metrics::PROMETHEUS),
            };
            let mut response = page(StatusCode::OK, &text);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        }
        "/readyz" if !is_ready(store).await => page(StatusCode::SERVICE_UNAVAILABLE, "unavailable\n"),
        _ => page(StatusCode::OK, "ok\n"),
    }
}

/// Whether the store answers.
async fn is_ready(store: &dyn SessionStore) -> bool {
    let key = Key::new(NO_SESSION);
    match tokio::time::timeout(STORE_TIMEOUT, store.load(&key)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            warn!(error = %Causes(&error), "not ready");
            false
        }
        Err(_) => {
            warn!("not ready: the store did not answer within two seconds");
            false
        }
    }
}

fn page(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
