//! Sessions that visitors carry in their cookies: the same patches and plans, and no store to ask or to tell. Nothing
//! compares what two answers made of the same cookie, so the answer that reaches the visitor last wins; and a copy of a
//! cookie stays good until its deadline.

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::{Answer, Found, OpenSession, Sessions};
use crate::clock::Timestamp;
use crate::metrics::SessionEvent;
use crate::routes::RouteSettings;
use crate::session::Session;
use crate::session::codec::{Carried, Carrier};
use crate::session::cookie::MAX_CANDIDATES;
use crate::session::patch::{Reason, Refusal, SessionPatch};
use crate::session::plan::{Plan, plan};

/// What the cookies of a request held.
pub(super) struct InCookie {
    pub live: Option<Carried>,
    /// There was a cookie of our name, whatever was in it.
    named: bool,
}

/// The session does not fit into a cookie.
struct TooLarge;

impl Sessions {
    /// Takes our cookie out of the request; of several, the first that opens wins. On a route that passes the cookie it
    /// stays, and only the last one counts.
    pub(super) fn open_carried(
        &self,
        carrier: &Carrier,
        headers: &mut HeaderMap,
        route: &RouteSettings,
        request_id: &str,
    ) -> OpenSession {
        let now = self.records.clock.now();
        let values = if route.pass_cookie {
            self.shared.cookies.last_value(headers).map(<[u8]>::to_vec).into_iter().collect()
        } else {
            self.shared.cookies.take_values(headers)
        };
        let read = |value: &Vec<u8>| carrier.read(value, &route.host, &self.shared.rules, now);
        let mut candidates = values.iter().filter(|value| carrier.may_be_ours(value)).take(MAX_CANDIDATES);
        let live = candidates.find_map(read);
        let named = !values.is_empty();
        if named && live.is_none() {
            self.tell_unknown(request_id);
        }
        OpenSession { candidates: Vec::new(), found: Found::Carried(Box::new(InCookie { live, named })) }
    }

    /// Applies `patch` and returns the `Set-Cookie` line that the visitor gets, if any. `renew` saves a session that lives
    /// though nothing is asked for.
    pub(super) fn commit_carried(
        &self,
        carrier: &Carrier,
        found: &InCookie,
        patch: &SessionPatch,
        renew: bool,
        answer: Answer<'_>,
    ) -> Option<HeaderValue> {
        let exchange = Exchange { sessions: self, carrier, found, answer, now: self.records.clock.now() };
        let session = found.live.as_ref().map(|live| &live.session);
        let (planned, refusal) = plan(session, patch, renew, &self.shared.rules, exchange.now);
        if let Some(refusal) = refusal {
            self.tell_refusal(None, refusal, answer);
        }
        exchange.carry_out(planned).unwrap_or_else(|TooLarge| {
            let refusal = Refusal { header: patch.header(), reason: Reason::CookieTooLarge };
            self.tell_refusal(None, refusal, answer);
            let (planned, _) = plan(session, &patch.refuse(refusal), renew, &self.shared.rules, exchange.now);
            // What is left is an ending, or the session as it was in the cookie before.
            exchange.carry_out(planned).unwrap_or_else(|TooLarge| None)
        })
    }
}

/// One answer on its way into the cookie.
struct Exchange<'a> {
    sessions: &'a Sessions,
    carrier: &'a Carrier,
    found: &'a InCookie,
    answer: Answer<'a>,
    now: Timestamp,
}

impl Exchange<'_> {
    fn carry_out(&self, plan: Plan) -> Result<Option<HeaderValue>, TooLarge> {
        let (session, event) = match plan {
            Plan::Create(session) => (session, SessionEvent::Created),
            Plan::Cycle(session) => (session, SessionEvent::Cycled),
            Plan::End { then, .. } => return self.end(then),
            Plan::Keep => return Ok(self.reseal()),
            Plan::Save(session) => (session, SessionEvent::Saved),
        };
        let cookie = self.cookie(&session)?;
        self.tell(event);
        Ok(Some(cookie))
    }

    /// The record is the cookie: `delete`, which would leave the cookie, takes it away as `flush` does.
    fn end(&self, then: Option<Session>) -> Result<Option<HeaderValue>, TooLarge> {
        let next = then.map(|session| self.cookie(&session)).transpose()?;
        if self.found.live.is_some() {
            self.tell(SessionEvent::Forgotten);
        }
        if next.is_some() {
            self.tell(SessionEvent::Created);
        }
        let removal = || self.sessions.shared.cookies.removal(self.answer.https);
        Ok(next.or_else(|| self.found.named.then(removal)))
    }

    /// A session that stays as it is goes out once more if an older key sealed it, with the deadline it has.
    fn reseal(&self) -> Option<HeaderValue> {
        let Carried { session, expires_at, .. } = self.found.live.as_ref().filter(|live| live.old_key)?;
        self.write(session, *expires_at).ok()
    }

    fn cookie(&self, session: &Session) -> Result<HeaderValue, TooLarge> {
        self.write(session, session.deadline(&self.sessions.shared.rules, self.now))
    }

    fn write(&self, session: &Session, expires_at: Timestamp) -> Result<HeaderValue, TooLarge> {
        let shared = &self.sessions.shared;
        let left = expires_at.since(self.now);
        let age = session.cookie_age(&shared.rules, self.now).map(|age| age.min(left));
        let value = self.carrier.write(session, expires_at, &self.answer.route.host);
        shared.cookies.set_value(&value, age, self.now, self.answer.https).ok_or(TooLarge)
    }

    fn tell(&self, event: SessionEvent) {
        self.sessions.records.metrics.session(event);
        let what = match event {
            SessionEvent::Created => "created",
            SessionEvent::Cycled => "cycled",
            SessionEvent::Forgotten => "ended",
            _ => return,
        };
        tracing::info!(target: "cloakroom::session", request = self.answer.request_id, event = what);
    }
}
