//! Commit: what the backend's answer changes reaches the store before the answer reaches the visitor.

use std::error::Error;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use tokio::time::{Instant, sleep};

use super::pending::Job;
use super::{Found, Live, OpenSession, Sessions};
use crate::clock::Timestamp;
use crate::metrics::SessionEvent;
use crate::routes::{OnInterrupted, RouteSettings};
use crate::session::patch::{Ending, Refusal, SessionPatch};
use crate::session::plan::{Plan, plan};
use crate::session::{Predecessor, Retired, Session};
use crate::store::{Expected, Key, Saved, StoreError};

/// Updates of one session that keep conflicting are given up after so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// A new id that is taken already is bad luck once; more often, the store is not telling the truth.
const ID_TRIES: usize = 8;
/// More keys than this in grace at once, and the oldest ends early.
const MOST_PREDECESSORS: usize = 16;

/// What `commit` needs to know of the exchange.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    pub status: StatusCode,
    pub route: &'a RouteSettings,
    /// Whether the visitor came by HTTPS, for cookies with `secure = "auto"`.
    pub https: bool,
    /// For the log.
    pub request_id: &'a str,
}

/// Why the backend's answer may not go out.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Too many updates of one session at once.
    #[error("the session kept changing")]
    Contended,
    /// The session was ended meanwhile, and the route answers that with an error.
    #[error("the session was ended while the request was under way")]
    Interrupted,
    /// The store could not take the update. A visitor who logged out gets the removal cookie all the same.
    #[error("the store could not take the update")]
    Store { source: StoreError, cookie: Option<HeaderValue> },
}

impl From<StoreError> for CommitError {
    fn from(source: StoreError) -> Self {
        Self::Store { source, cookie: None }
    }
}

type Committed = Result<Option<HeaderValue>, CommitError>;

impl Sessions {
    /// Applies `patch` to the session and returns the `Set-Cookie` line that the visitor gets, if any.
    ///
    /// # Errors
    /// See [`CommitError`]; the answer is then replaced by an error page.
    pub async fn commit(&self, open: OpenSession, mut patch: SessionPatch, answer: Answer<'_>) -> Committed {
        if answer.status.is_server_error() {
            patch.cycle = false;
            if !answer.route.save_on_5xx {
                patch.drop_changes();
            }
        }
        let live = match open.found {
            Found::Live(live) => Some(live),
            Found::Nothing => None,
            Found::Unasked if patch.is_empty() => return Ok(None),
            Found::Unasked => match self.find_first(&open.candidates).await {
                Ok(Some(live)) => Some(live),
                Ok(None) if ends(&patch) => None,
                Ok(None) => return self.interrupted(answer),
                Err(source) => return Err(self.unreachable(&open.candidates_keys(), &patch, source, answer)),
            },
        };
        let exchange = Exchange { sessions: self, answer, candidates: open.candidates.iter().map(|id| id.key()).collect() };
        exchange.apply(live, &patch).await
    }

    fn interrupted(&self, answer: Answer<'_>) -> Committed {
        self.records.metrics.session(SessionEvent::Interrupted);
        tracing::info!(target: "cloakroom::session", request = answer.request_id, "an update came too late for its session and was dropped");
        match answer.route.on_interrupted {
            OnInterrupted::Drop => Ok(None),
            OnInterrupted::Error => Err(CommitError::Interrupted),
        }
    }

    /// The store fails at commit: an end is repeated in the background until it succeeds.
    fn unreachable(&self, keys: &[Key], patch: &SessionPatch, source: StoreError, answer: Answer<'_>) -> CommitError {
        if ends(patch) {
            for key in keys {
                self.rules.pending.push(Job::End(key.clone()), &self.records);
            }
        }
        let forget = patch.ending == Some(Ending::Flush);
        CommitError::Store { source, cookie: forget.then(|| self.rules.cookies.removal(answer.https)) }
    }
}
