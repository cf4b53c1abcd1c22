//! What only `engine = "db"` takes: the URL of a database, in the words of that database's own clients.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::{StoreSettings, shown};
use crate::problem::Problem;
use crate::secret::Secret;

const DB_URL: &str = "sqlite://cloakroom.sqlite3";
const FORMS: &str = "write sqlite://PATH, postgres://USER:PASSWORD@HOST:PORT/DATABASE or \
                     mysql://USER:PASSWORD@HOST:PORT/DATABASE";
/// Connections a worker opens to a server at most, unless told otherwise.
const MAX_CONNECTIONS: usize = 4;

/// Where the rows are.
pub(in crate::store) enum Database {
    MySql(Server),
    Postgres(Server),
    Sqlite(PathBuf),
}

/// A database server and our account there.
#[derive(Clone)]
pub(in crate::store) struct Server {
    pub place: Place,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) enum Place {
    /// PostgreSQL: the socket's directory and the port in its name. MySQL: the socket.
    Socket(PathBuf, u16),
    Tcp {
        host: String,
        port: u16,
        tls: Option<Tls>,
    },
}

/// The server's certificate must be for its host name, by one of these authorities: those in the file, or the system's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct Tls {
    pub ca_file: Option<PathBuf>,
}

/// What the options of a kind of server are called in its URL.
struct Words {
    port: u16,
    socket: &'static str,
    tls: &'static str,
    ca_file: &'static str,
    /// How to write that the connection is not encrypted, and that it is.
    off: &'static str,
    on: &'static str,
    /// Also believed to mean `on`. Less than a checked certificate is no protection, so there is no less.
    also_on: &'static str,
}

const POSTGRES: Words = Words {
    port: 5432,
    socket: "host",
    tls: "sslmode",
    ca_file: "sslrootcert",
    off: "disable",
    on: "verify-full",
    also_on: "require",
};
const MYSQL: Words = Words {
    port: 3306,
    socket: "socket",
    tls: "ssl-mode",
    ca_file: "ssl-ca",
    off: "DISABLED",
    on: "VERIFY_IDENTITY",
    also_on: "REQUIRED",
};

impl StoreSettings {
    /// What `store.url` names.
    pub(in crate::store) fn database(&self) -> Result<Database, Problem> {
        let url = self.url.as_ref().map_or(DB_URL, Secret::expose);
        let problem = |message: String| Problem::new("store.url", shown(url), message);
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(problem(format!("is not a database we know: {FORMS}")));
        };
        match scheme {
            "mysql" | "mariadb" => self.database_server(rest, &MYSQL).map(Database::MySql),
            "postgres" | "postgresql" => self.database_server(rest, &POSTGRES).map(Database::Postgres),
            "sqlite" => {
                self.refuse_what_a_file_has_not()?;
                return file(rest).map(|path| Database::Sqlite(path.to_owned())).map_err(|why| problem(why.to_owned()));
            }
            _ => return Err(problem(format!("is not a database we know: {FORMS}"))),
        }
        .map_err(problem)
        .and_then(|database| self.check_ca_file(&database).map(|()| database))
    }

    pub(super) fn check_db(&self) -> Result<(), Problem> {
        if self.max_connections == Some(0) {
            return Err(Problem::new("store.max_connections", "0", "must be at least 1"));
        }
        self.database().map(drop)
    }

    /// How many connections each worker may have.
    pub(in crate::store) fn connections(&self) -> usize {
        self.max_connections.unwrap_or(MAX_CONNECTIONS)
    }

    fn refuse_what_a_file_has_not(&self) -> Result<(), Problem> {
        let message = "is for a database server, and sqlite:// is a file";
        if let Some(count) = self.max_connections {
            return Err(Problem::new("store.max_connections", count, message));
        }
        if let Some(file) = &self.ca_file {
            return Err(Problem::new("store.ca_file", file.display(), message));
        }
        Ok(())
    }

    fn check_ca_file(&self, database: &Database) -> Result<(), Problem> {
        let (Some(file), Database::MySql(server) | Database::Postgres(server)) = (&self.ca_file, database) else {
            return Ok(());
        };
        let problem = |message| Err(Problem::new("store.ca_file", file.display(), message));
        match &server.place {
            Place::Socket(..) => problem("is for TLS, which a Unix socket does not need"),
            Place::Tcp { tls: None, .. } => problem("is for TLS, which store.url turns off"),
            Place::Tcp { tls: Some(tls), .. } if tls.ca_file.as_ref() != Some(file) => {
                problem("stands in store.url too: keep one of them")
            }
            Place::Tcp { .. } => Ok(()),
        }
    }

    /// `USER:PASSWORD@HOST:PORT/DATABASE?OPTIONS`. No message quotes any of it but names of options.
    fn database_server(&self, rest: &str, words: &Words) -> Result<Server, String> {
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = account.split_once(':').map_or((account, None), |(user, word)| (user, Some(word)));
        if user.is_empty() || database.is_empty() || database.contains('/') {
            return Err(format!("needs a user and a database: {FORMS}"));
        }
        let password = password.map(decoded).transpose()?;
        let place = self.place(host, options, words)?;
        Ok(Server { place, user: decoded(user)?, password, database: decoded(database)? })
    }

    fn place(&self, host: &str, options: &str, words: &Words) -> Result<Place, String> {
        let (host, port) = host_and_port(host, words.port)?;
        let (mut socket, mut wanted, mut ca_file) = (None, None, self.ca_file.clone());
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value)?;
            match name {
                _ if name == words.socket && value.starts_with('/') => socket = Some(value.into()),
                _ if name == words.tls && value == words.off => wanted = Some(false),
                _ if name == words.tls && (value == words.on || value == words.also_on) => wanted = Some(true),
                _ if name == words.tls => {
                    return Err(format!("takes {} as {} or {}", words.tls, words.on, words.off));
                }
                _ if name == words.ca_file && !value.is_empty() => ca_file = Some(value.into()),
                _ => {
                    let Words { socket, tls, ca_file, .. } = words;
                    return Err(format!("takes these options: {tls}=…, {ca_file}=FILE, {socket}=/PATH"));
                }
            }
        }
        let socket = socket.or_else(|| host.starts_with('/').then(|| PathBuf::from(&host)));
        match socket {
            Some(_) if wanted == Some(true) => {
                Err(format!("goes through a Unix socket, which has no TLS: leave {} out", words.tls))
            }
            Some(path) => Ok(Place::Socket(path, port)),
            None if host.is_empty() => Err(format!("names no host: {FORMS}, or a socket as {}=/PATH", words.socket)),
            None => {
                // Nobody listens between us and ourselves; on any other road a password needs cover.
                let on = wanted.unwrap_or(ca_file.is_some() || !is_loopback(&host));
                Ok(Place::Tcp { host, port, tls: on.then_some(Tls { ca_file }) })
            }
        }
    }
}

fn file(path: &str) -> Result<&Path, &'static str> {
    match path {
        "" => Err("names no file: write sqlite://PATH"),
        ":memory:" => Err("would be another database for every connection: write engine = \"memory\""),
        _ if path.contains('?') => Err("takes no options: write sqlite://PATH alone"),
        _ => Ok(Path::new(path)),
    }
}

fn host_and_port(text: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| "has a port that is no number".to_owned()))?;
    Ok((decoded(host)?, port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn decoded(text: &str) -> Result<String, String> {
    let text =
        percent_decode_str(text).decode_utf8().map_err(|_| "is not UTF-8 behind its percent signs".to_owned())?;
    if text.contains('\0') { Err("has a zero byte in it".to_owned()) } else { Ok(text.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(text: &str) -> Result<Database, Problem> {
        let settings: StoreSettings = toml::from_str(text).unwrap();
        settings.check()?;
        settings.database()
    }

    fn server(url: &str) -> Server {
        match database(&format!("url = '{url}'")) {
            Ok(Database::MySql(server) | Database::Postgres(server)) => server,
            Ok(Database::Sqlite(_)) => panic!("{url} is a file"),
            Err(problem) => panic!("{problem}"),
        }
    }

    /// `ca_file`: `None` is no TLS, and nothing are the system's authorities.
    fn tcp(host: &str, port: u16, ca_file: Option<&str>) -> Place {
        let tls = ca_file.map(|file| Tls { ca_file: (!file.is_empty()).then(|| file.into()) });
        Place::Tcp { host: host.to_owned(), port, tls }
    }

    #[test]
    fn a_server_is_read_from_its_url() {
        for (url, place) in [
            ("postgres://ann:p%40ss@db.example/shop", tcp("db.example", 5432, Some(""))),
            ("postgresql://ann:p%40ss@127.0.0.1:6000/shop", tcp("127.0.0.1", 6000, None)),
            ("postgres://ann:p%40ss@[::1]:6000/shop", tcp("::1", 6000, None)),
            ("postgres://ann:p%40ss@db.example/shop?sslmode=disable", tcp("db.example", 5432, None)),
            ("postgres://ann:p%40ss@localhost/shop?sslmode=require", tcp("localhost", 5432, Some(""))),
            ("postgres://ann:p%40ss@localhost/shop?sslrootcert=/ca.pem", tcp("localhost", 5432, Some("/ca.pem"))),
            ("postgres://ann:p%40ss@/shop?host=/run/pg", Place::Socket("/run/pg".into(), 5432)),
            ("postgres://ann:p%40ss@%2Frun%2Fpg:6000/shop", Place::Socket("/run/pg".into(), 6000)),
            ("mysql://ann:p%40ss@db.example/shop", tcp("db.example", 3306, Some(""))),
            ("mariadb://ann:p%40ss@db.example/shop?ssl-mode=DISABLED", tcp("db.example", 3306, None)),
            ("mysql://ann:p%40ss@localhost/shop?ssl-mode=VERIFY_IDENTITY", tcp("localhost", 3306, Some(""))),
            ("mysql://ann:p%40ss@localhost/shop?socket=/run/my.sock", Place::Socket("/run/my.sock".into(), 3306)),
        ] {
            let server = server(url);
            assert_eq!(server.place, place, "{url}");
            assert_eq!((&*server.user, server.password.as_deref(), &*server.database), ("ann", Some("p@ss"), "shop"));
        }
    }

    #[test]
    fn what_a_server_cannot_be_told_is_refused_by_its_key_and_without_its_password() {
        for (text, key) in [
            ("url = 'postgres://ann:secret@host'", "store.url"),
            ("url = 'postgres://ann:secret@/db'", "store.url"),
            ("url = 'postgres://host/db'", "store.url"),
            ("url = 'postgres://ann:secret@host:many/db'", "store.url"),
            ("url = 'postgres://ann:secret@host/db?sslmode=prefer'", "store.url"),
            ("url = 'postgres://ann:secret@host/db?sslmode='", "store.url"),
            ("url = 'postgres://ann:secret@host/db?ssl-mode=DISABLED'", "store.url"),
            ("url = 'postgres://ann:secret@host/db?password=secret'", "store.url"),
            ("url = 'postgres://ann:secret@/db?host=/run&sslmode=verify-full'", "store.url"),
            ("url = 'mysql://ann:secret%FF@host/db'", "store.url"),
            ("url = 'mysql://ann:secret@host/db?ssl-mode=PREFERRED'", "store.url"),
            ("url = 'mysql://ann:secret@host/db?ssl-mode=DISABLED'\nca_file = 'ca.pem'", "store.ca_file"),
            ("url = 'mysql://ann:secret@host/db?ssl-ca=a.pem'\nca_file = 'ca.pem'", "store.ca_file"),
            ("url = 'mysql://ann:secret@host/db?socket=/run/x'\nca_file = 'ca.pem'", "store.ca_file"),
            ("url = 'mysql://ann:secret@host/db'\nmax_connections = 0", "store.max_connections"),
            ("max_connections = 2", "store.max_connections"),
        ] {
            let Err(problem) = database(text) else { panic!("{text} was accepted") };
            assert_eq!(problem.key, key, "{text}: {problem}");
            assert!(!format!("{problem} {problem:?}").contains("secret"), "{text}: {problem}");
        }
    }
}
