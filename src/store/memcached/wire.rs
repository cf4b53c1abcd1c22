//! The meta protocol of memcached 1.6: how a call is written and an answer read, on one connection.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use super::super::StoreError;
use super::super::settings::memcached::Place;

/// The longest line of an answer.
const LINE: u64 = 4096;
/// The largest value that is read; memcached itself has at most 1 GiB, and sessions are smaller.
const LARGEST: usize = 64 << 20;
/// What an item takes beside its key and value, by memcached's own account and at most.
const ITEM: usize = 63;

trait Socket: AsyncRead + AsyncWrite + AsFd + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + AsFd + Send + Sync + Unpin> Socket for T {}

/// A connection between two calls. One that was left in the middle of a call is of no use and is dropped.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Socket>>,
    /// The server's `item_size_max` when the connection was made.
    item_size_max: usize,
}

/// A call. All of them go to one key.
pub(super) enum Call<'a> {
    Delete { cas: Option<u64> },
    Get,
    Set { value: &'a [u8], flags: u32, exptime: i64, cas: Option<u64> },
}

#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Item(Item),
    Missing,
    /// It is not as the call expected: another write came before.
    Refused,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) value: Bytes,
    pub(super) flags: u32,
    pub(super) cas: u64,
    /// Seconds left; `None` is for ever.
    pub(super) ttl: Option<u64>,
}

impl Call<'_> {
    /// A set without `cas` is for what is not there.
    fn written(&self, name: &str) -> Vec<u8> {
        match self {
            Self::Delete { cas: None } => format!("md {name}\r\n").into(),
            Self::Delete { cas: Some(cas) } => format!("md {name} C{cas}\r\n").into(),
            Self::Get => format!("mg {name} v c t f\r\n").into(),
            Self::Set { value, flags, exptime, cas } => {
                let mode = cas.map_or_else(|| "ME".to_owned(), |cas| format!("C{cas}"));
                let line = format!("ms {name} {} F{flags} T{exptime} {mode}\r\n", value.len());
                [line.as_bytes(), value, b"\r\n"].concat()
            }
        }
    }
}

impl Connection {
    /// Connects, and asks what the server can do.
    pub(super) async fn open(place: &Place) -> Result<Self, StoreError> {
        let stream: Box<dyn Socket> = match connect(place).await {
            Ok(stream) => stream,
            Err(error) => return Err(StoreError::Unreachable(format!("{place}: {error}").into())),
        };
        let mut connection = Self { stream: BufReader::new(stream), item_size_max: 0 };
        connection.greet().await.map_err(|error| StoreError::Unreachable(format!("{place}: {error}").into()))?;
        Ok(connection)
    }

    async fn greet(&mut self) -> io::Result<()> {
        self.stream.write_all(b"mn\r\nstats settings\r\n").await?;
        if self.line().await? != "MN" {
            return Err(io::Error::other("does not speak the meta protocol of memcached 1.6"));
        }
        loop {
            let line = self.line().await?;
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["END"] => break,
                ["STAT", "cas_enabled", "no"] => {
                    return Err(io::Error::other("runs with -C, and so cannot compare before it writes"));
                }
                ["STAT", "item_size_max", size] => self.item_size_max = size.parse().map_err(|_| not_understood())?,
                ["STAT", ..] => {}
                _ => return Err(not_understood()),
            }
        }
        if self.item_size_max == 0 { Err(not_understood()) } else { Ok(()) }
    }

    /// Whether it is as it was left. If the server hung up meanwhile, that is known before anything is sent.
    pub(super) fn is_alive(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let seen = SockRef::from(self.stream.get_ref()).peek(&mut byte);
        self.stream.buffer().is_empty() && seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Makes a call. After an error the connection is of no use any more.
    pub(super) async fn exchange(&mut self, name: &str, call: &Call<'_>) -> io::Result<Result<Answer, StoreError>> {
        if let Call::Set { value, .. } = call {
            // memcached would answer so itself, and drop what it had under that name.
            if ITEM + name.len() + value.len() > self.item_size_max {
                return Ok(Err(StoreError::TooLarge));
            }
        }
        self.stream.write_all(&call.written(name)).await?;
        let line = self.line().await?;
        let words: Vec<&str> = line.split(' ').collect();
        Ok(Ok(match words[..] {
            ["HD", ..] => Answer::Done,
            ["EN" | "NF", ..] => Answer::Missing,
            ["EX" | "NS", ..] => Answer::Refused,
            ["VA", size, ref flags @ ..] => Answer::Item(self.item(size, flags).await?),
            ["SERVER_ERROR", "object", "too", "large", ..] => return Ok(Err(StoreError::TooLarge)),
            ["CLIENT_ERROR" | "SERVER_ERROR", ..] => return Err(io::Error::other(format!("it answered {line:?}"))),
            _ => return Err(not_understood()),
        }))
    }

    async fn item(&mut self, size: &str, flags: &[&str]) -> io::Result<Item> {
        let size = size.parse().ok().filter(|size| *size <= LARGEST).ok_or_else(not_understood)?;
        let flag = |name: char| flags.iter().find_map(|flag| flag.strip_prefix(name)).ok_or_else(not_understood);
        let ttl = flag('t')?;
        let item = Item {
            cas: flag('c')?.parse().map_err(|_| not_understood())?,
            flags: flag('f')?.parse().map_err(|_| not_understood())?,
            ttl: if ttl == "-1" { None } else { Some(ttl.parse().map_err(|_| not_understood())?) },
            value: Bytes::new(),
        };
        let mut value = vec![0; size + 2];
        self.stream.read_exact(&mut value).await?;
        if !value.ends_with(b"\r\n") {
            return Err(not_understood());
        }
        value.truncate(size);
        Ok(Item { value: value.into(), ..item })
    }

    /// The names of all items there are, as the crawler finds them.
    pub(super) async fn names(&mut self) -> io::Result<Vec<String>> {
        self.stream.write_all(b"lru_crawler metadump all\r\n").await?;
        let mut names = Vec::new();
        loop {
            let line = self.line().await?;
            if line == "END" {
                return Ok(names);
            }
            let Some(name) = line.strip_prefix("key=").and_then(|rest| rest.split(' ').next()) else {
                return Err(io::Error::other(format!("it does not list its items: {line:?}")));
            };
            if let Ok(name) = percent_encoding::percent_decode_str(name).decode_utf8() {
                names.push(name.into_owned());
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE).read_until(b'\n', &mut line).await?;
        match line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")) {
            Some(line) => String::from_utf8(line.to_vec()).map_err(|_| not_understood()),
            None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Err(not_understood()),
        }
    }
}

async fn connect(place: &Place) -> io::Result<Box<dyn Socket>> {
    Ok(match place {
        Place::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it gave an answer that was not understood")
}
