//! What a connection waits for between two answers: the head of the next request.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

/// Since when one connection waits for a head.
///
/// hyper would make and destroy a timer for each request. It is given this as its timer instead, which only takes note of
/// when the waiting began; who serves the connection looks at it now and then, by a timer that is there for all of its
/// requests.
#[derive(Clone)]
pub(super) struct Heads(Arc<Mutex<State>>);

struct State {
    /// `None` from a head's last byte until its answer has been made.
    since: Option<Instant>,
    /// Whether the visitor has yet to take what was written.
    blocked: bool,
    any: std::time::Instant,
}

impl Heads {
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State { since: Some(now), blocked: false, any: now.into_std() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A head has come.
    pub fn complete(&self) {
        self.state().since = None;
    }

    pub fn since(&self) -> Option<Instant> {
        self.state().since
    }

    /// What was written has been taken, or not. Nobody is expected to ask for more before.
    pub fn set_blocked(&self, blocked: bool) {
        let mut state = self.state();
        state.blocked = blocked;
        if state.since.is_some() {
            state.since = Some(Instant::now());
        }
    }

    pub fn is_blocked(&self) -> bool {
        self.state().blocked
    }
}

impl Timer for Heads {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        // Asked when hyper begins to wait for a head. One that has come in part before hyper was given the connection
        // does not get more time by that.
        self.state().since.get_or_insert_with(Instant::now);
        Box::pin(Never)
    }

    fn sleep_until(&self, _: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(Duration::ZERO)
    }

    /// Only ever handed back to [`Timer::sleep_until`], so any time will do.
    fn now(&self) -> std::time::Instant {
        self.state().any
    }
}

/// Without a size, so that its box is no allocation.
struct Never;

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Sleep for Never {}
