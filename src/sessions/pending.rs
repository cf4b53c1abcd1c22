//! What the store could not take at once and must take all the same: the ends of sessions, and retirements.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::records::Records;
use crate::metrics::Metrics;
use crate::session::Retired;
use crate::store::{Key, StoreError};
use crate::telemetry::Causes;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Jobs that are repeated until the store takes them or the proxy stops.
#[derive(Default)]
pub(super) struct Pending {
    /// Keys with a job: one visitor who repeats a logout does not multiply it. Never locked across an await.
    keys: Mutex<HashSet<Key>>,
}

#[derive(Clone, Debug)]
pub(super) enum Job {
    End(Key),
    Retire(Key, Retired),
}

impl Job {
    fn key(&self) -> &Key {
        match self {
            Self::End(key) | Self::Retire(key, _) => key,
        }
    }

    async fn run(&self, records: &Records) -> Result<(), StoreError> {
        match self {
            Self::End(key) => records.end(std::slice::from_ref(key)).await,
            Self::Retire(key, retired) => records.retire_late(key, retired).await,
        }
    }
}

impl Pending {
    /// Repeats `job` on the current runtime until it succeeds.
    pub fn push(self: &Arc<Self>, job: Job, records: &Arc<Records>) {
        if !self.keys().insert(job.key().clone()) {
            return;
        }
        let waiting = Waiting::new(Arc::clone(self), job.key().clone(), Arc::clone(&records.metrics));
        let records = Arc::clone(records);
        tokio::spawn(async move {
            let _waiting = waiting;
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                match job.run(&records).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::debug!(error = %Causes(&error), "the end of a session still waits")
                    }
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a job for as long as it lives.
struct Waiting {
    pending: Arc<Pending>,
    key: Key,
    metrics: Arc<Metrics>,
}

impl Waiting {
    fn new(pending: Arc<Pending>, key: Key, metrics: Arc<Metrics>) -> Self {
        metrics.flush_pending(1);
        Self { pending, key, metrics }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pending.keys().remove(&self.key);
        self.metrics.flush_pending(-1);
    }
}
