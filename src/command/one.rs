//! One session: is it there, what is in it, end it.

use std::fmt;
use std::io::{self, Read as _};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::report::Output;
use super::walk::patiently;
use super::{CommandError, Verdict};
use crate::clock::Timestamp;
use crate::session::expiry::Expiry;
use crate::session::id::SessionId;
use crate::sessions::{Records, Stored};

const NO_ID: &str = "KEY is no session id: 32 characters of a-z and 0-9, as they stand in the cookie";

/// The id that was given, or that comes on standard input.
pub(super) fn read_key(given: &str) -> Result<SessionId, CommandError> {
    /// More than any id with white space around it.
    const MOST: u64 = 1024;
    let mut key = given.to_owned();
    if given == "-" {
        key.clear();
        io::stdin().lock().take(MOST).read_to_string(&mut key).map_err(|_| CommandError::Usage(NO_ID))?;
    }
    SessionId::parse(key.trim().as_bytes()).ok_or(CommandError::Usage(NO_ID))
}

pub(super) async fn exists(records: &Records, id: &SessionId, output: Output) -> Result<Verdict, CommandError> {
    let exists = find(records, id).await?.is_some();
    output.tell(&Exists { exists })?;
    Ok(Verdict::of(exists))
}

pub(super) async fn show(records: &Records, id: &SessionId, output: Output) -> Result<Verdict, CommandError> {
    let Some(stored) = find(records, id).await? else {
        output.tell(&Exists { exists: false })?;
        return Ok(Verdict::No);
    };
    output.tell(&Shown::of(&stored)?)?;
    Ok(Verdict::Yes)
}

/// With all the keys it has, as a logout does.
pub(super) async fn delete(records: &Records, id: &SessionId, output: Output) -> Result<Verdict, CommandError> {
    let exists = find(records, id).await?.is_some();
    if exists {
        let keys = [records.codec.key(id)];
        patiently(|| records.end(&keys)).await?;
    }
    output.tell(&Deleted { deleted: exists })?;
    Ok(Verdict::of(exists))
}

async fn find(records: &Records, id: &SessionId) -> Result<Option<Arc<Stored>>, CommandError> {
    let key = records.codec.key(id);
    Ok(patiently(|| records.find(&key)).await?)
}

#[derive(Serialize)]
struct Exists {
    exists: bool,
}

impl fmt::Display for Exists {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.exists { "there is such a session" } else { "there is no such session" })
    }
}

#[derive(Serialize)]
struct Deleted {
    deleted: bool,
}

impl fmt::Display for Deleted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.deleted { "the session was ended" } else { "there is no such session" })
    }
}

/// A session without its id.
#[derive(Serialize)]
struct Shown<'a> {
    created: Instant,
    saved: Instant,
    expires: Instant,
    /// How long it lives after each save: `default`, seconds, an instant, or until the browser closes.
    expiry: String,
    /// Until when this old key of a session that has a new one is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_key_until: Option<Instant>,
    /// Members that have no words here.
    #[serde(skip_serializing_if = "is_zero")]
    opaque_members: usize,
    data: &'a RawValue,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl<'a> Shown<'a> {
    fn of(stored: &'a Stored) -> Result<Self, CommandError> {
        let session = &stored.session;
        let data = serde_json::from_str(session.data.as_str()).map_err(|error| CommandError::Output(error.into()))?;
        Ok(Self {
            created: Instant(session.created_at),
            saved: Instant(session.saved_at),
            expires: Instant(stored.expires_at),
            expiry: match session.expiry {
                Expiry::After(age) => format!("{} s", age.as_secs()),
                Expiry::At(instant) => Instant(instant).to_string(),
                Expiry::BrowserClose => "browser_close".to_owned(),
                Expiry::Default => "default".to_owned(),
            },
            old_key_until: session.retired.as_ref().map(|retired| Instant(retired.until)),
            opaque_members: session.data.opaque().len(),
            data,
        })
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "created  {}", self.created)?;
        writeln!(formatter, "saved    {}", self.saved)?;
        writeln!(formatter, "expires  {}", self.expires)?;
        writeln!(formatter, "expiry   {}", self.expiry)?;
        if let Some(until) = &self.old_key_until {
            writeln!(formatter, "this is an old key of a session that has a new one, answered until {until}")?;
        }
        if self.opaque_members > 0 {
            writeln!(formatter, "beside what is shown: {} members that only their format reads", self.opaque_members)?;
        }
        formatter.write_str(self.data.get())
    }
}

/// In UTC, to the millisecond.
struct Instant(Timestamp);

impl fmt::Display for Instant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.as_millis()) {
            Ok(instant) => instant.fmt(formatter),
            Err(_) => formatter.write_str(if self.0.as_millis() > 0 { "never" } else { "long ago" }),
        }
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
