//! What only a generator of ids that repeats itself can show, or a clock that is behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::StatusCode;
use hyper::header::{COOKIE, HeaderValue};

use super::*;
use crate::clock::Timestamp;
use crate::routes::RouteSettings;
use crate::session::cookie::CookieSettings;
use crate::session::inject::HeaderSettings;
use crate::session::patch::SessionPatch;
use crate::session::settings::SessionSettings;
use crate::store::{Engine, StoreSettings, open_engine};

const TAKEN: [u8; 32] = [b'a'; 32];

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

async fn sessions(new_id: fn() -> Result<SessionId, SysError>) -> Sessions {
    let settings = StoreSettings { engine: Engine::Memory, ..StoreSettings::default() };
    sessions_in(&settings, Clock::manual(NOW), new_id).await
}

async fn sessions_in(settings: &StoreSettings, clock: Clock, new_id: fn() -> Result<SessionId, SysError>) -> Sessions {
    let headers = HeaderSettings::default();
    let rules = SessionSettings::default().check(&headers).unwrap();
    let codec = Codec::new(settings, &rules, "sessionid").unwrap();
    let cookies = CookieSettings::default().check().unwrap();
    let store = open_engine(settings, codec.foreign(), clock.clone()).await.unwrap();
    let mut shared = Shared::new(rules, codec, cookies, headers.check().unwrap(), None);
    shared.new_id = new_id;
    Sessions::new(shared, store, clock, Arc::new(Metrics::new()))
}

fn cookie(id: &str) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&format!("sessionid={id}")).unwrap())])
}

/// One exchange of a visitor with these headers: the backend sets `user`.
async fn log_in(sessions: &Sessions, visitor: HeaderMap, user: &str) -> Result<Option<HeaderValue>, CommitError> {
    update(sessions, visitor, "x-session-set", &format!("user={user}")).await
}

/// One exchange: the backend answers with this header.
async fn update(
    sessions: &Sessions,
    mut visitor: HeaderMap,
    header: &'static str,
    value: &str,
) -> Result<Option<HeaderValue>, CommitError> {
    let open = sessions.open(&mut visitor, &RouteSettings::to("app"), "test").await.unwrap();
    let mut update = HeaderMap::new();
    update.insert(header, HeaderValue::from_str(value).unwrap());
    let patch = SessionPatch::take_from(&mut update, sessions.limits());
    let route = RouteSettings::to("app");
    let answer = Answer { status: StatusCode::OK, route: &route, https: false, request_id: "-" };
    sessions.commit(open, patch, answer).await
}

/// What a backend is told of the session with this id.
async fn data(sessions: &Sessions, id: &str) -> Option<String> {
    let mut headers = cookie(id);
    let open = sessions.open(&mut headers, &RouteSettings::to("app"), "test").await.unwrap();
    sessions.inject(&open, &mut headers);
    headers.get("x-session-data").map(|data| data.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn i8_an_id_that_is_taken_is_never_given_twice() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);

    /// The same id three times, then another.
    #[expect(clippy::unnecessary_wraps, reason = "the generator may fail")]
    fn repeats() -> Result<SessionId, SysError> {
        let id = if CALLS.fetch_add(1, Ordering::SeqCst) < 3 { TAKEN } else { [b'b'; 32] };
        Ok(SessionId::parse(&id).unwrap())
    }

    let sessions = sessions(repeats).await;
    log_in(&sessions, HeaderMap::new(), "ann").await.unwrap().expect("a cookie");
    let second = log_in(&sessions, HeaderMap::new(), "bob").await.unwrap().expect("a cookie");
    assert_eq!(CALLS.load(Ordering::SeqCst), 4, "bob got the taken id twice before his own");
    assert!(second.to_str().unwrap().starts_with(&format!("sessionid={};", "b".repeat(32))));
    assert_eq!(data(&sessions, &"a".repeat(32)).await.as_deref(), Some(r#"{"user":"ann"}"#));
    assert_eq!(data(&sessions, &"b".repeat(32)).await.as_deref(), Some(r#"{"user":"bob"}"#));
}

#[tokio::test]
async fn i8_without_a_free_id_there_is_no_session_rather_than_anothers() {
    #[expect(clippy::unnecessary_wraps, reason = "the generator may fail")]
    fn always() -> Result<SessionId, SysError> {
        Ok(SessionId::parse(&TAKEN).unwrap())
    }

    let sessions = sessions(always).await;
    log_in(&sessions, HeaderMap::new(), "ann").await.unwrap().expect("a cookie");
    let second = log_in(&sessions, HeaderMap::new(), "bob").await;
    assert!(matches!(second, Err(CommitError::Contended)), "{second:?}");
    assert_eq!(data(&sessions, &"a".repeat(32)).await.as_deref(), Some(r#"{"user":"ann"}"#));
}

/// A format without grace cannot say that a session moved on, and a row of Django's stays until it is swept.
#[tokio::test]
async fn i6_an_old_id_without_grace_is_dead_where_the_clock_is_behind_too() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("sessions").display());
    let text = format!("url = '{url}'\nformat = 'django'\ndjango.secret_key = 'key'");
    let settings: StoreSettings = toml::from_str(&text).unwrap();
    let here = sessions_in(&settings, Clock::manual(NOW), SessionId::generate).await;
    let behind = Clock::manual(NOW.minus(Duration::from_secs(60)));
    let there = sessions_in(&settings, behind, SessionId::generate).await;

    let id = |line: HeaderValue| line.to_str().unwrap()["sessionid=".len()..][..32].to_owned();
    let old = id(log_in(&here, HeaderMap::new(), "ann").await.unwrap().expect("a cookie"));
    let new = id(update(&here, cookie(&old), "x-session-action", "cycle").await.unwrap().expect("a cookie"));
    assert_ne!(old, new);
    for sessions in [&here, &there] {
        assert_eq!(data(sessions, &old).await, None);
        assert_eq!(data(sessions, &new).await.as_deref(), Some(r#"{"user":"ann"}"#));
    }
}
