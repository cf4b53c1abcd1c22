//! The operators' own listener: is it alive, is it ready, what has it done.

use std::net::SocketAddr;

use serde::Deserialize;

/// `[admin]`; without it there is no such listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Who can reach this address can read the metrics, so it belongs on the loopback or a network of the operators'.
    pub listen: SocketAddr,
}
