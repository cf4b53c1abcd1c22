//! A real Redis server for a test: in an empty directory, on a port of its own, ended when dropped.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::daemon::{PATIENCE, free_port, write_certificates};

/// The user that [`RedisServer::with_tls`] lets in, and nobody else.
pub const USER: &str = "cloakroom";
pub const PASSWORD: &str = "p@ss:w/rd?";

/// All that the engine needs.
const PERMISSIONS: &str =
    "~session:* +get +set +del +exists +getrange +setrange +pexpire +persist +evalsha +script|load";

pub struct RedisServer {
    directory: TempDir,
    port: u16,
    tls: bool,
    how: How,
    child: Option<Child>,
}

/// What a server is besides one that listens.
#[derive(Default)]
pub struct How {
    /// More of redis-server's options.
    pub options: Vec<String>,
    /// For a sentinel: what it watches, as its file has it.
    pub sentinel: Option<String>,
    /// In a cluster a server talks to the others on a second port.
    pub bus: Option<u16>,
    /// With TLS: what [`USER`] may besides.
    pub permissions: &'static str,
}

impl RedisServer {
    /// On TCP and on a Unix socket, open to everyone.
    pub fn start() -> Self {
        Self::started(false, How::default())
    }

    /// On TLS over TCP only, for [`USER`] with [`PASSWORD`] only.
    pub fn with_tls() -> Self {
        Self::with_tls_as(How::default())
    }

    pub fn with_tls_as(how: How) -> Self {
        Self::started(true, how)
    }

    /// As [`RedisServer::start`], with more options.
    pub fn with_options(options: &[&str]) -> Self {
        Self::of(How { options: options.iter().map(|&option| option.to_owned()).collect(), ..How::default() })
    }

    pub fn of(how: How) -> Self {
        Self::started(false, how)
    }

    fn started(tls: bool, how: How) -> Self {
        let directory = tempfile::tempdir().expect("a directory for redis-server");
        if tls {
            write_certificates(directory.path());
            let users = format!("user default off\nuser {USER} on >{PASSWORD} {PERMISSIONS} {}\n", how.permissions);
            std::fs::write(directory.path().join("users.acl"), users).expect("a file for redis-server");
        }
        let mut server = Self { directory, port: 0, tls, how, child: None };
        // Between choosing a free port and taking it another process may take it.
        for _ in 0..20 {
            server.port = free_port();
            server.how.bus = server.how.bus.map(|_| free_port());
            if server.run() {
                return server;
            }
        }
        panic!("redis-server did not start: {}", server.log());
    }

    /// Starts it again on the same port, with what it had on its disk: nothing, unless its options say otherwise.
    pub fn restart(&mut self) {
        self.stop();
        let start = Instant::now();
        while !self.run() {
            assert!(start.elapsed() < PATIENCE, "redis-server did not come back: {}", self.log());
        }
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("redis-server can be ended");
            child.wait().expect("redis-server has ended");
        }
    }

    /// Leaves it running and deaf, until [`RedisServer::resume`].
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The second port, of a server in a cluster.
    pub fn bus(&self) -> u16 {
        self.how.bus.expect("a server in a cluster")
    }

    pub fn tcp_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn unix_url(&self) -> String {
        format!("redis+unix://{}", self.path("redis.sock").display())
    }

    /// Without user and password.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.port)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A plain connection over TCP, to look at what is stored and to spoil it.
    pub fn look(&self) -> redis::Connection {
        redis::Client::open(self.tcp_url()).and_then(|client| client.get_connection()).expect("redis-server answers")
    }

    /// True once it takes connections; false if it ended instead.
    fn run(&mut self) -> bool {
        let mut child = self.command().spawn().unwrap_or_else(|error| {
            panic!("redis-server cannot be started ({error}): install the Debian package redis-server");
        });
        let start = Instant::now();
        // A sentinel listens already when it says who it is.
        while !["Ready to accept connections", "Sentinel ID is"].iter().any(|ready| self.log().contains(ready)) {
            if child.try_wait().expect("redis-server can be waited for").is_some() {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "redis-server is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        true
    }

    fn command(&self) -> Command {
        let _ = std::fs::remove_file(self.path("log"));
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(watched) = &self.how.sentinel {
            let file = self.path("sentinel.conf");
            let dir = self.directory.path().display();
            let port = if self.tls {
                let certificate = format!("tls-cert-file {dir}/server.pem\ntls-key-file {dir}/server.key\n");
                format!("port 0\ntls-port {port}\ntls-auth-clients no\ntls-ca-cert-file {dir}/ca.pem\n{certificate}")
            } else {
                format!("port {port}\n")
            };
            let text = format!("bind 127.0.0.1\n{port}logfile {dir}/log\ndir {dir}\n{watched}");
            std::fs::write(&file, text).expect("a file for redis-server");
            command.arg(file).arg("--sentinel");
            return command;
        }
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--logfile", "log"]);
        command.arg("--dir").arg(self.directory.path());
        if self.tls {
            command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no", "--tls-ca-cert-file"]);
            command.arg(self.path("ca.pem")).arg("--tls-cert-file").arg(self.path("server.pem"));
            command.arg("--tls-key-file").arg(self.path("server.key"));
            command.args(["--aclfile", "users.acl"]);
        } else {
            command.args(["--port", &port, "--unixsocket"]).arg(self.path("redis.sock"));
        }
        if let Some(bus) = self.how.bus {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]);
        }
        command.args(&self.how.options);
        command
    }

    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("redis-server is running");
        // The shell's own `kill` is there even where the program is not installed.
        let kill = format!("kill -{name} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success(), "{kill}");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
