//! What the visitor is told when something went wrong: the one table of status codes, and the page.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

use super::body::{Source, TooLarge};
use super::client::REQUEST_ID;
use crate::routes::NoRoute;
use crate::sessions::CommitError;
use crate::store::StoreError;
use crate::telemetry::Causes;
use crate::upstream::UpstreamError;

/// Why a request is answered by us.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("a malformed request: {0}")]
    BadRequest(&'static str),
    #[error("the body is too large")]
    BodyTooLarge,
    #[error("the session could not be stored")]
    Commit(#[from] CommitError),
    #[error("the headers are too large")]
    HeadersTooLarge,
    #[error("the session could not be loaded")]
    Load(#[source] StoreError),
    #[error("the method is not served")]
    MethodNotAllowed,
    #[error("no route")]
    NoRoute(#[from] NoRoute),
    #[error("the route's upstream does not exist")]
    NoUpstream,
    #[error("a panic while answering")]
    Panicked,
    #[error("no answer from the backend")]
    Upstream(#[from] UpstreamError),
    #[error("the target is too long")]
    UriTooLong,
}

impl ProxyError {
    /// The visitor's fault is 4xx, the backend's 502 or 504, the store's and our own 503 and 500.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::NoRoute(NoRoute::DotSegments) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Commit(CommitError::Contended | CommitError::Random(_) | CommitError::Store { .. })
            | Self::Load(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Commit(CommitError::Interrupted) => StatusCode::BAD_REQUEST,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute(NoRoute::Unknown) => StatusCode::NOT_FOUND,
            Self::NoUpstream | Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Upstream(error) => match error {
                UpstreamError::Request(cause) if is_too_large(cause.as_ref()) => StatusCode::PAYLOAD_TOO_LARGE,
                UpstreamError::Request(_) => StatusCode::BAD_REQUEST,
                UpstreamError::Stalled => StatusCode::REQUEST_TIMEOUT,
                UpstreamError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
                UpstreamError::Connect { .. } | UpstreamError::Response { .. } | UpstreamError::Unasked { .. } => {
                    StatusCode::BAD_GATEWAY
                }
            },
        }
    }

    /// The cookie that goes out with the error: the removal of a session whose end the store could not take.
    pub fn into_cookie(self) -> Option<HeaderValue> {
        match self {
            Self::Commit(CommitError::Store { cookie, .. }) => cookie,
            _ => None,
        }
    }
}

/// How an upstream's failure is counted.
pub fn outcome(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::Connect { .. } => "connect",
        UpstreamError::Request(_) | UpstreamError::Stalled => "request",
        UpstreamError::Response { .. } | UpstreamError::Unasked { .. } => "response",
        UpstreamError::Timeout { .. } => "timeout",
    }
}

fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    error.is::<TooLarge>() || error.source().is_some_and(is_too_large)
}

/// A page in the form the visitor asked for. It tells the status and the request's id, never a cause.
#[derive(Clone)]
pub struct Page {
    accept: Option<HeaderValue>,
    request_id: Arc<str>,
}

impl Page {
    pub fn asked_by(headers: &HeaderMap, request_id: &Arc<str>) -> Self {
        Self { accept: headers.get(ACCEPT).cloned(), request_id: Arc::clone(request_id) }
    }

    fn is_json(&self) -> bool {
        let accept = self.accept.as_ref().and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let position = |kind| accept.find(kind).unwrap_or(usize::MAX);
        position("json") < position("text/html")
    }

    /// Answers `error`, and tells the operator its causes.
    pub fn of(&self, error: &ProxyError) -> Response<Source> {
        let status = error.status();
        // A cause that is only a field's source would be lost in JSON.
        let causes = Causes(error);
        if status.is_server_error() {
            tracing::error!(request = &*self.request_id, status = status.as_u16(), error = %causes, "a request failed");
        } else {
            tracing::info!(
                request = &*self.request_id,
                status = status.as_u16(),
                error = %causes,
                "a request was refused"
            );
        }
        let mut response = Response::new(Source::Page(self.text(status)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let content_type = if self.is_json() { "application/json" } else { "text/html; charset=utf-8" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        response
    }

    fn text(&self, status: StatusCode) -> Bytes {
        let code = status.as_u16();
        let reason = status.canonical_reason().unwrap_or("Error");
        // Both are our own words; an id from elsewhere has passed a check for plain characters.
        let id = &self.request_id;
        let text = if self.is_json() {
            format!("{{\"status\":{code},\"error\":\"{reason}\",\"request_id\":\"{id}\"}}\n")
        } else {
            format!(
                "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {reason}</title></head>\n\
                 <body><h1>{code} {reason}</h1><p>Request {id}</p></body></html>\n"
            )
        };
        text.into()
    }
}
