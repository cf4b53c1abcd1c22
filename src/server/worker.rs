//! A worker: one thread, one runtime, its own listeners, its own connections to backends and store.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use super::doors::{Doors, Visitor};
use super::visitors::Visitors;
use super::{Entrance, ServerError, Shared};
use crate::app::{App, RequestLimits};
use crate::sessions::Sessions;
use crate::telemetry::Causes;
use crate::upstream::Upstream;

/// How long to wait when no connection can be accepted: the usual reason, too many open files, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves those who come in until `stop`, then lets what is under way end; says through `ready` when it answers.
pub fn run(
    shared: &Shared,
    entrance: Entrance,
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
        let Entrance { worker, listeners, handed } = entrance;
        let (places, doors) = (Arc::clone(&shared.places), Arc::clone(&shared.doors));
        let doorman = Arc::new(Doorman { worker, visitors, places, doors, connections: connections.clone() });
        for listener in listeners {
            let listener = TcpListener::from_std(listener).map_err(ServerError::Runtime)?;
            connections.spawn(Arc::clone(&doorman).accept(listener));
        }
        connections.spawn(doorman.take_over(handed));
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
    worker: usize,
    visitors: Arc<Visitors>,
    /// One for each connection there may be, over all workers.
    places: Arc<Semaphore>,
    doors: Arc<Doors>,
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
                    let seat = self.doors.seat(self.worker);
                    if seat.worker == self.worker {
                        self.let_in(socket, peer, (place, seat));
                    } else if let Ok(socket) = socket.into_std() {
                        self.doors.hand(Visitor { socket, peer, place, seat });
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes in whom other workers hand on.
    async fn take_over(self: Arc<Self>, mut handed: UnboundedReceiver<Visitor>) {
        loop {
            let visitor = tokio::select! {
                () = self.visitors.stop.cancelled() => return,
                visitor = handed.recv() => visitor,
            };
            let Some(Visitor { socket, peer, place, seat }) = visitor else { return };
            match TcpStream::from_std(socket) {
                Ok(socket) => self.let_in(socket, peer, (place, seat)),
                Err(error) => tracing::warn!(error = %Causes(&error), "a connection was not taken over"),
            }
        }
    }

    /// Serves one connection, which has `room` as long as it lives.
    fn let_in(&self, socket: TcpStream, peer: SocketAddr, room: impl Send + 'static) {
        // Answers are written whole; waiting to fill a packet would only delay their last bytes.
        socket.set_nodelay(true).ok();
        let visitors = Arc::clone(&self.visitors);
        self.connections.spawn(async move {
            visitors.serve(socket, peer).await;
            drop(room);
        });
    }
}
