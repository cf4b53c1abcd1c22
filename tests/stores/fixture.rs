//! One engine, with its server or directory, and the clock that its stores go by.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::metrics::Metrics;
use cloakroom::store::{self, Engine, SessionStore, StoreError, StoreSettings};
use tempfile::TempDir;

use crate::redis_server::{PASSWORD, RedisServer, USER};
use crate::redis_topologies::{Cluster, Watched};

pub const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub struct Fixture {
    pub clock: Clock,
    pub settings: StoreSettings,
    pub redis: Option<RedisServer>,
    /// Those that belong to it.
    _others: Vec<RedisServer>,
    pub directory: TempDir,
    guarded: bool,
}

impl Fixture {
    pub fn memory() -> Self {
        Self::of("engine = 'memory'", None)
    }

    pub fn db() -> Self {
        let mut fixture = Self::of("", None);
        let url = format!("sqlite://{}", fixture.directory.path().join("sessions.sqlite3").display());
        fixture.settings.url = settings(&format!("url = {url:?}")).url;
        fixture
    }

    pub fn redis_tcp() -> Self {
        let server = RedisServer::start();
        Self::of(&format!("engine = 'redis'\nurl = '{}/3'", server.tcp_url()), Some(server))
    }

    pub fn redis_unix() -> Self {
        let server = RedisServer::start();
        Self::of(&format!("engine = 'redis'\nurl = '{}?db=3'", server.unix_url()), Some(server))
    }

    pub fn redis_tls() -> Self {
        let server = RedisServer::with_tls();
        let (url, ca_file) = (server.tls_url(), server.ca_file());
        let text = format!(
            "engine = 'redis'\nurl = '{url}'\nca_file = '{}'\nusername = '{USER}'\npassword = '{PASSWORD}'",
            ca_file.display()
        );
        Self::of(&text, Some(server))
    }

    /// Behind sentinels, and every write waits for a replica.
    pub fn redis_sentinel() -> Self {
        // No case is about a failover: a slow machine may take its time.
        let watched = Watched::start(1, 60_000);
        let text = format!("engine = 'redis'\nurl = '{}/3'\nwait_replicas = 1", watched.url());
        let Watched { mut servers, sentinels } = watched;
        let master = servers.remove(0);
        Self { _others: servers.into_iter().chain(sentinels).collect(), ..Self::of(&text, Some(master)) }
    }

    pub fn redis_cluster() -> Self {
        let mut cluster = Cluster::start(0, 60_000);
        let text = format!("engine = 'redis'\nurl = '{}'", cluster.url());
        let first = cluster.servers.remove(0);
        Self { _others: cluster.servers, ..Self::of(&text, Some(first)) }
    }

    fn of(text: &str, redis: Option<RedisServer>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(text);
        // No case is about speed: a slow machine may take its time.
        settings.timeout = Duration::from_secs(60);
        Self { clock: Clock::manual(START), settings, redis, _others: Vec::new(), directory, guarded: false }
    }

    pub fn guarded(self) -> Self {
        Self { guarded: true, ..self }
    }

    pub async fn try_open(&self) -> Result<Arc<dyn SessionStore>, StoreError> {
        if self.guarded {
            store::open(&self.settings, None, self.clock.clone(), Arc::new(Metrics::new())).await
        } else {
            store::open_engine(&self.settings, None, self.clock.clone()).await
        }
    }

    pub async fn open(&self) -> Arc<dyn SessionStore> {
        self.try_open().await.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Two handles on the same records, opened apart where the engine can do that.
    pub async fn open_twice(&self) -> [Arc<dyn SessionStore>; 2] {
        let first = self.open().await;
        let second = match self.settings.engine {
            Engine::Memory => Arc::clone(&first).attach().await.unwrap(),
            _ => self.open().await,
        };
        [first, second]
    }

    /// So many milliseconds after now.
    pub fn later(&self, millis: u64) -> Timestamp {
        self.clock.now().plus(Duration::from_millis(millis))
    }
}

pub fn settings(text: &str) -> StoreSettings {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// An error as an operator sees it, with all its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
