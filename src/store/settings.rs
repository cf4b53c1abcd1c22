//! The `[store]` section: which engine keeps the sessions, where, and how long it may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use serde::Deserialize;

use crate::problem::Problem;
use crate::secret::Secret;
use crate::units::{self, Off};

const DB_URL: &str = "sqlite://cloakroom.sqlite3";
const REDIS_FORMS: &str =
    "write redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE or redis+unix:///PATH?db=DATABASE";

/// `[store]` as the file has it. [`StoreSettings::check`] tells what no single key can.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    pub engine: Engine,
    /// Where the sessions are; a secret, because a password may be part of it. Absent, `db` has a default.
    pub url: Option<Secret>,
    pub format: Format,
    /// What every key of ours begins with in a store that others use too.
    pub prefix: String,
    /// How long a call may take before it counts as failed.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// `memory` only: how much may be kept, the bookkeeping included.
    #[serde(deserialize_with = "units::size")]
    pub max_bytes: usize,
    /// How often expired records are swept where the engine does not do so itself.
    #[serde(deserialize_with = "units::duration")]
    pub clear_interval: Duration,
    /// `rediss://` only: whom to trust instead of the system's certificate authorities, as PEM.
    pub ca_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub near_cache: NearCacheSettings,
}

/// What keeps the sessions.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    #[default]
    Db,
    Memory,
    Redis,
}

/// How a session becomes bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Native,
}

/// `[store.near_cache]`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct NearCacheSettings {
    pub enabled: Off,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            url: None,
            format: Format::default(),
            prefix: "session:".to_owned(),
            timeout: Duration::from_millis(250),
            max_bytes: 256 << 20,
            clear_interval: Duration::from_secs(300),
            ca_file: None,
            username: None,
            password: None,
            near_cache: NearCacheSettings::default(),
        }
    }
}

impl StoreSettings {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// The first [`Problem`] found; no message contains a password.
    pub fn check(&self) -> Result<(), Problem> {
        for (key, duration) in [("store.timeout", self.timeout), ("store.clear_interval", self.clear_interval)] {
            if duration.is_zero() {
                return Err(Problem::new(key, "0", "must be longer than nothing"));
            }
        }
        if self.engine != Engine::Redis {
            self.refuse_what_only_redis_has()?;
        }
        match self.engine {
            Engine::Db => self.database_path().map(drop),
            Engine::Memory => self.check_memory(),
            Engine::Redis => self.redis_server().map(drop),
        }
    }

    /// The file behind `sqlite://PATH`.
    pub(super) fn database_path(&self) -> Result<&Path, Problem> {
        let url = self.url.as_ref().map_or(DB_URL, Secret::expose);
        let problem = |message| Problem::new("store.url", shown(url), message);
        let path = url.strip_prefix("sqlite://").ok_or_else(|| {
            problem(
                "is not a database we know: write sqlite://PATH, such as sqlite:///var/lib/cloakroom/sessions.sqlite3",
            )
        })?;
        match path {
            "" => Err(problem("names no file: write sqlite://PATH")),
            ":memory:" => Err(problem("would be another database for every connection: write engine = \"memory\"")),
            _ if path.contains('?') => Err(problem("takes no options: write sqlite://PATH alone")),
            _ => Ok(Path::new(path)),
        }
    }

    /// The server behind `redis://…`, with the credentials wherever they are written.
    pub(super) fn redis_server(&self) -> Result<ConnectionInfo, Problem> {
        let Some(url) = self.url.as_ref().map(Secret::expose) else {
            return Err(Problem::new("store.url", "nothing", format!("engine = \"redis\" needs one: {REDIS_FORMS}")));
        };
        let problem = |message: String| Problem::new("store.url", shown(url), message);
        if self.prefix.is_empty() {
            return Err(Problem::new("store.prefix", "\"\"", "must not be empty: others may use the same Redis"));
        }
        // The library's own messages are kept out: they may quote what they could not read, such as a password.
        let info = url.into_connection_info().map_err(|_| problem(format!("is no Redis server: {REDIS_FORMS}")))?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(problem("skips the check of the certificate: name its authority in ca_file".to_owned()));
            }
            ConnectionAddr::TcpTls { .. } => {}
            _ => {
                if let Some(file) = &self.ca_file {
                    return Err(Problem::new("store.ca_file", file.display(), "is only for rediss://"));
                }
            }
        }
        self.with_credentials(info)
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

    fn check_memory(&self) -> Result<(), Problem> {
        if let Some(url) = &self.url {
            let message = "is not used by engine = \"memory\": remove it or choose another engine";
            return Err(Problem::new("store.url", shown(url.expose()), message));
        }
        if self.max_bytes == 0 {
            return Err(Problem::new("store.max_bytes", "0", "must hold something: write a size such as \"256MiB\""));
        }
        Ok(())
    }

    fn refuse_what_only_redis_has(&self) -> Result<(), Problem> {
        let message = "is only for engine = \"redis\"";
        if let Some(file) = &self.ca_file {
            return Err(Problem::new("store.ca_file", file.display(), message));
        }
        if let Some(username) = &self.username {
            return Err(Problem::new("store.username", username, message));
        }
        if self.password.is_some() {
            return Err(Problem::new("store.password", "…", message));
        }
        Ok(())
    }
}

/// A URL as a message may have it: only its scheme when there could be a password in it.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((_, rest)) if !rest.contains(['@', '?']) => url.to_owned(),
        Some((scheme, _)) if !scheme.contains(['@', '?', ':']) => format!("{scheme}://…"),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> StoreSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn nothing_written_is_the_embedded_database() {
        let settings = read("");
        assert_eq!(settings.engine, Engine::Db);
        assert_eq!(settings.database_path().unwrap(), Path::new("cloakroom.sqlite3"));
        assert_eq!((settings.timeout, settings.max_bytes), (Duration::from_millis(250), 268_435_456));
        settings.check().unwrap();
    }

    #[test]
    fn an_unknown_word_is_refused_with_those_there_are() {
        for (text, expected) in [
            ("engine = 'memcached'", "`db`, `memory`, `redis`"),
            ("format = 'django'", "`native`"),
            ("path = '/x'", "unknown field `path`"),
        ] {
            let error = toml::from_str::<StoreSettings>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_fits_together_is_accepted() {
        for text in [
            "engine = 'memory'",
            "url = 'sqlite:///var/lib/x.sqlite3'",
            "engine = 'redis'\nurl = 'redis://127.0.0.1:6379/0'",
            "engine = 'redis'\nurl = 'redis://ann:secret@localhost/2'",
            "engine = 'redis'\nurl = 'rediss://localhost'\nca_file = 'ca.pem'\nusername = 'ann'\npassword = 'secret'",
            "engine = 'redis'\nurl = 'redis+unix:///run/redis.sock?db=3'\npassword = 'secret'",
        ] {
            read(text).check().unwrap_or_else(|problem| panic!("{text}: {problem}"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key_and_without_its_password() {
        for (text, key) in [
            ("timeout = 0", "store.timeout"),
            ("clear_interval = 0", "store.clear_interval"),
            ("url = 'postgres://ann:secret@host/db'", "store.url"),
            ("url = 'sqlite://'", "store.url"),
            ("url = 'sqlite://:memory:'", "store.url"),
            ("url = 'sqlite://x?mode=ro'", "store.url"),
            ("ca_file = 'ca.pem'", "store.ca_file"),
            ("password = 'secret'", "store.password"),
            ("engine = 'memory'\nusername = 'ann'", "store.username"),
            ("engine = 'memory'\nurl = 'redis://:secret@localhost'", "store.url"),
            ("engine = 'memory'\nmax_bytes = 0", "store.max_bytes"),
            ("engine = 'redis'", "store.url"),
            ("engine = 'redis'\nurl = 'redis://localhost'\nprefix = ''", "store.prefix"),
            ("engine = 'redis'\nurl = 'http://:secret@localhost'", "store.url"),
            ("engine = 'redis'\nurl = 'redis://:secret@localhost/zero'", "store.url"),
            ("engine = 'redis'\nurl = 'secret'", "store.url"),
            ("engine = 'redis'\nurl = 'rediss://:secret@localhost#insecure'", "store.url"),
            ("engine = 'redis'\nurl = 'redis://localhost'\nca_file = 'ca.pem'", "store.ca_file"),
            ("engine = 'redis'\nurl = 'redis://:secret@localhost'\npassword = 'secret'", "store.password"),
            ("engine = 'redis'\nurl = 'redis+unix:///x?pass=secret'\npassword = 'secret'", "store.password"),
            ("engine = 'redis'\nurl = 'redis://bob:secret@localhost'\nusername = 'ann'", "store.username"),
            ("engine = 'redis'\nurl = 'redis://localhost'\nusername = 'ann'", "store.username"),
        ] {
            let settings = read(text);
            let problem = settings.check().expect_err(text);
            assert_eq!(problem.key, key, "{text}: {problem}");
            assert!(!format!("{problem} {problem:?} {settings:?}").contains("secret"), "{text}: {problem}");
        }
    }
}
