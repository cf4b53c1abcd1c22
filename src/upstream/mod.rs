//! Upstreams: the backends behind a route. One worker has its own [`Upstream`], with its own connections.

pub mod balance;
pub mod body;
pub mod connection;
pub mod retry;
mod wire;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use self::balance::RoundRobin;
use self::body::{Progress, RequestBody, ResponseBody};
use self::connection::{Connection, Failed, Server, Waited, server_address};
use self::retry::{Failure, may_go_again};
use crate::problem::Problem;
use crate::telemetry::Causes;
use crate::units;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// One `[upstreams.NAME]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// `http://HOST[:PORT]`, asked in turn.
    pub servers: Vec<String>,
    /// How long a connection may take to open.
    #[serde(default = "five_seconds", deserialize_with = "units::duration")]
    pub connect_timeout: Duration,
    /// How long the head of a response may take, from the last byte of the request on.
    #[serde(default = "one_minute", deserialize_with = "units::duration")]
    pub response_timeout: Duration,
    /// How long a response body may pause.
    #[serde(default = "one_minute", deserialize_with = "units::duration")]
    pub idle_timeout: Duration,
    /// Unused connections kept open to each server, for each worker.
    #[serde(default = "sixty_four")]
    pub keepalive: usize,
    /// How long an unused connection is kept. Backends close theirs too: stay below what they allow.
    #[serde(default = "one_minute", deserialize_with = "units::duration")]
    pub keepalive_timeout: Duration,
    /// The largest response head taken from a backend.
    #[serde(default = "head_size", deserialize_with = "units::size")]
    pub max_header_bytes: usize,
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

const fn one_minute() -> Duration {
    Duration::from_mins(1)
}

const fn sixty_four() -> usize {
    64
}

/// Room for an update of 64 KiB beside the other headers.
const fn head_size() -> usize {
    128 << 10
}

impl UpstreamSettings {
    /// # Errors
    /// Servers that are none, or are no `http://HOST[:PORT]`; `section` is the dotted path of this section.
    pub fn check(&self, section: &str) -> Result<(), Problem> {
        if self.servers.is_empty() {
            return Err(Problem::new(format!("{section}.servers"), "[]", "needs at least one server"));
        }
        for (index, server) in self.servers.iter().enumerate() {
            server_address(server).map_err(|message| {
                Problem::new(format!("{section}.servers[{index}]"), format!("{server:?}"), message)
            })?;
        }
        // hyper's own floor for its buffers.
        if self.max_header_bytes < 8192 {
            let key = format!("{section}.max_header_bytes");
            return Err(Problem::new(key, self.max_header_bytes, "must be at least 8KiB"));
        }
        Ok(())
    }
}

/// Why a backend gave no answer. Who is at fault is in the variant; the proxy's table turns it into a status.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("no connection to {server}")]
    Connect { server: String, source: Cause },
    /// The visitor's upload broke off; nobody is left to answer.
    #[error("the request was not sent whole")]
    Request(#[source] Cause),
    #[error("{server} broke off before its answer")]
    Response { server: String, source: Cause },
    /// The visitor stopped sending in the middle of a body.
    #[error("the request body stalled")]
    Stalled,
    #[error("{server} did not answer in time")]
    Timeout { server: String },
    /// The answer is no response to what was asked: a 101 nobody asked for.
    #[error("{server} switched protocols unasked")]
    Unasked { server: String },
}

/// A group of equal servers and a worker's connections to them.
pub struct Upstream {
    servers: Vec<Arc<Server>>,
    turn: RoundRobin,
    settings: UpstreamSettings,
}

impl Upstream {
    /// # Errors
    /// As [`UpstreamSettings::check`].
    pub fn new(settings: UpstreamSettings, section: &str) -> Result<Self, Problem> {
        settings.check(section)?;
        let servers = settings.servers.iter().filter_map(|server| Server::new(server, &settings).ok()).map(Arc::new);
        Ok(Self { servers: servers.collect(), turn: RoundRobin::default(), settings })
    }

    /// Adds an unused connection over an open stream to those kept for the first server, in whose place whoever holds
    /// the other end will answer.
    pub async fn adopt<S>(&self, stream: S) -> Result<(), Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(server) = self.servers.first() {
            server.keep(server.connection_over(stream).await?);
        }
        Ok(())
    }

    /// Sends the request to the next server and waits for the head of its answer. The request is gone then, and an empty
    /// one in its place.
    ///
    /// Tries once more, on another connection, when the backend cannot have acted on the first try (RFC 9110 section
    /// 9.2.2, RFC 9112 section 9.3.1); see [`retry`].
    pub async fn send(&self, request: &mut Request<RequestBody>) -> Result<Response<ResponseBody>, UpstreamError> {
        let first = self.turn.next(self.servers.len());
        let Unanswered { error, failure } = match self.attempt(first, request, Reuse::Allow).await {
            Ok(response) => return Ok(response),
            Err(unanswered) => unanswered,
        };
        if !may_go_again(failure, request.method()) {
            return Err(error);
        }
        tracing::debug!(error = %Causes(&error), "asking a backend a second time");
        let second = self.turn.after(first, self.servers.len());
        // Boxed, for it is rare, and every request would carry its size along.
        Box::pin(self.attempt(second, request, Reuse::Avoid)).await.map_err(|unanswered| unanswered.error)
    }

    /// Takes the request when it leaves, and puts it back where it may go again.
    #[expect(clippy::indexing_slicing, reason = "the index comes from the same list's length")]
    async fn attempt(
        &self,
        index: usize,
        request: &mut Request<RequestBody>,
        reuse: Reuse,
    ) -> Result<Response<ResponseBody>, Unanswered> {
        let server = &self.servers[index];
        let mut connection = match server.connection(reuse).await {
            Ok(connection) => connection,
            Err(source) => {
                let error = UpstreamError::Connect { server: server.name(), source };
                return Err(Unanswered { error, failure: Failure::NotSent });
            }
        };
        let progress = request.body().progress();
        let sent = connection.send(mem::take(request), progress.as_ref(), self.settings.response_timeout);
        let (error, failure) = match sent.await {
            Ok(response) => return self.accept(response, connection, server, progress),
            Err(Failed::NotSent { request: unsent, source }) => {
                *request = *unsent;
                (UpstreamError::Response { server: server.name(), source }, Failure::NotSent)
            }
            Err(Failed::Broken { source, .. }) if progress.is_some_and(|progress| progress.is_broken()) => {
                (UpstreamError::Request(source), Failure::Final)
            }
            Err(Failed::Broken { spare, source }) => {
                let failure = if spare.is_some() { Failure::ClosedUnanswered } else { Failure::Final };
                *request = spare.map(|spare| *spare).unwrap_or_default();
                (UpstreamError::Response { server: server.name(), source }, failure)
            }
            Err(Failed::Late(Waited::Backend)) => (UpstreamError::Timeout { server: server.name() }, Failure::Final),
            Err(Failed::Late(Waited::Visitor)) => (UpstreamError::Stalled, Failure::Final),
        };
        Err(Unanswered { error, failure })
    }

    fn accept(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        server: &Arc<Server>,
        progress: Option<Progress>,
    ) -> Result<Response<ResponseBody>, Unanswered> {
        if response.status() == hyper::StatusCode::SWITCHING_PROTOCOLS {
            let error = UpstreamError::Unasked { server: server.name() };
            return Err(Unanswered { error, failure: Failure::Final });
        }
        let lease = connection.lease(Arc::clone(server), progress);
        Ok(response.map(|incoming| ResponseBody::new(incoming, lease, self.settings.idle_timeout)))
    }
}

/// Whether an unused connection will do.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Reuse {
    Allow,
    Avoid,
}

/// How a try ended without an answer.
struct Unanswered {
    error: UpstreamError,
    failure: Failure,
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use hyper::Method;
    use hyper::body::{Body, Frame};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    /// As much as hyper takes of a body that the socket does not take.
    const UPLOAD: usize = 64 << 10;

    struct Upload(Option<Bytes>);

    impl Body for Upload {
        type Data = Bytes;
        type Error = Cause;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
            Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    /// What becomes of a request after an upload whose backend reads it, or answers before it does.
    async fn after_upload(is_read: bool) -> Result<Response<ResponseBody>, UpstreamError> {
        // Nobody listens there: what does not go over the connection at hand fails.
        let settings = toml::from_str("servers = ['http://127.0.0.1:1']").unwrap();
        let upstream = Upstream::new(settings, "upstreams.app").unwrap();
        let (near, mut far) = duplex(1024);
        upstream.adopt(near).await.unwrap();
        let mut upload = Request::new(RequestBody::streaming(Upload(Some(vec![b'x'; UPLOAD].into()))));
        *upload.method_mut() = Method::POST;
        let visitors = async {
            assert!(upstream.send(&mut upload).await.unwrap().body().is_end_stream());
            upstream.send(&mut Request::default()).await
        };
        let backend = async {
            if is_read {
                answer(&mut far, b"\r\n0\r\n\r\n").await;
            }
            answer(&mut far, b"\r\n\r\n").await;
        };
        tokio::join!(visitors, backend).0
    }

    /// Answers what ends so.
    async fn answer(far: &mut DuplexStream, end: &[u8]) {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(far.read_u8().await.unwrap());
        }
        far.write_all(ANSWER).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_is_used_again_once_an_upload_has_gone_whole() {
        assert!(after_upload(true).await.is_ok());
        assert!(matches!(after_upload(false).await, Err(UpstreamError::Connect { .. })));
    }
}
