//! Sweeping: expired records are removed now and then, where the engine does not do so by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::store::SessionStore;
use crate::telemetry::Causes;

/// Between two batches a sweep rests as long as the batch took, and never less.
const REST: Duration = Duration::from_millis(1);

/// Sweeps about every `interval` until `stop`. A sweep that fails is tried at the next interval.
pub(super) async fn sweep_now_and_then(
    store: Arc<dyn SessionStore>,
    metrics: Arc<Metrics>,
    interval: Duration,
    stop: CancellationToken,
) {
    let sweeping = async {
        loop {
            sleep(pause(interval)).await;
            sweep(&*store, &metrics).await;
        }
    };
    tokio::select! {
        () = sweeping => {}
        () = stop.cancelled() => {}
    }
}

/// Of many proxies that were started together no two sweep at the same moment for long.
fn pause(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(0.75..1.25))
}

/// Batch after batch, until nothing is left or another proxy is at it.
async fn sweep(store: &dyn SessionStore, metrics: &Metrics) {
    let mut count = 0;
    loop {
        let start = Instant::now();
        match store.sweep().await {
            Ok(0) => break,
            Ok(swept) => {
                metrics.swept(swept);
                count += swept;
            }
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "expired sessions could not be swept");
                break;
            }
        }
        sleep(start.elapsed().max(REST)).await;
    }
    if count == 0 {
        tracing::debug!("no expired sessions were there to be swept");
    } else {
        tracing::info!(target: "cloakroom::session", count, event = "expired", "expired sessions were swept");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::clock::Timestamp;
    use crate::store::{Expected, Key, Record, Saved, StoreError, Version};

    /// Says of its sweeps what it was told, then nothing more, and when they were.
    struct Expiring {
        sweeps: Mutex<VecDeque<Result<u64, StoreError>>>,
        times: Mutex<Vec<Instant>>,
    }

    #[async_trait]
    impl SessionStore for Expiring {
        async fn load(&self, _: &Key) -> Result<Option<Record>, StoreError> {
            Ok(None)
        }

        async fn save(&self, _: &Key, _: Expected, _: Bytes, _: Timestamp) -> Result<Saved, StoreError> {
            Ok(Saved::Conflict)
        }

        async fn touch(&self, _: &Key, _: Version, _: Timestamp) -> Result<bool, StoreError> {
            Ok(false)
        }

        async fn delete(&self, _: &Key) -> Result<(), StoreError> {
            Ok(())
        }

        async fn sweep(&self) -> Result<u64, StoreError> {
            self.times.lock().unwrap().push(Instant::now());
            self.sweeps.lock().unwrap().pop_front().unwrap_or(Ok(0))
        }

        async fn attach(self: Arc<Self>) -> Result<Arc<dyn SessionStore>, StoreError> {
            Ok(self)
        }
    }

    const INTERVAL: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn sweeps_go_on_until_nothing_is_left_and_no_failure_ends_them() {
        let failure = || Err(StoreError::Unreachable("as a test wants it".into()));
        let sweeps = [Ok(500), Ok(500), Ok(3), Ok(0), failure(), Ok(7), failure(), Ok(0)];
        let store = Arc::new(Expiring { sweeps: Mutex::new(sweeps.into()), times: Mutex::default() });
        let metrics = Arc::new(Metrics::new());
        let (start, stop) = (Instant::now(), CancellationToken::new());
        let task = tokio::spawn(sweep_now_and_then(store.clone(), metrics.clone(), INTERVAL, stop.clone()));
        while store.times.lock().unwrap().len() < 9 {
            sleep(INTERVAL / 10).await;
        }
        stop.cancel();
        task.await.unwrap();
        assert!(metrics.open_metrics().contains("cloakroom_sessions_swept_total 1010\n"));

        let times = store.times.lock().unwrap().clone();
        // Those that are one sweep, and those that the next one follows only after an interval.
        let mut previous = start;
        for (number, time) in times.into_iter().enumerate() {
            let waited = time - previous;
            let batch = matches!(number, 1..=3 | 6);
            assert_eq!(waited < INTERVAL / 10, batch, "sweep {number} after {waited:?}");
            assert!(batch || (waited >= INTERVAL.mul_f64(0.75) && waited <= INTERVAL.mul_f64(1.26)), "{waited:?}");
            previous = time;
        }
    }

    #[test]
    fn proxies_drift_apart() {
        let pauses: std::collections::HashSet<Duration> = (0..20).map(|_| pause(INTERVAL)).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }
}
