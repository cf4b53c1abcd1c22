//! The two bodies of an exchange: the request's, watched as it moves, and the response's, which gives its connection
//! back where it ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::Cause;
use super::connection::Lease;

/// The body of a request to a backend.
#[derive(Default)]
pub struct RequestBody(Option<Streaming>);

struct Streaming {
    body: Pin<Box<dyn Body<Data = Bytes, Error = Cause> + Send>>,
    progress: Progress,
}

impl RequestBody {
    pub fn streaming(body: impl Body<Data = Bytes, Error = Cause> + Send + 'static) -> Self {
        Self(Some(Streaming {
            body: Box::pin(body),
            progress: Progress(Arc::new(Mutex::new(Moves::now(State::Moving)))),
        }))
    }

    /// `None` where there is no body to follow.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.0.as_ref().map(|streaming| streaming.progress.clone())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let Some(streaming) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(streaming.body.as_mut().poll_frame(cx));
        let state = match &frame {
            Some(Err(_)) => State::Broken,
            // Nothing comes behind trailers.
            Some(Ok(frame)) if frame.is_data() && !streaming.body.is_end_stream() => State::Moving,
            Some(Ok(_)) | None => State::Complete,
        };
        streaming.progress.set(state);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|streaming| streaming.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |streaming| streaming.body.size_hint())
    }
}

/// How a request's body moves: written by the body, read by who waits for the answer.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<Moves>>);

#[derive(Clone, Copy)]
struct Moves {
    last: Instant,
    state: State,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Broken,
    Complete,
    Moving,
}

impl Moves {
    fn now(state: State) -> Self {
        Self { last: Instant::now(), state }
    }
}

impl Progress {
    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Moves::now(state);
    }

    fn moves(&self) -> Moves {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last_move(&self) -> Instant {
        self.moves().last
    }

    pub(super) fn is_complete(&self) -> bool {
        self.moves().state == State::Complete
    }

    /// Whether the visitor's side broke off.
    pub(super) fn is_broken(&self) -> bool {
        self.moves().state == State::Broken
    }
}

/// The body of an answer: ends with an error when the backend pauses too long, and gives its connection back when it
/// has ended.
pub struct ResponseBody {
    incoming: Incoming,
    lease: Option<Lease>,
    idle_timeout: Duration,
    is_pausing: bool,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, idle_timeout: Duration) -> Self {
        let mut body = Self { incoming, lease: Some(lease), idle_timeout, is_pausing: false };
        body.finish_at_end();
        body
    }

    fn finish_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Without a lease the body has ended.
        let Some(lease) = &mut self.lease else { return Poll::Pending };
        if !self.is_pausing {
            self.is_pausing = true;
            lease.pause().reset(Instant::now() + self.idle_timeout);
        }
        lease.pause().poll(cx)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            ready!(this.poll_pause(cx));
            this.lease = None;
            return Poll::Ready(Some(Err("the backend paused too long".into())));
        };
        this.is_pausing = false;
        match frame {
            Some(Ok(frame)) => {
                this.finish_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.lease = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
