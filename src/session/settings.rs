//! `[session]`: how long sessions live, how large they may be, and when they get a new key.

use std::time::Duration;

use serde::Deserialize;

use super::data::EXPIRY_KEY;
use super::inject::HeaderSettings;
use super::limits::{LimitSettings, Limits};
use crate::problem::Problem;
use crate::units;

/// `[session]` as written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Django's `SESSION_COOKIE_AGE`.
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
    /// Django's `SESSION_EXPIRE_AT_BROWSER_CLOSE`.
    pub expire_at_browser_close: bool,
    /// Django's `SESSION_SAVE_EVERY_REQUEST`.
    pub save_every_request: bool,
    /// From the last request; enforced in the store.
    #[serde(deserialize_with = "units::optional_duration")]
    pub idle_timeout: Option<Duration>,
    /// From creation; survives a new key.
    #[serde(deserialize_with = "units::optional_duration")]
    pub absolute_timeout: Option<Duration>,
    /// The least move of the idle deadline that is worth a write; a tenth of `idle_timeout` if absent.
    #[serde(deserialize_with = "units::optional_duration")]
    pub touch_interval: Option<Duration>,
    /// How long an old key answers reads after `cycle`; zero turns that off.
    #[serde(deserialize_with = "units::duration")]
    pub cycle_grace: Duration,
    /// A new key by itself whenever the value of one of these appears or changes.
    pub cycle_on_change: Vec<String>,
    /// Bytes of a session's data as ASCII JSON.
    #[serde(deserialize_with = "units::size")]
    pub max_bytes: usize,
    pub limits: LimitSettings,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(14 * 86_400),
            expire_at_browser_close: false,
            save_every_request: false,
            idle_timeout: None,
            absolute_timeout: None,
            touch_interval: None,
            cycle_grace: Duration::from_secs(10),
            cycle_on_change: Vec::new(),
            max_bytes: 64 << 10,
            limits: LimitSettings::default(),
        }
    }
}

/// `[session]`, checked, and with every bound an update has to keep.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionRules {
    pub max_age: Duration,
    pub expire_at_browser_close: bool,
    pub save_every_request: bool,
    pub idle: Option<Idle>,
    pub absolute_timeout: Option<Duration>,
    /// Zero: no grace.
    pub cycle_grace: Duration,
    pub cycle_on_change: Vec<String>,
    pub limits: Limits,
}

/// The idle time-out and how coarsely its deadline moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Idle {
    pub timeout: Duration,
    /// Less than `timeout`.
    pub touch_interval: Duration,
}

impl SessionSettings {
    /// # Errors
    /// For lifetimes of nothing, for combinations that contradict each other, and for a key no session can have.
    pub fn check(&self, headers: &HeaderSettings) -> Result<SessionRules, Problem> {
        if self.max_age < Duration::from_secs(1) {
            return Err(Problem::new("session.max_age", seconds(self.max_age), "must be at least \"1s\""));
        }
        let idle = self.idle()?;
        if let Some(absolute) = self.absolute_timeout {
            if absolute.is_zero() {
                let message = "must be more than zero; leave it out to have none";
                return Err(Problem::new("session.absolute_timeout", seconds(absolute), message));
            }
            if let Some(idle) = idle.filter(|idle| idle.timeout > absolute) {
                let message = "must not be longer than session.absolute_timeout, which would always come first";
                return Err(Problem::new("session.idle_timeout", seconds(idle.timeout), message));
            }
        }
        let limits = self.limits.check(self.max_bytes, headers.refused_above())?;
        for key in &self.cycle_on_change {
            let fits = (1..=limits.max_key_bytes).contains(&key.len()) && !key.chars().any(char::is_control);
            if !fits || key == EXPIRY_KEY {
                let message = "no session can have this key; name keys of the session's data";
                return Err(Problem::new("session.cycle_on_change", format!("{key:?}"), message));
            }
        }
        Ok(SessionRules {
            max_age: self.max_age,
            expire_at_browser_close: self.expire_at_browser_close,
            save_every_request: self.save_every_request,
            idle,
            absolute_timeout: self.absolute_timeout,
            cycle_grace: self.cycle_grace,
            cycle_on_change: self.cycle_on_change.clone(),
            limits,
        })
    }

    fn idle(&self) -> Result<Option<Idle>, Problem> {
        let Some(timeout) = self.idle_timeout else {
            return match self.touch_interval {
                None => Ok(None),
                Some(interval) => {
                    let message = "has no meaning without session.idle_timeout";
                    Err(Problem::new("session.touch_interval", seconds(interval), message))
                }
            };
        };
        if timeout.is_zero() {
            let message = "must be more than zero; leave it out to have none";
            return Err(Problem::new("session.idle_timeout", seconds(timeout), message));
        }
        let touch_interval = self.touch_interval.unwrap_or(timeout / 10);
        if touch_interval >= timeout {
            let message = "must be shorter than session.idle_timeout, or sessions in use would end";
            return Err(Problem::new("session.touch_interval", seconds(touch_interval), message));
        }
        Ok(Some(Idle { timeout, touch_interval }))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}
