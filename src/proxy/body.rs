//! Bodies on their way: counted, bounded, and without what only we may say in their trailers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Frame, Incoming, SizeHint};

use super::access_log::Entry;
use super::headers;
use crate::session::inject::Injector;
use crate::session::names;
use crate::upstream::body::ResponseBody;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The visitor sent more than `server.max_body_bytes`.
#[derive(Debug, thiserror::Error)]
#[error("the body is larger than server.max_body_bytes")]
pub struct TooLarge;

/// A request's body on its way to the backend.
pub struct LimitedBody {
    incoming: Incoming,
    left: usize,
    received: Arc<AtomicU64>,
    injector: Arc<Injector>,
}

impl LimitedBody {
    pub fn new(incoming: Incoming, limit: usize, received: Arc<AtomicU64>, injector: Arc<Injector>) -> Self {
        Self { incoming, left: limit, received, injector }
    }
}

impl hyper::body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => Some(Err(error.into())),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.received.fetch_add(bytes as u64, Ordering::Relaxed);
                match this.left.checked_sub(bytes) {
                    None => Some(Err(TooLarge.into())),
                    Some(left) => {
                        this.left = left;
                        Some(Ok(with_trailers(frame, |trailers| {
                            this.injector.strip(trailers);
                            headers::clean_trailers(trailers);
                        })))
                    }
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The body of an answer to the visitor. Its end, or its loss, ends the request's line in the log.
pub struct Body {
    source: Source,
    entry: Option<Box<Entry>>,
}

/// Where an answer's body comes from.
pub enum Source {
    Backend(ResponseBody),
    /// A page of our own; empty once it was sent.
    Page(Bytes),
}

impl Body {
    pub(super) fn new(source: Source, entry: Option<Box<Entry>>) -> Self {
        Self { source, entry }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let frame = match &mut self.source {
            Source::Backend(body) => ready!(Pin::new(body).poll_frame(cx)),
            Source::Page(page) if page.is_empty() => None,
            Source::Page(page) => Some(Ok(Frame::data(std::mem::take(page)))),
        };
        if let (Some(Ok(frame)), Some(entry)) = (&frame, &mut self.entry) {
            entry.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| with_trailers(frame, names::strip))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Backend(body) => body.is_end_stream(),
            Source::Page(page) => page.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Backend(body) => body.size_hint(),
            Source::Page(page) => SizeHint::with_exact(page.len() as u64),
        }
    }
}

fn with_trailers(mut frame: Frame<Bytes>, clean: impl FnOnce(&mut HeaderMap)) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        clean(trailers);
    }
    frame
}
