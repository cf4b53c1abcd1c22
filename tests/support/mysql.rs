//! A real MariaDB server for a test: in an empty directory, on a port of its own, ended when dropped.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::daemon::{Home, PATIENCE, free_port, output, signal, write_certificates};

pub const USER: &str = "cloakroom";
pub const PASSWORD: &str = "p@ss:w/rd?";
/// As a URL has it.
const LOGIN: &str = "cloakroom:p%40ss%3Aw%2Frd%3F";

const ACCOUNT: &str = "CREATE DATABASE IF NOT EXISTS sessions CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;
CREATE USER IF NOT EXISTS cloakroom@'%' IDENTIFIED BY 'p@ss:w/rd?';
GRANT ALL ON *.* TO cloakroom@'%';
";
const SMALL: [&str; 3] = ["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=16M", "--skip-log-bin"];

/// [`USER`] may do everything with [`PASSWORD`]; there is an empty database `sessions`.
pub struct MySqlServer {
    home: Home,
    port: u16,
    tls: bool,
    /// `innodb_flush_log_at_trx_commit`
    flush: u8,
    child: Option<Child>,
}

/// Nobody pulls the plug while a test runs; what is committed survives the end of the process.
const QUICK: u8 = 2;
const DURABLE: u8 = 1;

impl MySqlServer {
    /// On TCP without TLS and on a Unix socket.
    pub fn start() -> Self {
        Self::started(false, QUICK)
    }

    /// On TCP with TLS and on a Unix socket.
    pub fn with_tls() -> Self {
        Self::started(true, QUICK)
    }

    /// As [`MySqlServer::start`], and what is committed is on the disk.
    pub fn durable() -> Self {
        Self::started(false, DURABLE)
    }

    fn started(tls: bool, flush: u8) -> Self {
        let home = Home::of("mysql");
        home.copy_of("mariadb", initialize);
        std::fs::write(home.path("account.sql"), ACCOUNT).expect("a file for mariadbd");
        if tls {
            write_certificates(&home.path(""));
            home.give(Path::new("server.key"));
        }
        let mut server = Self { home, port: 0, tls, flush, child: None };
        // Between choosing a free port and taking it another process may take it.
        for _ in 0..20 {
            server.port = free_port();
            if server.run() {
                return server;
            }
        }
        panic!("MariaDB did not start: {}", server.home.log());
    }

    /// Starts it again on the same port, with all that was committed.
    pub fn restart(&mut self) {
        self.stop();
        let start = Instant::now();
        while !self.run() {
            assert!(start.elapsed() < PATIENCE, "MariaDB did not come back: {}", self.home.log());
        }
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("MariaDB can be ended");
            child.wait().expect("MariaDB has ended");
        }
    }

    /// Leaves it running and deaf, until [`MySqlServer::resume`].
    pub fn pause(&self) {
        signal(self.child.as_ref().expect("MariaDB is running"), "STOP");
    }

    pub fn resume(&self) {
        signal(self.child.as_ref().expect("MariaDB is running"), "CONT");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("mysql://{LOGIN}@127.0.0.1:{}/sessions", self.port)
    }

    pub fn unix_url(&self) -> String {
        format!("mysql://{LOGIN}@localhost/sessions?socket={}", self.home.path("socket").display())
    }

    /// To be believed with [`MySqlServer::ca_file`].
    pub fn tls_url(&self) -> String {
        format!("mysql://{LOGIN}@localhost:{}/sessions?ssl-mode=VERIFY_IDENTITY", self.port)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.home.path("ca.pem")
    }

    /// Runs statements, and tells what they find: a line a row, a tab between columns.
    pub fn sql(&self, statements: &str) -> String {
        output(&mut self.client(statements), "mariadb-server").trim_end().to_owned()
    }

    /// Runs statements beside the test, until they end or their connection is ended.
    pub fn sql_meanwhile(&self, statements: &str) -> Child {
        self.client(statements).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a client")
    }

    fn client(&self, statements: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--user", USER]);
        command.arg(format!("--password={PASSWORD}")).arg("--socket").arg(self.home.path("socket"));
        command.args(["--database=sessions", "--execute", statements]);
        command
    }

    /// Ends every client's connection but the one that asks; how many there were.
    pub fn end_all_connections(&self) -> usize {
        let others = "FROM information_schema.processlist WHERE user = 'cloakroom' AND id <> CONNECTION_ID()";
        let ids = self.sql(&format!("SELECT id {others}"));
        for id in ids.lines() {
            self.sql(&format!("KILL {id}"));
        }
        while self.sql(&format!("SELECT count(*) {others}")) != "0" {}
        ids.lines().count()
    }

    fn run(&mut self) -> bool {
        let mut command = self.home.command(program("mariadbd"));
        command.arg("--no-defaults").args(SMALL).arg("--basedir=/usr");
        for (option, file) in
            [("datadir", "data"), ("socket", "socket"), ("pid-file", "pid"), ("init-file", "account.sql")]
        {
            command.arg(format!("--{option}={}", self.home.path(file).display()));
        }
        command.args(["--bind-address=127.0.0.1", &format!("--port={}", self.port), "--skip-name-resolve"]);
        command.arg(format!("--innodb-flush-log-at-trx-commit={}", self.flush)).arg("--max-allowed-packet=4M");
        if self.tls {
            command.arg(format!("--ssl-cert={}", self.home.path("server.pem").display()));
            command.arg(format!("--ssl-key={}", self.home.path("server.key").display()));
        }
        self.child = self.home.start(&mut command, "ready for connections");
        self.child.is_some()
    }
}

impl Drop for MySqlServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn initialize(home: &Home) {
    let mut install = home.command(program("mariadb-install-db"));
    install.arg("--no-defaults").args(SMALL).args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
    install.args(["--basedir=/usr", &format!("--datadir={}", home.path("data").display())]);
    output(&mut install, "mariadb-server");
}

/// Debian keeps the server where only root looks.
fn program(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/local/mysql/bin"];
    let found = places.map(|place| Path::new(place).join(name)).into_iter().find(|program| program.exists());
    found.unwrap_or_else(|| panic!("{name} is not there: install the Debian package mariadb-server"))
}
