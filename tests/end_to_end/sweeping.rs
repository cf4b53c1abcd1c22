//! Expired sessions are removed while proxies run, by whichever of them comes first.

use std::time::{Duration, Instant};

use cloakroom::clock::{Clock, Timestamp};

use crate::backend::Backend;
use crate::proxy::{Proxy, Setup};

/// Nothing here takes so long; it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn two_proxies_on_one_database_sweep_each_expired_session_once() {
    const EXPIRING: u32 = 30;
    let backend = Backend::obedient();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.sqlite3");
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let text = format!(
        "[store]\nurl = 'sqlite://{}'\ntimeout = '20s'\nclear_interval = '20ms'\n[admin]\nlisten = '127.0.0.1:0'",
        file.display()
    );
    let proxies: [Proxy; 2] = [(); 2].map(|()| Setup::new(&backend.url(), &text).clock(&clock).start());
    for _ in 0..EXPIRING {
        proxies[0].visitor().ask(&["X-Session-Set: a=1", "X-Session-Expiry: 60"]);
    }
    let mut lasting = proxies[1].visitor();
    lasting.ask(&["X-Session-Set: a=1"]);

    let database = rusqlite::Connection::open(&file).unwrap();
    let rows = || database.query_row("SELECT count(*) FROM cloakroom_session", (), |row| row.get::<_, u32>(0)).unwrap();
    let sweeps =
        || proxies.iter().map(|proxy| proxy.metric("cloakroom_store_operations_total").unwrap_or(0)).sum::<u64>();
    let start = Instant::now();
    let before = sweeps();
    while sweeps() < before + 4 {
        assert!(start.elapsed() < PATIENCE, "nobody sweeps");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(rows(), EXPIRING + 1, "none had expired");
    clock.advance(Duration::from_secs(60));
    while rows() > 1 {
        assert!(start.elapsed() < PATIENCE, "{} rows are left", rows());
        std::thread::sleep(Duration::from_millis(5));
    }
    let swept = || proxies.iter().map(|proxy| proxy.metric("cloakroom_sessions_swept_total").unwrap_or(0)).sum::<u64>();
    while swept() < u64::from(EXPIRING) {
        assert!(start.elapsed() < PATIENCE, "{} were counted", swept());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(swept(), u64::from(EXPIRING));
    lasting.get("/");
    assert_eq!(backend.last().session(), Some(serde_json::json!({ "a": "1" })));
}
