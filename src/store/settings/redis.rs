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
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        server: Box<ConnectionInfo>,
    },
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
            _ => RedisServers::Single(Box::new(self.with_credentials(self.redis_server(url, url)?)?)),
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
        let sentinels = several.servers(SENTINEL_PORT).map(|server| self.redis_server(url, &server));
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        // What stands in the URL is what the sentinels ask for; they may not have the servers' users.
        let first = Several { login: "", ..*several }.servers(SENTINEL_PORT).next();
        let server = self.with_credentials(self.redis_server(url, &first.unwrap_or_default())?)?;
        let login = server.redis_settings().clone().set_db(database.into());
        let server = Box::new(server.set_redis_settings(login));
        Ok(RedisServers::Sentinel { sentinels, master: master.into_owned(), server })
    }

    fn in_cluster(&self, url: &str, several: &Several<'_>) -> Result<RedisServers, Problem> {
        if !matches!(several.path, "" | "0") {
            return Err(Problem::new(
                "store.url",
                shown(url),
                "names a database, and a cluster has only 0: leave it out",
            ));
        }
        let servers = several.servers("").map(|server| self.with_credentials(self.redis_server(url, &server)?));
        Ok(RedisServers::Cluster(servers.collect::<Result<_, _>>()?))
    }

    /// One `server` of those that `url` names.
    fn redis_server(&self, url: &str, server: &str) -> Result<ConnectionInfo, Problem> {
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
            let has_port =
                host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
            let port = if has_port { "" } else { port };
            format!("{scheme}://{login}{at}{host}{port}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> RedisServers {
        let settings: StoreSettings = toml::from_str(&format!("engine = 'redis'\n{text}")).unwrap();
        settings.redis_servers().unwrap()
    }

    fn told(info: &ConnectionInfo) -> (String, Option<&str>, Option<&str>, i64) {
        let login = info.redis_settings();
        (info.addr().to_string(), login.username(), login.password(), login.db())
    }

    #[test]
    fn sentinels_and_the_servers_behind_them_have_logins_of_their_own() {
        let text = "url = 'redis+sentinel://ann:p%40ss@a,b:1,[::1]/my%20orders/3'\nusername = 'bob'\npassword = 'word'";
        let RedisServers::Sentinel { sentinels, master, server } = servers(text) else { panic!("{text}") };
        let places: Vec<_> = sentinels.iter().map(told).collect();
        let login = |place: &str| (place.to_owned(), Some("ann"), Some("p@ss"), 0);
        assert_eq!(places, [login("a:26379"), login("b:1"), login("::1:26379")]);
        assert_eq!(master, "my orders");
        let (_, username, password, database) = told(&server);
        assert_eq!((username, password, database), (Some("bob"), Some("word"), 3));
    }

    #[test]
    fn every_server_of_a_cluster_has_the_same_login() {
        for text in [
            "url = 'rediss+cluster://ann:word@a,b:1'",
            "url = 'rediss+cluster://a,b:1'\nusername = 'ann'\npassword = 'word'",
        ] {
            let RedisServers::Cluster(servers) = servers(text) else { panic!("{text}") };
            let login = |place: &str| (place.to_owned(), Some("ann"), Some("word"), 0);
            assert_eq!(servers.iter().map(told).collect::<Vec<_>>(), [login("a:6379"), login("b:1")], "{text}");
            assert!(
                servers.iter().all(|server| matches!(server.addr(), ConnectionAddr::TcpTls { insecure: false, .. }))
            );
        }
    }

    #[test]
    fn several_servers_that_can_be_meant_are_accepted() {
        for text in [
            "engine = 'redis'\nurl = 'redis+sentinel://a:26379,b,[::1]:26380/orders/3'\npassword = 'secret'",
            "engine = 'redis'\nurl = 'rediss+sentinel://ann:secret@a,b/orders'\nusername = 'bob'\npassword = 'secret'\nca_file = 'ca.pem'",
            "engine = 'redis'\nurl = 'redis+cluster://:secret@a:7000,b:7001/0'\nwait_replicas = 1",
            "engine = 'redis'\nurl = 'rediss+cluster://a,b'\nca_file = 'ca.pem'",
        ] {
            let settings: StoreSettings = toml::from_str(text).unwrap();
            settings.check().unwrap_or_else(|problem| panic!("{text}: {problem}"));
        }
    }

    #[test]
    fn several_servers_that_cannot_be_meant_are_refused_by_their_key_and_without_their_password() {
        for (text, key) in [
            ("engine = 'redis'\nurl = 'redis://localhost'\nwait_replicas = 0", "store.wait_replicas"),
            ("engine = 'memory'\nwait_replicas = 1", "store.wait_replicas"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@a,b'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@a,b/'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@a,b/orders/three'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@a,b/orders/0/1'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@a,,b/orders'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@a:port/orders'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@a/orders?db=3'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://:secret@/orders'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+sentinel://a/orders'\nusername = 'ann'", "store.username"),
            ("engine = 'redis'\nurl = 'redis+sentinel://a/orders'\nca_file = 'ca.pem'", "store.ca_file"),
            ("engine = 'redis'\nurl = 'redis+cluster://:secret@a,b/1'", "store.url"),
            ("engine = 'redis'\nurl = 'rediss+cluster://:secret@a#insecure'", "store.url"),
            ("engine = 'redis'\nurl = 'redis+cluster://:secret@a,b'\npassword = 'secret'", "store.password"),
            ("engine = 'redis'\nurl = 'redis+cluster://a,b'\nca_file = 'ca.pem'", "store.ca_file"),
        ] {
            let settings: StoreSettings = toml::from_str(text).unwrap();
            let problem = settings.check().expect_err(text);
            assert_eq!(problem.key, key, "{text}: {problem}");
            assert!(!format!("{problem} {problem:?} {settings:?}").contains("secret"), "{text}: {problem}");
        }
    }
}
