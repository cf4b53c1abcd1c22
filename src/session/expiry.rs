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

#[cfg(test)]
mod tests {
    use super::super::data::Data;
    use super::super::inject::HeaderSettings;
    use super::super::settings::SessionSettings;
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * 3_600_000)
    }

    fn rules(toml: &str) -> SessionRules {
        toml::from_str::<SessionSettings>(toml).unwrap().check(&HeaderSettings::default()).unwrap()
    }

    /// Created at hour 0, saved at hour 10.
    fn session(expiry: Expiry) -> Session {
        Session {
            data: Data::empty(),
            created_at: at(0),
            saved_at: at(10),
            expiry,
            retired: None,
            predecessors: Vec::new(),
        }
    }

    #[test]
    fn the_earliest_of_expiry_idle_and_absolute_ends_the_record() {
        let cases = [
            (Expiry::Default, "max_age = '5h'", at(15)),
            (Expiry::BrowserClose, "max_age = '5h'", at(15)),
            (Expiry::After(2 * HOUR), "max_age = '5h'", at(12)),
            (Expiry::At(at(13)), "max_age = '5h'", at(13)),
            (Expiry::Default, "max_age = '5h'\nidle_timeout = '1h'", at(12)),
            (Expiry::Default, "max_age = '5h'\nidle_timeout = '4h'\nabsolute_timeout = '14h'", at(14)),
            (Expiry::At(at(30)), "absolute_timeout = '20h'", at(20)),
            // An expiry that was asked for is not stretched by activity.
            (Expiry::After(HOUR), "idle_timeout = '8h'", at(11)),
        ];
        for (expiry, toml, deadline) in cases {
            assert_eq!(session(expiry).deadline(&rules(toml), at(11)), deadline, "{expiry:?} {toml}");
        }
    }

    #[test]
    fn the_cookie_says_the_expiry_age_within_the_absolute_time_out() {
        let cases = [
            (Expiry::Default, "max_age = '5h'", Some(5)),
            (Expiry::Default, "max_age = '5h'\nexpire_at_browser_close = true", None),
            (Expiry::BrowserClose, "", None),
            (Expiry::After(2 * HOUR), "expire_at_browser_close = true", Some(2)),
            (Expiry::At(at(13)), "expire_at_browser_close = true", Some(3)),
            (Expiry::At(at(9)), "", Some(0)),
            (Expiry::Default, "max_age = '5h'\nabsolute_timeout = '12h'", Some(2)),
            // Idle time lives in the store alone.
            (Expiry::Default, "max_age = '5h'\nidle_timeout = '1h'", Some(5)),
        ];
        for (expiry, toml, hours) in cases {
            let age = session(expiry).cookie_age(&rules(toml), at(10));
            assert_eq!(age, hours.map(|hours| hours * HOUR), "{expiry:?} {toml}");
        }
    }

    #[test]
    fn no_age_is_too_long_to_add() {
        let endless = session(Expiry::After(Duration::MAX));
        assert!(endless.deadline(&rules(""), at(10)) > at(1_000_000));
    }
}
