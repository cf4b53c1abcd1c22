//! The line and the numbers that a request leaves behind, whatever becomes of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Request, Response, Uri};

use super::body::{Body, Source};
use super::client::Client;
use crate::app::App;
use crate::metrics::Metrics;
use crate::routes::Route;

/// Written when it is dropped: with the last byte of the answer, or with the loss of the visitor.
pub struct Entry {
    metrics: Arc<Metrics>,
    /// `None` if there is no line, only numbers.
    asked: Option<Box<Asked>>,
    started: Instant,
    /// When [`Entry::lap`] was asked last.
    lapped: Instant,
    received: Option<Arc<AtomicU64>>,
    /// `None` while no answer was found: the visitor went before there was one.
    status: Option<u16>,
    pub sent: u64,
    pub route: Option<Arc<Route>>,
    pub session: &'static str,
    store_time: Duration,
    upstream_time: Duration,
}

/// What the line says of the request.
struct Asked {
    method: Method,
    uri: Uri,
    visitor: IpAddr,
    request_id: Arc<str>,
}

/// What nginx calls a request whose visitor went before the answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl Entry {
    pub fn new(app: &App, client: &Client, request: &Request<Incoming>) -> Self {
        let asked = || Asked {
            method: request.method().clone(),
            uri: request.uri().clone(),
            visitor: client.ip,
            request_id: Arc::clone(&client.request_id),
        };
        let now = Instant::now();
        Self {
            metrics: Arc::clone(&app.metrics),
            asked: app.access_log.then(|| Box::new(asked())),
            started: now,
            lapped: now,
            received: None,
            status: None,
            sent: 0,
            route: None,
            session: "off",
            store_time: Duration::ZERO,
            upstream_time: Duration::ZERO,
        }
    }

    /// Counts the bytes of the request's body.
    pub fn received(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.received.get_or_insert_default())
    }

    /// The store has answered, or was not asked; what went before on this side is little.
    pub fn store_answered(&mut self) {
        let waited = self.lap();
        self.store_time += waited;
    }

    pub fn asks_upstream(&mut self) {
        self.lap();
    }

    /// The backend was waited for until now: for so long.
    pub fn upstream_answered(&mut self) -> Duration {
        self.upstream_time = self.lap();
        self.upstream_time
    }

    /// The time since this was last asked, or since the beginning. Where one wait follows another, one look at the clock
    /// ends this one and begins the next.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.lapped, now)
    }

    /// Goes with the answer until its last byte.
    pub fn answer(mut self: Box<Self>, response: Response<Source>) -> Response<Body> {
        self.status = Some(response.status().as_u16());
        response.map(|source| Body::new(source, Some(self)))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let lost = if std::thread::panicking() { 500 } else { CLIENT_CLOSED_REQUEST };
        let status = self.status.unwrap_or(lost);
        let route = self.route.as_ref().map_or("-", |route| route.name.as_str());
        let received = self.received.as_ref().map_or(0, |received| received.load(Ordering::Relaxed));
        let duration = self.started.elapsed();
        self.metrics.request(route, status, duration, received, self.sent);
        if let Some(asked) = &self.asked {
            // What the client chose is written quoted and escaped, so that it cannot look like another line.
            tracing::info!(
                target: "cloakroom::access",
                method = asked.method.as_str(),
                path = asked.uri.path(),
                status,
                duration_us = micros(duration),
                upstream_us = micros(self.upstream_time),
                store_us = micros(self.store_time),
                received,
                sent = self.sent,
                route,
                session = self.session,
                client = %asked.visitor,
                request = &*asked.request_id,
            );
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
