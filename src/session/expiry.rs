//! How long a session lives: the expiry age, the idle and the absolute time-out.

use std::time::Duration;

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
