//! The server's life: bind and open, answer, drain.

mod doors;
mod heads;
mod interrupts;
mod settings;
mod stream;
mod sweep;
mod visitors;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::cookies::CookieRules;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::sessions;
use crate::store::{self, SessionStore, StoreError};
use crate::telemetry::Causes;
use crate::upstream::UpstreamSettings;

use self::doors::{Doors, Visitor};

pub use self::settings::ServerSettings;
pub use self::visitors::Visitors;

/// Connections the kernel holds for each listener until they are accepted.
const BACKLOG: i32 = 1024;

/// The most bytes of an answer that the kernel holds unsent before it asks us to wait.
///
/// A socket that was full becomes writable when half of these have gone. Left to itself, the kernel would let a third of
/// megabytes go first, and `server.send_timeout` would end the connections of those who take an answer slowly but
/// steadily.
const UNSENT: u32 = 64 << 10;

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the system gives no runtime, signal or thread")]
    Runtime(#[source] io::Error),
    #[error("a setting cannot be meant")]
    Setting(#[from] Problem),
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
    #[error("a worker ended unasked")]
    Worker,
}

/// What the workers have in common.
struct Shared {
    settings: ServerSettings,
    upstreams: BTreeMap<String, UpstreamSettings>,
    routes: Arc<Routes>,
    sessions: sessions::Shared,
    cookies: Arc<CookieRules>,
    store: Arc<dyn SessionStore>,
    metrics: Arc<Metrics>,
    clock: Clock,
    access_log: bool,
    places: Arc<Semaphore>,
    doors: Arc<Doors>,
    stop: CancellationToken,
}

/// Where visitors come to a worker.
struct Entrance {
    worker: usize,
    /// One on every address.
    listeners: Vec<TcpListener>,
    /// Those that other workers hand on.
    handed: UnboundedReceiver<Visitor>,
}

/// A server that listens and whose store is open, but that answers nobody yet.
pub struct Server {
    shared: Arc<Shared>,
    entrances: Vec<Entrance>,
    admin: Option<TcpListener>,
    clear_interval: Duration,
}

/// Answers visitors until the process gets SIGTERM or SIGINT; `listening` is told where, as soon as it listens.
///
/// # Errors
/// See [`ServerError`].
pub fn run(mut config: Config, listening: impl FnOnce(&[SocketAddr])) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)?;
    fit_into_open_files(&mut config.server);
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Runtime)?;
        let server = Server::open(config, Clock::system()).await?;
        listening(&server.addresses());
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.run(stop).await
    })
}

/// Raises the number of open files to what the system allows us, and takes no more visitors at once than that is enough
/// for: each has a socket, and may need one more to a backend.
fn fit_into_open_files(settings: &mut ServerSettings) {
    /// For logs, listeners, stores and idle connections to backends.
    const OTHERS: usize = 256;
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_err() {
        tracing::debug!("the limit of open files stays as it is");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else { return };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let fitting = (files.saturating_sub(OTHERS) / 2).max(1);
    if fitting < settings.max_connections {
        tracing::warn!(
            open_files = files,
            max_connections = fitting,
            "the limit of open files is too low for server.max_connections, which is lowered; raise it with LimitNOFILE \
             or ulimit -n"
        );
        settings.max_connections = fitting;
    }
}

impl Server {
    /// Binds every address and opens the store.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn open(config: Config, clock: Clock) -> Result<Self, ServerError> {
        let metrics = Arc::new(Metrics::new());
        let listeners = bind_workers(&config.server)?;
        let store = store::open(&config.store, config.codec.foreign(), clock.clone(), Arc::clone(&metrics)).await?;
        Self::assemble(config, clock, listeners, store, metrics)
    }

    /// As [`Server::open`], with a store that is open already.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn with_store(config: Config, clock: Clock, store: Arc<dyn SessionStore>) -> Result<Self, ServerError> {
        let listeners = bind_workers(&config.server)?;
        Self::assemble(config, clock, listeners, store, Arc::new(Metrics::new()))
    }

    fn assemble(
        config: Config,
        clock: Clock,
        listeners: Vec<Vec<TcpListener>>,
        store: Arc<dyn SessionStore>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ServerError> {
        let near_cache = config.store.near_cache()?;
        let admin = config.admin.as_ref().map(|admin| bind(admin.listen, Sharing::Alone)).transpose()?;
        let (doors, handed) = Doors::new(listeners.len());
        let entrances = listeners.into_iter().zip(handed).enumerate();
        let entrances = entrances.map(|(worker, (listeners, handed))| Entrance { worker, listeners, handed });
        let shared = Shared {
            doors,
            places: Arc::new(Semaphore::new(config.server.max_connections)),
            settings: config.server,
            upstreams: config.upstreams,
            routes: Arc::new(config.routes),
            sessions: sessions::Shared::new(config.session, config.codec, config.cookie, config.headers, near_cache),
            cookies: Arc::new(config.cookies),
            store,
            metrics,
            clock,
            access_log: config.log.access,
            stop: CancellationToken::new(),
        };
        let (entrances, clear_interval) = (entrances.collect(), config.store.clear_interval);
        Ok(Self { shared: Arc::new(shared), entrances, admin, clear_interval })
    }

    /// Where visitors are answered: the ports that the system chose for those given as 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let first = self.entrances.first();
        first
            .into_iter()
            .flat_map(|entrance| &entrance.listeners)
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// Where operators are answered.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Answers until `stop`; then takes no new connections, lets what is under way end for at most
    /// `server.shutdown_grace`, and returns.
    ///
    /// # Errors
    /// A worker could not start, or ended unasked.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let addresses = self.addresses();
        let Self { shared, entrances, admin, clear_interval } = self;
        // Whatever ends this function ends the workers and whoever serves the operators.
        let _stop_all = shared.stop.clone().drop_guard();
        let operators = admin.map(|listener| serve_operators(&shared, listener)).transpose()?;
        let (store, metrics) = (Arc::clone(&shared.store), Arc::clone(&shared.metrics));
        tokio::spawn(sweep::sweep_now_and_then(store, metrics, clear_interval, shared.stop.clone()));
        let mut workers = Workers::default();
        for entrance in entrances {
            workers.start(Arc::clone(&shared), entrance).await?;
        }
        for address in &addresses {
            tracing::info!(%address, workers = workers.running.len(), "listening");
        }
        let stopped = tokio::select! {
            () = stop => Ok(()),
            () = workers.any_end() => Err(ServerError::Worker),
        };
        tracing::info!("stopping: no new connections, requests under way may end");
        shared.stop.cancel();
        workers.all_end().await;
        if let Some(operators) = operators {
            operators.await.ok();
        }
        tracing::info!("stopped");
        stopped
    }
}

/// Worker threads, each with a signal of its end.
#[derive(Default)]
struct Workers {
    running: Vec<oneshot::Receiver<()>>,
}

impl Workers {
    /// Starts a worker and waits until it answers.
    async fn start(&mut self, shared: Arc<Shared>, entrance: Entrance) -> Result<(), ServerError> {
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let name = format!("worker-{}", entrance.worker);
        let work = move || {
            // Dropped at the end, also that of a panic.
            let _end: oneshot::Sender<()> = end;
            if let Err(error) = worker::run(&shared, entrance, ready) {
                tracing::error!(error = %Causes(&error), "a worker failed");
            }
        };
        thread::Builder::new().name(name).spawn(work).map_err(ServerError::Runtime)?;
        is_ready.await.map_err(|_| ServerError::Worker)??;
        self.running.push(ended);
        Ok(())
    }

    async fn any_end(&mut self) {
        std::future::poll_fn(|cx| {
            let ended = self.running.iter_mut().any(|worker| std::pin::Pin::new(worker).poll(cx).is_ready());
            if ended { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    async fn all_end(self) {
        for worker in self.running {
            // An error is how the end shows: the worker's half was dropped.
            worker.await.ok();
        }
    }
}

fn serve_operators(shared: &Arc<Shared>, listener: TcpListener) -> Result<tokio::task::JoinHandle<()>, ServerError> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(ServerError::Runtime)?;
    let (store, metrics) = (Arc::clone(&shared.store), Arc::clone(&shared.metrics));
    let stop = shared.stop.clone();
    Ok(tokio::spawn(async move { admin::serve(listener, store, metrics, stop.cancelled()).await }))
}

/// Whether several sockets listen on one address.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Sharing {
    Alone,
    /// The kernel spreads connections over all sockets with `SO_REUSEPORT`.
    Port,
}

fn bind_workers(settings: &ServerSettings) -> Result<Vec<Vec<TcpListener>>, ServerError> {
    let count = settings.worker_count();
    let mut workers: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    for &address in &settings.listen {
        // Another process that shares its port would go unnoticed and take half of the visitors.
        let alone = bind(address, Sharing::Alone)?;
        if let [only] = workers.as_mut_slice() {
            only.push(alone);
            continue;
        }
        let address = alone.local_addr().unwrap_or(address);
        drop(alone);
        for worker in &mut workers {
            worker.push(bind(address, Sharing::Port)?);
        }
    }
    Ok(workers)
}

fn bind(address: SocketAddr, sharing: Sharing) -> Result<TcpListener, ServerError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(sharing == Sharing::Port)?;
        socket.set_nonblocking(true)?;
        // Each accepted socket has it from its listener.
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| ServerError::Listen { address, source })
}

#[cfg(test)]
mod tests;
