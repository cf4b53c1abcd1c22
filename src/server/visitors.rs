//! The visitors of one worker, each on a connection of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::settings::ServerSettings;
use super::stream::Stream;
use crate::app::App;
use crate::proxy::{self, Peer};
use crate::telemetry::Causes;

/// What the visitors of one worker have in common.
pub struct Visitors {
    app: Arc<App>,
    http: http1::Builder,
    send_timeout: Duration,
    pub(super) stop: CancellationToken,
}

impl Visitors {
    /// From `stop` on, each connection ends with the answer under way on it, and at once where there is none.
    pub fn new(app: Arc<App>, settings: &ServerSettings, stop: CancellationToken) -> Self {
        let &ServerSettings { max_headers, header_timeout, send_timeout, .. } = settings;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_headers(max_headers)
            .max_buf_size(settings.buffer_bytes());
        Self { app, http, send_timeout, stop }
    }

    /// Serves one connection until either side has enough of it.
    pub async fn serve(&self, socket: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let _open = Open::new(&self.app);
        let visitor = Arc::new(Peer::new(peer.ip()));
        let service = service_fn(|request| {
            let (app, visitor) = (Arc::clone(&self.app), Arc::clone(&visitor));
            async move { Ok::<_, Infallible>(proxy::handle(app, visitor, request).await) }
        });
        let stream = TokioIo::new(Stream::new(socket, self.send_timeout));
        let mut connection = std::pin::pin!(self.http.serve_connection(stream, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %Causes(&error), client = %peer, "a connection ended early");
        }
    }
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
