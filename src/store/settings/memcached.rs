//! What only `engine = "memcached"` takes.

use std::fmt;
use std::path::PathBuf;

use super::{Format, StoreSettings, shown};
use crate::problem::Problem;
use crate::secret::Secret;

const FORMS: &str = "write memcached://HOST:PORT, with more such servers after commas, or memcached+unix:///PATH";
const PORT: u16 = 11_211;
/// Of the 250 bytes of a name, this many leave room for any key of ours.
const LONGEST_PREFIX: usize = 150;

/// One of the servers, and what they are told apart by when a key is given to one of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct Server {
    /// As pymemcache has it: `host:port`.
    pub(in crate::store) node: String,
    pub(in crate::store) place: Place,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(formatter, "memcached at {host}:{port}"),
            Self::Unix(path) => write!(formatter, "memcached at {}", path.display()),
        }
    }
}

impl StoreSettings {
    /// The servers behind `memcached://…`, in the order in which they are written.
    pub(in crate::store) fn memcached_servers(&self) -> Result<Vec<Server>, Problem> {
        let Some(url) = self.url.as_ref().map(Secret::expose) else {
            let message = format!("engine = \"memcached\" needs one: {FORMS}");
            return Err(Problem::new("store.url", "nothing", message));
        };
        let problem = |message: String| Problem::new("store.url", shown(url), message);
        self.check_names()?;
        if let Some(path) = url.strip_prefix("memcached+unix://") {
            if !path.starts_with('/') || path.contains(['?', '#', ',']) {
                return Err(problem(format!("is no socket: {FORMS}")));
            }
            return Ok(vec![Server { node: path.to_owned(), place: Place::Unix(path.into()) }]);
        }
        let Some(list) = url.strip_prefix("memcached://") else {
            return Err(problem(format!("is no memcached server: {FORMS}")));
        };
        let mut servers: Vec<Server> = Vec::new();
        for written in list.split(',') {
            let server = server(written).ok_or_else(|| problem(format!("is no memcached server: {FORMS}")))?;
            if servers.contains(&server) {
                return Err(problem("names a server twice".to_owned()));
            }
            servers.push(server);
        }
        Ok(servers)
    }

    /// What the names of all records begin with has to be a good beginning.
    fn check_names(&self) -> Result<(), Problem> {
        let django = self.django();
        let (key, prefix) = match self.format {
            Format::Django => ("store.django.key_prefix", django.key_prefix.as_str()),
            Format::Msgpack | Format::Native => ("store.prefix", self.prefix.as_str()),
        };
        let problem = |message: &str| Err(Problem::new(key, format!("{prefix:?}"), message));
        if prefix.is_empty() && self.format != Format::Django {
            return problem("must not be empty: others may use the same memcached");
        }
        if prefix.len() > LONGEST_PREFIX || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return problem("must be at most 150 characters of ASCII without spaces, as memcached has it");
        }
        Ok(())
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`.
fn server(written: &str) -> Option<Server> {
    let (host, port) = match written.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => match written.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (written, None),
        },
    };
    let strange = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.contains(strange) {
        return None;
    }
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    let place = Place::Tcp { host: host.to_owned(), port };
    Some(Server { node: format!("{host}:{port}"), place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_as_pymemcache_calls_it() {
        for (written, node) in [
            ("10.0.0.1:11211", "10.0.0.1:11211"),
            ("10.0.0.1", "10.0.0.1:11211"),
            ("cache-1.example.com:1", "cache-1.example.com:1"),
            ("[::1]:7", "::1:7"),
            ("[::1]", "::1:11211"),
        ] {
            assert_eq!(server(written).unwrap().node, node, "{written}");
        }
        for written in
            ["", ":1", "a:", "a:b", "a:0", "a:65536", "a:1:2", "a/0", "u@a", "[a]:1", "[::1", "[::1]1", "a b"]
        {
            assert_eq!(server(written), None, "{written}");
        }
    }

    fn read(text: &str) -> StoreSettings {
        toml::from_str(&format!("engine = 'memcached'\n{text}")).unwrap()
    }

    #[test]
    fn what_can_be_meant_is_accepted() {
        for text in ["url = 'memcached://10.0.0.1:11211,cache,[::1]:1'", "url = 'memcached+unix:///run/memcached.sock'"]
        {
            read(text).check().unwrap_or_else(|problem| panic!("{text}: {problem}"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key_and_without_its_password() {
        for (text, key) in [
            ("", "store.url"),
            ("url = 'memcached://ann:hunter2@a'", "store.url"),
            ("url = 'memcached://a,a:11211'", "store.url"),
            ("url = 'memcached://'", "store.url"),
            ("url = 'memcached+unix://x'", "store.url"),
            ("url = 'redis://:hunter2@a'", "store.url"),
            ("url = 'memcached://a'\nprefix = ''", "store.prefix"),
            ("url = 'memcached://a'\nprefix = 'a b'", "store.prefix"),
            ("url = 'memcached://a'\nformat = 'django'\ndjango = { key_prefix = 'ä' }", "store.django.key_prefix"),
            ("url = 'memcached://a'\npath = 'x'", "store.path"),
            ("url = 'memcached://a'\nfsync = true", "store.fsync"),
        ] {
            let settings = read(text);
            let problem = settings.check().expect_err(text);
            assert_eq!(problem.key, key, "{text}: {problem}");
            assert!(!format!("{problem} {problem:?} {settings:?}").contains("hunter2"), "{text}: {problem}");
        }
    }
}
