//! One engine, with its server or directory, and the clock that its stores go by.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::metrics::Metrics;
use cloakroom::store::{self, Engine, ForeignRecords, Format, Record, SessionStore, StoreError, StoreSettings};
use tempfile::TempDir;

use crate::foreign::Stub;
use crate::memcached_server::MemcachedServer;
use crate::mysql_server::MySqlServer;
use crate::postgres_server::PostgresServer;
use crate::redis_server::{PASSWORD, RedisServer, USER};
use crate::redis_topologies::{Cluster, Watched};

pub const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub struct Fixture {
    pub clock: Clock,
    pub settings: StoreSettings,
    pub foreign: Option<Arc<dyn ForeignRecords>>,
    pub redis: Option<RedisServer>,
    pub memcached: Vec<MemcachedServer>,
    pub postgres: Option<PostgresServer>,
    pub mysql: Option<MySqlServer>,
    /// Those that belong to it.
    #[expect(dead_code, reason = "they run for as long as the fixture lives")]
    pub others: Vec<RedisServer>,
    pub directory: TempDir,
    pub guarded: bool,
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

    /// In PostgreSQL, in a table of our own.
    pub fn postgres() -> Self {
        let server = PostgresServer::start();
        let fixture = Self::of(&format!("url = '{}'", server.url()), None);
        Self { postgres: Some(server), ..fixture }
    }

    pub fn mysql() -> Self {
        let server = MySqlServer::start();
        let fixture = Self::of(&format!("url = '{}'", server.url()), None);
        Self { mysql: Some(server), ..fixture }
    }

    /// The same database with Django's table instead of ours.
    pub fn with_djangos_table(mut self) -> Self {
        self.settings.format = Format::Django;
        Self { foreign: Some(Arc::new(Rows)), ..self }
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

    pub fn file() -> Self {
        let mut fixture = Self::of("engine = 'file'\npath = 'x'", None);
        fixture.settings.path = Some(fixture.directory.path().join("sessions"));
        fixture
    }

    /// As [`Fixture::file`], in the other layout; the directory is there.
    pub fn file_foreign() -> Self {
        let fixture = Self::file().foreign();
        std::fs::create_dir(fixture.settings.path.as_ref().unwrap()).unwrap();
        fixture
    }

    /// The largest values of the cases are larger than memcached takes unless it is told to.
    pub fn memcached() -> Self {
        Self::memcached_on(vec![MemcachedServer::with(&["-I", "2m"])])
    }

    pub fn memcached_unix() -> Self {
        Self::memcached_on(vec![MemcachedServer::on_unix(&["-I", "2m"])])
    }

    pub fn memcached_three() -> Self {
        Self::memcached_on((0..3).map(|_| MemcachedServer::with(&["-I", "2m"])).collect())
    }

    pub fn memcached_on(servers: Vec<MemcachedServer>) -> Self {
        let urls: Vec<String> = servers.iter().map(MemcachedServer::url).collect();
        let url = urls.join(",").replace(",memcached://", ",");
        let mut fixture = Self::of(&format!("engine = 'memcached'\nurl = '{url}'"), None);
        fixture.memcached = servers;
        fixture
    }

    pub fn cached_db_memory() -> Self {
        Self::cached_db("engine = 'memory'")
    }

    pub fn cached_db_memcached() -> Self {
        let server = MemcachedServer::with(&["-I", "2m"]);
        let mut fixture = Self::cached_db(&format!("engine = 'memcached'\nurl = '{}'", server.url()));
        fixture.memcached = vec![server];
        fixture
    }

    pub fn cached_db_redis() -> Self {
        let server = RedisServer::start();
        let mut fixture = Self::cached_db(&format!("engine = 'redis'\nurl = '{}'", server.tcp_url()));
        fixture.redis = Some(server);
        fixture
    }

    fn cached_db(cache: &str) -> Self {
        let mut fixture = Self::of(&format!("engine = 'cached_db'\n[db]\nurl = 'sqlite://x'\n[cache]\n{cache}"), None);
        let db = fixture.settings.db.as_mut().unwrap();
        let url = format!("sqlite://{}", fixture.directory.path().join("sessions.sqlite3").display());
        db.url = settings(&format!("url = {url:?}")).url;
        fixture
    }

    /// Behind sentinels, and every write waits for a replica.
    pub fn redis_sentinel() -> Self {
        // No case is about a failover: a slow machine may take its time.
        let watched = Watched::start(1, 60_000);
        let text = format!("engine = 'redis'\nurl = '{}/3'\nwait_replicas = 1", watched.url());
        let Watched { mut servers, sentinels } = watched;
        let master = servers.remove(0);
        Self { others: servers.into_iter().chain(sentinels).collect(), ..Self::of(&text, Some(master)) }
    }

    pub fn redis_cluster() -> Self {
        let mut cluster = Cluster::start(0, 60_000);
        let text = format!("engine = 'redis'\nurl = '{}'", cluster.url());
        let first = cluster.servers.remove(0);
        Self { others: cluster.servers, ..Self::of(&text, Some(first)) }
    }

    fn of(text: &str, redis: Option<RedisServer>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(text);
        // No case is about speed: a slow machine may take its time.
        settings.timeout = Duration::from_secs(60);
        Self {
            clock: Clock::manual(START),
            settings,
            foreign: None,
            redis,
            memcached: Vec::new(),
            postgres: None,
            mysql: None,
            others: Vec::new(),
            directory,
            guarded: false,
        }
    }

    pub fn guarded(self) -> Self {
        Self { guarded: true, ..self }
    }

    /// Runs statements beside the engine, and tells what they find: a line a row, `|` between columns.
    pub fn sql(&self, statements: &str) -> String {
        match (&self.postgres, &self.mysql) {
            (Some(server), _) => server.sql(statements),
            (_, Some(server)) => server.sql(statements).replace('\t', "|"),
            _ => self.sql_in_file(statements),
        }
    }

    fn sql_in_file(&self, statements: &str) -> String {
        let database = rusqlite::Connection::open(self.directory.path().join("sessions.sqlite3")).unwrap();
        database.busy_timeout(Duration::from_secs(60)).unwrap();
        let mut statement = match database.prepare(statements) {
            Ok(statement) if statement.column_count() > 0 => statement,
            _ => {
                database.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
                return String::new();
            }
        };
        let columns = statement.column_count();
        let text = |row: &rusqlite::Row<'_>| {
            let texts = (0..columns).map(|column| match row.get_ref(column).unwrap() {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => String::from_utf8_lossy(other.as_bytes_or_null().unwrap().unwrap_or_default()).into_owned(),
            });
            Ok(texts.collect::<Vec<_>>().join("|"))
        };
        let rows: Result<Vec<String>, _> = statement.query_map((), text).unwrap().collect();
        rows.unwrap().join("\n")
    }

    pub fn end_all_connections(&self) -> usize {
        match (&self.postgres, &self.mysql) {
            (Some(server), _) => server.end_all_connections(),
            (_, Some(server)) => server.end_all_connections(),
            _ => panic!("a file has no connections to end"),
        }
    }

    pub fn stop_server(&mut self) {
        self.postgres.iter_mut().for_each(PostgresServer::stop);
        self.mysql.iter_mut().for_each(MySqlServer::stop);
    }

    pub fn restart_server(&mut self) {
        self.postgres.iter_mut().for_each(PostgresServer::restart);
        self.mysql.iter_mut().for_each(MySqlServer::restart);
    }

    /// In the layout of another program.
    pub fn foreign(mut self) -> Self {
        self.settings.format = Format::Django;
        Self { foreign: Some(Arc::new(Stub)), ..self }
    }

    /// Whether records go by themselves when they have expired, so that there is nothing to sweep.
    pub fn forgets(&self) -> bool {
        matches!(self.settings.engine, Engine::Memcached | Engine::Redis)
    }

    pub async fn try_open(&self) -> Result<Arc<dyn SessionStore>, StoreError> {
        if self.guarded {
            store::open(&self.settings, self.foreign.clone(), self.clock.clone(), Arc::new(Metrics::new())).await
        } else {
            store::open_engine(&self.settings, self.foreign.clone(), self.clock.clone()).await
        }
    }

    pub async fn open(&self) -> Arc<dyn SessionStore> {
        self.try_open().await.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Two handles on the same records, opened apart where the engine can do that.
    pub async fn open_twice(&self) -> [Arc<dyn SessionStore>; 2] {
        let first = self.open().await;
        let engines = [Some(self.settings.engine), self.settings.cache.as_ref().map(|cache| cache.engine)];
        let second = match engines {
            engines if engines.contains(&Some(Engine::Memory)) => Arc::clone(&first).attach().await.unwrap(),
            _ => self.open().await,
        };
        [first, second]
    }

    /// So many milliseconds after now.
    pub fn later(&self, millis: u64) -> Timestamp {
        self.clock.now().plus(Duration::from_millis(millis))
    }
}

/// A row says all there is to say, so that nothing is asked of the format.
pub struct Rows;

impl ForeignRecords for Rows {
    fn file_prefix(&self) -> &'static str {
        unreachable!("a row is no file")
    }

    fn deadline(&self, _: &[u8], _: Timestamp) -> Timestamp {
        unreachable!("a row has its deadline beside it")
    }

    fn cache_value(&self, _: &Record) -> Option<Bytes> {
        unreachable!("there is no cache")
    }

    fn row_value(&self, _: &Record) -> Option<Bytes> {
        unreachable!("there is no cache")
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
