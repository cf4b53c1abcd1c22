//! A visitor's socket that does not wait for ever to be read, and whose bytes can be given back.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::heads::Heads;

/// Enough for most heads; the rest is read where the whole goes.
const REFILL: usize = 2048;

/// A socket whose writes fail when the visitor has taken nothing for `send_timeout`.
pub struct Stream<S> {
    socket: S,
    /// What is read before the socket.
    unread: Bytes,
    send_timeout: Duration,
    /// Armed while a write waits.
    pause: Option<Pin<Box<Sleep>>>,
    heads: Heads,
}

impl<S> Stream<S> {
    pub(super) fn new(socket: S, send_timeout: Duration, heads: Heads) -> Self {
        Self { socket, unread: Bytes::new(), send_timeout, pause: None, heads }
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Takes bytes back, to be read first. A copy: they are few, and not worth the buffer they come in.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.unread =
            if self.unread.is_empty() { Bytes::copy_from_slice(bytes) } else { [bytes, &self.unread].concat().into() };
    }

    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.pause.take().is_some() {
                self.heads.set_blocked(false);
            }
            return written;
        }
        let (send_timeout, heads) = (self.send_timeout, &self.heads);
        let pause = self.pause.get_or_insert_with(|| {
            heads.set_blocked(true);
            Box::pin(sleep(send_timeout))
        });
        ready!(pause.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Reads what has come behind that which is unread; `false` at the end.
    pub(super) fn poll_refill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); REFILL];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        let more = buffer.filled();
        self.unread = [&self.unread, more].concat().into();
        Poll::Ready(Ok(!more.is_empty()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.has_unread() {
            let count = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(count));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
