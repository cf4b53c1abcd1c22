//! One connection to Redis that carries many calls at once and is made again when it is lost.
//!
//! That it was lost is noticed while it is idle, so that the next call starts with another one. Nothing that may have
//! reached Redis is repeated, except what may be done twice. After a failed attempt to connect the next one waits,
//! longer each time; calls fail at once meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, ProtocolVersion, PushInfo, RedisError, RedisResult, ServerErrorKind,
    TlsCertificates,
};
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
    /// The same in RESP3, the protocol in which the library tells that a connection has ended.
    telling: Client,
    config: AsyncConnectionConfig,
    link: Mutex<Link>,
}

enum Link {
    /// None may be made before `retry_at`; `cause` is why the last attempt failed.
    Down { retry_at: Instant, pause: Duration, cause: Option<RedisError> },
    /// An attempt is under way in the background.
    Connecting(watch::Receiver<Attempt>),
    /// Made; since then it may have been lost.
    Up(Connected),
}

type Attempt = Option<Result<Connected, RedisError>>;

#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    lost: Arc<AtomicBool>,
}

impl Connected {
    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn discard(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

/// Handed to the library with a connection, which drops it when that one has ended, however it did.
struct Witness(Arc<AtomicBool>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Connection {
    pub(super) async fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        // Less than the limit around the store, so that it is this connection that notices and is replaced: a network
        // that swallows packets would otherwise hold it for minutes.
        let limit = settings.timeout.saturating_sub(settings.timeout / 16);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT.max(settings.timeout)))
            .set_response_timeout(Some(limit))
            .set_pipeline_buffer_size(QUEUE);
        let client = client(settings)?;
        let server = client.get_connection_info().clone();
        let in_resp3 = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let telling = Client::open(server.set_redis_settings(in_resp3));
        let telling = telling.map_err(|error| StoreError::Failed(told(&error)))?;
        Self::first(client, telling, config).await
    }

    /// One more to the same server, in the runtime that asks.
    pub(super) async fn another(&self) -> Result<Self, StoreError> {
        Self::first(self.0.client.clone(), self.0.telling.clone(), self.0.config.clone()).await
    }

    async fn first(client: Client, telling: Client, config: AsyncConnectionConfig) -> Result<Self, StoreError> {
        let link = Mutex::new(Link::Down { retry_at: Instant::now(), pause: FIRST_PAUSE, cause: None });
        let connection = Self(Arc::new(Shared { client, telling, config, link }));
        connection.connected().await?;
        Ok(connection)
    }

    /// Makes one call, once; on an error that condemns the connection the next call gets another one.
    pub(super) async fn call<T>(
        &self,
        command: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        // Redis may have hung up since this thread last looked at its sockets. The first turn makes it look, the second
        // lets the connection's own task find the end; then it is known before anything is sent.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let connected = self.connected().await?;
        command(connected.connection.clone()).await.map_err(|error| failed(&connected, &error))
    }

    /// As [`Connection::call`], for what may be done twice: if the connection is lost under it, it is made once more on
    /// another one. Not after a time-out: there is no time left.
    pub(super) async fn call_repeatable<T, F: Future<Output = RedisResult<T>>>(
        &self,
        command: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError> {
        let connected = self.connected().await?;
        let error = match command(connected.connection.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let failed_once = failed(&connected, &error);
        if error.is_timeout() || !is_of_the_connection(&error) {
            return Err(failed_once);
        }
        let connected = self.connected().await?;
        command(connected.connection.clone()).await.map_err(|error| failed(&connected, &error))
    }

    async fn connected(&self) -> Result<Connected, StoreError> {
        let mut attempt = match &mut *self.0.lock() {
            Link::Up(connected) if !connected.is_lost() => return Ok(connected.clone()),
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
            Some(Ok(connected)) if connected.is_lost() => {
                Err(StoreError::Unreachable("Redis closed the connection as soon as it was made".into()))
            }
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
            let outcome = self.make().await;
            let mut link = self.lock();
            let outcome = match outcome {
                Ok(connected) => {
                    *link = Link::Up(connected.clone());
                    Ok(connected)
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

    async fn make(&self) -> RedisResult<Connected> {
        let lost = Arc::new(AtomicBool::new(false));
        let witness = Witness(Arc::clone(&lost));
        let config = self.config.clone().set_push_sender(move |_: PushInfo| {
            let _held = &witness;
            Ok::<(), ()>(())
        });
        match self.telling.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => Ok(Connected { connection, lost }),
            Err(error) if error.is_io_error() => Err(error),
            // A server before Redis 6 does not speak RESP3: the end of its connection shows in the next call only. One
            // that refuses us will do so again, in the words of the older protocol.
            Err(_) => {
                let connection = self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
                Ok(Connected { connection, lost: Arc::default() })
            }
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

/// What a call's error means, for the connection too.
fn failed(connected: &Connected, error: &RedisError) -> StoreError {
    if is_of_the_connection(error) {
        connected.discard();
    }
    if error.is_timeout() { StoreError::Timeout } else { StoreError::Failed(told(error)) }
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
