//! Which route a request takes: by host, then by the longest path prefix, on the path that is forwarded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::problem::Problem;
use crate::units;

/// One `[[routes]]` entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch in the file, and none excludes another")]
pub struct RouteSettings {
    /// Host names this route answers, without port; `*.example.com` stands for every name below it. Empty: any host.
    #[serde(default, deserialize_with = "one_or_many")]
    pub host: Vec<String>,
    /// Path prefix, by whole segments: `/shop` covers `/shop` and `/shop/cart`, not `/shopping`.
    #[serde(default = "root")]
    pub path: String,
    /// The `[upstreams.NAME]` that answers.
    pub upstream: String,
    /// Whether requests get sessions; without, they are forwarded and their headers cleaned all the same.
    #[serde(default = "yes")]
    pub session: bool,
    /// What a visitor with a cookie gets while the store cannot be asked.
    #[serde(default)]
    pub on_store_error: OnStoreError,
    /// With [`OnStoreError::Stale`]: how long ago the store may have answered what is shown instead.
    #[serde(default, deserialize_with = "units::optional_duration")]
    pub stale_max_age: Option<Duration>,
    /// Whether responses say `Vary: Cookie`.
    #[serde(default = "yes")]
    pub vary: bool,
    /// Whether the near cache, where there is one, may answer instead of the store.
    #[serde(default = "yes")]
    pub near_cache: bool,
    /// Whether the backend manages the session itself, as a Django application does: it gets and sets the cookie, and its
    /// updates through headers are not applied.
    #[serde(default)]
    pub pass_cookie: bool,
    /// Whether updates count on a 5xx response too.
    #[serde(default)]
    pub save_on_5xx: bool,
    /// What an update to a session that ended meanwhile answers.
    #[serde(default)]
    pub on_interrupted: OnInterrupted,
}

impl RouteSettings {
    /// Everything to one upstream, all else by default.
    pub fn to(upstream: &str) -> Self {
        Self {
            host: Vec::new(),
            path: root(),
            upstream: upstream.to_owned(),
            session: true,
            on_store_error: OnStoreError::default(),
            vary: true,
            stale_max_age: None,
            near_cache: true,
            pass_cookie: false,
            save_on_5xx: false,
            on_interrupted: OnInterrupted::default(),
        }
    }

    /// How long ago the store may have given what is shown while it is silent.
    pub fn stale_max_age(&self) -> Duration {
        self.stale_max_age.unwrap_or(STALE_MAX_AGE)
    }
}

/// Unless `stale_max_age` says otherwise.
const STALE_MAX_AGE: Duration = Duration::from_mins(5);

/// Policy for requests whose session cannot be loaded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreError {
    /// Forward, with `X-Session-State: degraded`.
    Degrade,
    /// Answer 503.
    #[default]
    Fail,
    /// Forward with what the near cache has, and `X-Session-State: degraded`; 503 if it has nothing.
    Stale,
}

/// Policy for updates to a session that was ended while the request was under way.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum OnInterrupted {
    /// The update is dropped; the visitor sees the backend's answer.
    #[default]
    Drop,
    /// Answer 400, as Django does (`SessionInterrupted`).
    Error,
}

/// The routes, ready to be asked. The cost of [`Routes::find`] does not grow with their number.
pub struct Routes {
    named: HashMap<String, Prefixes>,
    /// Under the part after the `*`, such as `.example.com`.
    below: HashMap<String, Prefixes>,
    any: Prefixes,
    #[expect(clippy::struct_field_names, reason = "what else would all the routes be called")]
    routes: Vec<Arc<Route>>,
}

/// A checked route.
pub struct Route {
    /// What logs and metrics call it: host and path as configured.
    pub name: String,
    pub settings: RouteSettings,
}

/// Why a request takes no route.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoRoute {
    #[error("the path has dot segments")]
    DotSegments,
    #[error("no route matches")]
    Unknown,
}

impl Routes {
    /// # Errors
    /// A path or host that can never match, and two routes for the same host and path.
    pub fn new(settings: Vec<RouteSettings>) -> Result<Self, Problem> {
        let mut routes =
            Self { named: HashMap::new(), below: HashMap::new(), any: Prefixes::default(), routes: Vec::new() };
        for (index, settings) in settings.into_iter().enumerate() {
            let at = |key: &str| format!("routes[{index}].{key}");
            if !settings.path.starts_with('/') || has_dot_segments(&settings.path) || settings.path.contains(['?', '#'])
            {
                let message = "must start with / and have no dot segments, query or fragment";
                return Err(Problem::new(at("path"), format!("{:?}", settings.path), message));
            }
            let route = Arc::new(Route { name: format!("{}{}", settings.host.join(","), settings.path), settings });
            if let Some(host) = route.settings.host.iter().find(|host| !is_host_pattern(host)) {
                let message = "must be a host name without port, such as \"shop.example.com\" or \"*.example.com\"";
                return Err(Problem::new(at("host"), format!("{host:?}"), message));
            }
            if !routes.add(&route) {
                let message = "another route has the same host and path; take one of them away";
                return Err(Problem::new(at("path"), format!("{:?}", route.settings.path), message));
            }
            routes.routes.push(route);
        }
        Ok(routes)
    }

    /// False when a route with that host and path is there already.
    fn add(&mut self, route: &Arc<Route>) -> bool {
        if route.settings.host.is_empty() {
            return self.any.add(route);
        }
        route.settings.host.iter().all(|host| {
            let host = host.to_ascii_lowercase();
            let prefixes = match host.strip_prefix('*') {
                Some(parent) => self.below.entry(parent.to_owned()).or_default(),
                None => self.named.entry(host).or_default(),
            };
            prefixes.add(route)
        })
    }

    /// The route for a host (with or without port) and a path as it stands in the request target: of the routes that
    /// cover the path, one that names the host before one with a wildcard before one for any host, then the longest.
    pub fn find(&self, host: &str, path: &str) -> Result<&Arc<Route>, NoRoute> {
        if has_dot_segments(path) {
            return Err(NoRoute::DotSegments);
        }
        // `OPTIONS *` is about the whole server (RFC 9112 section 3.2.4).
        let path = if path == "*" { "/" } else { path };
        self.find_by_host(host, path).or_else(|| self.any.longest(path)).ok_or(NoRoute::Unknown)
    }

    fn find_by_host(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        if self.named.is_empty() && self.below.is_empty() {
            return None;
        }
        let host = without_port(host).to_ascii_lowercase();
        let named = self.named.get(&host).and_then(|prefixes| prefixes.longest(path));
        named.or_else(|| {
            let parents = host.match_indices('.').filter(|(dot, _)| *dot > 0);
            parents.filter_map(|(dot, _)| self.below.get(&host[dot..])).find_map(|prefixes| prefixes.longest(path))
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}

/// The routes of one host, by path prefix.
#[derive(Default)]
struct Prefixes {
    routes: HashMap<String, Arc<Route>>,
    longest: usize,
}

impl Prefixes {
    fn add(&mut self, route: &Arc<Route>) -> bool {
        let prefix = route.settings.path.clone();
        self.longest = self.longest.max(prefix.len());
        self.routes.insert(prefix, Arc::clone(route)).is_none()
    }

    fn longest(&self, path: &str) -> Option<&Arc<Route>> {
        // Where a prefix may end: behind the whole path, behind a slash, or before one. Nothing longer than the longest
        // prefix is looked up, so a target full of slashes costs no more than any other.
        let fits = |end: &usize| *end > 0 && *end <= self.longest;
        let slashes = path.rmatch_indices('/').flat_map(|(slash, _)| [slash + 1, slash]);
        std::iter::once(path.len()).chain(slashes).filter(fits).find_map(|end| self.routes.get(path.get(..end)?))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address stand inside its brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn is_host_pattern(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let bracketed = name.starts_with('[') && name.ends_with(']');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    bracketed || !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Whether a segment is `.` or `..`, however dots and slashes are written, and with whatever parameters: a backend that
/// resolves them would serve another path than the one a route was chosen by.
fn has_dot_segments(path: &str) -> bool {
    if !path.contains(['.', '%']) {
        return false;
    }
    let mut path = Cow::Borrowed(path);
    if path.contains('%') {
        let decoded = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
        path = Cow::Owned(decoded);
    }
    path.split(['/', '\\']).any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a host name or a list of host names")]
    enum Written {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Many(hosts) => hosts,
        Written::One(host) => vec![host],
    })
}

fn root() -> String {
    "/".to_owned()
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(toml: &str) -> Result<Routes, Problem> {
        #[derive(Deserialize)]
        struct File {
            routes: Vec<RouteSettings>,
        }
        Routes::new(toml::from_str::<File>(toml).unwrap().routes)
    }

    fn found(routes: &Routes, host: &str, path: &str) -> String {
        routes.find(host, path).map_or_else(|error| error.to_string(), |route| route.settings.upstream.clone())
    }

    #[test]
    fn host_comes_first_then_the_longest_prefix_of_whole_segments() {
        let routes = routes(
            r#"
            routes = [
                { path = "/", upstream = "any" },
                { path = "/shop", upstream = "shop" },
                { path = "/shop/admin/", upstream = "admin" },
                { host = "a.example", path = "/only", upstream = "a" },
                { host = ["*.b.example", "b.example"], upstream = "b" },
                { host = "x.b.example", upstream = "xb" },
            ]"#,
        )
        .unwrap();
        let cases = [
            ("h", "/", "any"),
            ("h", "/shop", "shop"),
            ("h", "/shop/cart", "shop"),
            ("h", "/shopping", "any"),
            ("h", "/shop/admin", "shop"),
            ("h", "/shop/admin/", "admin"),
            ("h", "/shop/admin/x", "admin"),
            ("h", "//shop", "any"),
            ("h", "/shop;x=1", "any"),
            ("h", "/%73hop", "any"),
            ("a.example", "/only/x", "a"),
            ("A.Example:8080", "/only", "a"),
            ("a.example", "/shop", "shop"),
            ("b.example", "/shop", "b"),
            ("q.w.b.example:80", "/", "b"),
            ("x.b.example", "/", "xb"),
            ("xb.example", "/", "any"),
            (".b.example", "/", "any"),
            ("[::1]:80", "/", "any"),
            ("", "/", "any"),
        ];
        for (host, path, upstream) in cases {
            assert_eq!(found(&routes, host, path), upstream, "{host} {path}");
        }
    }

    #[test]
    fn m16_dot_segments_are_refused_however_they_are_written() {
        let routes =
            routes(r#"routes = [{ path = "/public", upstream = "p" }, { path = "/", upstream = "r" }]"#).unwrap();
        for path in [
            "/public/../admin",
            "/./x",
            "/..",
            "/public/%2e%2E/admin",
            "/a/.%2e/b",
            "/a/%2e",
            "/a/..;x/b",
            "/a/..%2fb",
            "/a%5C..%5Cb",
            "/a\\..\\b",
        ] {
            assert_eq!(routes.find("h", path).err(), Some(NoRoute::DotSegments), "{path}");
        }
        for path in ["/public/...", "/a/.hidden", "/a/..b", "/a/b..", "/%2e%2e%2e", "/a.b"] {
            assert!(routes.find("h", path).is_ok(), "{path}");
        }
    }

    #[test]
    fn what_can_never_match_is_refused_with_its_place() {
        let cases = [
            (r#"routes = [{ path = "shop", upstream = "a" }]"#, "routes[0].path"),
            (r#"routes = [{ path = "/a/../b", upstream = "a" }]"#, "routes[0].path"),
            (r#"routes = [{ upstream = "a" }, { upstream = "b" }]"#, "routes[1].path"),
            (r#"routes = [{ host = "h", upstream = "a" }, { host = ["g", "H"], upstream = "b" }]"#, "routes[1].path"),
            (r#"routes = [{ host = "h:80", upstream = "a" }]"#, "routes[0].host"),
            (r#"routes = [{ host = "a.*.b", upstream = "a" }]"#, "routes[0].host"),
        ];
        for (toml, key) in cases {
            assert_eq!(routes(toml).err().unwrap().key, key, "{toml}");
        }
    }

    #[test]
    fn a_target_of_slashes_costs_no_more_than_the_longest_prefix() {
        let routes = routes(r#"routes = [{ path = "/shop", upstream = "shop" }, { upstream = "any" }]"#).unwrap();
        assert_eq!(found(&routes, "h", &"/".repeat(1 << 20)), "any");
    }
}
