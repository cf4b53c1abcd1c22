//! The configuration: the settings of all parts together, and what no part can check alone. A new setting is a field of
//! its part and a line in `config.example.toml`; a new part is a field of `Written` and of [`Config`] and, if it has
//! something to check, a line in `Written::check`.

mod fault;
mod place;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

use crate::admin::AdminSettings;
use crate::cookies::{CookieRuleSettings, CookieRules};
use crate::problem::Problem;
use crate::routes::{OnStoreError, RouteSettings, Routes};
use crate::session::codec::Codec;
use crate::session::cookie::{CookiePolicy, CookieSettings};
use crate::session::inject::{HeaderSettings, Injector};
use crate::session::settings::{SessionRules, SessionSettings};
use crate::store::{Engine, Format, StoreSettings};
use crate::telemetry::LogSettings;
use crate::upstream::UpstreamSettings;

pub use self::fault::{ConfigError, Fault};
use self::fault::{Origin, Source, suggest};
use crate::server::ServerSettings;

/// Settings that were read and checked. Reading a file or a command line is the only way to one.
#[non_exhaustive]
pub struct Config {
    pub server: ServerSettings,
    pub upstreams: BTreeMap<String, UpstreamSettings>,
    /// At least one; without `[[routes]]`, everything goes to the only upstream.
    pub routes: Routes,
    pub session: SessionRules,
    /// How sessions are written into the store.
    pub codec: Codec,
    pub cookie: CookiePolicy,
    /// For the backend's own cookies.
    pub cookies: CookieRules,
    pub headers: Injector,
    pub store: StoreSettings,
    /// Absent: no admin listener.
    pub admin: Option<AdminSettings>,
    pub log: LogSettings,
}

impl Config {
    /// Reads a file. Paths in it are relative to the working directory, not to the file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a text that messages call `name`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::read(Source { origin: Origin::File(name), text })
    }

    /// Without a file: everything goes to one backend, and every other setting has its default.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn for_upstream(upstream: &str, listen: Option<&str>) -> Result<Self, ConfigError> {
        let mut text = format!("upstreams.app.servers = [{}]\n", toml::Value::from(upstream));
        if let Some(listen) = listen {
            text.push_str(&format!("server.listen = [{}]\n", toml::Value::from(listen)));
        }
        Self::read(Source { origin: Origin::CommandLine(&["--upstream", "--listen"]), text: &text })
    }

    fn read(source: Source<'_>) -> Result<Self, ConfigError> {
        let written: Written = toml::from_str(source.text).map_err(|error| source.unreadable(&error))?;
        written.check().map_err(|problems| source.faults(problems))
    }
}

/// The settings as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    server: ServerSettings,
    upstreams: BTreeMap<String, UpstreamSettings>,
    routes: Vec<RouteSettings>,
    session: SessionSettings,
    cookie: CookieSettings,
    cookies: Vec<CookieRuleSettings>,
    headers: HeaderSettings,
    store: StoreSettings,
    admin: Option<AdminSettings>,
    log: LogSettings,
}

impl Written {
    fn check(mut self) -> Result<Config, Vec<Problem>> {
        if let (true, [only]) = (self.routes.is_empty(), self.upstreams.keys().collect::<Vec<_>>().as_slice()) {
            self.routes.push(RouteSettings::to(only));
        }
        let mut problems = self.check_ways();
        problems.extend(self.check_admin());
        problems.extend(self.check_room());
        problems.extend(self.check_passed_cookies());
        problems.extend(self.check_carried());
        problems.extend(self.check_stale());
        for (name, upstream) in &self.upstreams {
            problems.extend(upstream.check(&format!("upstreams.{name}")).err());
        }
        problems.extend(self.server.check().err());
        let store = good(self.store.check(), &mut problems);
        let routes = good(Routes::new(self.routes), &mut problems);
        let session = good(self.session.check(&self.headers), &mut problems);
        let cookie = good(self.cookie.check(), &mut problems);
        let django = self.store.django.as_ref();
        let keys = django.and_then(|django| Some((django.secret_key.as_ref()?, &*django.secret_key_fallbacks)));
        let cookies = CookieRules::new(&self.cookies, cookie.as_ref().map_or("", CookiePolicy::name), keys);
        let cookies = good(cookies, &mut problems);
        let headers = good(self.headers.check(), &mut problems);
        let codec = match (store, &session, &cookie) {
            (Some(()), Some(session), Some(cookie)) => {
                good(Codec::new(&self.store, session, cookie.name()), &mut problems)
            }
            _ => None,
        };
        match (routes, session, codec, cookie.zip(cookies), headers) {
            (Some(routes), Some(session), Some(codec), Some((cookie, cookies)), Some(headers))
                if problems.is_empty() =>
            {
                Ok(Config {
                    server: self.server,
                    upstreams: self.upstreams,
                    routes,
                    session,
                    codec,
                    cookie,
                    cookies,
                    headers,
                    store: self.store,
                    admin: self.admin,
                    log: self.log,
                })
            }
            _ => Err(problems),
        }
    }

    /// Every route leads to an upstream, and to every upstream leads a route.
    fn check_ways(&self) -> Vec<Problem> {
        if self.upstreams.is_empty() {
            let message = "there must be one: write [upstreams.app] and servers = [\"http://127.0.0.1:9000\"]";
            return vec![Problem::new("upstreams", "nothing", message)];
        }
        let names: Vec<&str> = self.upstreams.keys().map(String::as_str).collect();
        if self.routes.is_empty() {
            let message = "with several upstreams it must be said which one answers: \
                           write [[routes]] with path = \"/\" and upstream = \"NAME\"";
            return vec![Problem::new("routes", "nothing", message)];
        }
        let mut problems = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            if !self.upstreams.contains_key(&route.upstream) {
                let message = format!("there is no such upstream; {}", suggest(&route.upstream, &names));
                let key = format!("routes[{index}].upstream");
                problems.push(Problem::new(key, format!("{:?}", route.upstream), message));
            }
        }
        // With a misspelt route there is already a better message than "unused".
        if problems.is_empty() {
            for name in names {
                if !self.routes.iter().any(|route| route.upstream == name) {
                    let message = "no route leads to it; add one or take it away";
                    problems.push(Problem::new(format!("upstreams.{name}"), "unused", message));
                }
            }
        }
        problems
    }

    /// A store in memory holds at least one session of the largest size.
    fn check_room(&self) -> Option<Problem> {
        /// What a record is beside its data: metadata, keys and bookkeeping, amply.
        const BESIDE: usize = 8 << 10;
        let needed = self.session.max_bytes.saturating_add(BESIDE);
        if self.store.engine != Engine::Memory || self.store.max_bytes >= needed {
            return None;
        }
        let message = format!("must be at least {needed}, which one session of session.max_bytes takes");
        Some(Problem::new("store.max_bytes", self.store.max_bytes, message))
    }

    /// A backend manages a session itself only where it can read what we write.
    fn check_passed_cookies(&self) -> Option<Problem> {
        let (index, route) = self.routes.iter().enumerate().find(|(_, route)| route.pass_cookie)?;
        let message = match (route.session, self.store.format) {
            (true, Format::Django) => return None,
            (true, _) => "is for backends that share the sessions: it needs store.format = \"django\"",
            (false, _) => "means nothing with session = false, where no cookie of a session is passed",
        };
        Some(Problem::new(format!("routes[{index}].pass_cookie"), "true", message))
    }

    /// A session in the cookie has no key, and nothing notes when it was last used.
    fn check_carried(&self) -> Option<Problem> {
        let needs_store = "needs a store, and engine = \"signed_cookies\" has none; take it away";
        if self.store.engine != Engine::SignedCookies {
            return None;
        }
        if let Some(timeout) = self.session.idle_timeout {
            return Some(Problem::new("session.idle_timeout", format!("{timeout:?}"), needs_store));
        }
        self.headers.id.then(|| Problem::new("headers.id", true, needs_store))
    }

    /// What an outage may be bridged with is in a near cache.
    fn check_stale(&self) -> Option<Problem> {
        const NO_SESSION: &str = "means nothing with session = false, where no session is shown; take it away";

        // Where its settings cannot be meant that is said already.
        let near = self.store.near_cache().map_or(true, |near| near.is_some());
        self.routes.iter().enumerate().find_map(|(index, route)| {
            let at = |key: &str| format!("routes[{index}].{key}");
            let stale = route.on_store_error == OnStoreError::Stale;
            match route.stale_max_age {
                _ if stale && !(near && route.session) => {
                    let message = if route.session { self.why_no_near_cache() } else { NO_SESSION };
                    Some(Problem::new(at("on_store_error"), "\"stale\"", message))
                }
                Some(age) if !stale => {
                    let message = "is only for on_store_error = \"stale\"";
                    Some(Problem::new(at("stale_max_age"), format!("{age:?}"), message))
                }
                Some(age) if age.is_zero() => {
                    Some(Problem::new(at("stale_max_age"), format!("{age:?}"), "must be longer than nothing"))
                }
                _ => None,
            }
        })
    }

    /// And what would be right, where one is needed.
    fn why_no_near_cache(&self) -> &'static str {
        match self.store.engine {
            Engine::Memory => "means nothing with engine = \"memory\", which is always there; take it away",
            Engine::SignedCookies => {
                "means nothing with engine = \"signed_cookies\", which asks no store; take it away"
            }
            Engine::Redis => "needs the near cache: take store.near_cache.enabled = false away",
            Engine::CachedDb | Engine::Db | Engine::File | Engine::Memcached => {
                "needs a near cache, which is off with this engine: write store.near_cache.enabled = true and \
                 store.near_cache.max_age"
            }
        }
    }

    /// The admin listener has an address of its own.
    fn check_admin(&self) -> Option<Problem> {
        let admin = self.admin.as_ref()?.listen;
        let public = self.server.listen.iter().find(|public| share(**public, admin))?;
        let message = format!("server.listen has {public} already; choose another port");
        Some(Problem::new("admin.listen", format!("\"{admin}\""), message))
    }
}

/// What was checked and is good; else its problem joins the others.
fn good<T>(checked: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    checked.map_err(|problem| problems.push(problem)).ok()
}

/// Whether two listeners would answer on the same address.
fn share(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
