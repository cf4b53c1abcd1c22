//! The settings of the server, which is not in the tree yet, under the names and keys they will have.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::problem::Problem;
use crate::units;

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
            shutdown_grace: Duration::from_secs(30),
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
