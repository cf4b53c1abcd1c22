//! What the store could not take at once and must take all the same: the ends of sessions, and retirements.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::records::{Records, Retirement};
use crate::metrics::{Metrics, SessionEvent};
use crate::session::tag::Tagger;
use crate::store::{Key, StoreError};
use crate::telemetry::Causes;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// An outage must not fill the memory: a job is about a kilobyte.
const MOST_JOBS: usize = 65_536;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Jobs that are repeated until the store takes them or the proxy stops.
pub(super) struct Pending {
    tagger: Arc<Tagger>,
    /// One visitor who repeats a logout does not multiply it; a logout is not the retirement of the same key. Never
    /// locked across an await.
    jobs: Mutex<HashSet<Job>>,
    /// How many there are.
    count: AtomicUsize,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Job {
    End(Key),
    Retire(Retirement),
}

impl Job {
    async fn run(&self, records: &Records) -> Result<(), StoreError> {
        match self {
            Self::End(key) => records.end(std::slice::from_ref(key)).await,
            Self::Retire(retirement) => records.retire_late(retirement).await,
        }
    }
}

impl Pending {
    pub fn new(tagger: Arc<Tagger>) -> Self {
        Self { tagger, jobs: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Repeats `job` on the current runtime until it succeeds.
    pub fn push(self: &Arc<Self>, job: Job, records: &Arc<Records>) {
        let mut jobs = self.jobs();
        if jobs.len() >= MOST_JOBS {
            tracing::error!("too many sessions wait for their end; one more is left to expire by itself");
            return;
        }
        if !jobs.insert(job.clone()) {
            return;
        }
        self.count.store(jobs.len(), Ordering::Release);
        drop(jobs);
        let waiting = Waiting::new(Arc::clone(self), job, Arc::clone(&records.metrics));
        let records = Arc::clone(records);
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                match waiting.job.run(&records).await {
                    Ok(()) => break waiting.tell_end(),
                    Err(error) => {
                        tracing::debug!(error = %Causes(&error), "the end of a session still waits");
                    }
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    /// As it nearly always is: known without a lock.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether the session under `key` was ended, though the store does not know it yet.
    pub fn ends(&self, key: &Key) -> bool {
        self.jobs().contains(&Job::End(key.clone()))
    }

    fn jobs(&self) -> MutexGuard<'_, HashSet<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a job for as long as it lives.
struct Waiting {
    pending: Arc<Pending>,
    job: Job,
    metrics: Arc<Metrics>,
}

impl Waiting {
    fn new(pending: Arc<Pending>, job: Job, metrics: Arc<Metrics>) -> Self {
        metrics.flush_pending(1);
        Self { pending, job, metrics }
    }
}

impl Waiting {
    fn tell_end(&self) {
        if let Job::End(key) = &self.job {
            self.metrics.session(SessionEvent::Forgotten);
            let session = self.pending.tagger.tag(key);
            tracing::info!(target: "cloakroom::session", session, event = "ended", "as soon as the store could take it");
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut jobs = self.pending.jobs();
        jobs.remove(&self.job);
        self.pending.count.store(jobs.len(), Ordering::Release);
        drop(jobs);
        self.metrics.flush_pending(-1);
    }
}
