//! The bridge from session to store: `open` before the backend is asked, `commit` before its answer leaves.

mod commit;
mod in_cookie;
mod near;
mod pending;
mod records;

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use rand::rngs::SysError;

use self::in_cookie::InCookie;
use self::pending::Pending;
use crate::clock::Clock;
use crate::metrics::{Metrics, SessionEvent};
use crate::routes::{OnStoreError, RouteSettings};
use crate::session::codec::Codec;
use crate::session::cookie::CookiePolicy;
use crate::session::id::SessionId;
use crate::session::inject::{Injector, State};
use crate::session::limits::Limits;
use crate::session::settings::SessionRules;
use crate::session::tag::Tagger;
use crate::store::{Key, NearCacheRules, SessionStore, StoreError};
use crate::telemetry::Causes;

pub use self::commit::{Answer, CommitError};
pub use self::near::NearCache;
pub use self::records::{Records, Stored};

/// What every worker has in common: the checked settings of sessions, and what must outlive a request.
#[derive(Clone)]
pub struct Shared {
    pub rules: Arc<SessionRules>,
    pub codec: Codec,
    pub cookies: Arc<CookiePolicy>,
    pub injector: Arc<Injector>,
    /// Names sessions in logs.
    pub tagger: Arc<Tagger>,
    /// Where new ids come from: the operating system's generator.
    pub new_id: fn() -> Result<SessionId, SysError>,
    /// `None` where it is turned off.
    pub near: Option<Arc<NearCache>>,
    pending: Arc<Pending>,
}

impl Shared {
    pub fn new(
        rules: SessionRules,
        codec: Codec,
        cookies: CookiePolicy,
        injector: Injector,
        near: Option<NearCacheRules>,
    ) -> Self {
        let tagger = Arc::new(Tagger::new(rand::random()));
        Self {
            rules: Arc::new(rules),
            codec,
            cookies: Arc::new(cookies),
            injector: Arc::new(injector),
            pending: Arc::new(Pending::new(Arc::clone(&tagger))),
            tagger,
            near: near.map(|rules| Arc::new(NearCache::new(rules))),
            new_id: SessionId::generate,
        }
    }
}

/// A worker's sessions.
pub struct Sessions {
    shared: Shared,
    records: Arc<Records>,
}

/// What a request's cookies led to.
pub struct OpenSession {
    /// The well-formed ids the request carried.
    candidates: Vec<SessionId>,
    found: Found,
}

enum Found {
    /// Boxed: larger than the others, and of one engine only.
    Carried(Box<InCookie>),
    /// One was ended, though the store does not know it yet, and there is no other.
    Ended,
    Live(Live),
    Nothing,
    /// The store could not be asked; this is what it answered some time ago.
    Stale(Live),
    /// The store could not be asked, and the route goes on without.
    Unasked,
}

/// A session that answers, and where it lies.
#[derive(Clone)]
struct Live {
    id: SessionId,
    key: Key,
    stored: Arc<Stored>,
}

impl Sessions {
    pub fn new(shared: Shared, store: Arc<dyn SessionStore>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let rules = Arc::clone(&shared.rules);
        let (codec, near) = (shared.codec.clone(), shared.near.clone());
        Self { shared, records: Arc::new(Records { store, codec, clock, metrics, rules, near }) }
    }

    /// Takes what is ours out of a request that gets no session: the cookie, and every header a backend would take for
    /// an injected one.
    pub fn strip(&self, headers: &mut HeaderMap) {
        self.shared.injector.strip(headers);
        self.shared.cookies.take(headers);
    }

    /// Takes our cookie out of the request and loads the first of its sessions that lives. On a route that passes the
    /// cookie it stays, and only the last one counts, which is the one that Django takes (`parse_cookie`).
    ///
    /// A visitor without a well-formed cookie never needs the store.
    ///
    /// # Errors
    /// The store could not be asked, and the route's policy is to fail.
    pub async fn open(
        &self,
        headers: &mut HeaderMap,
        route: &RouteSettings,
        request_id: &str,
    ) -> Result<OpenSession, StoreError> {
        self.shared.injector.strip(headers);
        if let Some(carrier) = self.shared.codec.carrier() {
            return Ok(self.open_carried(carrier, headers, route, request_id));
        }
        let candidates = if route.pass_cookie {
            self.shared.cookies.last_value(headers).and_then(SessionId::parse).into_iter().collect()
        } else {
            self.shared.cookies.take(headers)
        };
        let found = match self.find_first(&candidates, route.near_cache).await {
            Ok(Some(live)) => Found::Live(live),
            Ok(None) if candidates.iter().any(|id| self.is_ended(id)) => Found::Ended,
            Ok(None) => {
                if !candidates.is_empty() {
                    self.tell_unknown(request_id);
                }
                Found::Nothing
            }
            Err(error) if route.on_store_error == OnStoreError::Degrade => {
                tracing::warn!(
                    error = %Causes(&error),
                    "a session could not be loaded; going on without"
                );
                Found::Unasked
            }
            Err(error) if route.on_store_error == OnStoreError::Stale => {
                let stale = self.find_stale(&candidates, route.stale_max_age()).ok_or(error)?;
                Found::Stale(stale)
            }
            Err(error) => return Err(error),
        };
        Ok(OpenSession { candidates, found })
    }

    /// One is a session that ended; many from one visitor are guesses.
    fn tell_unknown(&self, request_id: &str) {
        self.records.metrics.session(SessionEvent::Unknown);
        tracing::info!(target: "cloakroom::session", request = request_id, event = "unknown");
    }

    /// The first that lives. One whose end only the store has not taken yet does not: it is known to be over.
    async fn find_first(&self, candidates: &[SessionId], near: bool) -> Result<Option<Live>, StoreError> {
        for id in candidates {
            if self.is_ended(id) {
                continue;
            }
            let key = self.records.codec.key(id);
            let found = if near { self.records.find_near(&key).await? } else { self.records.find(&key).await? };
            if let Some(stored) = found {
                return Ok(Some(Live { id: id.clone(), key, stored }));
            }
        }
        Ok(None)
    }

    /// Whether the session was ended, though the store does not know it yet.
    fn is_ended(&self, id: &SessionId) -> bool {
        !self.shared.pending.is_empty() && self.shared.pending.ends(&self.records.codec.key(id))
    }

    /// What the near cache has, but for a session whose end only the store has not taken yet.
    fn find_stale(&self, candidates: &[SessionId], age: Duration) -> Option<Live> {
        candidates.iter().find_map(|id| {
            if self.is_ended(id) {
                return None;
            }
            let key = self.records.codec.key(id);
            let stored = self.records.find_stale(&key, age)?;
            Some(Live { id: id.clone(), key, stored })
        })
    }

    /// Adds the injected headers to the request.
    pub fn inject(&self, open: &OpenSession, headers: &mut HeaderMap) {
        let state = if matches!(open.found, Found::Stale(_)) { State::Degraded } else { State::Active };
        let shown = match &open.found {
            Found::Carried(found) => found.live.as_ref().map(|live| (&live.session, None, live.expires_at)),
            Found::Ended | Found::Nothing => None,
            Found::Live(live) | Found::Stale(live) => {
                let retired = live.stored.session.retired.as_ref();
                let end = retired.map_or(live.stored.expires_at, |retired| retired.until);
                Some((&live.stored.session, Some(&live.key), end))
            }
            Found::Unasked => return self.shared.injector.add(headers, State::Degraded, None, None),
        };
        let Some((session, key, end)) = shown else {
            return self.shared.injector.add(headers, State::None, None, None);
        };
        let left = self.shared.injector.tells_expiry().then(|| end.since(self.records.clock.now()));
        self.shared.injector.add(headers, state, Some((session, key)), left);
    }

    /// Makes a response clean of what only we may say: our cookie, which the backend must not set.
    pub fn drop_own_cookie(&self, headers: &mut HeaderMap) {
        self.shared.cookies.drop_own(headers);
    }

    /// The answer of a backend that has the cookie and the store in hand itself. If it set the cookie it has written to
    /// the store, of which no word may have come yet.
    pub fn passed(&self, open: &OpenSession, answer: &HeaderMap) {
        if self.shared.cookies.is_set_by(answer) {
            for id in &open.candidates {
                self.records.forget(&self.records.codec.key(id));
            }
        }
    }

    /// What an update may ask for.
    pub fn limits(&self) -> &Limits {
        &self.shared.rules.limits
    }

    pub fn injector(&self) -> &Arc<Injector> {
        &self.shared.injector
    }
}

impl OpenSession {
    /// The session's state in one word, for the access log.
    pub fn state(&self) -> &'static str {
        match &self.found {
            Found::Carried(found) if found.live.is_none() => "none",
            Found::Carried(_) | Found::Live(_) => "active",
            Found::Ended | Found::Nothing => "none",
            Found::Stale(_) => "stale",
            Found::Unasked => "degraded",
        }
    }
}

#[cfg(test)]
mod tests;
