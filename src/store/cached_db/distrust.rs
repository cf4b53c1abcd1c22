//! Keys whose entry in the cache may be older than the row, as far as this process knows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::Key;
use crate::clock::{Clock, Timestamp};

/// Keys that are remembered; with more the whole cache is not believed.
const MOST: usize = 10_000;

/// Shared by the workers of a process.
pub(super) struct Distrust {
    clock: Clock,
    /// How long after a write an entry from before it may be there.
    lasts: Duration,
    state: Mutex<State>,
}

struct State {
    keys: HashMap<Key, Doubt>,
    /// No entry at all is believed until then.
    whole: Timestamp,
}

struct Doubt {
    /// Writes under way.
    writes: u32,
    until: Timestamp,
}

const NEVER: Timestamp = Timestamp::from_millis(i64::MIN);

impl Distrust {
    pub(super) fn new(lasts: Duration, clock: Clock) -> Self {
        Self { clock, lasts, state: Mutex::new(State { keys: HashMap::new(), whole: NEVER }) }
    }

    /// Whether the entry of this key must not be believed.
    pub(super) fn covers(&self, key: &Key) -> bool {
        let now = self.clock.now();
        let state = self.lock();
        now < state.whole || state.keys.get(key).is_some_and(|doubt| doubt.writes > 0 || now < doubt.until)
    }

    /// To be asked for before a row is written. From then on, and unless [`Write::forgotten`] is called until the entry
    /// has ended by itself, the entry is not believed: also when the caller gives up in the middle.
    pub(super) fn write<'a>(&'a self, key: &'a Key) -> Write<'a> {
        self.lock().keys.entry(key.clone()).or_insert(Doubt { writes: 0, until: NEVER }).writes += 1;
        Write { distrust: self, key, forgotten: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write under way.
pub(super) struct Write<'a> {
    distrust: &'a Distrust,
    key: &'a Key,
    forgotten: bool,
}

impl Write<'_> {
    /// Nothing is left in the cache from before the write.
    pub(super) fn forgotten(mut self) {
        self.forgotten = true;
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        let now = self.distrust.clock.now();
        let until = now.plus(self.distrust.lasts);
        let mut state = self.distrust.lock();
        if let Some(doubt) = state.keys.get_mut(self.key) {
            doubt.writes = doubt.writes.saturating_sub(1);
            if !self.forgotten {
                doubt.until = until;
            }
            if doubt.writes == 0 && doubt.until <= now {
                state.keys.remove(self.key);
            }
        }
        if !self.forgotten && state.keys.len() > MOST {
            state.keys.retain(|_, doubt| doubt.writes > 0 || doubt.until > now);
            if state.keys.len() > MOST {
                state.whole = until;
                state.keys.retain(|_, doubt| doubt.writes > 0);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unchecked_time_subtraction, reason = "what is taken off is shorter")]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(300);

    fn distrust() -> (Distrust, Clock) {
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        (Distrust::new(LASTS, clock.clone()), clock)
    }

    fn kept(distrust: &Distrust) -> usize {
        distrust.lock().keys.len()
    }

    #[test]
    fn covers_a_key_while_it_is_written_and_then_only_if_the_entry_stayed() {
        let (distrust, clock) = distrust();
        let [good, bad] = [Key::new("good"), Key::new("bad")];
        let writes = [distrust.write(&good), distrust.write(&bad)];
        assert!(distrust.covers(&good) && distrust.covers(&bad) && !distrust.covers(&Key::new("other")));
        let [written, lost] = writes;
        written.forgotten();
        drop(lost);
        assert!(!distrust.covers(&good) && distrust.covers(&bad));
        distrust.write(&bad).forgotten();
        clock.advance(LASTS - Duration::from_millis(1));
        assert!(distrust.covers(&bad), "the loss of another write is not made good");
        clock.advance(Duration::from_millis(1));
        assert!(!distrust.covers(&bad));
        distrust.write(&bad).forgotten();
        assert_eq!(kept(&distrust), 0);
    }

    #[test]
    fn of_two_writes_the_one_that_goes_on_counts() {
        let (distrust, _) = distrust();
        let key = Key::new("key");
        let [one, other] = [distrust.write(&key), distrust.write(&key)];
        one.forgotten();
        assert!(distrust.covers(&key));
        other.forgotten();
        assert!(!distrust.covers(&key));
    }

    #[test]
    fn too_many_keys_are_all_keys() {
        let (distrust, clock) = distrust();
        for number in 0..MOST {
            drop(distrust.write(&Key::new(number.to_string())));
        }
        assert!(!distrust.covers(&Key::new("other")));
        assert_eq!(kept(&distrust), MOST);
        drop(distrust.write(&Key::new("one more")));
        assert!(distrust.covers(&Key::new("other")) && distrust.covers(&Key::new("0")));
        assert_eq!(kept(&distrust), 0);
        clock.advance(LASTS);
        assert!(!distrust.covers(&Key::new("other")));
    }

    #[test]
    fn keys_that_are_over_make_room() {
        let (distrust, clock) = distrust();
        for number in 0..MOST {
            drop(distrust.write(&Key::new(number.to_string())));
        }
        clock.advance(LASTS);
        drop(distrust.write(&Key::new("one more")));
        assert!(!distrust.covers(&Key::new("other")) && distrust.covers(&Key::new("one more")));
        assert_eq!(kept(&distrust), 1);
    }
}
