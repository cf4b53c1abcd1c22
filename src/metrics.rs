//! What Cloakroom counts and times, and its exposition as OpenMetrics text. To add a metric: a field, its registration in
//! [`Metrics::new`], a method that moves it; one that moves with every request belongs in `traffic`.

mod traffic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::traffic::Traffic;

/// Every metric of the process, shared by its workers. No label carries a value a client chose, so the number of series
/// is bounded by the configuration.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What moves with every request; all else moves rarely enough for one place.
    traffic: Arc<Traffic>,
    breaker_open: Gauge,
    sessions: [Counter; SessionEvent::ALL.len()],
    swept: Counter,
    refused: Family<ReasonLabels, Counter>,
    flushes_pending: Gauge,
    near_cache: [Counter; NearCacheOutcome::ALL.len()],
    connections: Counter,
    connections_open: Gauge,
}

/// What became of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionEvent {
    /// A visitor got a session.
    Created,
    /// A session moved to a new key.
    Cycled,
    /// A session was ended by the backend: `flush` or `delete`.
    Forgotten,
    /// An update found its session gone and was dropped.
    Interrupted,
    /// Changed data or a changed expiry was stored.
    Saved,
    /// Only the deadline moved.
    Touched,
    /// A record was there and could not be read.
    Undecodable,
    /// A well-formed id named no live session: expired, ended, or guessed.
    Unknown,
}

impl SessionEvent {
    const ALL: [Self; 8] = [
        Self::Created,
        Self::Cycled,
        Self::Forgotten,
        Self::Interrupted,
        Self::Saved,
        Self::Touched,
        Self::Undecodable,
        Self::Unknown,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Cycled => "cycled",
            Self::Forgotten => "forgotten",
            Self::Interrupted => "interrupted",
            Self::Saved => "saved",
            Self::Touched => "touched",
            Self::Undecodable => "undecodable",
            Self::Unknown => "unknown",
        }
    }
}

/// What the near cache had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NearCacheOutcome {
    /// The session; the store was not asked.
    Hit,
    Miss,
    /// A session of some time ago, shown because the store did not answer.
    Stale,
}

impl NearCacheOutcome {
    const ALL: [Self; 3] = [Self::Hit, Self::Miss, Self::Stale];

    const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

impl Metrics {
    /// The content type of what [`Metrics::open_metrics`] gives.
    pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

    pub fn new() -> Self {
        let events = Family::<EventLabels, Counter>::default();
        let lookups = Family::<OutcomeLabels, Counter>::default();
        let mut metrics = Self {
            registry: Registry::with_prefix("cloakroom"),
            traffic: Arc::default(),
            breaker_open: Gauge::default(),
            sessions: SessionEvent::ALL.map(|event| events.get_or_create_owned(&EventLabels { event: event.label() })),
            swept: Counter::default(),
            refused: Family::default(),
            flushes_pending: Gauge::default(),
            near_cache: NearCacheOutcome::ALL
                .map(|outcome| lookups.get_or_create_owned(&OutcomeLabels { outcome: outcome.label() })),
            connections: Counter::default(),
            connections_open: Gauge::default(),
        };
        metrics.register_traffic();
        metrics.register_sessions(events, lookups);
        metrics
    }

    fn register_traffic(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that runs", build);
        registry.register_collector(Box::new(Arc::clone(&self.traffic)));
        registry.register("connections", "Connections accepted from clients", self.connections.clone());
        registry.register("connections_open", "Connections of clients that are open", self.connections_open.clone());
        registry.register("refused", "Requests, or parts of them, that were refused", self.refused.clone());
    }

    fn register_sessions(&mut self, events: Family<EventLabels, Counter>, lookups: Family<OutcomeLabels, Counter>) {
        let registry = &mut self.registry;
        registry.register("session_events", "What became of sessions", events);
        registry.register("sessions_swept", "Expired records that sweeps have removed", self.swept.clone());
        registry.register("near_cache_lookups", "Sessions looked for in the near cache", lookups);
        registry.register("store_breaker_open", "1 while the store fails and is not asked", self.breaker_open.clone());
        registry.register(
            "flushes_pending",
            "Ends and retirements of sessions that the store could not take and that are retried",
            self.flushes_pending.clone(),
        );
    }

    /// A request was answered; `received` and `sent` are bytes of bodies.
    pub fn request(&self, route: &str, status: u16, duration: Duration, received: u64, sent: u64) {
        self.traffic.request(route, status, duration, received, sent);
    }

    /// A backend sent the head of its answer, or failed to, `duration` after it was asked.
    pub fn upstream(&self, upstream: &str, outcome: &'static str, duration: Duration) {
        self.traffic.upstream(upstream, outcome, duration);
    }

    /// The store answered, or failed to, `duration` after it was asked.
    pub fn store(&self, operation: &'static str, outcome: &'static str, duration: Duration) {
        self.traffic.store(operation, outcome, duration);
    }

    /// The store's circuit breaker opened or closed.
    pub fn breaker_open(&self, open: bool) {
        self.breaker_open.set(i64::from(open));
    }

    /// A sweep has removed so many expired records.
    pub fn swept(&self, count: u64) {
        self.swept.inc_by(count);
    }

    #[expect(clippy::indexing_slicing, reason = "there is a counter for each event")]
    pub fn session(&self, event: SessionEvent) {
        self.sessions[event as usize].inc();
    }

    #[expect(clippy::indexing_slicing, reason = "there is a counter for each outcome")]
    pub fn near_cache(&self, outcome: NearCacheOutcome) {
        self.near_cache[outcome as usize].inc();
    }

    /// A request, or something in it or its answer, was refused for `reason`.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// So many more deletions wait to be retried; negative when some are done.
    pub fn flush_pending(&self, delta: i64) {
        self.flushes_pending.inc_by(delta);
    }

    pub fn connection_opened(&self) {
        self.connections.inc();
        self.connections_open.inc();
    }

    pub fn connection_closed(&self) {
        self.connections_open.dec();
    }

    /// All of it as OpenMetrics text, of type [`Metrics::OPEN_METRICS`].
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "writing to a String cannot fail")]
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }

    /// All of it as Prometheus text, of type [`Metrics::PROMETHEUS`]: the same samples, but a counter is announced by
    /// the name its samples have, and units and an end are unknown.
    pub fn prometheus(&self) -> String {
        let open_metrics = self.open_metrics();
        let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let types: HashMap<&str, &str> = types.collect();
        let mut text = String::with_capacity(open_metrics.len());
        for line in open_metrics.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(keyword), Some(name), Some(rest)) => {
                    let (suffix, kind) = match types.get(name) {
                        Some(&"counter") => ("_total", "counter"),
                        Some(&"info") => ("_info", "gauge"),
                        kind => ("", kind.copied().unwrap_or_default()),
                    };
                    let rest = if keyword == "TYPE" { kind } else { rest };
                    text.push_str(&format!("# {keyword} {name}{suffix} {rest}\n"));
                }
                _ => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct EventLabels {
    event: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabels {
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_lines(text: &str, expected: &[&str]) {
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_known_beforehand_starts_at_zero() {
        let text = Metrics::new().open_metrics();
        for event in SessionEvent::ALL {
            assert_lines(&text, &[&format!("cloakroom_session_events_total{{event=\"{}\"}} 0", event.label())]);
        }
        assert_lines(
            &text,
            &[
                "cloakroom_connections_total 0",
                "cloakroom_connections_open 0",
                "cloakroom_flushes_pending 0",
                "cloakroom_store_breaker_open 0",
                concat!("cloakroom_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            ],
        );
        assert!(text.ends_with("# EOF\n"), "without its end a scrape counts as cut off");
    }

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::new();
        metrics.request("/shop", 200, Duration::from_millis(4), 10, 100);
        metrics.request("/shop", 200, Duration::from_millis(40), 1, 1);
        metrics.request("/shop", 503, Duration::from_secs(60), 0, 0);
        metrics.request("/", 404, Duration::ZERO, 0, 9);
        assert_lines(
            &metrics.open_metrics(),
            &[
                "# TYPE cloakroom_requests counter",
                "cloakroom_requests_total{route=\"/shop\",status=\"200\"} 2",
                "cloakroom_requests_total{route=\"/shop\",status=\"503\"} 1",
                "cloakroom_requests_total{route=\"/\",status=\"404\"} 1",
                "# UNIT cloakroom_request_duration_seconds seconds",
                "cloakroom_request_duration_seconds_bucket{le=\"0.005\",route=\"/shop\",status=\"200\"} 1",
                "cloakroom_request_duration_seconds_bucket{le=\"0.05\",route=\"/shop\",status=\"200\"} 2",
                "cloakroom_request_duration_seconds_bucket{le=\"+Inf\",route=\"/shop\",status=\"503\"} 1",
                "cloakroom_request_duration_seconds_count{route=\"/shop\",status=\"200\"} 2",
                "cloakroom_received_bytes_total{route=\"/shop\",status=\"200\"} 11",
                "cloakroom_sent_bytes_total{route=\"/shop\",status=\"200\"} 101",
                "cloakroom_sent_bytes_total{route=\"/\",status=\"404\"} 9",
            ],
        );
    }

    #[test]
    fn upstreams_and_store_are_counted_by_outcome_and_timed() {
        let metrics = Metrics::new();
        metrics.upstream("app", "ok", Duration::from_millis(20));
        metrics.upstream("app", "timeout", Duration::from_secs(30));
        metrics.store("load", "ok", Duration::from_micros(80));
        metrics.store("save", "timeout", Duration::from_millis(250));
        assert_lines(
            &metrics.open_metrics(),
            &[
                "cloakroom_upstream_requests_total{upstream=\"app\",outcome=\"ok\"} 1",
                "cloakroom_upstream_requests_total{upstream=\"app\",outcome=\"timeout\"} 1",
                "cloakroom_upstream_duration_seconds_count{upstream=\"app\"} 2",
                "cloakroom_store_operations_total{operation=\"load\",outcome=\"ok\"} 1",
                "cloakroom_store_operations_total{operation=\"save\",outcome=\"timeout\"} 1",
                "cloakroom_store_duration_seconds_bucket{le=\"0.0001\",operation=\"load\"} 1",
                "cloakroom_store_duration_seconds_bucket{le=\"0.1\",operation=\"save\"} 0",
            ],
        );
    }

    #[test]
    fn each_event_moves_its_own_counter_only() {
        let metrics = Metrics::new();
        for (times, event) in SessionEvent::ALL.into_iter().enumerate() {
            for _ in 0..=times {
                metrics.session(event);
            }
        }
        let text = metrics.open_metrics();
        for (times, event) in SessionEvent::ALL.into_iter().enumerate() {
            let line = format!("cloakroom_session_events_total{{event=\"{}\"}} {}", event.label(), times + 1);
            assert_lines(&text, &[&line]);
        }
    }

    #[test]
    fn gauges_go_up_and_down() {
        let metrics = Metrics::new();
        metrics.connection_opened();
        metrics.connection_opened();
        metrics.connection_closed();
        metrics.flush_pending(3);
        metrics.flush_pending(-1);
        metrics.breaker_open(true);
        metrics.refused("overflow");
        assert_lines(
            &metrics.open_metrics(),
            &[
                "cloakroom_connections_total 2",
                "cloakroom_connections_open 1",
                "cloakroom_flushes_pending 2",
                "cloakroom_store_breaker_open 1",
                "cloakroom_refused_total{reason=\"overflow\"} 1",
            ],
        );
        metrics.breaker_open(false);
        assert_lines(&metrics.open_metrics(), &["cloakroom_store_breaker_open 0"]);
    }

    #[test]
    fn a_name_from_the_configuration_cannot_forge_a_line() {
        let metrics = Metrics::new();
        metrics.request("a\"} 1\ncloakroom_forged 1\\", 200, Duration::ZERO, 0, 0);
        assert!(!metrics.open_metrics().contains("\ncloakroom_forged"));
    }

    #[test]
    fn prometheus_text_announces_samples_by_their_names() {
        let metrics = Metrics::new();
        metrics.request("/", 200, Duration::from_millis(3), 0, 10);
        let (text, open_metrics) = (metrics.prometheus(), metrics.open_metrics());
        let samples = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(&text), samples(&open_metrics));
        for line in [
            "# TYPE cloakroom_requests_total counter",
            "# TYPE cloakroom_build_info gauge",
            "# TYPE cloakroom_request_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in {text}");
        }
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
    }
}
