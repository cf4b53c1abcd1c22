//! What may interrupt a connection besides its socket: the server's stop, and a time.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Both for all of a connection's life. A connection is polled several times for each request, and hardly ever because of
/// these: once they know whom to wake, a glance at each does.
pub(super) struct Interrupts {
    stop: CancellationToken,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    is_stopping: bool,
    time: Pin<Box<Sleep>>,
    /// Whom both will wake. `None`: not all of them know.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Interrupt {
    /// Once.
    Stop,
    Time,
}

impl Interrupts {
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stopped: Box::pin(stop.clone().cancelled_owned()),
            stop,
            is_stopping: false,
            time: Box::pin(sleep_until(Instant::now())),
            waker: None,
        }
    }

    pub fn set_time(&mut self, time: Instant) {
        self.time.as_mut().reset(time);
        self.waker = None;
    }

    /// Whether [`Interrupt::Stop`] was told.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if known && !self.time.is_elapsed() && (self.is_stopping || !self.stop.is_cancelled()) {
            return Poll::Pending;
        }
        if !self.is_stopping && self.stopped.as_mut().poll(cx).is_ready() {
            self.is_stopping = true;
            return Poll::Ready(Interrupt::Stop);
        }
        if self.time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Interrupt::Time);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
