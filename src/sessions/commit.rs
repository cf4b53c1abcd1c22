//! Commit: what the backend's answer changes reaches the store before the answer reaches the visitor.

use std::collections::HashSet;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use rand::rngs::SysError;
use tokio::time::{Instant, sleep};

use super::pending::Job;
use super::records::Retirement;
use super::{Found, Live, OpenSession, Sessions};
use crate::clock::Timestamp;
use crate::metrics::SessionEvent;
use crate::routes::{OnInterrupted, RouteSettings};
use crate::session::id::SessionId;
use crate::session::patch::{Ending, Refusal, SessionPatch};
use crate::session::plan::{Plan, plan};
use crate::session::{Predecessor, Retired, Session};
use crate::store::{Expected, Key, Saved, StoreError};
use crate::telemetry::Causes;

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
    /// No new session id could be made.
    #[error("the system gives no random numbers")]
    Random(#[from] SysError),
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
        let saves = !answer.status.is_server_error() || answer.route.save_on_5xx;
        if !saves {
            patch.drop_changes();
        }
        patch.cycle &= !answer.status.is_server_error();
        let renew = saves && self.shared.rules.save_every_request;
        let quiet = patch.is_empty() && patch.refusal.is_none() && !renew;
        let OpenSession { candidates, found } = open;
        let exchange = Exchange { sessions: self, candidates: &candidates, end_all: false, renew, answer };
        match found {
            // As it is with most requests: nothing is asked for.
            Found::Live(live) if quiet => {
                exchange.move_idle_deadline(&live).await;
                Ok(None)
            }
            Found::Nothing if quiet => Ok(None),
            Found::Carried(found) => {
                let carrier = self.shared.codec.carrier();
                Ok(carrier.and_then(|carrier| self.commit_carried(carrier, &found, &patch, renew, answer)))
            }
            // Boxed, so that those who change nothing do not carry its size along.
            found => Box::pin(exchange.store(found, patch)).await,
        }
    }

    pub(super) fn tell_refusal(&self, key: Option<&Key>, refusal: Refusal, answer: Answer<'_>) {
        self.records.metrics.refused(refusal.reason());
        tracing::warn!(
            target: "cloakroom::session",
            request = answer.request_id,
            session = key.map(|key| self.shared.tagger.tag(key)),
            upstream = answer.route.upstream,
            event = "refused",
            "an update was refused whole: {refusal}"
        );
    }
}

/// Whether the patch asks for the end of the record.
fn ends(patch: &SessionPatch) -> bool {
    matches!(patch.ending, Some(Ending::Delete | Ending::Flush))
}

/// One answer on its way into the store.
struct Exchange<'a> {
    sessions: &'a Sessions,
    /// Every session the request named.
    candidates: &'a [SessionId],
    /// Whether an end is for all of them although none was found: the store could not be asked, so nobody knows what they
    /// lead to (perhaps, past their grace by now, to a live session), or it has not taken their end yet.
    end_all: bool,
    /// Whether the session is saved though nothing is asked for.
    renew: bool,
    answer: Answer<'a>,
}

enum Outcome {
    Conflict,
    Done(HeaderValue),
}

impl Exchange<'_> {
    /// Applies the patch to what was found, or to what is found by now.
    async fn store(mut self, found: Found, mut patch: SessionPatch) -> Committed {
        let live = match found {
            Found::Live(live) => Some(live),
            Found::Carried(_) | Found::Nothing => None,
            // Only an answer from the store makes an end final.
            Found::Ended => {
                self.end_all = true;
                None
            }
            Found::Stale(_) | Found::Unasked if patch.is_empty() => return Ok(None),
            // A failed load creates nothing later on: an update counts only if the session is found now.
            Found::Stale(_) | Found::Unasked => match self.sessions.find_first(self.candidates, false).await {
                Ok(Some(live)) => Some(live),
                Ok(None) if ends(&patch) => {
                    patch.drop_changes();
                    self.end_all = true;
                    None
                }
                Ok(None) => return self.interrupted(self.keys().next().as_ref()),
                Err(source) => {
                    let ending: Vec<Key> = if ends(&patch) { self.keys().collect() } else { Vec::new() };
                    return Err(self.unreachable(&ending, patch.ending == Some(Ending::Flush), source));
                }
            },
        };
        self.apply(live, &patch).await
    }

    /// Plans and stores, and again on what is there by then if someone else stored in between.
    async fn apply(&self, mut live: Option<Live>, patch: &SessionPatch) -> Committed {
        let rules = &self.sessions.shared.rules;
        let started = Instant::now();
        let mut told = false;
        for attempt in 1.. {
            let now = self.sessions.records.clock.now();
            let session = live.as_ref().map(|live| &live.stored.session);
            let (plan, refusal) = plan(session, patch, self.renew, rules, now);
            if let Some(refusal) = refusal.filter(|_| !told) {
                self.sessions.tell_refusal(live.as_ref().map(|live| &live.key), refusal, self.answer);
                told = true;
            }
            let outcome = match (plan, &live) {
                (Plan::Keep, Some(live)) => {
                    self.move_idle_deadline(live).await;
                    return Ok(None);
                }
                // A retired record is read-only; only a logout reaches the session through it. That every request
                // saves is our rule, not an update.
                (_, Some(live)) if live.stored.session.retired.is_some() && !ends(patch) => {
                    return if patch.is_empty() { Ok(None) } else { self.interrupted(Some(&live.key)) };
                }
                // Ends and cycles are boxed, for they are rare, and every request would carry their size along.
                (Plan::End { forget_cookie, then }, _) => {
                    return Box::pin(self.end(live.as_ref(), forget_cookie, then, now)).await;
                }
                (Plan::Create(session), _) => return self.create(&session, now).await,
                (Plan::Save(session), Some(live)) => self.save(live, &session, now).await?,
                (Plan::Cycle(session), Some(live)) => Box::pin(self.cycle(live, session, now)).await?,
                (Plan::Cycle(_) | Plan::Keep | Plan::Save(_), None) => return Ok(None),
            };
            match outcome {
                Outcome::Done(cookie) => return Ok(Some(cookie)),
                Outcome::Conflict if started.elapsed() > PATIENCE => break,
                Outcome::Conflict => sleep(pause(attempt)).await,
            }
            let Some(lost) = live else { return Ok(None) };
            match self.sessions.records.find(&lost.key).await? {
                Some(stored) => live = Some(Live { stored, ..lost }),
                None => return self.interrupted(Some(&lost.key)),
            }
        }
        Err(CommitError::Contended)
    }

    async fn create(&self, session: &Session, now: Timestamp) -> Committed {
        let (id, key) = self.store_new(session, now).await?;
        self.tell(SessionEvent::Created, &key, "created");
        Ok(Some(self.cookie(&id, session, now)))
    }

    /// Stores a session under a key that nobody had before.
    async fn store_new(&self, session: &Session, now: Timestamp) -> Result<(SessionId, Key), CommitError> {
        let deadline = session.deadline(&self.sessions.shared.rules, now);
        for _ in 0..ID_TRIES {
            let id = (self.sessions.shared.new_id)()?;
            let key = self.sessions.records.codec.key(&id);
            match self.sessions.records.save(&key, Expected::Absent, session, deadline).await? {
                Saved::Stored(_) => return Ok((id, key)),
                Saved::Conflict => {}
            }
        }
        Err(CommitError::Contended)
    }

    async fn save(&self, live: &Live, session: &Session, now: Timestamp) -> Result<Outcome, CommitError> {
        let deadline = session.deadline(&self.sessions.shared.rules, now);
        let expected = Expected::Version(live.stored.version);
        Ok(match self.sessions.records.save(&live.key, expected, session, deadline).await? {
            Saved::Conflict => Outcome::Conflict,
            Saved::Stored(_) => {
                self.sessions.records.metrics.session(SessionEvent::Saved);
                Outcome::Done(self.cookie(&live.id, session, now))
            }
        })
    }

    /// The new record is written before the old one retires, so that a crash loses no session; retiring compares the
    /// version that was copied, so that no acknowledged update is lost.
    async fn cycle(&self, live: &Live, mut session: Session, now: Timestamp) -> Result<Outcome, CommitError> {
        let records = &self.sessions.records;
        let grace = self.sessions.shared.rules.cycle_grace;
        // The old key does not answer for longer than it would have without its successor.
        let until = now.plus(grace).min(live.stored.expires_at);
        if records.codec.has_grace() {
            session.predecessors.push(Predecessor { key: live.key.clone(), until });
        }
        if session.predecessors.len() > MOST_PREDECESSORS {
            records.delete(&session.predecessors.remove(0).key).await?;
        }
        let (id, key) = self.store_new(&session, now).await?;
        let retired = Retired { until, successor: key.clone() };
        let retirement = Retirement { key: live.key.clone(), retired, expires_at: live.stored.expires_at };
        match records.retire(&live.stored, &retirement).await {
            Ok(Saved::Conflict) => {
                // Nobody knows the new key yet. Where even this fails the record is an orphan that expires by itself.
                if let Err(error) = records.delete(&key).await {
                    tracing::warn!(error = %Causes(&error), "an unused new record could not be deleted");
                }
                return Ok(Outcome::Conflict);
            }
            Ok(Saved::Stored(_)) => {}
            // The visitor's session lives under the new key from here on, so the answer must carry it.
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "a cycled session's old record is still to be retired");
                self.sessions.shared.pending.push(Job::Retire(retirement), records);
            }
        }
        records.metrics.session(SessionEvent::Cycled);
        tracing::info!(
            target: "cloakroom::session",
            request = self.answer.request_id,
            session = self.tag(&key),
            previous = self.tag(&live.key),
            event = "cycled"
        );
        Ok(Outcome::Done(self.cookie(&id, &session, now)))
    }

    async fn end(&self, live: Option<&Live>, forget_cookie: bool, then: Option<Session>, now: Timestamp) -> Committed {
        // A logout ends every session that the browser named: the next request must not fall back on another.
        let mut keys: Vec<Key> = match live {
            Some(live) if !forget_cookie => vec![live.key.clone()],
            Some(_) => self.keys().collect(),
            None if self.end_all => self.keys().collect(),
            None => Vec::new(),
        };
        // The links as they were loaded: when the store takes the end at last, the record with them may have expired.
        keys.extend(live.into_iter().flat_map(|live| live.stored.session.links()).cloned());
        if let Err(source) = self.sessions.records.end(&keys).await {
            return Err(self.unreachable(&keys, forget_cookie, source));
        }
        if let Some(live) = live {
            self.tell(SessionEvent::Forgotten, &live.key, "ended");
        }
        let removal = (forget_cookie && !self.candidates.is_empty()).then(|| self.removal());
        let Some(session) = then else { return Ok(removal) };
        self.create(&session, now).await.map_err(|error| match error {
            CommitError::Store { source, cookie: None } => CommitError::Store { source, cookie: removal },
            error => error,
        })
    }

    /// The store fails: what had to end is ended in the background, as soon as that succeeds.
    fn unreachable(&self, keys: &[Key], forget_cookie: bool, source: StoreError) -> CommitError {
        let mut waiting = keys.to_vec();
        let mut ended = HashSet::new();
        while let Some(key) = waiting.pop() {
            if ended.insert(key.clone()) {
                // Known to be gone, whenever the store takes it; and so are its other keys, which nobody can look up now.
                waiting.extend(self.sessions.records.forget(&key));
                self.sessions.shared.pending.push(Job::End(key), &self.sessions.records);
            }
        }
        CommitError::Store { source, cookie: forget_cookie.then(|| self.removal()) }
    }

    /// Idle time counts from the last request: `touch`, when the deadline moves by enough to be worth a write.
    async fn move_idle_deadline(&self, live: &Live) {
        let rules = &self.sessions.shared.rules;
        let Some(idle) = rules.idle else { return };
        let deadline = live.stored.session.deadline(rules, self.sessions.records.clock.now());
        if live.stored.session.retired.is_some() || deadline.since(live.stored.expires_at) < idle.touch_interval {
            return;
        }
        match self.sessions.records.touch(&live.key, live.stored.version, deadline).await {
            Ok(true) => self.sessions.records.metrics.session(SessionEvent::Touched),
            // Whoever stored meanwhile moved the deadline with it; whoever ended the session meant it.
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %Causes(&error), "an idle deadline could not be moved"),
        }
    }

    fn interrupted(&self, key: Option<&Key>) -> Committed {
        self.sessions.records.metrics.session(SessionEvent::Interrupted);
        tracing::info!(
            target: "cloakroom::session",
            request = self.answer.request_id,
            session = key.map(|key| self.tag(key)),
            event = "interrupted",
            "an update came too late for its session and was dropped"
        );
        match self.answer.route.on_interrupted {
            OnInterrupted::Drop => Ok(None),
            OnInterrupted::Error => Err(CommitError::Interrupted),
        }
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        self.candidates.iter().map(|id| self.sessions.records.codec.key(id))
    }

    fn cookie(&self, id: &SessionId, session: &Session, now: Timestamp) -> HeaderValue {
        let age = session.cookie_age(&self.sessions.shared.rules, now);
        self.sessions.shared.cookies.set(id, age, now, self.answer.https)
    }

    fn removal(&self) -> HeaderValue {
        self.sessions.shared.cookies.removal(self.answer.https)
    }

    fn tell(&self, event: SessionEvent, key: &Key, what: &'static str) {
        self.sessions.records.metrics.session(event);
        let session = self.tag(key);
        tracing::info!(target: "cloakroom::session", request = self.answer.request_id, session, event = what);
    }

    fn tag(&self, key: &Key) -> String {
        self.sessions.shared.tagger.tag(key)
    }
}

/// Short at first, for most conflicts are over at once; random, so that rivals do not meet again.
fn pause(attempt: u32) -> Duration {
    Duration::from_micros(rand::random_range(0..1000 * u64::from(attempt.min(10))))
}
