//! `[store.near_cache]`: sessions in the proxy's own memory.

use std::time::Duration;

use serde::Deserialize;

use super::{Engine, StoreSettings};
use crate::problem::Problem;
use crate::units;

/// Where the engine tells what changed; also how long a change goes unseen if its word is lost.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Less would hold no session of an ordinary size.
const LEAST_BYTES: usize = 64 << 10;

/// `[store.near_cache]` as the file has it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, expecting = "a table: to turn it off write [store.near_cache] enabled = false")]
pub struct NearCacheSettings {
    /// Absent: where the engine can tell what changed.
    pub enabled: Option<bool>,
    /// How long the store is not asked again. Where the engine cannot tell what changed it must be written, for as long
    /// another proxy's logout goes unseen.
    #[serde(deserialize_with = "units::optional_duration")]
    pub max_age: Option<Duration>,
    /// How much may be kept, the bookkeeping included.
    #[serde(deserialize_with = "units::size")]
    pub max_bytes: usize,
}

/// A near cache that is turned on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NearCacheRules {
    pub max_age: Duration,
    pub max_bytes: usize,
}

impl Default for NearCacheSettings {
    fn default() -> Self {
        Self { enabled: None, max_age: None, max_bytes: 64 << 20 }
    }
}

impl StoreSettings {
    /// `None` if there is none.
    ///
    /// # Errors
    /// One that cannot be meant.
    pub fn near_cache(&self) -> Result<Option<NearCacheRules>, Problem> {
        let NearCacheSettings { enabled, max_age, max_bytes } = self.near_cache;
        let tells = self.engine == Engine::Redis;
        if let (false, Some(_), None) = (tells, max_age, enabled) {
            let message = "is of no use where the near cache is off, as it is for this engine unless enabled = true";
            return Err(Problem::new("store.near_cache.max_age", shown(max_age), message));
        }
        if max_age.is_some_and(|age| age.is_zero()) {
            let message = "must be longer than nothing; enabled = false turns the near cache off";
            return Err(Problem::new("store.near_cache.max_age", "0", message));
        }
        if max_bytes < LEAST_BYTES {
            return Err(Problem::new("store.near_cache.max_bytes", max_bytes, "must be at least 64KiB"));
        }
        if !enabled.unwrap_or(tells) {
            return Ok(None);
        }
        let problem = |message: &str| Err(Problem::new("store.near_cache.enabled", true, message));
        let max_age = match (self.engine, max_age) {
            (Engine::Memory, _) => return problem("is of no use: engine = \"memory\" is near already"),
            (Engine::SignedCookies, _) => return problem("is of no use: engine = \"signed_cookies\" asks no store"),
            (Engine::Redis, max_age) => max_age.unwrap_or(MAX_AGE),
            (_, Some(max_age)) => max_age,
            (_, None) => {
                let message = "needs max_age with this engine, which does not tell what changed: a logout or an \
                               update through another proxy, or by the application itself, goes unseen for so long";
                return problem(message);
            }
        };
        Ok(Some(NearCacheRules { max_age, max_bytes }))
    }
}

fn shown(age: Option<Duration>) -> String {
    age.map_or_else(String::new, |age| format!("{age:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Option<NearCacheRules>, String> {
        let settings: StoreSettings = toml::from_str(text).unwrap();
        settings.near_cache().map_err(|problem| problem.key)
    }

    #[test]
    fn it_is_on_where_the_engine_tells_what_changed() {
        let on = |seconds, max_bytes| Some(NearCacheRules { max_age: Duration::from_secs(seconds), max_bytes });
        for (text, expected) in [
            ("engine = 'redis'", on(30, 64 << 20)),
            ("engine = 'redis'\nnear_cache.enabled = false", None),
            ("engine = 'redis'\nnear_cache = { enabled = false, max_age = '5s' }", None),
            ("engine = 'redis'\nnear_cache = { max_age = '5s', max_bytes = '1MiB' }", on(5, 1 << 20)),
            ("engine = 'db'", None),
            ("engine = 'db'\nnear_cache = { enabled = true, max_age = '2s' }", on(2, 64 << 20)),
            ("engine = 'db'\nnear_cache = { enabled = false, max_age = '2s' }", None),
            ("engine = 'cached_db'\nnear_cache = { enabled = true, max_age = '2s' }", on(2, 64 << 20)),
        ] {
            assert_eq!(rules(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, key) in [
            ("engine = 'db'\nnear_cache.enabled = true", "enabled"),
            ("engine = 'file'\nnear_cache.enabled = true", "enabled"),
            ("engine = 'memory'\nnear_cache = { enabled = true, max_age = '2s' }", "enabled"),
            ("engine = 'signed_cookies'\nnear_cache = { enabled = true, max_age = '2s' }", "enabled"),
            ("engine = 'db'\nnear_cache.max_age = '2s'", "max_age"),
            ("engine = 'redis'\nnear_cache.max_age = 0", "max_age"),
            ("engine = 'redis'\nnear_cache.max_bytes = '63KiB'", "max_bytes"),
        ] {
            assert_eq!(rules(text), Err(format!("store.near_cache.{key}")), "{text}");
        }
    }
}
