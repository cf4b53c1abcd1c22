//! `_session_expiry`: what a Django application asked for with `set_expiry`, as it stands among a session's data.
//!
//! It lies beside the data as it was written, and is written so again for as long as it still says what the session's
//! expiry is: an offset, microseconds or a fraction that ours has no words for are not lost by a change elsewhere.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::dict::Member;
use super::{iso, pickle};
use crate::session::Session;
use crate::session::data::{Data, EXPIRY_KEY, OpaqueMember};
use crate::session::expiry::Expiry;
use crate::session::json::{compact, decode};

/// [`EXPIRY_KEY`] as a JSON string.
const NAME: &str = "\"_session_expiry\"";

/// Some eight thousand years: what Python can still add to the date of today.
const LONGEST: u64 = 250_000_000_000;

/// The expiry that a dictionary names, and [`Expiry::Default`] where Django would stumble over it.
pub(super) fn read(data: &Data, local: Option<&TimeZone>) -> Expiry {
    let Some(member) = find(data) else { return Expiry::Default };
    meaning(&member.written, local).unwrap_or_else(|| {
        tracing::warn!("a session's _session_expiry cannot be understood; session.max_age takes its place");
        Expiry::Default
    })
}

/// The member to write for a session's expiry. `fresh` is where its text is kept if it is another than the one that was
/// read.
pub(super) fn member<'a>(session: &'a Session, local: Option<&TimeZone>, fresh: &'a mut String) -> Option<Member<'a>> {
    if let Some(OpaqueMember { written, .. }) = find(&session.data)
        && meaning(written, local).unwrap_or_default() == session.expiry
    {
        return Some(json(written).map_or(Member::Opaque(written), |value| Member::Plain { name: NAME, value }));
    }
    *fresh = match session.expiry {
        Expiry::At(instant) => format!("\"{}\"", iso::write(instant, local)),
        Expiry::BrowserClose => "0".to_owned(),
        Expiry::Default => return None,
        // Zero would be the browser's end.
        Expiry::After(Duration::ZERO) => "-1".to_owned(),
        Expiry::After(age) => age.as_millis().div_ceil(1000).min(LONGEST.into()).to_string(),
    };
    Some(Member::Plain { name: NAME, value: fresh })
}

fn find(data: &Data) -> Option<&OpaqueMember> {
    data.opaque().iter().find(|member| member.key.as_deref() == Some(EXPIRY_KEY))
}

/// The value, if it was read as JSON; a whole member, in whatever format, is never JSON.
fn json(written: &[u8]) -> Option<&str> {
    compact(written, 1).ok().and_then(|_| std::str::from_utf8(written).ok())
}

/// `get_expiry_age` and `get_expire_at_browser_close`; `None` where one of them fails in Django, or gives nonsense.
fn meaning(written: &[u8], local: Option<&TimeZone>) -> Option<Expiry> {
    let Some(value) = json(written) else {
        // Before 4.1 Django left the very object in caches.
        let (civil, offset) = pickle::datetime(written)?;
        return iso::instant(civil, offset, local).map(Expiry::At);
    };
    match value {
        "null" | "\"\"" => Some(Expiry::Default),
        // To Python these are numbers.
        "false" => Some(Expiry::BrowserClose),
        "true" => Some(Expiry::After(Duration::from_secs(1))),
        _ if value.starts_with('"') => iso::read(&decode(value)?, local).map(Expiry::At),
        _ => number(value),
    }
}

/// What is less than zero has ended.
fn number(value: &str) -> Option<Expiry> {
    let number: f64 = value.parse().ok()?;
    if !number.is_finite() {
        return None;
    }
    if number == 0.0 {
        return Some(Expiry::BrowserClose);
    }
    // An integer in full, for a float may not hold it.
    let age = match value.parse::<i64>() {
        Ok(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LONGEST)),
        Err(_) => {
            Duration::try_from_secs_f64(number.max(0.0)).unwrap_or(Duration::MAX).min(Duration::from_secs(LONGEST))
        }
    };
    Some(Expiry::After(age))
}

#[cfg(test)]
mod tests;
