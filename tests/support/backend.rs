//! A backend that returns what a test asks for and remembers what it was asked, byte by byte: plain sockets, so that no
//! library tidies anything up on the way.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came over the wire.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Names as they were spelt, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    /// The values of every line of this name, in any case of letters.
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

    /// The names that CGI would map to the variable of `name`.
    pub fn twins(&self, name: &str) -> Vec<&str> {
        let normal = |name: &str| name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let lines = self.headers.iter().filter(|(line, _)| normal(line) == normal(name));
        lines.map(|(line, _)| line.as_str()).collect()
    }

    /// What the visitor's session holds, as the backend is told.
    pub fn session(&self) -> Option<serde_json::Value> {
        self.header("x-session-data").map(|data| serde_json::from_str(data).expect("X-Session-Data is JSON"))
    }
}

/// An answer to send: bytes, as they are.
pub struct Reply {
    status: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    raw: Option<Vec<u8>>,
    close: bool,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: "200 OK".to_owned(), headers: Vec::new(), body: body.into(), raw: None, close: false }
    }

    /// These bytes and nothing else; the connection closes behind them.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), close: true, ..Self::ok("") }
    }

    /// Closes the connection without an answer.
    pub fn hang_up() -> Self {
        Self::raw("")
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = format!("{status} Status");
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Closes the connection after the answer.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// Keeps the connection open after [`Reply::raw`].
    pub fn keep_open(mut self) -> Self {
        self.close = false;
        self
    }

    fn bytes(self, method: &str) -> Vec<u8> {
        if let Some(raw) = self.raw {
            return raw;
        }
        let mut bytes = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        let bodiless = ["204", "304"].iter().any(|status| self.status.starts_with(status));
        if !bodiless {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        if !bodiless && method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// A backend on a free port, until the test ends.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Backend {
    /// Answers every request with what `answer` says; it may block.
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (log, count, answer) = (Arc::clone(&seen), Arc::clone(&connections), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                *count.lock().unwrap() += 1;
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { address, seen, connections }
    }

    /// An answer of `ok`, with the headers that the request's own `Reply` header asks for, one `Name: value` for each
    /// `|`; a `Reply-Status` sets the status. So a test says in the request what the backend shall do.
    pub fn obedient() -> Self {
        Self::start(|seen| {
            let mut reply = Reply::ok("ok");
            if let Some(status) = seen.header("reply-status") {
                reply = reply.status(status.parse().unwrap());
            }
            for wanted in seen.all("reply") {
                for line in wanted.split('|') {
                    let (name, value) = line.split_once(':').expect("Name: value");
                    reply = reply.header(name.trim(), value.trim());
                }
            }
            reply
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The newest request.
    pub fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().expect("no request reached the backend")
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, answer: &(dyn Fn(&Seen) -> Reply + Send + Sync)) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read_request(&mut reader) {
        log.lock().unwrap().push(seen.clone());
        let reply = answer(&seen);
        let close = reply.close;
        if writer.write_all(&reply.bytes(&seen.method)).is_err() || close {
            break;
        }
    }
    writer.shutdown(std::net::Shutdown::Both).ok();
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let first = read_line(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = read_headers(reader)?;
    let mut seen = Seen { method, target, headers, ..Seen::default() };
    if seen.header("transfer-encoding").is_some() {
        loop {
            let size = read_line(reader)?;
            let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                seen.trailers = read_headers(reader)?;
                break;
            }
            let start = seen.body.len();
            seen.body.resize(start + size, 0);
            reader.read_exact(&mut seen.body[start..]).ok()?;
            read_line(reader)?;
        }
    } else if let Some(length) = seen.header("content-length") {
        seen.body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut seen.body).ok()?;
    }
    Some(seen)
}

fn read_headers(reader: &mut impl BufRead) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Some(headers);
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// A line without its end; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).ok().filter(|length| *length > 0)?;
    let line = line.strip_suffix(b"\n")?;
    Some(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
}
