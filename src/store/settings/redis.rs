//! What only `engine = "redis"` takes.

use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::{StoreSettings, shown};
use crate::problem::Problem;
use crate::secret::Secret;

const FORMS: &str = "write redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE (TLS), \
    redis+unix:///PATH?db=DATABASE, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DATABASE or \
    redis+cluster://HOST:PORT,HOST:PORT (over TLS rediss+sentinel:// and rediss+cluster://)";

/// Where a sentinel listens unless told otherwise; the library knows only Redis's own port.
const SENTINEL_PORT: &str = ":26379";

/// What `store.url` names, with the credentials wherever they are written.
pub(in crate::store) enum RedisServers {
    /// Some of the servers of a cluster.
    Cluster(Vec<ConnectionInfo>),
    /// The sentinels, the name of the master that they watch, and how to log in there, wherever that is.
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, server: Box<ConnectionInfo> },
    Single(Box<ConnectionInfo>),
}

impl StoreSettings {
    pub(in crate::store) fn redis_servers(&self) -> Result<RedisServers, Problem> {
        let Some(url) = self.url.as_ref().map(Secret::expose) else {
            return Err(Problem::new("store.url", "nothing", format!("engine = \"redis\" needs one: {FORMS}")));
        };
        if self.prefix.is_empty() {
            return Err(Problem::new("store.prefix", "\"\"", "must not be empty: others may use the same Redis"));
        }
        if self.wait_replicas == Some(0) {
            return Err(Problem::new("store.wait_replicas", "0", "waits for nobody: write 1 or more, or leave it out"));
        }
        let several = |scheme| Several::parse(url, scheme);
        Ok(match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("redis+sentinel") => self.behind_sentinels(url, &several("redis")?)?,
            Some("rediss+sentinel") => self.behind_sentinels(url, &several("rediss")?)?,
            Some("redis+cluster") => self.in_cluster(url, &several("redis")?)?,
            Some("rediss+cluster") => self.in_cluster(url, &several("rediss")?)?,
            _ => RedisServers::Single(Box::new(self.with_credentials(self.server(url, url)?)?)),
        })
    }

    fn behind_sentinels(&self, url: &str, several: &Several<'_>) -> Result<RedisServers, Problem> {
        let problem = |message: &str| Problem::new("store.url", shown(url), format!("{message}: {FORMS}"));
        let (master, database) = several.path.split_once('/').unwrap_or((several.path, "0"));
        let master = percent_decode_str(master).decode_utf8().map_err(|_| problem("has a MASTER that is no text"))?;
        if master.is_empty() {
            return Err(problem("does not name the MASTER as its sentinels do"));
        }
        let database: u16 = database.parse().map_err(|_| problem("has a DATABASE that is no number"))?;
        let sentinels = several.servers(SENTINEL_PORT).map(|server| self.server(url, &server));
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        // What stands in the URL is what the sentinels ask for; they may not have the servers' users.
        let first = Several { login: "", ..*several }.servers(SENTINEL_PORT).next();
        let server = self.with_credentials(self.server(url, &first.unwrap_or_default())?)?;
        let login = server.redis_settings().clone().set_db(database.into());
        let server = Box::new(server.set_redis_settings(login));
        Ok(RedisServers::Sentinel { sentinels, master: master.into_owned(), server })
    }

    fn in_cluster(&self, url: &str, several: &Several<'_>) -> Result<RedisServers, Problem> {
        if !matches!(several.path, "" | "0") {
            return Err(Problem::new("store.url", shown(url), "names a database, and a cluster has only 0: leave it out"));
        }
        let servers = several.servers("").map(|server| self.with_credentials(self.server(url, &server)?));
        Ok(RedisServers::Cluster(servers.collect::<Result<_, _>>()?))
    }

    /// One `server` of those that `url` names.
    fn server(&self, url: &str, server: &str) -> Result<ConnectionInfo, Problem> {
        let problem = |message: String| Problem::new("store.url", shown(url), message);
        // The library's own messages are kept out: they may quote what they could not read, such as a password.
        let info = server.into_connection_info().map_err(|_| problem(format!("is no Redis server: {FORMS}")))?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(problem("skips the check of the certificate: name its authority in ca_file".to_owned()));
            }
            ConnectionAddr::TcpTls { .. } => {}
            _ => {
                if let Some(file) = &self.ca_file {
                    let message = "is only for rediss://, rediss+sentinel:// and rediss+cluster://";
                    return Err(Problem::new("store.ca_file", file.display(), message));
                }
            }
        }
        Ok(info)
    }

    fn with_credentials(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Problem> {
        let mut login = info.redis_settings().clone();
        if let Some(username) = &self.username {
            if login.username().is_some() {
                return Err(Problem::new("store.username", username, "stands in store.url too: keep one of them"));
            }
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            if login.password().is_some() {
                return Err(Problem::new("store.password", "…", "stands in store.url too: keep one of them"));
            }
            login = login.set_password(password.expose());
        }
        if let (Some(username), None) = (login.username(), login.password()) {
            return Err(Problem::new("store.username", username, "needs a password: write store.password"));
        }
        Ok(info.set_redis_settings(login))
    }
}

/// `SCHEME://LOGIN@HOST:PORT,HOST:PORT/PATH`, which no URL may be.
#[derive(Clone, Copy)]
struct Several<'a> {
    /// What one of them alone would have.
    scheme: &'static str,
    login: &'a str,
    hosts: &'a str,
    path: &'a str,
}

impl<'a> Several<'a> {
    fn parse(url: &'a str, scheme: &'static str) -> Result<Self, Problem> {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (servers, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = servers.rsplit_once('@').unwrap_or(("", servers));
        if rest.contains(['?', '#']) || hosts.split(',').any(str::is_empty) {
            return Err(Problem::new("store.url", shown(url), format!("cannot be read: {FORMS}")));
        }
        Ok(Self { scheme, login, hosts, path })
    }

    /// Each as a URL of its own, with `port` where it has none.
    fn servers(self, port: &'a str) -> impl Iterator<Item = String> + use<'a> {
        let Self { scheme, login, hosts, .. } = self;
        let at = if login.is_empty() { "" } else { "@" };
        hosts.split(',').map(move |host| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
            let port = if has_port { "" } else { port };
            format!("{scheme}://{login}{at}{host}{port}")
        })
    }
}
