//! Upstreams: the backends behind a route. One worker has its own [`Upstream`], with its own connections.

pub mod balance;
pub mod body;
pub mod connection;
pub mod retry;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use self::balance::RoundRobin;
use self::body::{Progress, RequestBody, ResponseBody};
use self::connection::{Attempt, Connection, Server, Waited, server_address};
use self::retry::{Failure, retry_after};
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

    /// Sends the request to the next server and waits for the head of its answer.
    ///
    /// Tries once more, on another connection, when the backend cannot have acted on the first try (RFC 9110 section
    /// 9.2.2, RFC 9112 section 9.3.1); see [`retry`].
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<ResponseBody>, UpstreamError> {
        let first = self.turn.next(self.servers.len());
        let failed = match self.attempt(first, request, Reuse::Allow).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let Some(request) = retry_after(failed.failure, failed.request) else { return Err(failed.error) };
        tracing::debug!(error = %Causes(&failed.error), "asking a backend a second time");
        let second = self.turn.after(first, self.servers.len());
        self.attempt(second, request, Reuse::Avoid).await.map_err(|failed| failed.error)
    }

    #[expect(clippy::indexing_slicing, reason = "the index comes from the same list's length")]
    async fn attempt(
        &self,
        index: usize,
        request: Request<RequestBody>,
        reuse: Reuse,
    ) -> Result<Response<ResponseBody>, Failed> {
        let server = &self.servers[index];
        let mut connection = match server.connection(reuse).await {
            Ok(connection) => connection,
            Err(source) => {
                let error = UpstreamError::Connect { server: server.name(), source };
                return Err(Failed { error, failure: Failure::NotSent, request: Some(request) });
            }
        };
        let progress = request.body().progress();
        match connection.send(request, progress.as_ref(), self.settings.response_timeout).await {
            Ok(Attempt::Answered(response)) => {
                self.accept(response, connection, server, progress).map_err(Failed::last)
            }
            Ok(Attempt::NotSent { request, source }) => {
                let error = UpstreamError::Response { server: server.name(), source };
                Err(Failed { error, failure: Failure::NotSent, request: Some(request) })
            }
            Ok(Attempt::Broken { source, .. }) if progress.is_some_and(|progress| progress.is_broken()) => {
                Err(Failed::last(UpstreamError::Request(source)))
            }
            Ok(Attempt::Broken { spare, source }) => {
                let error = UpstreamError::Response { server: server.name(), source };
                Err(Failed { error, failure: Failure::ClosedUnanswered, request: spare })
            }
            Err(Waited::Backend) => Err(Failed::last(UpstreamError::Timeout { server: server.name() })),
            Err(Waited::Visitor) => Err(Failed::last(UpstreamError::Stalled)),
        }
    }

    fn accept(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        server: &Arc<Server>,
        progress: Option<Progress>,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        if response.status() == hyper::StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpstreamError::Unasked { server: server.name() });
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

struct Failed {
    error: UpstreamError,
    failure: Failure,
    request: Option<Request<RequestBody>>,
}

impl Failed {
    fn last(error: UpstreamError) -> Self {
        Self { error, failure: Failure::Final, request: None }
    }
}
