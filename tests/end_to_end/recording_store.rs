//! A store that remembers what it was asked, and fails when told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::store::{self, Engine, Expected, Key, Record, Saved, SessionStore, StoreError, StoreSettings, Version};

/// The engine `memory`, with a list of every call: what was asked for, and of which key.
pub struct RecordingStore {
    memory: Arc<dyn SessionStore>,
    calls: Mutex<Vec<(&'static str, String)>>,
    fails: AtomicBool,
}

impl RecordingStore {
    pub fn new(clock: Clock) -> Arc<Self> {
        let settings = StoreSettings { engine: Engine::Memory, ..StoreSettings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let memory = runtime.block_on(store::open_engine(&settings, clock)).unwrap();
        Arc::new(Self { memory, calls: Mutex::default(), fails: AtomicBool::new(false) })
    }

    /// What was asked since the last time.
    pub fn take_calls(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// From now on it cannot be reached.
    pub fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    fn note(&self, call: &'static str, key: &Key) -> Result<(), StoreError> {
        self.calls.lock().unwrap().push((call, key.as_str().to_owned()));
        if self.fails.load(Ordering::SeqCst) { Err(StoreError::Open) } else { Ok(()) }
    }
}

#[async_trait]
impl SessionStore for RecordingStore {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.note("load", key)?;
        self.memory.load(key).await
    }

    async fn save(&self, key: &Key, expected: Expected, value: Bytes, until: Timestamp) -> Result<Saved, StoreError> {
        self.note("save", key)?;
        self.memory.save(key, expected, value, until).await
    }

    async fn touch(&self, key: &Key, expected: Version, until: Timestamp) -> Result<bool, StoreError> {
        self.note("touch", key)?;
        self.memory.touch(key, expected, until).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.note("delete", key)?;
        self.memory.delete(key).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        Ok(self)
    }
}
