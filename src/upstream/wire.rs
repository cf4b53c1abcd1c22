//! The socket under a connection to a backend, watched: how much of an answer has come, and what of the request has gone.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Enough for most heads; more is given back when the answer has come.
const MOST_ROOM: usize = 4096;

/// What one request and its answer have brought over the wire, as the socket sees it.
pub(super) struct Wire {
    most_head_bytes: usize,
    /// A standard mutex: never held across an await, and only this connection's tasks take it.
    passing: Mutex<Passing>,
}

#[derive(Default)]
struct Passing {
    /// Bytes that came before the answer's head was whole; not counted from then on, for bodies may be as long as they
    /// like.
    head_bytes: Option<usize>,
    /// What the socket has not taken of all that hyper has for it.
    unsent: usize,
    keeps_request: bool,
    /// The head of the request, if it is kept. The room stays for the next one.
    request: Vec<u8>,
}

impl Wire {
    /// `max_header_bytes` is what an answer's head may have.
    pub fn new(max_header_bytes: usize) -> Self {
        // Room for a head and a few informational ones.
        Self { most_head_bytes: max_header_bytes.saturating_mul(4), passing: Mutex::default() }
    }

    /// A request follows. Its head is kept if it has no body and may have to go again; not behind bytes of another, for then
    /// nobody could tell where it begins.
    pub fn begin(&self, keep: bool) {
        let mut passing = self.passing();
        passing.head_bytes = Some(0);
        passing.keeps_request = keep && passing.unsent == 0;
        passing.request.clear();
    }

    /// The head of the answer has come: all else is its body.
    pub fn answered(&self) {
        let mut passing = self.passing();
        passing.head_bytes = None;
        passing.keeps_request = false;
        passing.request.clear();
        passing.request.shrink_to(MOST_ROOM);
    }

    /// The request once more, if it was kept and not a byte of an answer came.
    pub fn spare<B: Default>(&self) -> Option<Request<B>> {
        let passing = self.passing();
        if !passing.keeps_request || passing.head_bytes != Some(0) {
            return None;
        }
        read_back(&passing.request)
    }

    /// # Errors
    /// More came before the answer's head than there may be. A backend that sends informational answers without end would
    /// otherwise keep its worker busy, for they are read in one go (RFC 9110 section 15.2).
    fn came(&self, bytes: usize) -> io::Result<()> {
        let mut passing = self.passing();
        let Some(head_bytes) = &mut passing.head_bytes else { return Ok(()) };
        *head_bytes = head_bytes.saturating_add(bytes);
        if *head_bytes > self.most_head_bytes {
            return Err(io::Error::other("too many bytes before the head of an answer"));
        }
        Ok(())
    }

    /// Whether all that was to be sent has gone. A body may have ended long before.
    pub fn is_drained(&self) -> bool {
        self.passing().unsent == 0
    }

    /// What hyper wants to write, and how much of it the socket took. As long as hyper gathers nothing (`writev(false)`) that
    /// is all it has; the first piece is the whole head, and what comes again is the rest of it.
    fn goes(&self, bytes: &[u8], taken: usize) {
        let mut passing = self.passing();
        passing.unsent = bytes.len().saturating_sub(taken);
        if passing.keeps_request && passing.request.is_empty() {
            passing.request.extend_from_slice(bytes);
        }
    }

    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request without a body whose head hyper wrote so. To read it back costs less than a copy of each would, for it is
/// hardly ever wanted.
fn read_back<B: Default>(head: &[u8]) -> Option<Request<B>> {
    let mut lines = head.strip_suffix(b"\r\n\r\n")?.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut first = lines.next()?.split(|&byte| byte == b' ');
    let mut request = Request::new(B::default());
    *request.method_mut() = Method::from_bytes(first.next()?).ok()?;
    *request.uri_mut() = first.next()?.try_into().ok()?;
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii_start()).ok()?;
        request.headers_mut().try_append(HeaderName::from_bytes(name).ok()?, value).ok()?;
    }
    // Of that connection, and so hyper's word, not the request's.
    request.headers_mut().remove(CONNECTION);
    Some(request)
}

/// A socket that tells the wire what goes over it.
pub(super) struct Watched<S> {
    stream: S,
    wire: Arc<Wire>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, wire: Arc<Wire>) -> Self {
        Self { stream, wire }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.wire.came(buf.filled().len() - before)?;
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wire.goes(buf, if let Poll::Ready(Ok(taken)) = outcome { taken } else { 0 });
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_as_it_was() {
        let head = b"OPTIONS /a?b=%20c HTTP/1.1\r\nhost: h:80\r\ncookie: a=1; b=2\r\nx: 1\r\nx:\r\ny: \xe9: z\r\n\r\n";
        let request: Request<()> = read_back(head).unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::OPTIONS, "/a?b=%20c"));
        let lines: Vec<(&str, &[u8])> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 5] =
            [("host", b"h:80"), ("cookie", b"a=1; b=2"), ("x", b"1"), ("x", b""), ("y", b"\xe9: z")];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_no_whole_head_is_no_request() {
        for head in ["", "\r\n\r\n", "GET / HTTP/1.1\r\nhost: h\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\nhost\r\n\r\n"] {
            assert!(read_back::<()>(head.as_bytes()).is_none(), "{head:?}");
        }
    }

    #[test]
    fn a_request_is_kept_until_a_byte_of_its_answer_comes() {
        let wire = Wire::new(8192);
        let sent = |host: &str| {
            let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
            wire.goes(head.as_bytes(), 5);
            wire.goes(&head.as_bytes()[5..], head.len() - 5);
        };
        let host = || wire.spare().map(|request: Request<()>| request.headers()["host"].clone());
        wire.begin(true);
        sent("one");
        assert_eq!(host().unwrap(), "one");
        wire.came(1).unwrap();
        assert!(host().is_none());
        wire.answered();
        assert!(host().is_none());
        assert!(wire.passing().request.is_empty(), "nobody's head lies about");
        wire.begin(false);
        sent("two");
        assert!(host().is_none());
        wire.begin(true);
        sent(&"x".repeat(MOST_ROOM));
        assert_eq!(host().unwrap().len(), MOST_ROOM);
        wire.answered();
        assert!(wire.passing().request.capacity() <= MOST_ROOM);
    }

    #[test]
    fn what_goes_behind_bytes_of_another_is_not_kept() {
        let wire = Wire::new(8192);
        let head = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        for (left, kept) in [(b"".as_slice(), true), (b"GET /forged HTTP/1.1\r\nx: ".as_slice(), false)] {
            wire.begin(false);
            wire.goes(left, 0);
            assert_eq!(wire.is_drained(), kept);
            wire.begin(true);
            wire.goes(&[left, head].concat(), 0);
            assert_eq!(wire.spare::<()>().is_some(), kept);
            wire.goes(&[left, head].concat(), left.len() + head.len());
            assert!(wire.is_drained());
        }
    }

    #[test]
    fn bytes_count_until_the_head_is_whole() {
        let wire = Wire::new(8192);
        wire.begin(false);
        wire.came(4 * 8192).unwrap();
        assert!(wire.came(1).is_err());
        wire.begin(false);
        wire.answered();
        wire.came(1 << 30).unwrap();
    }

    /// What hyper makes of a request, whatever is in it, is read back as the request it was, though only its first bytes
    /// get through.
    #[tokio::test]
    async fn what_hyper_writes_is_read_back() {
        let requests = [
            ("GET", "/", &[("host", "")][..]),
            (
                "HEAD",
                "/a//b?c=%20&d",
                &[("host", "h:80"), ("cookie", "a=1; b=\u{e9}"), ("x", ""), ("x", "2"), ("te", "trailers")],
            ),
            ("OPTIONS", "*", &[("host", "h"), ("x-session-data", r#"{"a": ":\u00e9"}"#)]),
        ];
        for (method, target, lines) in requests {
            let (near, far) = tokio::io::duplex(16);
            let wire = Arc::new(Wire::new(8192));
            let io = hyper_util::rt::TokioIo::new(Watched::new(near, Arc::clone(&wire)));
            let mut http = hyper::client::conn::http1::Builder::new();
            let (mut sender, driver) = http.writev(false).handshake::<_, String>(io).await.unwrap();
            let driver = tokio::spawn(driver);
            let request = || {
                let mut request = Request::builder().method(method).uri(target);
                for (name, value) in lines {
                    request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
                }
                request.body(String::new()).unwrap()
            };
            wire.begin(true);
            let answer = sender.send_request(request());
            tokio::task::yield_now().await;
            drop(far);
            assert!(answer.await.is_err());
            driver.await.unwrap().ok();
            let (read, expected) = (wire.spare::<String>().unwrap(), request());
            assert_eq!((read.method(), read.uri()), (expected.method(), expected.uri()));
            assert_eq!(read.headers(), expected.headers());
        }
    }
}
