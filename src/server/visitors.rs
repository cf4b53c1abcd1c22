//! The visitors of one worker, each on a connection of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::heads::Heads;
use super::interrupts::{Interrupt, Interrupts};
use super::settings::ServerSettings;
use super::stream::Stream;
use crate::app::App;
use crate::proxy::{self, Peer};
use crate::telemetry::Causes;

/// How long a connection keeps hyper's buffers, 16 KiB and more, while it waits for a request. To make them anew costs
/// little, but is not to be paid between two requests that belong together.
const QUIET: Duration = Duration::from_secs(1);

/// What the visitors of one worker have in common.
pub struct Visitors {
    app: Arc<App>,
    http: http1::Builder,
    header_timeout: Duration,
    send_timeout: Duration,
    pub(super) stop: CancellationToken,
}

/// What one visitor's connection has for all of its life.
struct Visit {
    peer: Arc<Peer>,
    heads: Heads,
    interrupts: Interrupts,
}

impl Visitors {
    /// From `stop` on, each connection ends with the answer under way on it, and at once where there is none.
    pub fn new(app: Arc<App>, settings: &ServerSettings, stop: &CancellationToken) -> Self {
        let &ServerSettings { max_headers, header_timeout, send_timeout, .. } = settings;
        let mut http = http1::Builder::new();
        // Without half_close: hyper would not look for a visitor's end while a request is under way, and those who left a
        // quiet answer, as of events, would keep their place and their backend's connection until its next byte. That
        // happens all the time; who only shuts its sending side down, and waits for an answer, is rare.
        // Gathering costs the kernel more than copying what most answers are; a large one is copied at the speed of memory.
        http.header_read_timeout(header_timeout).max_buf_size(settings.buffer_bytes()).writev(false);
        // Told its own default, hyper would take the room for them from the heap, for each request.
        if max_headers != ServerSettings::default().max_headers {
            http.max_headers(max_headers);
        }
        // A child has a lock of its own: the workers do not meet at it.
        Self { app, http, header_timeout, send_timeout, stop: stop.child_token() }
    }

    /// Serves one connection until either side has enough of it.
    ///
    /// While nothing is under way it is a bare stream; hyper has it from the first byte of a request until it has been
    /// quiet for a while.
    pub async fn serve(&self, socket: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let _open = Open::new(&self.app);
        let heads = Heads::new();
        let mut stream = Stream::new(socket, self.send_timeout, heads.clone());
        let interrupts = Interrupts::new(self.stop.clone());
        let mut visit = Visit { peer: Arc::new(Peer::new(peer.ip())), heads, interrupts };
        while self.has_more(&mut stream, &mut visit).await {
            match self.talk(stream, &mut visit).await {
                Ok(Some(quiet)) => stream = quiet,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(error = %Causes(&error), client = %peer, "a connection ended early");
                    return;
                }
            }
        }
    }

    /// Waits for the next bytes; `false`: there is nothing more to do.
    async fn has_more(&self, stream: &mut Stream<impl AsyncRead + Unpin>, visit: &mut Visit) -> bool {
        let since = visit.heads.since().unwrap_or_else(Instant::now);
        visit.interrupts.set_time(since + self.header_timeout);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(read) = stream.poll_refill(cx) {
                return Poll::Ready(read.is_ok_and(|more| more));
            }
            let interrupt = visit.interrupts.poll(cx);
            if visit.interrupts.is_stopping() {
                // The rest of a head that has begun to come is waited for, as always.
                return Poll::Ready(stream.has_unread());
            }
            interrupt.map(|_| false)
        })
        .await
    }

    /// Answers requests. The stream comes back when it has been quiet for a while, and at the server's stop if no request
    /// is under way.
    async fn talk<S>(&self, stream: Stream<S>, visit: &mut Visit) -> hyper::Result<Option<Stream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (peer, heads, interrupts) = (&visit.peer, &visit.heads, &mut visit.interrupts);
        let service = service_fn(|request| {
            heads.complete();
            let (app, peer, request) = (Arc::clone(&self.app), Arc::clone(peer), Box::new(request));
            async move { Ok::<_, Infallible>(proxy::handle(app, peer, request).await) }
        });
        let http = self.http.clone().timer(heads.clone()).serve_connection(TokioIo::new(stream), service);
        // Boxed for those that are quiet: they have the size of their task's future all the same.
        let mut connection = Box::new(http);
        interrupts.set_time(self.first_look(heads));
        let mut stopping = false;
        let quiet = std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                    return Poll::Ready(ended.map(|()| false));
                }
                if interrupts.is_stopping() && !stopping {
                    stopping = true;
                    Pin::new(&mut *connection).graceful_shutdown();
                    continue;
                }
                match ready!(interrupts.poll(cx)) {
                    // Told to stop, hyper would close a connection that it kept though it had read some of the next head.
                    Interrupt::Stop if heads.since().is_some() && !heads.is_blocked() => return Poll::Ready(Ok(true)),
                    Interrupt::Stop => {}
                    Interrupt::Time => match self.look(heads, stopping) {
                        Look::Late => return Poll::Ready(Ok(false)),
                        Look::Quiet => return Poll::Ready(Ok(true)),
                        Look::Again(time) => interrupts.set_time(time),
                    },
                }
            }
        });
        if !quiet.await? {
            return Ok(None);
        }
        // Nothing is lost: hyper waited for a head, all it had written was taken, and what it had read is in `read_buf`.
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        stream.unread(&parts.read_buf);
        Ok(Some(stream))
    }

    /// When to look first at a connection that hyper has just been given.
    fn first_look(&self, heads: &Heads) -> Instant {
        let soon = Instant::now() + QUIET.min(self.header_timeout);
        heads.since().map_or(soon, |since| soon.min(since + self.header_timeout))
    }

    /// What is to be done with a connection whose time has come, and when to look again.
    fn look(&self, heads: &Heads, stopping: bool) -> Look {
        let now = Instant::now();
        match heads.since() {
            Some(since) if heads.is_blocked() => Look::Again(now.max(since) + self.header_timeout),
            Some(since) if now >= since + self.header_timeout => Look::Late,
            Some(since) if !stopping && now >= since + QUIET => Look::Quiet,
            Some(since) if !stopping => Look::Again(since + QUIET.min(self.header_timeout)),
            Some(since) => Look::Again(since + self.header_timeout),
            None => Look::Again(now + QUIET.min(self.header_timeout)),
        }
    }
}

enum Look {
    Again(Instant),
    /// A head, or the first byte of one, has not come in time.
    Late,
    Quiet,
}

/// Counts a connection for as long as it lives.
struct Open<'a>(&'a App);

impl<'a> Open<'a> {
    fn new(app: &'a App) -> Self {
        app.metrics.connection_opened();
        Self(app)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.connection_closed();
    }
}
