//! A worker: one thread, one runtime, its own listeners, its own connections to backends and store.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use super::visitors::Visitors;
use super::{ServerError, Shared};
use crate::app::{App, RequestLimits};
use crate::sessions::Sessions;
use crate::telemetry::Causes;
use crate::upstream::Upstream;

/// How long to wait when no connection can be accepted: the usual reason, too many open files, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `listeners` until `stop`, then lets what is under way end; says through `ready` when it answers.
pub fn run(
    shared: &Shared,
    listeners: Vec<std::net::TcpListener>,
    ready: oneshot::Sender<Result<(), ServerError>>,
) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)?;
    runtime.block_on(async {
        let app = match open(shared).await {
            Ok(app) => Arc::new(app),
            Err(error) => {
                // Whoever waits reports it; if nobody waits any more, another worker failed first.
                ready.send(Err(error)).ok();
                return Ok(());
            }
        };
        let connections = TaskTracker::new();
        let visitors = Arc::new(Visitors::new(Arc::clone(&app), &shared.settings, &shared.stop));
        let doorman =
            Arc::new(Doorman { visitors, places: Arc::clone(&shared.places), connections: connections.clone() });
        for listener in listeners {
            let listener = TcpListener::from_std(listener).map_err(ServerError::Runtime)?;
            connections.spawn(Arc::clone(&doorman).accept(listener));
        }
        ready.send(Ok(())).ok();
        shared.stop.cancelled().await;
        let drained = async {
            connections.close();
            connections.wait().await;
            app.tasks.close();
            app.tasks.wait().await;
        };
        if tokio::time::timeout(shared.settings.shutdown_grace, drained).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "requests were cut off at the end of server.shutdown_grace"
            );
        }
        Ok(())
    })
}

pub(super) async fn open(shared: &Shared) -> Result<App, ServerError> {
    let store = Arc::clone(&shared.store);
    let store = match shared.sessions.near.clone() {
        Some(near) => store.attach_watched(near).await?,
        None => store.attach().await?,
    };
    let upstreams = shared.upstreams.iter().map(|(name, settings)| {
        let upstream = Upstream::new(settings.clone(), &format!("upstreams.{name}"))?;
        Ok((name.clone(), upstream))
    });
    let settings = &shared.settings;
    Ok(App {
        routes: Arc::clone(&shared.routes),
        sessions: Sessions::new(shared.sessions.clone(), store, shared.clock.clone(), Arc::clone(&shared.metrics)),
        cookies: Arc::clone(&shared.cookies),
        upstreams: upstreams.collect::<Result<_, ServerError>>()?,
        metrics: Arc::clone(&shared.metrics),
        clock: shared.clock.clone(),
        limits: RequestLimits {
            max_uri_bytes: settings.max_uri_bytes,
            max_header_bytes: settings.max_header_bytes,
            max_body_bytes: settings.max_body_bytes,
        },
        trusted_proxies: settings.trusted_proxies.clone(),
        access_log: shared.access_log,
        tasks: TaskTracker::new(),
    })
}

/// Takes the visitors of one worker in.
struct Doorman {
    visitors: Arc<Visitors>,
    /// One for each connection there may be, over all workers.
    places: Arc<Semaphore>,
    connections: TaskTracker,
}

impl Doorman {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            // The place is taken after the connection: a listener that waits for visitors must not hold the last place
            // while another one has a visitor for it.
            let accepted = async {
                let accepted = listener.accept().await?;
                // Never closed, so there is a place some time.
                Ok::<_, io::Error>((accepted, Arc::clone(&self.places).acquire_owned().await.ok()))
            };
            let accepted = tokio::select! {
                () = self.visitors.stop.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok(((socket, peer), place)) => {
                    // Answers are written whole; waiting to fill a packet would only delay their last bytes.
                    socket.set_nodelay(true).ok();
                    let visitors = Arc::clone(&self.visitors);
                    self.connections.spawn(async move {
                        visitors.serve(socket, peer).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
