//! Connections to one server: opened, used by one request at a time, kept for the next.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::body::{Progress, RequestBody};
use super::retry::is_repeatable;
use super::wire::{Watched, Wire};
use super::{Cause, Reuse, UpstreamSettings};
use crate::telemetry::Causes;

/// One backend and a worker's unused connections to it.
pub struct Server {
    host: String,
    port: u16,
    connect_timeout: Duration,
    keepalive: usize,
    keepalive_timeout: Duration,
    max_header_bytes: usize,
    /// Oldest first. A standard mutex: never held across an await, and only this worker's tasks take it.
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection on which no request is under way.
pub struct Connection {
    sender: SendRequest<RequestBody>,
    reused: bool,
    wire: Arc<Wire>,
    /// What the backend is waited for with: one for all requests, for it is set again without being registered again.
    pause: Pin<Box<Sleep>>,
}

/// Whom a time-out waited for.
pub enum Waited {
    Backend,
    Visitor,
}

/// How sending on one connection failed.
pub enum Failed {
    /// The connection broke. `spare` is the request once more where a second try may be allowed: the connection had been
    /// used before, no byte of an answer came, and the request has no body.
    Broken {
        spare: Option<Box<Request<RequestBody>>>,
        source: Cause,
    },
    Late(Waited),
    NotSent {
        request: Box<Request<RequestBody>>,
        source: Cause,
    },
}

impl Server {
    pub fn new(server: &str, settings: &UpstreamSettings) -> Result<Self, &'static str> {
        let (host, port) = server_address(server)?;
        Ok(Self {
            host,
            port,
            connect_timeout: settings.connect_timeout,
            keepalive: settings.keepalive,
            keepalive_timeout: settings.keepalive_timeout,
            max_header_bytes: settings.max_header_bytes,
            idle: Mutex::new(VecDeque::new()),
        })
    }

    /// For messages to the operator.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// An unused connection if there is one and `reuse` allows it, else a new one.
    pub async fn connection(&self, reuse: Reuse) -> Result<Connection, Cause> {
        if reuse == Reuse::Allow {
            while let Some(mut connection) = self.take_idle() {
                // The task that drives the connection may still be about to see that the last answer ended.
                if connection.sender.is_ready()
                    || timeout(self.connect_timeout, connection.sender.ready()).await.is_ok_and(|ready| ready.is_ok())
                {
                    return Ok(connection);
                }
            }
        }
        // Boxed, for it is rare, and every request would carry its size along.
        Box::pin(self.open()).await
    }

    async fn open(&self) -> Result<Connection, Cause> {
        let open = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        let stream = timeout(self.connect_timeout, open).await.map_err(|_| "timed out")??;
        self.connection_over(stream).await
    }

    /// A connection over an open stream. Its task is spawned.
    pub(super) async fn connection_over<S>(&self, stream: S) -> Result<Connection, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wire = Arc::new(Wire::new(self.max_header_bytes));
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&wire)));
        let mut http = http1::Builder::new();
        // Gathering costs the kernel more than copying what most requests are. The wire relies on it too.
        http.max_buf_size(self.max_header_bytes).max_headers(MAX_HEADERS).writev(false);
        let (sender, driver) = http.handshake(io).await?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(error = %Causes(&error), "a connection to a backend ended");
            }
        });
        // Set when something is waited for.
        let pause = Box::pin(sleep_until(Instant::now()));
        Ok(Connection { sender, reused: false, wire, pause })
    }

    fn take_idle(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest is the least likely to have been closed by the backend.
        while let Some(Idle { connection, since }) = idle.pop_back() {
            if now - since >= self.keepalive_timeout {
                idle.clear();
            } else if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back whose answer has ended.
    pub(super) fn keep(&self, mut connection: Connection) {
        if self.keepalive == 0 || connection.sender.is_closed() {
            return;
        }
        connection.reused = true;
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.len() >= self.keepalive
            || idle.front().is_some_and(|oldest| now - oldest.since >= self.keepalive_timeout)
        {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: now });
    }
}

/// Room for an update with each of its 256 members on a line of its own (`session.limits.max_members`), one too many,
/// and as many other headers.
const MAX_HEADERS: usize = 512;

/// Host and port of a server as the configuration names it.
pub fn server_address(server: &str) -> Result<(String, u16), &'static str> {
    let form = "must be \"http://HOST\" or \"http://HOST:PORT\"";
    let uri: Uri = server.parse().map_err(|_| form)?;
    let authority = uri.authority().ok_or(form)?;
    if uri.scheme_str() == Some("https") {
        return Err("https to backends is not supported; use http:// or put a TLS tunnel between");
    }
    let plain = uri.scheme_str() == Some("http")
        && !authority.as_str().contains('@')
        && server.trim_end_matches('/').len() == "http://".len() + authority.as_str().len();
    if !plain || authority.host().is_empty() {
        return Err(form);
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => 80,
        _ => authority.port_u16().filter(|port| *port > 0).ok_or(form)?,
    };
    Ok((host.to_owned(), port))
}

impl Connection {
    /// Sends the request, waits as long as its body moves, and `limit` from then on. `progress` is that body's, where there
    /// is one.
    ///
    /// The request leaves at once, not when the answer is first waited for: so it need not be kept for as long.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
        progress: Option<&Progress>,
        limit: Duration,
    ) -> impl Future<Output = Result<Response<Incoming>, Failed>> {
        let repeatable = self.reused && request.body().is_end_stream() && is_repeatable(request.method());
        self.wire.begin(repeatable);
        let answer = self.sender.try_send_request(request);
        let (wire, pause) = (&self.wire, &mut self.pause);
        let mut until = Instant::now() + limit;
        pause.as_mut().reset(until);
        async move {
            let mut answer = std::pin::pin!(answer);
            let answer = std::future::poll_fn(|cx| {
                loop {
                    if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                        return Poll::Ready(Ok(answer));
                    }
                    ready!(pause.as_mut().poll(cx));
                    match progress {
                        Some(progress) if progress.last_move() + limit > until => until = progress.last_move() + limit,
                        Some(progress) if !progress.is_complete() => return Poll::Ready(Err(Waited::Visitor)),
                        _ => return Poll::Ready(Err(Waited::Backend)),
                    }
                    pause.as_mut().reset(until);
                }
            });
            match answer.await.map_err(Failed::Late)? {
                Ok(response) => {
                    wire.answered();
                    Ok(response)
                }
                Err(mut error) => Err(match error.take_message() {
                    Some(request) => Failed::NotSent { request: Box::new(request), source: error.into_error().into() },
                    None => Failed::Broken { spare: wire.spare().map(Box::new), source: error.into_error().into() },
                }),
            }
        }
    }

    /// `progress` is that of the request's body, where there is one.
    pub(super) fn lease(self, server: Arc<Server>, progress: Option<Progress>) -> Lease {
        Lease { connection: self, server, progress }
    }
}

/// A connection while the body of its answer is under way. Dropped unfinished, the connection closes.
pub struct Lease {
    connection: Connection,
    server: Arc<Server>,
    progress: Option<Progress>,
}

impl Lease {
    /// What the next part of the answer is waited for with.
    pub(super) fn pause(&mut self) -> Pin<&mut Sleep> {
        self.connection.pause.as_mut()
    }

    /// Gives the connection back. Not while the request is still being sent: whoever got it next would wait for the
    /// end of a stranger's upload.
    pub fn finish(self) {
        if self.progress.is_none_or(|progress| progress.is_complete()) && self.connection.wire.is_drained() {
            self.server.keep(self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_perhaps_a_port() {
        let good = [
            ("http://127.0.0.1:9000", "127.0.0.1", 9000),
            ("http://app", "app", 80),
            ("http://app/", "app", 80),
            ("http://[::1]:81", "::1", 81),
            ("http://[::1]", "::1", 80),
        ];
        for (server, host, port) in good {
            assert_eq!(server_address(server), Ok((host.to_owned(), port)), "{server}");
        }
        for server in [
            "",
            "app:80",
            "http://",
            "http://app/path",
            "http://app?q",
            "http://u:p@app",
            "https://app",
            "http://app:0",
            "http://app:99999",
            "http://app:",
            "ftp://app",
            "unix:/x",
        ] {
            assert!(server_address(server).is_err(), "{server}");
        }
    }
}
