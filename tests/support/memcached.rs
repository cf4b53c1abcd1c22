//! A real memcached server for a test: on a port or socket of its own, ended when dropped.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Long enough for any machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct MemcachedServer {
    directory: TempDir,
    /// `None` is on a Unix socket.
    port: Option<u16>,
    options: Vec<String>,
    child: Option<Child>,
}

impl MemcachedServer {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more options.
    pub fn with(options: &[&str]) -> Self {
        // Between choosing a free port and taking it another process may take it.
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("its port").port();
            drop(listener);
            let mut server = Self::new(Some(port), options);
            if server.run() {
                return server;
            }
        }
        panic!("memcached did not start");
    }

    pub fn on_unix(options: &[&str]) -> Self {
        let mut server = Self::new(None, options);
        assert!(server.run(), "memcached did not start");
        server
    }

    fn new(port: Option<u16>, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory for memcached");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self { directory, port, options, child: None }
    }

    /// Starts it again in the same place, empty.
    pub fn restart(&mut self) {
        self.stop();
        let start = Instant::now();
        while !self.run() {
            assert!(start.elapsed() < PATIENCE, "memcached did not come back");
        }
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("memcached can be ended");
            child.wait().expect("memcached has ended");
        }
    }

    /// Leaves it running and deaf, until [`MemcachedServer::resume`].
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// `host:port`
    pub fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port.expect("it is on TCP"))
    }

    pub fn url(&self) -> String {
        match self.port {
            Some(_) => format!("memcached://{}", self.node()),
            None => format!("memcached+unix://{}", self.socket().display()),
        }
    }

    /// Sends these lines and gives the first line of the answer, and what comes with it if that is a value.
    pub fn tell(&self, lines: &str) -> String {
        let mut stream = TcpStream::connect(self.node()).expect("memcached answers");
        stream.write_all(lines.as_bytes()).expect("memcached listens");
        let mut stream = BufReader::new(stream);
        let mut answer = String::new();
        stream.read_line(&mut answer).expect("memcached answers");
        if answer.starts_with("VA ") {
            stream.read_line(&mut answer).expect("memcached answers");
        }
        answer.replace("\r\n", "\n").trim_end().to_owned()
    }

    /// True once it takes connections; false if it ended instead.
    fn run(&mut self) -> bool {
        let mut child = self.command().spawn().unwrap_or_else(|error| {
            panic!("memcached cannot be started ({error}): install the Debian package memcached");
        });
        let start = Instant::now();
        while self.pid() != Some(child.id()) {
            if child.try_wait().expect("memcached can be waited for").is_some() {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "memcached is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        true
    }

    fn command(&self) -> Command {
        // On some systems only root finds it, and it runs as root only if it is told to.
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-U", "0"]).args(&self.options);
        match self.port {
            Some(port) => command.args(["-l", "127.0.0.1", "-p", &port.to_string()]),
            None => command.arg("-s").arg(self.socket()),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Who answers there.
    fn pid(&self) -> Option<u32> {
        let lines: Vec<String> = match self.port {
            Some(port) => lines(TcpStream::connect(("127.0.0.1", port)).ok()?),
            None => lines(UnixStream::connect(self.socket()).ok()?),
        };
        lines.iter().find_map(|line| line.strip_prefix("STAT pid ")?.parse().ok())
    }

    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("memcached is running");
        // The shell's own `kill` is there even where the program is not installed.
        let kill = format!("kill -{name} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success(), "{kill}");
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("memcached.sock")
    }
}

impl Drop for MemcachedServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lines(mut stream: impl Write + std::io::Read) -> Vec<String> {
    if stream.write_all(b"stats\r\nquit\r\n").is_err() {
        return Vec::new();
    }
    BufReader::new(stream).lines().map_while(Result::ok).collect()
}
