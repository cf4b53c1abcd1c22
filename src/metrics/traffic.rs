//! What is counted with every request. Each thread counts for itself, so that workers do not wait for each other's cache
//! lines; a scrape adds up.

use std::array;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// More threads than this share places, which costs them time and no count.
const PLACES: usize = 64;

/// The counts of all threads.
#[derive(Debug)]
pub(super) struct Traffic([Place; PLACES]);

/// As long as what a processor fetches at once, so that no two threads write into the same.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By route, then by status: of those there are few, so that a list is faster than a map.
    requests: HashMap<Box<str>, Vec<(u16, Requests)>>,
    upstreams: HashMap<Box<str>, Calls>,
    /// By operation.
    store: HashMap<Box<str>, Calls>,
}

#[derive(Debug, Default)]
struct Requests {
    duration: Histogram,
    received: u64,
    sent: u64,
}

#[derive(Debug, Default)]
struct Calls {
    outcomes: Vec<(&'static str, u64)>,
    duration: Histogram,
}

/// Seconds; from a cached page to a report that takes its time.
const REQUEST_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Seconds; from a look into memory to well past the default `store.timeout`.
const STORE_BOUNDS: &[f64] = &[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0];

/// How many lie within which bound, the last within none; there is room for all of the bounds above.
#[derive(Debug, Default)]
struct Histogram {
    counts: [u64; 14],
    sum: f64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self(array::from_fn(|_| Place::default()))
    }
}

impl Traffic {
    pub(super) fn request(&self, route: &str, status: u16, duration: Duration, received: u64, sent: u64) {
        named(&mut self.mine().requests, route, |statuses| {
            listed(statuses, status, |requests| {
                requests.duration.observe(REQUEST_BOUNDS, duration);
                requests.received += received;
                requests.sent += sent;
            });
        });
    }

    pub(super) fn upstream(&self, upstream: &str, outcome: &'static str, duration: Duration) {
        named(&mut self.mine().upstreams, upstream, |calls| calls.count(outcome, REQUEST_BOUNDS, duration));
    }

    pub(super) fn store(&self, operation: &'static str, outcome: &'static str, duration: Duration) {
        named(&mut self.mine().store, operation, |calls| calls.count(outcome, STORE_BOUNDS, duration));
    }

    /// This thread's place.
    #[expect(clippy::indexing_slicing, reason = "a remainder is a place among as many")]
    fn mine(&self) -> MutexGuard<'_, Counts> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PLACES;
        }
        self.0[PLACE.with(|place| *place)].lock()
    }

    fn sum(&self) -> Sums {
        let mut sums = Sums::default();
        for place in &self.0 {
            let counts = place.lock();
            for (route, statuses) in &counts.requests {
                for (status, requests) in statuses {
                    sums.requests.entry((route.clone(), *status)).or_default().add(requests);
                }
            }
            for (calls, sums) in [(&counts.upstreams, &mut sums.upstreams), (&counts.store, &mut sums.store)] {
                for (name, calls) in calls {
                    sums.entry(name.clone()).or_default().add(calls);
                }
            }
        }
        sums
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Numbers are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks a name up without copying it, but for its first time.
fn named<T: Default>(all: &mut HashMap<Box<str>, T>, name: &str, count: impl FnOnce(&mut T)) {
    match all.get_mut(name) {
        Some(known) => count(known),
        None => count(all.entry(name.into()).or_default()),
    }
}

fn listed<K: PartialEq, T: Default>(all: &mut Vec<(K, T)>, key: K, count: impl FnOnce(&mut T)) {
    match all.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) => count(known),
        None => {
            let mut new = T::default();
            count(&mut new);
            all.push((key, new));
        }
    }
}

impl Requests {
    fn add(&mut self, other: &Self) {
        self.duration.add(&other.duration);
        self.received += other.received;
        self.sent += other.sent;
    }
}

impl Calls {
    fn count(&mut self, outcome: &'static str, bounds: &[f64], duration: Duration) {
        listed(&mut self.outcomes, outcome, |count| *count += 1);
        self.duration.observe(bounds, duration);
    }

    fn add(&mut self, other: &Self) {
        for (outcome, more) in &other.outcomes {
            listed(&mut self.outcomes, outcome, |count| *count += more);
        }
        self.duration.add(&other.duration);
    }
}

impl Histogram {
    fn observe(&mut self, bounds: &[f64], duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn buckets(&self, bounds: &[f64]) -> Vec<(f64, u64)> {
        bounds.iter().copied().chain(iter::once(f64::INFINITY)).zip(self.counts).collect()
    }
}

/// What all threads have counted, in an order.
#[derive(Default)]
struct Sums {
    requests: BTreeMap<(Box<str>, u16), Requests>,
    upstreams: BTreeMap<Box<str>, Calls>,
    store: BTreeMap<Box<str>, Calls>,
}

impl Collector for Traffic {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Sums { requests, upstreams, store } = self.sum();
        let mut families = Families(encoder);
        families.requests(&requests)?;
        families.calls(
            "upstream",
            ("upstream_requests", "Requests sent to backends."),
            ("upstream_duration", "From sending a request to a backend to the head of its answer."),
            REQUEST_BOUNDS,
            &upstreams,
        )?;
        families.calls(
            "operation",
            ("store_operations", "Questions to the session store."),
            ("store_duration", "From a question to the session store to its answer."),
            STORE_BOUNDS,
            &store,
        )
    }
}

struct Families<'a>(DescriptorEncoder<'a>);

/// The name of a family, and what it says about itself.
type About = (&'static str, &'static str);

impl Families<'_> {
    fn requests(&mut self, requests: &BTreeMap<(Box<str>, u16), Requests>) -> fmt::Result {
        let labels = |(route, status): &(Box<str>, u16)| ([("route", route.to_string())], [("status", *status)]);
        let of = |what: fn(&Requests) -> u64| requests.iter().map(move |(key, requests)| (labels(key), what(requests)));
        let durations: Vec<_> = requests.iter().map(|(key, requests)| (labels(key), &requests.duration)).collect();
        self.counters(("requests", "Requests answered."), None, of(|requests| requests.duration.count()))?;
        let duration = ("request_duration", "From the request's head to the end of the answer's body.");
        self.histograms(duration, REQUEST_BOUNDS, &durations)?;
        let received = ("received", "Bytes of request bodies from clients.");
        self.counters(received, Some(&Unit::Bytes), of(|requests| requests.received))?;
        self.counters(
            ("sent", "Bytes of response bodies to clients."),
            Some(&Unit::Bytes),
            of(|requests| requests.sent),
        )
    }

    fn calls(
        &mut self,
        label: &'static str,
        outcomes: About,
        duration: About,
        bounds: &[f64],
        calls: &BTreeMap<Box<str>, Calls>,
    ) -> fmt::Result {
        let counts = calls.iter().flat_map(|(name, calls)| {
            let labels = move |outcome| ([(label, &**name)], [("outcome", outcome)]);
            calls.outcomes.iter().map(move |(outcome, count)| (labels(*outcome), *count))
        });
        let durations: Vec<_> = calls.iter().map(|(name, calls)| ([(label, &**name)], &calls.duration)).collect();
        self.counters(outcomes, None, counts)?;
        self.histograms(duration, bounds, &durations)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        (name, help): About,
        unit: Option<&Unit>,
        counts: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut counts = counts.peekable();
        if counts.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, count) in counts {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn histograms<L: EncodeLabelSet>(
        &mut self,
        (name, help): About,
        bounds: &[f64],
        histograms: &[(L, &Histogram)],
    ) -> fmt::Result {
        if histograms.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, histogram) in histograms {
            let buckets = histogram.buckets(bounds);
            let mut metric = family.encode_family(labels)?;
            metric.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count(), &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn what_several_threads_count_is_added_up() {
        let traffic = Arc::new(Traffic::default());
        let count = || {
            let traffic = Arc::clone(&traffic);
            move || {
                traffic.request("/", 200, Duration::from_millis(4), 1, 2);
                traffic.upstream("app", "answered", Duration::from_millis(3));
                traffic.store("load", "hit", Duration::from_micros(80));
            }
        };
        let threads: Vec<_> = (0..PLACES + 3).map(|_| thread::spawn(count())).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let many = PLACES as u64 + 3;
        let sums = traffic.sum();
        let requests = &sums.requests[&("/".into(), 200)];
        assert_eq!((requests.duration.count(), requests.received, requests.sent), (many, many, 2 * many));
        assert_eq!(sums.upstreams["app"].outcomes, [("answered", many)]);
        assert_eq!(sums.store["load"].duration.counts[1], many);
    }

    #[test]
    fn a_bound_is_within_itself_and_there_is_room_for_all() {
        for bounds in [REQUEST_BOUNDS, STORE_BOUNDS] {
            let mut histogram = Histogram::default();
            assert!(bounds.len() < histogram.counts.len());
            for bound in bounds {
                histogram.observe(bounds, Duration::from_secs_f64(*bound));
            }
            histogram.observe(bounds, Duration::from_secs(60));
            let expected = bounds.iter().copied().chain([f64::INFINITY]).map(|bound| (bound, 1));
            assert_eq!(histogram.buckets(bounds), expected.collect::<Vec<_>>());
            assert!((histogram.sum - bounds.iter().sum::<f64>() - 60.0).abs() < 1e-6);
        }
    }
}
