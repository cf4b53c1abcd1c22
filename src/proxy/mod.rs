//! The road of a request: from the visitor's bytes to the backend and back.

pub mod accept;
mod access_log;
mod backend_cookies;
mod body;
pub mod client;
mod error;
pub mod headers;
mod outlive;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::{Request, Response, Version};

use self::access_log::Entry;
use self::body::{LimitedBody, Source};
use self::client::Client;
pub use self::client::Peer;
use self::error::Page;
pub use self::error::ProxyError;
use self::outlive::{catch_panic, outlive};
use crate::app::App;
use crate::routes::{Route, RouteSettings};
use crate::session::names;
use crate::session::patch::SessionPatch;
use crate::sessions::{Answer, OpenSession};
use crate::upstream::body::RequestBody;

pub use self::body::Body;

/// Answers one request. Whatever goes wrong becomes a response; a panic is a 500 for this one request.
pub async fn handle(app: Arc<App>, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Body> {
    let client = Client::new(peer, request.headers(), &app.trusted_proxies);
    let page = Page::asked_by(request.headers(), &client.request_id);
    let chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let road = pin!(road(app, client, request, page.clone()));
    let mut response = match catch_panic(road).await {
        Ok(response) => response,
        Err(panicked) => page.of(&panicked).map(|source| Body::new(source, None)),
    };
    if chunked {
        // hyper hides whether there was a Content-Length beside the chunks. If there was, an intermediary may disagree
        // with us on where the next request begins, so there is no next one (RFC 9112 section 6.1).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn road(app: Arc<App>, client: Client, request: Request<Incoming>, page: Page) -> Response<Body> {
    let mut entry = Entry::new(&app, &client, &request);
    match prepare(&app, &client, request, &mut entry).await {
        Ok(prepared) => {
            // What the backend does from here on must reach the store, whether the visitor waits for it or not.
            let tasks = app.tasks.clone();
            outlive(Box::pin(finish(app, client, prepared, entry, page)), tasks).await
        }
        Err(error) => {
            let mut response = page.of(&error);
            let route = entry.route.as_ref().map(|route| &route.settings);
            headers::to_client(response.headers_mut(), None, varies(route));
            entry.answer(response)
        }
    }
}

/// A request that is ready for its backend.
struct Prepared {
    request: Request<RequestBody>,
    route: Arc<Route>,
    /// `None` on routes without sessions.
    session: Option<OpenSession>,
}

async fn prepare(
    app: &App,
    client: &Client,
    request: Request<Incoming>,
    entry: &mut Entry,
) -> Result<Prepared, ProxyError> {
    let (mut parts, body) = request.into_parts();
    accept::accept(&mut parts, body.size_hint().exact(), &app.limits)?;
    let route = Arc::clone(app.routes.find(accept::host(&parts), parts.uri.path())?);
    entry.route = Some(Arc::clone(&route));
    let session = if route.settings.session {
        let asked = Instant::now();
        let open = app.sessions.open(&mut parts.headers, &route.settings, &client.request_id).await;
        entry.store_time = asked.elapsed();
        let open = open.map_err(ProxyError::Load)?;
        entry.session = open.state();
        Some(open)
    } else {
        app.sessions.strip(&mut parts.headers);
        None
    };
    backend_cookies::check(app, client, &mut parts.headers);
    headers::to_backend(&mut parts.headers, client);
    if let Some(open) = &session {
        app.sessions.inject(open, &mut parts.headers);
    }
    parts.version = Version::HTTP_11;
    let body = if body.is_end_stream() {
        RequestBody::default()
    } else {
        let injector = Arc::clone(app.sessions.injector());
        RequestBody::streaming(LimitedBody::new(body, app.limits.max_body_bytes, entry.received(), injector))
    };
    Ok(Prepared { request: Request::from_parts(parts, body), route, session })
}

async fn finish(app: Arc<App>, client: Client, prepared: Prepared, mut entry: Entry, page: Page) -> Response<Body> {
    let vary = varies(Some(&prepared.route.settings));
    let response = match exchange(&app, &client, prepared, &mut entry).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = page.of(&error);
            headers::to_client(response.headers_mut(), error.into_cookie(), vary);
            response
        }
    };
    entry.answer(response)
}

/// Sends the request, stores what the answer asks for, and makes the answer the visitor's.
async fn exchange(
    app: &App,
    client: &Client,
    prepared: Prepared,
    entry: &mut Entry,
) -> Result<Response<Source>, ProxyError> {
    let Prepared { request, route, session } = prepared;
    let settings = &route.settings;
    let upstream = app.upstreams.get(&settings.upstream).ok_or(ProxyError::NoUpstream)?;
    let asked = Instant::now();
    let answered = upstream.send(request).await;
    entry.upstream_time = asked.elapsed();
    let outcome = answered.as_ref().map_or_else(error::outcome, |_| "answered");
    app.metrics.upstream(&settings.upstream, outcome, entry.upstream_time);
    let mut response = answered?;

    // What version we speak with the visitor is not the backend's to say (RFC 9110 section 2.5).
    *response.version_mut() = Version::HTTP_11;
    let status = response.status();
    let head = response.headers_mut();
    if !settings.pass_cookie {
        app.sessions.drop_own_cookie(head);
    }
    backend_cookies::sign(app, client, head);
    let cookie = match session {
        Some(open) if !settings.pass_cookie => {
            let patch = SessionPatch::take_from(head, app.sessions.limits());
            let answer = Answer { status, route: settings, https: client.https, request_id: &client.request_id };
            let asked = Instant::now();
            let committed = app.sessions.commit(open, patch, answer).await;
            entry.store_time += asked.elapsed();
            committed?
        }
        passed => {
            if let Some(open) = passed {
                app.sessions.passed(&open, head);
            }
            names::strip(head);
            None
        }
    };
    headers::to_client(head, cookie, varies(Some(settings)));
    Ok(response.map(Source::Backend))
}

/// Whether what the visitor gets depends on their cookie.
fn varies(route: Option<&RouteSettings>) -> bool {
    route.is_some_and(|route| route.session && route.vary)
}
