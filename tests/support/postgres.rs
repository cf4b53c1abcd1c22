//! A real PostgreSQL server for a test: in an empty directory, on a port of its own, ended when dropped.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::daemon::{Home, PATIENCE, free_port, output, signal, write_certificates};

pub const USER: &str = "cloakroom";
pub const PASSWORD: &str = "p@ss:w/rd?";
/// As a URL has it.
const LOGIN: &str = "cloakroom:p%40ss%3Aw%2Frd%3F";

/// [`USER`] may do everything in the database `postgres`: over TCP with [`PASSWORD`], through the socket without.
pub struct PostgresServer {
    home: Home,
    port: u16,
    tls: bool,
    /// What makes it quick or safe.
    settings: &'static [&'static str],
    child: Option<Child>,
}

/// Nobody pulls the plug while a test runs.
const QUICK: [&str; 2] = ["fsync=off", "full_page_writes=off"];
/// As in production.
const DURABLE: [&str; 3] = ["fsync=on", "full_page_writes=on", "synchronous_commit=on"];

impl PostgresServer {
    /// On TCP without TLS and on a Unix socket.
    pub fn start() -> Self {
        Self::started(false, &QUICK)
    }

    /// On TCP with TLS and on a Unix socket.
    pub fn with_tls() -> Self {
        Self::started(true, &QUICK)
    }

    /// As [`PostgresServer::start`], and what is committed is on the disk.
    pub fn durable() -> Self {
        Self::started(false, &DURABLE)
    }

    fn started(tls: bool, settings: &'static [&'static str]) -> Self {
        let home = Home::of("postgres");
        let version = programs().parent().and_then(Path::file_name).expect("a version").to_string_lossy().into_owned();
        home.copy_of(&format!("postgres-{version}"), initialize);
        if tls {
            write_certificates(&home.path(""));
            home.give(Path::new("server.key"));
        }
        let mut server = Self { home, port: 0, tls, settings, child: None };
        // Between choosing a free port and taking it another process may take it.
        for _ in 0..20 {
            server.port = free_port();
            if server.run() {
                return server;
            }
        }
        panic!("PostgreSQL did not start: {}", server.home.log());
    }

    /// Starts it again on the same port, with all that was committed.
    pub fn restart(&mut self) {
        self.stop();
        let start = Instant::now();
        while !self.run() {
            assert!(start.elapsed() < PATIENCE, "PostgreSQL did not come back: {}", self.home.log());
        }
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It ends its processes and writes nothing more down.
            signal(&child, "QUIT");
            child.wait().expect("PostgreSQL has ended");
        }
    }

    /// Ends all its processes without a chance to do anything more, as the end of the machine would.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Stopped, it begins no more processes than those that are found.
        signal(&child, "STOP");
        for process in children(child.id()) {
            // One that has ended meanwhile is no matter.
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {process}")]).stderr(Stdio::null()).status();
        }
        signal(&child, "KILL");
        child.wait().expect("PostgreSQL has ended");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("postgres://{LOGIN}@127.0.0.1:{}/postgres", self.port)
    }

    pub fn unix_url(&self) -> String {
        format!("postgres://{USER}@:{}/postgres?host={}", self.port, self.home.path("").display())
    }

    /// To be believed with [`PostgresServer::ca_file`].
    pub fn tls_url(&self) -> String {
        format!("postgres://{LOGIN}@localhost:{}/postgres?sslmode=verify-full", self.port)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.home.path("ca.pem")
    }

    /// Runs statements, and tells what they find: a line a row, `|` between columns.
    pub fn sql(&self, statements: &str) -> String {
        output(&mut self.client(statements), "postgresql").trim_end().to_owned()
    }

    /// Runs statements beside the test, until they end or their connection is ended.
    pub fn sql_meanwhile(&self, statements: &str) -> Child {
        self.client(statements).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a client")
    }

    fn client(&self, statements: &str) -> Command {
        let mut command = Command::new(programs().join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", "postgres", "-c", statements]);
        command.args(["-p", &self.port.to_string(), "-h"]).arg(self.home.path(""));
        command
    }

    /// Ends every client's connection but the one that asks; how many there were.
    pub fn end_all_connections(&self) -> usize {
        let others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let ended = self.sql(&format!("SELECT count(pg_terminate_backend(pid)) {others}"));
        while self.sql(&format!("SELECT count(*) {others}")) != "0" {}
        ended.parse().expect("a number")
    }

    fn run(&mut self) -> bool {
        let mut command = self.home.command(programs().join("postgres"));
        command.arg("-D").arg(self.home.path("data")).arg("-k").arg(self.home.path(""));
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        for setting in self.settings.iter().chain(&["shared_buffers=16MB", "autovacuum=off"]) {
            command.args(["-c", setting]);
        }
        if self.tls {
            let file = |name: &str| self.home.path(name).display().to_string();
            command.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", file("server.pem"))]);
            command.args(["-c", &format!("ssl_key_file={}", file("server.key"))]);
        }
        self.child = self.home.start(&mut command, "ready to accept connections");
        self.child.is_some()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Each has a session of its own: no signal to a group reaches them all.
fn children(parent: u32) -> Vec<u32> {
    let stat = |process: &u32| std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name in parentheses stand the state and the parent.
    let is_child = |process: &u32| {
        let stat = stat(process);
        let behind = stat.rsplit(')').next().unwrap_or_default();
        behind.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let names = std::fs::read_dir("/proc").expect("a system with /proc").flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(is_child).collect()
}

fn initialize(home: &Home) {
    std::fs::write(home.path("password"), PASSWORD).expect("a file for initdb");
    let mut initdb = home.command(programs().join("initdb"));
    initdb.args(["--no-sync", "--wal-segsize=1", "--encoding=UTF8", "--locale=C", "--username", USER]);
    initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=password", "--pgdata=data"]);
    output(&mut initdb, "postgresql");
}

/// Where the server's programs are: Debian keeps them out of the way, by version.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("postgres").exists());
    programs.max().expect("PostgreSQL in /usr/lib/postgresql: install the Debian package postgresql")
}
