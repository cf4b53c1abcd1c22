//! The settings of parts that are not in the tree yet, under the names and keys they will have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::problem::Problem;
use crate::units;

macro_rules! seconds {
    ($n:expr) => {
        Duration::from_secs($n)
    };
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    pub listen: Vec<SocketAddr>,
    pub workers: usize,
    pub trusted_proxies: Vec<ipnet::IpNet>,
    #[serde(deserialize_with = "units::duration")]
    pub shutdown_grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            workers: 0,
            trusted_proxies: Vec::new(),
            shutdown_grace: seconds!(30),
        }
    }
}

impl ServerSettings {
    pub fn check(&self) -> Result<(), Problem> {
        if self.listen.is_empty() {
            return Err(Problem::new(
                "server.listen",
                "[]",
                "at least one address such as \"127.0.0.1:8080\" is needed",
            ));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    pub servers: Vec<String>,
}

impl UpstreamSettings {
    pub fn check(&self, name: &str) -> Result<(), Problem> {
        for (index, server) in self.servers.iter().enumerate() {
            if !server.starts_with("http://") {
                let key = format!("upstreams.{name}.servers[{index}]");
                return Err(Problem::new(key, format!("{server:?}"), "must be http://HOST:PORT"));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    #[serde(default)]
    pub host: Vec<String>,
    #[serde(default = "root")]
    pub path: String,
    pub upstream: String,
    #[serde(default)]
    pub save_on_5xx: bool,
}

impl RouteSettings {
    /// Everything to one upstream.
    pub fn to(upstream: &str) -> Self {
        Self { host: Vec::new(), path: root(), upstream: upstream.to_owned(), save_on_5xx: false }
    }
}

fn root() -> String {
    "/".to_owned()
}

pub fn check_routes(routes: &[RouteSettings]) -> Result<(), Problem> {
    for (index, route) in routes.iter().enumerate() {
        if !route.path.starts_with('/') {
            return Err(Problem::new(
                format!("routes[{index}].path"),
                format!("{:?}", route.path),
                "must start with /",
            ));
        }
    }
    Ok(())
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
    #[serde(deserialize_with = "units::optional_duration")]
    pub idle_timeout: Option<Duration>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { max_age: seconds!(14 * 86400), idle_timeout: None }
    }
}

impl SessionSettings {
    pub fn check(&self) -> Result<(), Problem> {
        if self.max_age.is_zero() {
            return Err(Problem::new("session.max_age", "0", "must be longer than nothing"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CookieSettings {
    pub name: String,
    pub secure: bool,
    pub same_site: String,
}

impl Default for CookieSettings {
    fn default() -> Self {
        Self { name: "sessionid".to_owned(), secure: false, same_site: "Lax".to_owned() }
    }
}

impl CookieSettings {
    pub fn check(&self) -> Result<(), Problem> {
        if self.same_site == "None" && !self.secure {
            return Err(Problem::new("cookie.same_site", "\"None\"", "needs cookie.secure = true"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderSettings {
    pub data: bool,
    pub expose: BTreeMap<String, String>,
    pub id: bool,
}

impl Default for HeaderSettings {
    fn default() -> Self {
        Self { data: true, expose: BTreeMap::new(), id: false }
    }
}

impl HeaderSettings {
    pub fn check(&self) -> Result<(), Problem> {
        if self.id {
            return Err(Problem::new("headers.id", "true", "needs headers.id_key, the same on every proxy"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    pub engine: Engine,
    pub format: Format,
    pub url: Option<crate::secret::Secret>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Db,
    Memory,
    Redis,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Native,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { engine: Engine::Db, format: Format::Native, url: None }
    }
}

impl StoreSettings {
    pub fn check(&self) -> Result<(), Problem> {
        Ok(())
    }
}
