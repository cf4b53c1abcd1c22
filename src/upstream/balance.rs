//! Which server is next: a decision over numbers.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Servers in turn.
#[derive(Debug, Default)]
pub struct RoundRobin(AtomicUsize);

impl RoundRobin {
    /// The index of the next of `count` servers.
    pub fn next(&self, count: usize) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed) % count.max(1)
    }

    /// Another server than `index` where there is one, for a second try.
    pub fn after(&self, index: usize, count: usize) -> usize {
        (index + 1) % count.max(1)
    }
}
