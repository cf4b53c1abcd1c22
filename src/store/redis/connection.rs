//! One connection to Redis that carries many calls at once and is made again when it is lost.
//!
//! That it was lost is noticed while it is idle, so that the next call starts with another one. Nothing that may have
//! reached Redis is repeated, except what may be done twice. After a failed attempt to connect the next one waits,
//! longer each time; calls fail at once meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::{RedisError, RedisResult};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::error::{failed, is_of_the_connection, not_connected};
use super::sentinel::{self, Sentinels};
use super::server::{Connected, Server};
use super::watch::Watch;
use crate::store::StoreError;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a connection that word of changes comes on is asked whether it is still one.
pub(super) const PULSE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Connection(Arc<Shared>);

pub(super) struct Shared {
    pub(super) target: Target,
    link: Mutex<Link>,
}

/// Whom to connect to.
pub(super) enum Target {
    /// The master that the sentinels name.
    Master(Sentinels),
    Server(Server),
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

impl From<Arc<Shared>> for Connection {
    fn from(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Connection {
    /// None is made until one is needed.
    pub(super) fn new(target: Target) -> Self {
        let link = Mutex::new(Link::Down { retry_at: Instant::now(), pause: FIRST_PAUSE, cause: None });
        let shared = Arc::new(Shared { target, link });
        match &shared.target {
            Target::Master(_) => drop(tokio::spawn(sentinel::watch(Arc::downgrade(&shared)))),
            Target::Server(server) if server.watch().is_some() => {
                tokio::spawn(feel_pulse(Arc::downgrade(&shared)));
            }
            Target::Server(_) => {}
        }
        Self(shared)
    }

    /// One more to the same server, in the runtime that asks; `watch` hears of changes there.
    pub(super) fn another(&self, watch: Option<Watch>) -> Self {
        Self::new(match &self.0.target {
            Target::Master(sentinels) => Target::Master(sentinels.another(watch)),
            Target::Server(server) => Target::Server(server.watched(watch)),
        })
    }

    /// Makes one call, once; on an error that condemns the connection the next call gets another one.
    pub(super) async fn call<T>(
        &self,
        command: impl AsyncFnOnce(Connected) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        // Redis may have hung up since this thread last looked at its sockets. The first turn makes it look, the second
        // lets the connection's own task find the end; then it is known before anything is sent.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let connected = self.connected().await?;
        command(connected.clone()).await.map_err(|error| condemn(&connected, &error))
    }

    /// As [`Connection::call`], for what may be done twice: if the connection is lost under it, it is made once more on
    /// another one. Not after a time-out: there is no time left.
    pub(super) async fn call_repeatable<T, F: Future<Output = RedisResult<T>>>(
        &self,
        command: impl Fn(Connected) -> F,
    ) -> Result<T, StoreError> {
        let connected = self.connected().await?;
        let error = match command(connected.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let failed_once = condemn(&connected, &error);
        if error.is_timeout() || !is_of_the_connection(&error) {
            return Err(failed_once);
        }
        // Boxed, as is the waiting below: rare, and every call would carry its size along.
        Box::pin(async {
            let connected = self.connected().await?;
            command(connected.clone()).await.map_err(|error| condemn(&connected, &error))
        })
        .await
    }

    pub(super) async fn connected(&self) -> Result<Connected, StoreError> {
        let attempt = match &mut *self.0.lock() {
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
        Box::pin(end_of(attempt)).await
    }
}

async fn end_of(mut attempt: watch::Receiver<Attempt>) -> Result<Connected, StoreError> {
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

impl Shared {
    /// The connection there is, if it is made and not known to be lost.
    pub(super) fn current(&self) -> Option<Connected> {
        match &*self.lock() {
            Link::Up(connected) if !connected.is_lost() => Some(connected.clone()),
            _ => None,
        }
    }

    fn connect(self: Arc<Self>, pause: Duration) -> watch::Receiver<Attempt> {
        let (report, attempt) = watch::channel(None);
        tokio::spawn(async move {
            let outcome = match &self.target {
                Target::Master(sentinels) => sentinels.connect().await,
                Target::Server(server) => server.connect().await,
            };
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

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection whose other end has vanished without a word looks like one on which nothing has changed: answers must come
/// on it now and then, also while the near cache leaves nothing to ask.
async fn feel_pulse(connection: Weak<Shared>) {
    let ping = redis::cmd("PING");
    loop {
        sleep(PULSE).await;
        let Some(shared) = connection.upgrade() else { return };
        if let Some(mut connected) = shared.current()
            && let Err(error) = ping.exec_async(&mut connected.connection).await
        {
            // The next call gets another connection, or says why there is none.
            condemn(&connected, &error);
        }
    }
}

/// What a call's error means, for the connection too.
fn condemn(connected: &Connected, error: &RedisError) -> StoreError {
    if is_of_the_connection(error) {
        connected.discard();
    }
    failed(error)
}
