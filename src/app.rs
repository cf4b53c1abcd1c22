//! What one worker needs to answer a request.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::cookies::CookieRules;
use crate::metrics::Metrics;
use crate::routes::Routes;
use crate::sessions::Sessions;
use crate::upstream::Upstream;

/// A worker's rooms and connections, shared by all its requests.
pub struct App {
    pub routes: Arc<Routes>,
    pub sessions: Sessions,
    /// For the backend's own cookies.
    pub cookies: Arc<CookieRules>,
    /// By the name in `[upstreams.NAME]`. The configuration made sure that every route's is here.
    pub upstreams: HashMap<String, Upstream>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub limits: RequestLimits,
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Whether each request gets a line in the log.
    pub access_log: bool,
    /// What must end before the worker may: requests whose visitor has gone.
    pub tasks: TaskTracker,
}

/// How large a request may be.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    pub max_uri_bytes: usize,
    pub max_header_bytes: usize,
    pub max_body_bytes: usize,
}
