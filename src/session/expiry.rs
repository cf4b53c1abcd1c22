//! How long a session lives: the expiry age, the idle and the absolute time-out.

use std::time::Duration;

use super::Session;
use super::settings::SessionRules;
use crate::clock::Timestamp;

/// What the backend asked for with `X-Session-Expiry` (Django's `set_expiry`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Expiry {
    /// At this instant, however often the session is saved.
    At(Timestamp),
    /// When the browser closes; the record lives for `session.max_age` after each save.
    BrowserClose,
    /// `session.max_age` after each save, and `session.expire_at_browser_close` decides about the cookie.
    #[default]
    Default,
    /// So long after each save.
    After(Duration),
}

impl Expiry {
    /// The expiry age of a save made now (Django's `get_expiry_age`): how long the record lives if nothing else ends it.
    pub fn age(self, rules: &SessionRules, now: Timestamp) -> Duration {
        match self {
            Self::After(age) => age,
            Self::At(instant) => instant.since(now),
            Self::BrowserClose | Self::Default => rules.max_age,
        }
    }

    /// How long the cookie of a save made now lasts; `None` until the browser closes
    /// (Django's `get_expire_at_browser_close`).
    fn cookie_age(self, rules: &SessionRules, now: Timestamp) -> Option<Duration> {
        match self {
            Self::BrowserClose => None,
            Self::Default if rules.expire_at_browser_close => None,
            Self::After(_) | Self::At(_) | Self::Default => Some(self.age(rules, now)),
        }
    }
}

impl Session {
    /// When the record ends if the last request is made `now`: the earliest of the last save and its expiry age, the
    /// last request and `idle_timeout`, the creation and `absolute_timeout`.
    pub fn deadline(&self, rules: &SessionRules, now: Timestamp) -> Timestamp {
        let expiry = match self.expiry {
            Expiry::At(instant) => instant,
            other => self.saved_at.plus(other.age(rules, self.saved_at)),
        };
        let idle = rules.idle.map(|idle| now.plus(idle.timeout));
        [idle, self.ends_at_latest(rules)].into_iter().flatten().fold(expiry, Timestamp::min)
    }

    /// The absolute time-out, which no activity moves.
    pub fn ends_at_latest(&self, rules: &SessionRules) -> Option<Timestamp> {
        rules.absolute_timeout.map(|absolute| self.created_at.plus(absolute))
    }

    /// The age of the cookie that goes out with a save made `now`, within the absolute time-out; `None` for a cookie
    /// that ends with the browser.
    pub fn cookie_age(&self, rules: &SessionRules, now: Timestamp) -> Option<Duration> {
        let age = self.expiry.cookie_age(rules, now)?;
        let left = self.ends_at_latest(rules).map(|end| end.since(now));
        Some(left.map_or(age, |left| age.min(left)))
    }
}
