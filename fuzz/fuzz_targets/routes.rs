//! Routes. Input: lines `host path`; the first is a request's, the others are routes. What is found is what a plain
//! search through all of them finds.
#![no_main]

use cloakroom::routes::{NoRoute, RouteSettings, Routes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines().map(|line| line.split_once(' ').unwrap_or((line, "/")));
    let Some((host, path)) = lines.next() else { return };
    let settings: Vec<RouteSettings> = lines
        .take(20)
        .map(|(host, path)| {
            let host = host.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect();
            RouteSettings { host, path: path.to_owned(), ..RouteSettings::to("app") }
        })
        .collect();
    let Ok(routes) = Routes::new(settings.clone()) else { return };
    let found = routes.find(host, path);
    if may_climb(path) {
        assert_eq!(found.err(), Some(NoRoute::DotSegments), "{path:?}");
        return;
    }
    let best = settings.iter().filter(|route| covers(&route.path, path)).filter_map(|route| {
        let rank = if route.host.is_empty() {
            Some(0)
        } else {
            route.host.iter().filter_map(|pattern| answers(pattern, host)).max()
        };
        Some((rank?, route.path.len()))
    });
    let found = found.ok().map(|route| {
        let settings = &route.settings;
        let rank = if settings.host.is_empty() {
            Some(0)
        } else {
            settings.host.iter().filter_map(|pattern| answers(pattern, host)).max()
        };
        assert!(covers(&settings.path, path));
        (rank.expect("a route for another host"), settings.path.len())
    });
    assert_eq!(found, best.max());
});

/// Whether the prefix covers the path by whole segments.
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

/// How well a pattern fits a host: one that names it best, then the longest of those with a wildcard.
fn answers(pattern: &str, host: &str) -> Option<usize> {
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match host.rsplit_once(':') {
        Some((name, port)) if digits(port) && !name.ends_with(':') => name,
        _ => host,
    };
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    match pattern.strip_prefix('*') {
        None => (pattern == host).then_some(usize::MAX),
        Some(parent) => (host.len() > parent.len() && host.ends_with(parent)).then_some(parent.len()),
    }
}

/// Whether a backend that decodes, then splits, then resolves would see `.` or `..`.
fn may_climb(path: &str) -> bool {
    let decoded = path.replace("%2e", ".").replace("%2E", ".");
    decoded.split(['/', '\\']).any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}
