//! `[store.django]`: what a Django application says in its own settings about sessions. In brackets: the name there.

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{Engine, Format, StoreSettings};
use crate::problem::Problem;
use crate::secret::Secret;

/// `[store.django]` as the file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DjangoSettings {
    /// What rows, files and cookies are signed with (`SECRET_KEY`). Sessions in a cache need none.
    pub secret_key: Option<Secret>,
    /// Older ones that are still believed (`SECRET_KEY_FALLBACKS`).
    pub secret_key_fallbacks: Vec<Secret>,
    /// What signatures are salted with: `django.contrib.sessions.` and the name of the application's `SessionStore`
    /// class. `signed_cookies` has a salt of its own.
    pub salt: String,
    /// Whether what Django before 3.1 wrote is read too.
    pub legacy: bool,
    /// Whether the database has instants in UTC (`USE_TZ`).
    pub use_tz: bool,
    /// Where the clocks are by which the database has them otherwise (`TIME_ZONE`).
    pub time_zone: String,
    /// The database's table.
    pub table: String,
    /// (`CACHES[…]["KEY_PREFIX"]`)
    pub key_prefix: String,
    /// (`CACHES[…]["VERSION"]`)
    pub version: u32,
    /// Which cache backend of Redis the application has.
    pub client: CacheClient,
    /// How django-redis makes bytes of a session (`OPTIONS["SERIALIZER"]`).
    pub serializer: Serializer,
    /// How django-redis makes them shorter (`OPTIONS["COMPRESSOR"]`).
    pub compressor: Compressor,
    /// Whether the entries of a cache are copies of rows, which Django calls by other names.
    #[serde(skip)]
    pub before_db: bool,
}

/// A cache backend for Redis (`CACHES[…]["BACKEND"]`).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum CacheClient {
    /// `django.core.cache.backends.redis.RedisCache`
    #[default]
    Django,
    /// `django_redis.cache.RedisCache`
    DjangoRedis,
}

/// A serializer of django-redis.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Serializer {
    Json,
    Msgpack,
    #[default]
    Pickle,
}

/// A compressor of django-redis.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Compressor {
    Gzip,
    Lz4,
    Lzma,
    #[default]
    None,
    Zlib,
    Zstd,
}

impl Default for DjangoSettings {
    fn default() -> Self {
        Self {
            secret_key: None,
            secret_key_fallbacks: Vec::new(),
            salt: "django.contrib.sessions.SessionStore".to_owned(),
            legacy: false,
            use_tz: true,
            time_zone: "UTC".to_owned(),
            table: "django_session".to_owned(),
            key_prefix: String::new(),
            version: 1,
            client: CacheClient::default(),
            serializer: Serializer::default(),
            compressor: Compressor::default(),
            before_db: false,
        }
    }
}

impl DjangoSettings {
    /// What the names of a cache's entries begin with; the session's key follows.
    pub(in crate::store) fn cache_prefix(&self) -> String {
        let Self { key_prefix, version, .. } = self;
        let engine = if self.before_db { "cached_db" } else { "cache" };
        format!("{key_prefix}:{version}:django.contrib.sessions.{engine}")
    }

    /// The clocks of [`DjangoSettings::time_zone`].
    ///
    /// # Errors
    /// When there are none of that name.
    pub fn zone(&self) -> Result<TimeZone, Problem> {
        TimeZone::get(&self.time_zone).map_err(|_| {
            let message = "is no time zone we know: write a name such as \"UTC\" or \"Europe/Berlin\"";
            Problem::new("store.django.time_zone", format!("{:?}", self.time_zone), message)
        })
    }
}

impl StoreSettings {
    /// `[store.django]`, or its defaults where it is not written.
    pub fn django(&self) -> DjangoSettings {
        self.django.clone().unwrap_or_default()
    }

    /// What is written there is what the engine takes. What an engine needs of it only the codec knows.
    pub(super) fn check_django(&self) -> Result<(), Problem> {
        let Some(django) = &self.django else { return Ok(()) };
        if self.format != Format::Django {
            return Err(Problem::new("store.django", "a section", "is only for format = \"django\""));
        }
        let problem =
            |key: &str, value: String, message: &str| Err(Problem::new(format!("store.django.{key}"), value, message));
        if django.secret_key.is_none() && !django.secret_key_fallbacks.is_empty() {
            return problem("secret_key_fallbacks", "…".to_owned(), "needs a secret_key before it");
        }
        if django.salt.is_empty() {
            return problem(
                "salt",
                "\"\"".to_owned(),
                "must not be empty: leave it out unless your SessionStore has another name",
            );
        }
        django.zone()?;
        if !is_identifier(&django.table) {
            let message = "is no name of a table: letters, digits and _, at most 63";
            return problem("table", format!("{:?}", django.table), message);
        }
        if django.key_prefix.chars().any(|character| character.is_control() || character == ' ') {
            return problem(
                "key_prefix",
                format!("{:?}", django.key_prefix),
                "must have no spaces or control characters",
            );
        }
        self.refuse_what_other_engines_of_django_take(django)
    }

    fn refuse_what_other_engines_of_django_take(&self, django: &DjangoSettings) -> Result<(), Problem> {
        use Engine::{CachedDb, Db, File, Memcached, Memory, Redis, SignedCookies};

        let default = DjangoSettings::default();
        let salt = (django.salt != default.salt).then(|| format!("{:?}", django.salt));
        let legacy = django.legacy.then(|| "true".to_owned());
        let table = (django.table != default.table).then(|| format!("{:?}", django.table));
        let key_prefix = (!django.key_prefix.is_empty()).then(|| format!("{:?}", django.key_prefix));
        let version = (django.version != default.version).then(|| django.version.to_string());
        let client = (django.client != default.client).then(|| "\"django-redis\"".to_owned());
        let written: [(&str, Option<String>, &[Engine]); 6] = [
            ("salt", salt, &[CachedDb, Db, File, Memory]),
            ("legacy", legacy, &[CachedDb, Db, File, Memory, SignedCookies]),
            ("table", table, &[CachedDb, Db]),
            ("key_prefix", key_prefix, &[CachedDb, Memcached, Redis]),
            ("version", version, &[CachedDb, Memcached, Redis]),
            ("client", client, &[CachedDb, Redis]),
        ];
        for (key, value, engines) in written {
            if let (Some(value), false) = (value, engines.contains(&self.engine)) {
                let engines: Vec<String> = engines.iter().map(|engine| format!("\"{}\"", engine.name())).collect();
                let message = format!("is only for engine = {}", engines.join(" or "));
                return Err(Problem::new(format!("store.django.{key}"), value, message));
            }
        }
        self.check_cache_client(django)
    }

    /// Django's own cache backends always pickle and never compress.
    fn check_cache_client(&self, django: &DjangoSettings) -> Result<(), Problem> {
        let in_memcached = self.cache.as_ref().is_some_and(|cache| cache.engine == Engine::Memcached);
        if django.client == CacheClient::DjangoRedis && self.engine == Engine::CachedDb && in_memcached {
            let message = "is only for engine = \"redis\" under [store.cache]";
            return Err(Problem::new("store.django.client", "\"django-redis\"", message));
        }
        if django.client == CacheClient::DjangoRedis {
            return Ok(());
        }
        let message = "is only for client = \"django-redis\"";
        if django.serializer != Serializer::default() {
            let value = format!("{:?}", django.serializer).to_lowercase();
            return Err(Problem::new("store.django.serializer", format!("{value:?}"), message));
        }
        if django.compressor != Compressor::default() {
            let value = format!("{:?}", django.compressor).to_lowercase();
            return Err(Problem::new("store.django.compressor", format!("{value:?}"), message));
        }
        Ok(())
    }
}

/// What every database takes as a name.
fn is_identifier(name: &str) -> bool {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts_well && name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Problem> {
        toml::from_str::<StoreSettings>(text).unwrap().check_django()
    }

    #[test]
    fn nothing_written_is_djangos_defaults() {
        let django = toml::from_str::<StoreSettings>("").unwrap().django();
        assert_eq!(
            (django.salt.as_str(), django.table.as_str()),
            ("django.contrib.sessions.SessionStore", "django_session")
        );
        assert_eq!((django.use_tz, django.time_zone.as_str(), django.version, django.legacy), (true, "UTC", 1, false));
        check("").unwrap();
        check("format = 'django'").unwrap();
    }

    #[test]
    fn what_fits_together_is_accepted() {
        for text in [
            "[django]\nsecret_key = 'a'\nsecret_key_fallbacks = ['b']\nlegacy = true\ntable = 'own_sessions'",
            "[django]\nuse_tz = false\ntime_zone = 'America/Chicago'",
            "engine = 'file'\n[django]\nsalt = 'django.contrib.sessions.MySessionStore'",
            "engine = 'memcached'\n[django]\nkey_prefix = 'shop'\nversion = 2",
            "engine = 'redis'\n[django]\nclient = 'django-redis'\nserializer = 'msgpack'\ncompressor = 'zstd'",
            "engine = 'cached_db'\ncache.engine = 'redis'\n[django]\nclient = 'django-redis'\nserializer = 'json'",
        ] {
            check(&format!("format = 'django'\n{text}")).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key_and_without_its_secret() {
        for (text, key) in [
            ("[django]\nsecret_key_fallbacks = ['secret']", "secret_key_fallbacks"),
            ("[django]\nsalt = ''", "salt"),
            ("[django]\ntime_zone = 'Mars/Base'", "time_zone"),
            ("[django]\ntime_zone = ''", "time_zone"),
            ("[django]\ntable = ''", "table"),
            ("[django]\ntable = 'a; drop table b'", "table"),
            ("[django]\ntable = '1st'", "table"),
            ("engine = 'redis'\n[django]\nkey_prefix = 'a b'", "key_prefix"),
            ("engine = 'redis'\n[django]\nsalt = 'other'", "salt"),
            ("engine = 'memcached'\n[django]\nlegacy = true", "legacy"),
            ("engine = 'file'\n[django]\ntable = 'other'", "table"),
            ("[django]\nkey_prefix = 'shop'", "key_prefix"),
            ("engine = 'signed_cookies'\n[django]\nversion = 2", "version"),
            ("engine = 'memcached'\n[django]\nclient = 'django-redis'", "client"),
            ("engine = 'cached_db'\ncache.engine = 'memcached'\n[django]\nclient = 'django-redis'", "client"),
            ("engine = 'redis'\n[django]\nserializer = 'json'", "serializer"),
            ("engine = 'redis'\n[django]\ncompressor = 'lz4'", "compressor"),
            ("engine = 'db'\n[django]\nserializer = 'msgpack'", "serializer"),
        ] {
            let problem = check(&format!("format = 'django'\n{text}")).expect_err(text);
            assert_eq!(problem.key, format!("store.django.{key}"), "{text}: {problem}");
            assert!(!format!("{problem} {problem:?}").contains("'secret'"), "{text}: {problem}");
        }
        assert_eq!(check("[django]\nsecret_key = 'secret'").unwrap_err().key, "store.django");
        assert_eq!(check("format = 'msgpack'\n[django]").unwrap_err().key, "store.django");
    }
}
