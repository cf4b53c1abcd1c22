//! `[store.django]`: what a Django application says in its own settings about sessions. In brackets: the name there.

use serde::Deserialize;

use super::StoreSettings;
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

impl StoreSettings {
    /// `[store.django]`, or its defaults where it is not written.
    pub fn django(&self) -> DjangoSettings {
        self.django.clone().unwrap_or_default()
    }

    pub(super) fn check_django(&self) -> Result<(), Problem> {
        Ok(())
    }
}
