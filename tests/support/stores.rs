//! A store that a test watches, interrupts and makes fail.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom::clock::{Clock, Timestamp};
use cloakroom::store::{self, Expected, Key, Record, Saved, SessionStore, StoreError, Version};

/// An empty store in memory.
pub fn memory(clock: &Clock) -> Arc<dyn SessionStore> {
    let settings = toml::from_str("engine = 'memory'").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store::open_engine(&settings, None, clock.clone())).unwrap()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    Delete,
    Load,
    Save,
    Touch,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    Fail,
    /// The store acts, and says that it failed.
    FailAfterwards,
    /// No answer ever.
    Hang,
    Pass,
}

type Rule = dyn Fn(Call, usize) -> Fate + Send + Sync;

/// A store behind a rule, which is asked before every call what shall become of it. Calls of a kind are numbered from 1.
/// The rule may block: the worker that called waits.
pub struct Watched {
    inner: Arc<dyn SessionStore>,
    watch: Arc<Watch>,
}

struct Watch {
    rule: Box<Rule>,
    calls: [AtomicUsize; 4],
    keys: Mutex<Vec<(Call, String)>>,
}

impl Watched {
    pub fn new(inner: &Arc<dyn SessionStore>, rule: impl Fn(Call, usize) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        let watch = Watch { rule: Box::new(rule), calls: Default::default(), keys: Mutex::default() };
        Arc::new(Self { inner: Arc::clone(inner), watch: Arc::new(watch) })
    }

    pub fn calls(&self, call: Call) -> usize {
        self.watch.calls[call as usize].load(Ordering::SeqCst)
    }

    /// What was asked since the last time, and of which key.
    pub fn take_calls(&self) -> Vec<(Call, String)> {
        std::mem::take(&mut self.watch.keys.lock().unwrap())
    }

    async fn call<T>(
        &self,
        call: Call,
        key: &Key,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.watch.keys.lock().unwrap().push((call, key.as_str().to_owned()));
        let number = self.watch.calls[call as usize].fetch_add(1, Ordering::SeqCst) + 1;
        let cause = || "redis.internal:6379 refused session:abc on purpose".into();
        match (self.watch.rule)(call, number) {
            Fate::Fail => Err(StoreError::Unreachable(cause())),
            Fate::FailAfterwards => work.await.and_then(|_| Err(StoreError::Failed(cause()))),
            Fate::Hang => std::future::pending().await,
            Fate::Pass => work.await,
        }
    }
}

#[async_trait]
impl SessionStore for Watched {
    async fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.call(Call::Load, key, self.inner.load(key)).await
    }

    async fn save(
        &self,
        key: &Key,
        expected: Expected,
        value: Bytes,
        expires_at: Timestamp,
    ) -> Result<Saved, StoreError> {
        self.call(Call::Save, key, self.inner.save(key, expected, value, expires_at)).await
    }

    async fn touch(&self, key: &Key, expected: Version, expires_at: Timestamp) -> Result<bool, StoreError> {
        self.call(Call::Touch, key, self.inner.touch(key, expected, expires_at)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.call(Call::Delete, key, self.inner.delete(key)).await
    }

    async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
        let inner = Arc::clone(&self.inner).attach().await?;
        Ok(Arc::new(Self { inner, watch: Arc::clone(&self.watch) }))
    }
}
