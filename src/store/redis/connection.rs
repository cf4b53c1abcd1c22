//! One connection to Redis that carries many calls at once and is made again when it is lost.
//!
//! A call is sent once: nothing that may have reached Redis is ever repeated. After a failed attempt to connect the
//! next one waits, longer each time; calls fail at once meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind, TlsCertificates};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::{Cause, StoreError, StoreSettings};

/// A connection may take longer than a call: it goes on in the background and is there for the calls after.
const CONNECT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Calls that may wait to be written; more wait for their turn.
const QUEUE: usize = 1024;

#[derive(Clone)]
pub(super) struct Connection(Arc<Shared>);

struct Shared {
    client: Client,
    config: AsyncConnectionConfig,
    link: Mutex<Link>,
}

enum Link {
    /// None may be made before `retry_at`; `cause` is why the last attempt failed.
    Down { retry_at: Instant, pause: Duration, cause: Option<RedisError> },
    /// An attempt is under way in the background.
    Connecting(watch::Receiver<Attempt>),
    /// `serial` tells this connection from the next.
    Up { connection: MultiplexedConnection, serial: u64 },
}

type Attempt = Option<Result<(MultiplexedConnection, u64), RedisError>>;

impl Connection {
    pub(super) async fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        // Less than the limit around the store, so that it is this connection that notices and is replaced: a network
        // that swallows packets would otherwise hold it for minutes.
        let limit = settings.timeout.saturating_sub(settings.timeout / 16);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT.max(settings.timeout)))
            .set_response_timeout(Some(limit))
            .set_pipeline_buffer_size(QUEUE);
        Self::first(client(settings)?, config).await
    }

    /// One more to the same server, in the runtime that asks.
    pub(super) async fn another(&self) -> Result<Self, StoreError> {
        Self::first(self.0.client.clone(), self.0.config.clone()).await
    }

    async fn first(client: Client, config: AsyncConnectionConfig) -> Result<Self, StoreError> {
        let link = Mutex::new(Link::Down { retry_at: Instant::now(), pause: FIRST_PAUSE, cause: None });
        let connection = Self(Arc::new(Shared { client, config, link }));
        connection.connected().await?;
        Ok(connection)
    }

    /// Makes one call; on an error that condemns the connection the next call gets another one.
    pub(super) async fn call<T>(
        &self,
        command: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let (connection, serial) = self.connected().await?;
        command(connection).await.map_err(|error| {
            if is_of_the_connection(&error) {
                self.0.discard(serial);
            }
            if error.is_timeout() { StoreError::Timeout } else { StoreError::Failed(told(&error)) }
        })
    }

    async fn connected(&self) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut attempt = match &mut *self.0.lock() {
            Link::Up { connection, serial } => return Ok((connection.clone(), *serial)),
            // An attempt that was cut off, with the runtime it ran in, leaves no one to report.
            Link::Connecting(attempt) if attempt.has_changed().is_ok() || attempt.borrow().is_some() => attempt.clone(),
            Link::Down { retry_at, cause: Some(cause), .. } if Instant::now() < *retry_at => {
                return Err(not_connected(cause));
            }
            link => {
                let pause = if let Link::Down { pause, .. } = link { *pause } else { FIRST_PAUSE };
                let attempt = self.0.clone().connect(pause);
                *link = Link::Connecting(attempt.clone());
                attempt
            }
        };
        let outcome = attempt.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        match outcome {
            Some(Ok(connected)) => Ok(connected),
            Some(Err(cause)) => Err(not_connected(&cause)),
            None => Err(StoreError::Unreachable("the attempt to connect was cut off".into())),
        }
    }
}

impl Shared {
    fn connect(self: Arc<Self>, pause: Duration) -> watch::Receiver<Attempt> {
        let (report, attempt) = watch::channel(None);
        tokio::spawn(async move {
            let outcome = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
            let mut link = self.lock();
            let outcome = match outcome {
                Ok(connection) => {
                    let serial = rand::random();
                    *link = Link::Up { connection: connection.clone(), serial };
                    Ok((connection, serial))
                }
                Err(cause) => {
                    // Between half of the pause and all of it, so that the workers do not come back in step.
                    let retry_at = Instant::now() + pause.mul_f64(rand::random_range(0.5..=1.0));
                    let pause = (pause * 2).min(LONGEST_PAUSE);
                    *link = Link::Down { retry_at, pause, cause: Some(cause.clone()) };
                    Err(cause)
                }
            };
            drop(link);
            report.send_replace(Some(outcome));
        });
        attempt
    }

    fn discard(&self, condemned: u64) {
        let mut link = self.lock();
        if matches!(&*link, Link::Up { serial, .. } if *serial == condemned) {
            *link = Link::Down { retry_at: Instant::now(), pause: FIRST_PAUSE, cause: None };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(settings: &StoreSettings) -> Result<Client, StoreError> {
    let server = settings.redis_server().map_err(|problem| StoreError::Failed(problem.into()))?;
    // Installed already if another part of the program speaks TLS; theirs serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = match &settings.ca_file {
        None => Client::open(server),
        Some(file) => {
            let unreadable = |cause| StoreError::Failed(format!("store.ca_file {}: {cause}", file.display()).into());
            let pem = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
            if !pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
                return Err(unreadable("holds no certificate in PEM".to_owned()));
            }
            Client::build_with_tls(server, TlsCertificates { client_tls: None, root_cert: Some(pem) })
        }
    };
    client.map_err(|error| StoreError::Failed(told(&error)))
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Whether the connection is lost, stuck, or to a server that no longer takes writes (a replica after a failover).
fn is_of_the_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Nothing was asked yet, so nothing happened: refused by Redis itself, or not there at all.
fn not_connected(cause: &RedisError) -> StoreError {
    if cause.is_io_error() { StoreError::Unreachable(told(cause)) } else { StoreError::Failed(told(cause)) }
}

/// The library's error in words: as a source it would print itself twice, and an answer that it did not understand
/// would be quoted, session and all.
fn told(error: &RedisError) -> Cause {
    match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "Redis gave an answer that was not understood".into(),
        _ => error.to_string().into(),
    }
}
