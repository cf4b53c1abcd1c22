//! The road of a request: from the visitor's bytes to the backend and back.

pub mod accept;
mod access_log;
mod backend_cookies;
mod body;
pub mod client;
mod error;
pub mod headers;
mod outlive;

use std::pin::{Pin, pin};
use std::sync::Arc;

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
use crate::upstream::body::{RequestBody, ResponseBody};

pub use self::body::Body;

/// Answers one request. Whatever goes wrong becomes a response; a panic on its road is a 500 for this one request.
pub async fn handle(app: Arc<App>, peer: Arc<Peer>, request: Box<Request<Incoming>>) -> Response<Body> {
    let chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let errand = Errand::new(app, peer, &request);
    let page = errand.page.clone();
    let road = pin!(errand.road(request));
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

/// One request on its road: whose it is, and what it leaves behind.
///
/// It is boxed, as is the request: what goes from step to step is copied at each, and heads are large.
struct Errand {
    app: Arc<App>,
    client: Client,
    page: Page,
    entry: Box<Entry>,
}

/// A request that is ready for its backend.
struct Prepared {
    request: Box<Request<Incoming>>,
    route: Arc<Route>,
    /// `None` on routes without sessions.
    session: Option<OpenSession>,
}

impl Errand {
    fn new(app: Arc<App>, peer: Arc<Peer>, request: &Request<Incoming>) -> Box<Self> {
        let client = Client::new(peer, request.headers(), &app.trusted_proxies);
        let page = Page::asked_by(request.headers(), &client.request_id);
        let entry = Box::new(Entry::new(&app, &client, request));
        Box::new(Self { app, client, page, entry })
    }

    async fn road(mut self: Box<Self>, request: Box<Request<Incoming>>) -> Response<Body> {
        match self.prepare(request).await {
            Ok(prepared) => {
                // What the backend does from here on must reach the store, whether the visitor waits for it or not.
                let tasks = self.app.tasks.clone();
                outlive(self.finish(prepared), tasks).await
            }
            Err(error) => {
                let vary = varies(self.entry.route.as_ref().map(|route| &route.settings));
                self.refuse(error, vary)
            }
        }
    }

    async fn prepare(&mut self, mut request: Box<Request<Incoming>>) -> Result<Prepared, ProxyError> {
        let Self { app, client, entry, .. } = self;
        let body_bytes = request.body().size_hint().exact();
        accept::accept(&mut request, body_bytes, &app.limits)?;
        let route = Arc::clone(app.routes.find(accept::host(&request), request.uri().path())?);
        entry.route = Some(Arc::clone(&route));
        let headers = request.headers_mut();
        let session = if route.settings.session {
            let open = app.sessions.open(headers, &route.settings, &client.request_id).await;
            entry.store_answered();
            let open = open.map_err(ProxyError::Load)?;
            entry.session = open.state();
            Some(open)
        } else {
            app.sessions.strip(headers);
            None
        };
        backend_cookies::check(app, client, headers);
        headers::to_backend(headers, client);
        if let Some(open) = &session {
            app.sessions.inject(open, headers);
        }
        *request.version_mut() = Version::HTTP_11;
        Ok(Prepared { request, route, session })
    }

    fn finish(mut self: Box<Self>, prepared: Prepared) -> Pin<Box<impl Future<Output = Response<Body>>>> {
        Box::pin(async move {
            let vary = varies(Some(&prepared.route.settings));
            match self.exchange(prepared).await {
                Ok(response) => self.entry.answer(response),
                Err(error) => self.refuse(error, vary),
            }
        })
    }

    /// Sends the request, stores what the answer asks for, and makes the answer the visitor's.
    async fn exchange(&mut self, prepared: Prepared) -> Result<Response<Source>, ProxyError> {
        let Prepared { request, route, session } = prepared;
        let settings = &route.settings;
        let mut response = self.ask(request, settings).await?;
        let Self { app, client, entry, .. } = self;

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
                let committed = app.sessions.commit(open, patch, answer).await;
                entry.store_answered();
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

    /// Sends the request to the route's backend and waits for the head of its answer.
    async fn ask(
        &mut self,
        request: Box<Request<Incoming>>,
        settings: &RouteSettings,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let mut request = request.map(|body| self.watch(body));
        let Self { app, entry, .. } = self;
        let upstream = app.upstreams.get(&settings.upstream).ok_or(ProxyError::NoUpstream)?;
        entry.asks_upstream();
        let answered = upstream.send(&mut request).await;
        let waited = entry.upstream_answered();
        let outcome = answered.as_ref().map_or_else(error::outcome, |_| "answered");
        app.metrics.upstream(&settings.upstream, outcome, waited);
        Ok(answered?)
    }

    /// The request's body as it goes to the backend.
    fn watch(&mut self, body: Incoming) -> RequestBody {
        if body.is_end_stream() {
            return RequestBody::default();
        }
        let Self { app, entry, .. } = self;
        let injector = Arc::clone(app.sessions.injector());
        RequestBody::streaming(LimitedBody::new(body, app.limits.max_body_bytes, entry.received(), injector))
    }

    /// Answers in the backend's place.
    fn refuse(self: Box<Self>, error: ProxyError, vary: bool) -> Response<Body> {
        let mut response = self.page.of(&error);
        headers::to_client(response.headers_mut(), error.into_cookie(), vary);
        self.entry.answer(response)
    }
}

/// Whether what the visitor gets depends on their cookie.
fn varies(route: Option<&RouteSettings>) -> bool {
    route.is_some_and(|route| route.session && route.vary)
}
