//! What only `engine = "cached_db"` takes.

use std::time::Duration;

use super::{DjangoSettings, Engine, Format, NearCacheSettings, StoreSettings};
use crate::problem::Problem;

/// How long an entry of the cache is believed unless the settings say otherwise.
const MAX_AGE: Duration = Duration::from_secs(300);
/// A call to the cache may take this part of what the whole call may, so that a cache that hangs costs little.
const CACHE_PART: u32 = 8;

impl StoreSettings {
    /// How long an entry of the cache is believed.
    pub(in crate::store) fn cache_max_age(&self) -> Duration {
        self.cache_max_age.unwrap_or(MAX_AGE)
    }

    /// The settings of the database and of the cache, with what stands once for both.
    pub(in crate::store) fn parts(&self) -> Result<[Self; 2], Problem> {
        if self.cache_max_age().is_zero() {
            return Err(Problem::new("store.cache_max_age", "0", "must be longer than nothing"));
        }
        if self.prefix != Self::default().prefix {
            let message = "is not taken by engine = \"cached_db\": write it in [store.cache]";
            return Err(Problem::new("store.prefix", &self.prefix, message));
        }
        let Some(cache) = self.cache.as_deref() else {
            let message =
                "engine = \"cached_db\" needs [store.cache], with engine = \"redis\", \"memcached\" or \"memory\"";
            return Err(Problem::new("store.cache", "nothing", message));
        };
        let rows = self.db.as_deref().cloned().unwrap_or_default();
        // Of [store.django] each part gets what concerns it.
        let default = DjangoSettings::default();
        let of_rows = |django: DjangoSettings| DjangoSettings {
            key_prefix: default.key_prefix.clone(),
            version: default.version,
            client: default.client,
            serializer: default.serializer,
            compressor: default.compressor,
            ..django
        };
        let of_cache = |django: DjangoSettings| DjangoSettings {
            before_db: true,
            salt: default.salt.clone(),
            legacy: default.legacy,
            table: default.table.clone(),
            ..django
        };
        if rows.engine == Engine::Redis && self.format == Format::Django {
            let message = "is where Django keeps no rows: write \"db\", or take format = \"native\"";
            return Err(Problem::new("store.db.engine", "\"redis\"", message));
        }
        let rows = self.part("store.db", rows, of_rows, &[Engine::Db, Engine::File, Engine::Redis])?;
        let cache = cache.clone();
        let caches = [Engine::Memcached, Engine::Memory, Engine::Redis];
        let mut cache = self.part("store.cache", cache, of_cache, &caches)?;
        cache.timeout = self.cache_timeout();
        Ok([rows, cache])
    }

    pub(in crate::store) fn cache_timeout(&self) -> Duration {
        self.timeout / CACHE_PART
    }

    fn part(
        &self,
        section: &str,
        mut part: Self,
        django: impl FnOnce(DjangoSettings) -> DjangoSettings,
        engines: &[Engine],
    ) -> Result<Self, Problem> {
        if !engines.contains(&part.engine) {
            let names: Vec<String> = engines.iter().map(|engine| format!("\"{}\"", engine.name())).collect();
            let message = format!("cannot be it: write {}", names.join(" or "));
            return Err(Problem::new(format!("{section}.engine"), format!("\"{}\"", part.engine.name()), message));
        }
        let default = Self::default();
        for (key, same) in [
            ("format", part.format == default.format),
            ("django", part.django.is_none()),
            ("encrypt", part.encrypt.is_empty()),
            ("timeout", part.timeout == default.timeout),
            ("clear_interval", part.clear_interval == default.clear_interval),
            ("near_cache", part.near_cache == NearCacheSettings::default()),
        ] {
            if !same {
                let message = "stands once for database and cache: write it in [store]";
                return Err(Problem::new(format!("{section}.{key}"), "…", message));
            }
        }
        part.format = self.format;
        part.django = (self.format == Format::Django).then(|| django(self.django()));
        part.timeout = self.timeout;
        part.clear_interval = self.clear_interval;
        part.check().map_err(|problem| {
            let key = problem.key.strip_prefix("store.").unwrap_or(&problem.key);
            // What stands once stands where it is written.
            let above = if key.starts_with("django") { "store" } else { section };
            Problem::new(format!("{above}.{key}"), problem.value, problem.message)
        })?;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> StoreSettings {
        toml::from_str(&format!("engine = 'cached_db'\n{text}")).unwrap()
    }

    #[test]
    fn what_can_be_meant_is_accepted() {
        for text in [
            "[cache]\nengine = 'memory'",
            "cache_max_age = 60\n[db]\nurl = 'sqlite://x'\n[cache]\nengine = 'redis'\nurl = 'redis://a'",
            "format = 'django'\n[db]\nengine = 'file'\npath = 'x'\n[cache]\nengine = 'memcached'\nurl = 'memcached://a'",
        ] {
            read(text).check().unwrap_or_else(|problem| panic!("{text}: {problem}"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key_and_without_its_password() {
        for (text, key) in [
            ("", "store.cache"),
            ("url = 'redis://:hunter2@a'", "store.url"),
            ("prefix = 'x'\n[cache]\nengine = 'memory'", "store.prefix"),
            ("cache_max_age = 0\n[cache]\nengine = 'memory'", "store.cache_max_age"),
            ("[cache]", "store.cache.engine"),
            ("[cache]\nengine = 'cached_db'", "store.cache.engine"),
            ("[cache]\nengine = 'redis'", "store.cache.url"),
            ("[cache]\nengine = 'redis'\nurl = 'http://:hunter2@a'", "store.cache.url"),
            ("[cache]\nengine = 'memory'\nformat = 'django'", "store.cache.format"),
            ("[cache]\nengine = 'memory'\ntimeout = 1", "store.cache.timeout"),
            ("[cache]\nengine = 'memory'\nencrypt = ['hunter2']", "store.cache.encrypt"),
            ("[cache]\nengine = 'memory'\nmax_bytes = 0", "store.cache.max_bytes"),
            ("[cache]\nengine = 'memory'\n[db]\nengine = 'memory'", "store.db.engine"),
            ("[cache]\nengine = 'memory'\n[db]\ndjango = {}", "store.db.django"),
            (
                "format = 'django'\n[cache]\nengine = 'memory'\n[db]\nengine = 'redis'\nurl = 'redis://a'",
                "store.db.engine",
            ),
            ("[cache]\nengine = 'memory'\n[db]\nurl = 'sqlite://'", "store.db.url"),
            (
                "format = 'django'\ndjango = { key_prefix = 'ä' }\n[cache]\nengine = 'memcached'\nurl = 'memcached://a'",
                "store.django.key_prefix",
            ),
        ] {
            let settings = read(text);
            let problem = settings.check().expect_err(text);
            assert_eq!(problem.key, key, "{text}: {problem}");
            assert!(!format!("{problem} {problem:?} {settings:?}").contains("hunter2"), "{text}: {problem}");
        }
    }

    #[test]
    fn what_stands_once_reaches_both_parts() {
        let text = "format = 'django'\ntimeout = '800ms'\ndjango = { key_prefix = 'site', table = 'rows' }\n\
                    [cache]\nengine = 'memcached'\nurl = 'memcached://a'";
        let [rows, cache] = read(text).parts().unwrap();
        assert_eq!((rows.engine, rows.format, rows.timeout), (Engine::Db, Format::Django, Duration::from_millis(800)));
        assert_eq!((cache.format, cache.timeout), (Format::Django, Duration::from_millis(100)));
        let [rows, cache] = [rows.django(), cache.django()];
        assert_eq!((rows.key_prefix.as_str(), rows.table.as_str(), rows.before_db), ("", "rows", false));
        assert_eq!(
            (cache.key_prefix.as_str(), cache.table.as_str(), cache.before_db),
            ("site", "django_session", true)
        );
        assert_eq!(read("[cache]\nengine = 'memory'").cache_max_age(), Duration::from_secs(300));
    }
}
