//! A real `cloakroom serve`: what only a process of its own has, such as its log.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::TempDir;

pub struct Served {
    pub address: SocketAddr,
    child: Child,
    log: BufReader<ChildStderr>,
    said: String,
    _directory: TempDir,
}

impl Served {
    /// Starts it with this file and waits until it listens. Its log is read at the end: it must fit into a pipe.
    pub fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cloakroom.toml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
            .args(["serve", "--config", "cloakroom.toml"])
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let start = said.len();
            assert!(log.read_line(&mut said).unwrap() > 0, "it ended before it listened: {said}");
            let digits = |c: char| c.is_ascii_digit() || c == ':' || c == '.';
            let found = said[start..].split("127.0.0.1:").nth(1).filter(|_| said[start..].contains("listening"));
            if let Some(port) = found.and_then(|rest| rest.split(|c| !digits(c)).next()) {
                break SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
            }
        };
        Self { address, child, log, said, _directory: directory }
    }

    /// Asks it to stop, waits until it has, and returns all that it logged.
    pub fn stop(&mut self) -> String {
        // The shell's own `kill` is there even where the program is not installed.
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
        self.log.read_to_string(&mut self.said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.said);
        std::mem::take(&mut self.said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // No error if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
