//! The `[store]` section: which engine keeps the sessions, where, and how long it may take. What only one engine takes is
//! checked in that engine's file.

mod cached_db;
mod db;
mod django;
mod file;
pub(super) mod memcached;
mod near_cache;
mod redis;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub(super) use self::db::{Database, Place, Server, Tls};
pub use self::django::{CacheClient, Compressor, DjangoSettings, Serializer};
pub use self::near_cache::{NearCacheRules, NearCacheSettings};
pub(in crate::store) use self::redis::RedisServers;
use crate::problem::Problem;
use crate::secret::Secret;
use crate::units;

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
    /// `memory`: how much may be kept, the bookkeeping included.
    #[serde(deserialize_with = "units::size")]
    pub max_bytes: usize,
    /// How often expired records are swept where the engine does not do so itself.
    #[serde(deserialize_with = "units::duration")]
    pub clear_interval: Duration,
    /// Over TLS: whom to trust instead of the system's certificate authorities, as PEM.
    pub ca_file: Option<PathBuf>,
    /// `redis`.
    pub username: Option<String>,
    /// `redis`.
    pub password: Option<Secret>,
    /// `redis`: how many replicas must have a write before it counts.
    pub wait_replicas: Option<u32>,
    /// `db` on PostgreSQL or MySQL: connections each worker may open.
    pub max_connections: Option<usize>,
    /// `db`: whether the table is made at start; absent, it is.
    pub auto_migrate: Option<bool>,
    /// `file`: the directory.
    pub path: Option<PathBuf>,
    /// `file`: whether each write waits until it is on the disk; absent, it does.
    pub fsync: Option<bool>,
    /// `signed_cookies` in our own format: the first seals, all open.
    pub keys: Vec<Secret>,
    /// Keys that records are encrypted with: the first encrypts, all decrypt. None: they are not.
    pub encrypt: Vec<Secret>,
    /// `cached_db`: how long an entry of the cache may be believed.
    #[serde(deserialize_with = "units::optional_duration")]
    pub cache_max_age: Option<Duration>,
    /// `cached_db`: the database.
    pub db: Option<Box<StoreSettings>>,
    /// `cached_db`: the cache before it.
    pub cache: Option<Box<StoreSettings>>,
    pub django: Option<DjangoSettings>,
    pub near_cache: NearCacheSettings,
}

/// What keeps the sessions.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    CachedDb,
    #[default]
    Db,
    File,
    Memcached,
    Memory,
    Redis,
    SignedCookies,
}

/// How a session becomes bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Django,
    Msgpack,
    #[default]
    Native,
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
            wait_replicas: None,
            max_connections: None,
            auto_migrate: None,
            path: None,
            fsync: None,
            keys: Vec::new(),
            encrypt: Vec::new(),
            cache_max_age: None,
            db: None,
            cache: None,
            django: None,
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
        self.refuse_what_belongs_to_others()?;
        self.check_django()?;
        self.near_cache()?;
        match self.engine {
            Engine::CachedDb => self.parts().map(drop),
            Engine::Db => self.check_db(),
            Engine::File => self.directory().map(drop),
            Engine::Memcached => self.memcached_servers().map(drop),
            Engine::Memory => self.check_memory(),
            Engine::Redis => self.redis_servers().map(drop),
            Engine::SignedCookies => Ok(()),
        }
    }

    /// Every key that is written is one that the engine takes.
    fn refuse_what_belongs_to_others(&self) -> Result<(), Problem> {
        use Engine::{CachedDb, Db, File, Memcached, Memory, Redis, SignedCookies};

        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let default = Self::default();
        let prefix = (self.prefix != default.prefix).then(|| format!("{:?}", self.prefix));
        let max_bytes = (self.max_bytes != default.max_bytes).then(|| self.max_bytes.to_string());
        let interval = (self.clear_interval != default.clear_interval).then(|| format!("{:?}", self.clear_interval));
        if let (Some(prefix), Format::Django) = (&prefix, self.format) {
            let message = "is not for format = \"django\": write store.django.key_prefix, as CACHES has it";
            return Err(Problem::new("store.prefix", prefix, message));
        }
        let keys: [(&str, Option<String>, &[Engine]); 16] = [
            ("prefix", prefix, &[CachedDb, File, Memcached, Redis]),
            ("max_bytes", max_bytes, &[Memory]),
            ("clear_interval", interval, &[CachedDb, Db, File, Memory]),
            ("url", self.url.as_ref().map(|url| shown(url.expose())), &[Db, Memcached, Redis]),
            ("ca_file", path(&self.ca_file), &[Db, Redis]),
            ("username", self.username.clone(), &[Redis]),
            ("password", self.password.as_ref().map(|_| "…".to_owned()), &[Redis]),
            ("wait_replicas", self.wait_replicas.map(|count| count.to_string()), &[Redis]),
            ("max_connections", self.max_connections.map(|count| count.to_string()), &[Db]),
            ("auto_migrate", self.auto_migrate.map(|wanted| wanted.to_string()), &[Db]),
            ("path", path(&self.path), &[File]),
            ("fsync", self.fsync.map(|wanted| wanted.to_string()), &[File]),
            ("keys", (!self.keys.is_empty()).then(|| "…".to_owned()), &[SignedCookies]),
            ("cache_max_age", self.cache_max_age.map(|age| format!("{age:?}")), &[CachedDb]),
            ("db", self.db.as_ref().map(|_| "…".to_owned()), &[CachedDb]),
            ("cache", self.cache.as_ref().map(|_| "…".to_owned()), &[CachedDb]),
        ];
        for (key, value, engines) in keys {
            if let (Some(value), false) = (value, engines.contains(&self.engine)) {
                let engines: Vec<String> = engines.iter().map(|engine| format!("\"{}\"", engine.name())).collect();
                let message = format!("is only for engine = {}", engines.join(" or "));
                return Err(Problem::new(format!("store.{key}"), value, message));
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), Problem> {
        let before_db = self.django.as_ref().is_some_and(|django| django.before_db);
        if self.format == Format::Django && !before_db {
            let message = "is not for engine = \"memory\", which no Django application can share";
            return Err(Problem::new("store.format", "\"django\"", message));
        }
        if self.max_bytes == 0 {
            return Err(Problem::new("store.max_bytes", "0", "must hold something: write a size such as \"256MiB\""));
        }
        Ok(())
    }
}

impl Engine {
    /// As the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CachedDb => "cached_db",
            Self::Db => "db",
            Self::File => "file",
            Self::Memcached => "memcached",
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::SignedCookies => "signed_cookies",
        }
    }
}

impl Format {
    /// As the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Django => "django",
            Self::Msgpack => "msgpack",
            Self::Native => "native",
        }
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
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> StoreSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn nothing_written_is_the_embedded_database() {
        let settings = read("");
        assert_eq!(settings.engine, Engine::Db);
        assert!(
            matches!(settings.database().unwrap(), Database::Sqlite(path) if path == Path::new("cloakroom.sqlite3"))
        );
        assert_eq!((settings.timeout, settings.max_bytes), (Duration::from_millis(250), 268_435_456));
        settings.check().unwrap();
    }

    #[test]
    fn an_unknown_word_is_refused_with_those_there_are() {
        for (text, expected) in [
            ("engine = 'mongo'", "`cached_db`, `db`, `file`, `memcached`, `memory`, `redis`, `signed_cookies`"),
            ("format = 'json'", "`django`, `msgpack`, `native`"),
            ("paths = '/x'", "unknown field `paths`"),
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
            ("url = 'oracle://ann:secret@host/db'", "store.url"),
            ("url = 'sqlite://'", "store.url"),
            ("url = 'sqlite://:memory:'", "store.url"),
            ("url = 'sqlite://x?mode=ro'", "store.url"),
            ("ca_file = 'ca.pem'", "store.ca_file"),
            ("password = 'secret'", "store.password"),
            ("engine = 'memory'\nusername = 'ann'", "store.username"),
            ("engine = 'memory'\nurl = 'redis://:secret@localhost'", "store.url"),
            ("engine = 'memory'\nmax_bytes = 0", "store.max_bytes"),
            ("engine = 'memory'\nformat = 'django'", "store.format"),
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
