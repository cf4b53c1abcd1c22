//! What a real server needs in a test: a port, a certificate, an account that is not root's, and an end.
#![allow(dead_code, reason = "every kind of server uses a part of it")]

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Long enough for any machine; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// An authority `ca.pem`, and a certificate by it for localhost.
pub fn write_certificates(directory: &Path) {
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost\n").expect("a file for openssl");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(directory, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
    openssl(directory, &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    let by = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
    openssl(directory, &format!("x509 -req -in server.csr -out server.pem {by}"));
}

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    output(command.args(arguments.split(' ')).current_dir(directory), "openssl");
}

/// What a command that must succeed writes.
pub fn output(command: &mut Command, package: &str) -> String {
    let run = command.stdin(Stdio::null()).output();
    let run = run.unwrap_or_else(|error| panic!("{command:?} ({error}): install the Debian package {package}"));
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{command:?}: {errors}{}", String::from_utf8_lossy(&run.stdout));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// A directory for a database server that will not run as root: root's tests give it to another account.
pub struct Home {
    directory: TempDir,
    account: Option<(u32, u32)>,
}

impl Home {
    /// For that account, or nobody's if there is none of that name.
    pub fn of(account: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let is_root = std::fs::metadata("/proc/self").expect("a system with /proc").uid() == 0;
        let account = is_root.then(|| ids(account).or_else(|| ids("nobody")).expect("an account that is not root's"));
        let home = Self { directory, account };
        // The directory of another's data must be open to that one.
        std::fs::set_permissions(home.path(""), PermissionsExt::from_mode(0o755)).expect("a directory of our own");
        home.give(Path::new(""));
        home
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Leaves a file in it to the server.
    pub fn give(&self, name: &Path) {
        if let Some((user, group)) = self.account {
            chown(self.path(name), Some(user), Some(group)).expect("root may give files away");
        }
    }

    /// A command in the server's name.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("")).env("HOME", self.path("")).env("LC_ALL", "C");
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    /// Puts a copy of what `make` leaves in the directory `data` there, and makes that once for all tests.
    pub fn copy_of(&self, template: &str, make: impl FnOnce(&Self)) {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let owner = self.account.map_or_else(|| "own".to_owned(), |(user, _)| user.to_string());
        let kept = all.join(format!("{template}-{owner}"));
        let lock = File::create(all.join(format!("{template}-{owner}.lock"))).expect("a file to lock");
        lock.lock().expect("a lock");
        if kept.exists() {
            copy(&kept, &self.path("data"));
            return;
        }
        make(self);
        // A copy that was broken off is none.
        let half = kept.with_extension("half");
        let _ = std::fs::remove_dir_all(&half);
        copy(&self.path("data"), &half);
        std::fs::rename(&half, &kept).expect("a directory to rename");
    }

    /// Starts it and waits for a line in the file `log`; `None` if it ends before.
    pub fn start(&self, command: &mut Command, sign: &str) -> Option<Child> {
        let log = File::create(self.path("log")).expect("a file for the log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let start = Instant::now();
        while !self.log().contains(sign) {
            if child.try_wait().expect("it can be waited for").is_some() {
                return None;
            }
            assert!(start.elapsed() < PATIENCE, "it is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(child)
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }
}

/// Sends a signal, by its name without SIG.
pub fn signal(child: &Child, name: &str) {
    // The shell's own `kill` is there even where the program is not installed.
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success(), "{kill}");
}

fn copy(from: &Path, to: &Path) {
    output(Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]), "coreutils");
}

/// User and group of an account.
fn ids(account: &str) -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.split(':').next() == Some(account))?;
    let mut numbers = line.split(':').skip(2).take(2).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
