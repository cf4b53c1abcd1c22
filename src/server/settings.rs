//! `[server]`: where visitors are answered, and how much of them is taken at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::problem::Problem;
use crate::units;

/// `[server]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    pub listen: Vec<SocketAddr>,
    /// Threads that answer; 0: one for each core.
    pub workers: usize,
    /// Networks or single addresses of proxies before this one.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// How long requests under way may take to end when the server stops.
    #[serde(deserialize_with = "units::duration")]
    pub shutdown_grace: Duration,
    /// Connections of visitors at once, over all workers; more wait to be accepted.
    pub max_connections: usize,
    /// How long a request's head may take, and an unused connection may wait for the next.
    #[serde(deserialize_with = "units::duration")]
    pub header_timeout: Duration,
    /// How long a visitor may take none of an answer.
    #[serde(deserialize_with = "units::duration")]
    pub send_timeout: Duration,
    #[serde(deserialize_with = "units::size")]
    pub max_uri_bytes: usize,
    /// All headers of a request together.
    #[serde(deserialize_with = "units::size")]
    pub max_header_bytes: usize,
    pub max_headers: usize,
    #[serde(deserialize_with = "units::size")]
    pub max_body_bytes: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            workers: 0,
            trusted_proxies: Vec::new(),
            shutdown_grace: Duration::from_secs(30),
            max_connections: 10_000,
            header_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_mins(1),
            max_uri_bytes: 8 << 10,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_body_bytes: 100 << 20,
        }
    }
}

/// The longest target that hyper reads at all.
const LONGEST_URI: usize = 65_534;
/// Far more than any machine has use for; beyond them something is mistaken.
const MOST_WORKERS: usize = 1024;
const MOST_CONNECTIONS: usize = 10_000_000;
const MOST_HEADER_BYTES: usize = 16 << 20;
const MOST_HEADERS: usize = 10_000;

impl ServerSettings {
    /// # Errors
    /// Limits that let nothing through, and having nowhere to listen.
    pub fn check(&self) -> Result<(), Problem> {
        if self.listen.is_empty() {
            let message = "needs at least one address such as \"127.0.0.1:8080\"";
            return Err(Problem::new("server.listen", "[]", message));
        }
        for (key, value) in [
            ("server.max_connections", self.max_connections),
            ("server.max_uri_bytes", self.max_uri_bytes),
            ("server.max_header_bytes", self.max_header_bytes),
            ("server.max_headers", self.max_headers),
        ] {
            if value == 0 {
                return Err(Problem::new(key, value, "must be at least 1"));
            }
        }
        for (key, value, most) in [
            ("server.workers", self.workers, MOST_WORKERS),
            ("server.max_connections", self.max_connections, MOST_CONNECTIONS),
            ("server.max_uri_bytes", self.max_uri_bytes, LONGEST_URI),
            ("server.max_header_bytes", self.max_header_bytes, MOST_HEADER_BYTES),
            ("server.max_headers", self.max_headers, MOST_HEADERS),
        ] {
            if value > most {
                return Err(Problem::new(key, value, format!("must be at most {most}")));
            }
        }
        for (key, value) in [("server.header_timeout", self.header_timeout), ("server.send_timeout", self.send_timeout)]
        {
            if value.is_zero() {
                return Err(Problem::new(key, "0", "must be more than zero"));
            }
        }
        Ok(())
    }

    /// How many workers there will be.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        }
    }

    /// The most that hyper may buffer of a request's head: what is too large by a little gets an answer of ours, which
    /// tells the target (414) from the headers (431).
    pub(super) fn buffer_bytes(&self) -> usize {
        (LONGEST_URI + 2 * self.max_header_bytes).max(8192)
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let network = |text: &String| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    texts
        .iter()
        .map(|text| {
            network(text).ok_or_else(|| {
                let message = format!("{text:?} is not an address or network such as \"10.0.0.7\" or \"10.0.0.0/8\"");
                serde::de::Error::custom(message)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_can_meet_is_refused() {
        let problem =
            |toml: &str| toml::from_str::<ServerSettings>(toml).unwrap().check().err().map(|problem| problem.key);
        assert_eq!(problem(""), None);
        for key in ["workers", "max_connections", "max_uri_bytes", "max_header_bytes", "max_headers"] {
            assert_eq!(problem(&format!("{key} = {}", i64::MAX)), Some(format!("server.{key}")));
        }
        for key in
            ["max_connections", "max_uri_bytes", "max_header_bytes", "max_headers", "header_timeout", "send_timeout"]
        {
            assert_eq!(problem(&format!("{key} = 0")), Some(format!("server.{key}")));
        }
        assert_eq!(problem("listen = []"), Some("server.listen".to_owned()));
    }

    #[test]
    fn a_trusted_proxy_is_an_address_or_a_network() {
        let settings: ServerSettings = toml::from_str("trusted_proxies = ['10.0.0.7', '10.1.0.0/16', '::1']").unwrap();
        let networks: Vec<String> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.7/32", "10.1.0.0/16", "::1/128"]);
        let error = toml::from_str::<ServerSettings>("trusted_proxies = ['proxy']").unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/8"), "{error}");
    }
}
