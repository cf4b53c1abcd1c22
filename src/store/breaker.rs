//! The circuit breaker: after several failures in a row a store is left alone, then tried by one caller at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::StoreError;
use crate::metrics::Metrics;

const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Shared by everyone who asks the same store.
pub(super) struct Breaker {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

enum State {
    /// Calls pass; so many failed in a row.
    Closed { failures: u32 },
    /// Calls fail until then; the next caller after that is the trial.
    Open { until: Instant, pause: Duration },
    /// One caller tries; all others fail.
    Trial { pause: Duration },
}

impl Breaker {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::new(State::Closed { failures: 0 }), metrics }
    }

    /// Asks for one call. Dropping the permit unused leaves the breaker as it was before it was given.
    ///
    /// # Errors
    /// [`StoreError::Open`] while the store is left alone.
    pub(super) fn admit(&self) -> Result<Permit<'_>, StoreError> {
        let mut state = self.lock();
        let trial = match *state {
            State::Closed { .. } => false,
            State::Open { until, pause } if Instant::now() >= until => {
                *state = State::Trial { pause };
                true
            }
            State::Open { .. } | State::Trial { .. } => return Err(StoreError::Open),
        };
        Ok(Permit { breaker: self, trial })
    }

    /// Whether calls pass without being a trial.
    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed { .. })
    }

    fn open(&self, state: &mut State, pause: Duration) {
        // Between half of the pause and all of it, so that several proxies do not come back in step.
        let until = Instant::now() + pause.mul_f64(rand::random_range(0.5..=1.0));
        *state = State::Open { until, pause };
        self.metrics.breaker_open(true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to make one call; its outcome is told to it.
#[must_use]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    trial: bool,
}

impl Permit<'_> {
    pub(super) fn settle(self, success: bool) {
        if success {
            self.succeeded();
        } else {
            self.failed();
        }
    }

    fn succeeded(mut self) {
        let mut state = self.breaker.lock();
        if std::mem::take(&mut self.trial) {
            *state = State::Closed { failures: 0 };
            tracing::info!("the store answers again");
            self.breaker.metrics.breaker_open(false);
        } else if let State::Closed { failures } = &mut *state {
            *failures = 0;
        }
    }

    fn failed(mut self) {
        let mut state = self.breaker.lock();
        let trial = std::mem::take(&mut self.trial);
        match &mut *state {
            State::Trial { pause } if trial => {
                let pause = (*pause * 2).min(LONGEST_PAUSE);
                self.breaker.open(&mut state, pause);
            }
            State::Closed { failures } => {
                *failures += 1;
                if *failures >= FAILURES {
                    tracing::warn!(
                        "the store failed {FAILURES} times in a row; it is left alone and tried now and then"
                    );
                    self.breaker.open(&mut state, FIRST_PAUSE);
                }
            }
            // A call from before the breaker opened says nothing new.
            State::Open { .. } | State::Trial { .. } => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.trial {
            return;
        }
        let mut state = self.breaker.lock();
        if let State::Trial { pause } = *state {
            *state = State::Open { until: Instant::now(), pause };
        }
    }
}

#[cfg(test)]
#[expect(clippy::unchecked_time_subtraction, reason = "every pause is longer than what is taken off")]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Arc::new(Metrics::new()))
    }

    fn broken() -> Breaker {
        let breaker = breaker();
        for _ in 0..FAILURES {
            breaker.admit().unwrap().failed();
        }
        breaker
    }

    fn is_open(breaker: &Breaker) -> bool {
        matches!(breaker.admit(), Err(StoreError::Open))
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_only() {
        let breaker = breaker();
        for _ in 0..3 {
            for _ in 1..FAILURES {
                breaker.admit().unwrap().failed();
            }
            breaker.admit().unwrap().succeeded();
        }
        for _ in 0..FAILURES {
            assert!(breaker.is_closed());
            breaker.admit().unwrap().failed();
        }
        assert!(!breaker.is_closed() && is_open(&breaker));
    }

    #[tokio::test(start_paused = true)]
    async fn lets_exactly_one_trial_through_after_the_pause() {
        let breaker = broken();
        tokio::time::advance(FIRST_PAUSE / 2 - Duration::from_millis(1)).await;
        assert!(is_open(&breaker));
        tokio::time::advance(FIRST_PAUSE / 2 + Duration::from_millis(1)).await;
        let trial = breaker.admit().unwrap();
        tokio::time::advance(LONGEST_PAUSE * 10).await;
        assert!(is_open(&breaker), "a second trial beside the first");
        trial.succeeded();
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_longer_after_every_failed_trial() {
        let breaker = broken();
        let mut pause = FIRST_PAUSE;
        for _ in 0..10 {
            tokio::time::advance(pause / 2 - Duration::from_millis(1)).await;
            assert!(is_open(&breaker), "after less than half of {pause:?}");
            tokio::time::advance(pause / 2 + Duration::from_millis(1)).await;
            breaker.admit().unwrap_or_else(|_| panic!("open after {pause:?}")).failed();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_trial_leaves_the_next_one_to_the_next_caller() {
        let breaker = broken();
        tokio::time::advance(FIRST_PAUSE).await;
        drop(breaker.admit().unwrap());
        let trial = breaker.admit().unwrap();
        assert!(is_open(&breaker));
        trial.succeeded();
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_from_before_it_opened_change_nothing() {
        let breaker = breaker();
        let [success, failure, dropped] = std::array::from_fn(|_| breaker.admit().unwrap());
        for _ in 0..FAILURES {
            breaker.admit().unwrap().failed();
        }
        success.succeeded();
        failure.failed();
        drop(dropped);
        assert!(is_open(&breaker));
    }

    #[tokio::test(start_paused = true)]
    async fn during_a_trial_only_its_own_outcome_counts() {
        let breaker = breaker();
        let [success, failure, dropped] = std::array::from_fn(|_| breaker.admit().unwrap());
        for _ in 0..FAILURES {
            breaker.admit().unwrap().failed();
        }
        tokio::time::advance(FIRST_PAUSE).await;
        let trial = breaker.admit().unwrap();
        success.succeeded();
        failure.failed();
        drop(dropped);
        tokio::time::advance(LONGEST_PAUSE).await;
        assert!(is_open(&breaker), "a second trial beside the first");
        trial.succeeded();
        assert!(breaker.is_closed());
    }

    #[test]
    fn of_many_threads_one_gets_the_trial() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        for _ in 0..100 {
            let breaker = breaker();
            *breaker.lock() = State::Open { until: Instant::now(), pause: FIRST_PAUSE };
            let start = std::sync::Barrier::new(4);
            let trials = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            breaker.admit().map(std::mem::forget).is_ok()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
            });
            assert_eq!(trials, 1);
        }
    }
}
