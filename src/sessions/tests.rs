//! What only a generator of ids that repeats itself can show.

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

async fn sessions(new_id: fn() -> Result<SessionId, SysError>) -> Sessions {
    let headers = HeaderSettings::default();
    let rules = SessionSettings::default().check(&headers).unwrap();
    let settings = StoreSettings { engine: Engine::Memory, ..StoreSettings::default() };
    let codec = Codec::new(&settings, &rules, "sessionid").unwrap();
    let cookies = CookieSettings::default().check().unwrap();
    let mut shared = Shared::new(rules, codec, cookies, headers.check().unwrap());
    shared.new_id = new_id;
    let clock = Clock::manual(Timestamp::from_millis(1_767_225_600_000));
    let store = open_engine(&settings, None, clock.clone()).await.unwrap();
    Sessions::new(shared, store, clock, Arc::new(Metrics::new()))
}

fn cookie(id: &str) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&format!("sessionid={id}")).unwrap())])
}

/// One exchange of a visitor with these headers: the backend sets `user`.
async fn log_in(sessions: &Sessions, mut visitor: HeaderMap, user: &str) -> Result<Option<HeaderValue>, CommitError> {
    let open = sessions.open(&mut visitor, &RouteSettings::to("app"), "test").await.unwrap();
    let mut update = HeaderMap::new();
    update.insert("x-session-set", HeaderValue::from_str(&format!("user={user}")).unwrap());
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
