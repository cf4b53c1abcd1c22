//! A visitor with a cookie jar, on plain sockets: a client library would be too polite to send what must be refused.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Nothing in these tests takes so long; it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(line, _)| line.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of the only line of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came more than once: {all:?}");
        all.first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The line that sets or removes the session's cookie.
    pub fn session_cookie(&self) -> Option<&str> {
        let ours: Vec<&str> =
            self.all("set-cookie").into_iter().filter(|line| line.starts_with("sessionid=")).collect();
        assert!(ours.len() < 2, "{ours:?}");
        ours.first().copied()
    }
}

/// One browser: a jar, and a new connection for each request.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub proxy: SocketAddr,
    pub jar: BTreeMap<String, String>,
}

impl Visitor {
    pub fn new(proxy: SocketAddr) -> Self {
        Self { proxy, jar: BTreeMap::new() }
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.send("GET", target, &[], b"")
    }

    /// A GET that tells an obedient backend what to answer with, as `Name: value`.
    pub fn ask(&mut self, replies: &[&str]) -> Answer {
        let headers: Vec<(&str, &str)> = replies.iter().map(|reply| ("Reply", *reply)).collect();
        self.send("GET", "/", &headers, b"")
    }

    pub fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers = [&[("Connection", "close")], headers].concat();
        self.send_on(&mut Connection::open(self.proxy), method, target, &headers, body)
    }

    /// As [`Visitor::ask`], on a connection that stays open.
    pub fn ask_on(&mut self, connection: &mut Connection, replies: &[&str]) -> Answer {
        let headers: Vec<(&str, &str)> = replies.iter().map(|reply| ("Reply", *reply)).collect();
        self.send_on(connection, "GET", "/", &headers, b"")
    }

    pub fn send_on(
        &mut self,
        connection: &mut Connection,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: shop.example\r\n");
        if !self.jar.is_empty() {
            let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        connection.write(&request);
        let answer = connection.answer_to(method).expect("an answer");
        self.keep_cookies(&answer);
        answer
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for line in answer.all("set-cookie") {
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let (name, value) = pair.split_once('=').expect("a cookie has a name");
            if attributes.to_ascii_lowercase().split(';').any(|attribute| attribute.trim() == "max-age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The value of the session's cookie.
    pub fn session_id(&self) -> Option<&str> {
        self.jar.get("sessionid").map(String::as_str)
    }
}

/// A socket that says exactly what it is given.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// A socket that is open already, of either side.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Writes as much as the other side takes; it may have closed already.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Reads an answer; `None` when the connection ends before one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    pub fn answer_to(&mut self, method: &str) -> Option<Answer> {
        loop {
            let first = self.line()?;
            let status: u16 = first.split(' ').nth(1)?.parse().ok()?;
            let headers = self.headers()?;
            if status == 100 {
                continue;
            }
            let mut answer = Answer { status, headers, body: Vec::new(), trailers: Vec::new() };
            let bodiless = method == "HEAD" || status == 204 || status == 304 || status == 101;
            if !bodiless {
                self.body(&mut answer)?;
            }
            return Some(answer);
        }
    }

    fn body(&mut self, answer: &mut Answer) -> Option<()> {
        if answer.header("transfer-encoding").is_some() {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
                if size == 0 {
                    answer.trailers = self.headers()?;
                    return Some(());
                }
                let start = answer.body.len();
                answer.body.resize(start + size, 0);
                self.stream.read_exact(&mut answer.body[start..]).ok()?;
                self.line()?;
            }
        }
        match answer.header("content-length") {
            Some(length) => {
                answer.body.resize(length.parse().ok()?, 0);
                self.stream.read_exact(&mut answer.body).ok()
            }
            None => self.stream.read_to_end(&mut answer.body).ok().map(|_| ()),
        }
    }

    /// A line without its end; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).ok().filter(|length| *length > 0)?;
        let line = line.strip_suffix(b"\n")?;
        Some(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
    }

    fn headers(&mut self) -> Option<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(headers);
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The first line and the headers of the next message, of either side.
    pub fn head(&mut self) -> Option<(String, Vec<(String, String)>)> {
        let first = self.line()?;
        self.headers().map(|headers| (first, headers))
    }

    /// The next `count` bytes.
    pub fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    /// Everything until the other side ends, in whatever way.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).ok();
        bytes
    }

    /// The bare socket. What was read ahead is lost.
    pub fn into_socket(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Whether the other side has closed, after everything it sent was read.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            // It closed before it had read all that we sent.
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
