//! The servers of `examples/`, each on a free port and ended when dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// Long enough for any machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Server {
    pub address: SocketAddr,
    child: Child,
    /// Holds the port.
    _reserved: Socket,
    /// Where its log is.
    _directory: TempDir,
}

impl Server {
    pub fn php() -> Self {
        Self::start("php", "php-cli", |command, port| {
            command.args(["-S", &format!("127.0.0.1:{port}"), "examples/php/index.php"]);
        })
    }

    /// lighttpd with one program of `examples/cgi/`.
    pub fn cgi(program: &str) -> Self {
        Self::start("lighttpd", "lighttpd", |command, port| {
            command.args(["-D", "-f", "examples/cgi/lighttpd.conf"]);
            command.env("PROGRAM", program).env("PORT", port.to_string());
        })
    }

    pub fn wsgiref() -> Self {
        Self::start("python3", "python3", |command, port| {
            command.args(["examples/python/visits.py", &port.to_string()]).env("PYTHONDONTWRITEBYTECODE", "1");
        })
    }

    pub fn gunicorn() -> Self {
        Self::start("gunicorn", "gunicorn", |command, port| {
            command.args(["--chdir", "examples/python", "--bind", &format!("127.0.0.1:{port}"), "visits"]);
            command.env("PYTHONDONTWRITEBYTECODE", "1");
        })
    }

    pub fn node() -> Self {
        Self::start("node", "nodejs", |command, port| {
            command.args(["examples/node/visits.js", &port.to_string()]);
        })
    }

    /// Starts `program`, of a Debian package, with the arguments for a port.
    fn start(program: &str, package: &str, arguments: impl Fn(&mut Command, u16)) -> Self {
        let directory = tempfile::tempdir().expect("a directory for a log");
        let log = directory.path().join("log");
        let (reserved, address) = reserve();
        let file = File::create(&log).expect("a file for a log");
        let mut command = Command::new(program);
        command.env("PATH", search_path());
        arguments(&mut command, address.port());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        command.stdout(file.try_clone().expect("a file for a log")).stderr(file);
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{program} cannot be started ({error}): install the Debian package {package}")
        });
        if answers(&mut child, address) {
            return Self { address, child, _reserved: reserved, _directory: directory };
        }
        panic!("{program} did not start: {}", std::fs::read_to_string(&log).unwrap_or_default());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked kindly first: gunicorn ends its own workers then. The shell's own `kill` is there even where the
        // program is not installed.
        let kill = format!("kill -TERM {}", self.child.id());
        Command::new("sh").args(["-c", &kill]).status().ok();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// True once it takes connections; false if it ended instead.
fn answers(child: &mut Child, address: SocketAddr) -> bool {
    let start = Instant::now();
    loop {
        let connected = TcpStream::connect(address).is_ok();
        if child.try_wait().expect("a child can be waited for").is_some() {
            return false;
        }
        if connected {
            return true;
        }
        if start.elapsed() > PATIENCE {
            child.kill().ok();
            child.wait().ok();
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where programs are looked for: `scripts/test` has put gunicorn under `target/`, and Debian keeps lighttpd where only
/// root looks.
fn search_path() -> String {
    let usual = std::env::var("PATH").unwrap_or_default();
    format!("{}/target/venv/bin:{usual}:/usr/local/sbin:/usr/sbin", env!("CARGO_MANIFEST_DIR"))
}

/// A port, and a socket that is bound to it and does not listen. While that is there nobody is given the port who asks
/// for any, so whoever listens on it is the server that was told to: servers may share a port with a socket that does
/// not listen (`SO_REUSEADDR`).
fn reserve() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option of a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("the address of a socket").as_socket().expect("an address of IPv4");
    (socket, address)
}
