//! Counters and histograms.

use std::time::Duration;

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics;

impl Metrics {
    pub fn new() -> Self {
        Self
    }

    /// One call of a store: which, how it ended, how long it took.
    pub fn store(&self, _operation: &'static str, _outcome: &'static str, _duration: Duration) {}

    /// Whether the store's circuit breaker is open.
    pub fn breaker_open(&self, _open: bool) {}
}
