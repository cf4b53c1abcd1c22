//! The real program as a process of its own, with its log.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::visitor::Visitor;

/// Nothing in these tests takes so long; it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Process {
    pub address: SocketAddr,
    child: Child,
    lines: Receiver<String>,
    said: Receiver<String>,
    /// Every line of the log that was looked at.
    pub seen: Vec<String>,
    _folder: TempDir,
}

impl Process {
    /// `cloakroom serve` before `backend`, one worker, a log in JSON. `server` is added to `[server]`, `text` is more
    /// sections; without `[store]` sessions are in memory.
    pub fn start(backend: &str, server: &str, text: &str) -> Self {
        let store = if text.contains("[store]") { "" } else { "store = { engine = \"memory\" }\n" };
        let config = format!(
            "upstreams.app.servers = [\"{backend}\"]\nlog.format = \"json\"\n{store}\
             [server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n{server}\n{text}"
        );
        Self::serve(&config)
    }

    /// `cloakroom serve` with this file, in a folder of its own.
    pub fn serve(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cloakroom.toml"), config).unwrap();
        Self::run(folder, &["serve", "--config", "cloakroom.toml"])
    }

    /// `cloakroom` with these arguments, which make it listen, in this folder.
    pub fn run(folder: TempDir, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stderr.take().unwrap());
        let said = lines_of(child.stdout.take().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { address, child, lines, said, seen: Vec::new(), _folder: folder };
        let listening = process.line(|line| line.contains("listening"));
        let port =
            listening.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        process.address.set_port(port.and_then(|port| port.parse().ok()).expect("the port it listens on"));
        process
    }

    pub fn visitor(&self) -> Visitor {
        Visitor::new(self.address)
    }

    /// Waits for the first event of a log in JSON, after those looked at, that is what `wanted` says.
    pub fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let parse =
            |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line:?}")) };
        parse(&self.line(|line| wanted(&parse(line))))
    }

    fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no such line: {:#?}", self.seen));
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Waits for the first line on standard output, after those looked at, that is what `wanted` says.
    pub fn said(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE).expect("no such line on standard output");
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Sends the signal of this name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill` is there even where the program is not installed.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Waits for the end; the rest of the log is then in [`Process::seen`].
    pub fn wait(&mut self) -> ExitStatus {
        // The log ends when the process does.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("the process does not end: {:#?}", self.seen),
            }
        }
    }

    /// Asks it to stop, waits until it has, and returns all that it logged.
    pub fn stop(&mut self) -> String {
        self.signal("TERM");
        assert!(self.wait().success(), "{:#?}", self.seen);
        self.seen.join("\n")
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = channel();
    let stream = BufReader::new(stream);
    std::thread::spawn(move || stream.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    lines
}
