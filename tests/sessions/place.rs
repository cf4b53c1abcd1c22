//! A store with sessions in it, as two programs would have it: through its configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::config::Config;
use cloakroom::metrics::Metrics;
use cloakroom::session::Session;
use cloakroom::session::data::Data;
use cloakroom::session::expiry::Expiry;
use cloakroom::session::id::SessionId;
use cloakroom::sessions::Records;
use cloakroom::store::{self, Expected, Key, Saved, SessionStore, Version};

pub const HOUR: Duration = Duration::from_secs(3600);

/// A configuration file with a database beside it.
pub struct Place {
    pub file: PathBuf,
    pub database: PathBuf,
}

impl Place {
    /// `store` is added to `[store]`.
    pub fn new(folder: &Path, name: &str, store: &str) -> Self {
        let (file, database) = (folder.join(format!("{name}.toml")), folder.join(format!("{name}.sqlite3")));
        let text = format!(
            "upstreams.app.servers = ['http://127.0.0.1:9']\n[store]\nurl = 'sqlite://{}'\ntimeout = '20s'\n{store}\n",
            database.display()
        );
        std::fs::write(&file, text).unwrap();
        Self { file, database }
    }

    /// What a proxy with this configuration sees.
    pub async fn open(&self) -> Arc<Records> {
        let config = Config::load(&self.file).unwrap();
        let clock = Clock::system();
        let store = store::open_engine(&config.store, config.codec.foreign(), clock.clone()).await.unwrap();
        records(config, store, &clock)
    }

    pub fn rows(&self) -> u32 {
        let database = rusqlite::Connection::open(&self.database).unwrap();
        // Before the table is made there are none.
        database.query_row("SELECT count(*) FROM cloakroom_session", (), |row| row.get(0)).unwrap_or(0)
    }
}

/// Sessions in memory, by this clock.
pub async fn memory(clock: &Clock) -> Arc<Records> {
    let config = Config::parse("upstreams.app.servers = ['http://127.0.0.1:9']\nstore.engine = 'memory'", "m").unwrap();
    let store = store::open_engine(&config.store, None, clock.clone()).await.unwrap();
    records(config, store, clock)
}

pub fn records(config: Config, store: Arc<dyn SessionStore>, clock: &Clock) -> Arc<Records> {
    let (codec, rules) = (config.codec, Arc::new(config.session));
    Arc::new(Records { store, codec, clock: clock.clone(), metrics: Arc::new(Metrics::new()), rules, near: None })
}

/// The same records behind another store.
pub fn behind(records: &Records, store: Arc<dyn SessionStore>) -> Arc<Records> {
    let (codec, clock) = (records.codec.clone(), records.clock.clone());
    Arc::new(Records {
        store,
        codec,
        clock,
        metrics: Arc::clone(&records.metrics),
        rules: Arc::clone(&records.rules),
        near: None,
    })
}

/// The id with this number.
pub fn id(number: u32) -> SessionId {
    SessionId::parse(format!("{number:0>32}").as_bytes()).unwrap()
}

/// Saved `now`, with nothing special about it.
pub fn session(data: &str, now: Timestamp) -> Session {
    Session {
        data: Data::parse(Bytes::copy_from_slice(data.as_bytes())).unwrap(),
        created_at: now,
        saved_at: now,
        expiry: Expiry::Default,
        retired: None,
        predecessors: Vec::new(),
    }
}

/// Stores a session that is not there yet, for an hour.
pub async fn put(records: &Records, key: &Key, session: &Session) -> Version {
    save(records, key, Expected::Absent, session).await
}

/// Stores over what is there, for an hour.
pub async fn replace(records: &Records, key: &Key, session: &Session) -> Version {
    let there = records.store.load(key).await.unwrap().unwrap();
    save(records, key, Expected::Version(there.version), session).await
}

async fn save(records: &Records, key: &Key, expected: Expected, session: &Session) -> Version {
    match records.save(key, expected, session, records.clock.now().plus(HOUR)).await.unwrap() {
        Saved::Stored(version) => version,
        Saved::Conflict => panic!("something else is there"),
    }
}

/// The session under a key, as it is stored.
pub async fn get(records: &Records, key: &Key) -> Option<Session> {
    let record = records.store.load(key).await.unwrap()?;
    Some(records.codec.decode(key, &record).unwrap())
}
