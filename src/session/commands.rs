//! What backends say: `X-Session-*` lines of a response become a [`SessionPatch`]. To add a command: one function and
//! one line in `COMMANDS`.

use std::borrow::Cow;
use std::str;
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;

use super::data::EXPIRY_KEY;
use super::expiry::Expiry;
use super::form;
use super::json::{self, JsonError, Member, Members};
use super::limits::Limits;
use super::names;
use super::patch::{Change, Ending, Reason, Refusal, SessionPatch};
use crate::clock::Timestamp;

struct Command {
    name: &'static str,
    /// Reads one line into the patch.
    read: fn(&mut Reader<'_>, &[u8]) -> Result<(), Reason>,
}

static COMMANDS: [Command; 6] = [
    Command { name: "X-Session-Action", read: action },
    Command { name: "X-Session-Expiry", read: expiry },
    Command { name: "X-Session-Incr", read: incr },
    Command { name: "X-Session-Patch", read: patch },
    Command { name: "X-Session-Set", read: set },
    Command { name: "X-Session-Unset", read: unset },
];

impl SessionPatch {
    /// Reads the commands of a response and takes them, and whatever could be taken for one, out of its head.
    ///
    /// All or nothing: one bad member, and nothing but an ending is left; `refusal` says why.
    pub fn take_from(headers: &mut HeaderMap, limits: &Limits) -> Self {
        let mut reader = Reader { limits, patch: Self::default(), members: 0, bytes: 0 };
        if headers.keys().any(|name| names::is_ours(name.as_str())) {
            for command in &COMMANDS {
                for line in headers.get_all(command.name) {
                    reader.line(command, line.as_bytes());
                }
            }
        }
        names::strip(headers);
        match reader.patch.refusal {
            Some(refusal) => reader.patch.refuse(refusal),
            None => reader.patch,
        }
    }
}

struct Reader<'l> {
    limits: &'l Limits,
    patch: SessionPatch,
    members: usize,
    bytes: usize,
}

impl Reader<'_> {
    /// Goes on after a refusal too: a later line may end the session.
    fn line(&mut self, command: &Command, line: &[u8]) {
        if let Err(reason) = (command.read)(self, line) {
            self.patch.refusal.get_or_insert(Refusal { header: command.name, reason });
        }
    }

    /// The line as text, if it is not too long.
    fn text<'a>(&mut self, line: &'a [u8]) -> Result<&'a str, Reason> {
        self.bytes = self.bytes.saturating_add(line.len());
        if line.len() > self.limits.max_line_bytes {
            return Err(Reason::LineTooLong);
        }
        if self.bytes > self.limits.max_update_bytes {
            return Err(Reason::UpdateTooLong);
        }
        Ok(str::from_utf8(line).map_err(|_| Reason::Malformed)?.trim_matches([' ', '\t']))
    }

    /// Every member of every kind passes here.
    fn member(&mut self, key: &str) -> Result<(), Reason> {
        self.members += 1;
        if self.members > self.limits.max_members {
            return Err(Reason::TooManyMembers);
        }
        if key.is_empty() || key.len() > self.limits.max_key_bytes || key.chars().any(char::is_control) {
            return Err(Reason::BadKey);
        }
        if key == EXPIRY_KEY {
            return Err(Reason::ReservedKey);
        }
        Ok(())
    }

    /// Reads objects joined by commas, and hands each on when its keys are known to be good.
    fn objects(&mut self, text: &str, mut take: impl FnMut(&mut Vec<Change>, String)) -> Result<(), Reason> {
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return Ok(());
            }
            let (object, after) = json::read_object(rest, self.limits.max_depth)?;
            for member in Members::new(&object) {
                self.member(&key(&member)?)?;
            }
            take(&mut self.patch.changes, object);
            rest = after.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(Reason::Malformed);
            }
        }
    }
}

fn key<'a>(member: &Member<'a>) -> Result<Cow<'a, str>, Reason> {
    json::decode(member.name).ok_or(Reason::Malformed)
}

fn set(reader: &mut Reader<'_>, line: &[u8]) -> Result<(), Reason> {
    let text = reader.text(line)?;
    if text.starts_with('{') {
        return reader.objects(text, |changes, object| {
            changes.extend(
                Members::new(&object)
                    .map(|member| Change::Set { key: member.key().into_owned(), value: member.value.to_owned() }),
            );
        });
    }
    for part in form::parts(text, &['&', ',']) {
        let (key, value) = form::member(part)?;
        reader.member(&key)?;
        reader.patch.changes.push(Change::Set { key, value: json::encode(&value) });
    }
    Ok(())
}

fn patch(reader: &mut Reader<'_>, line: &[u8]) -> Result<(), Reason> {
    let text = reader.text(line)?;
    reader.objects(text, |changes, object| changes.push(Change::Merge(object)))
}

/// Between members joined by `&` the later of one key wins, as in every form; a comma may have joined two lines, and
/// two lines are two increments.
fn incr(reader: &mut Reader<'_>, line: &[u8]) -> Result<(), Reason> {
    let text = reader.text(line)?;
    for joined in form::parts(text, &[',']) {
        let first = reader.patch.changes.len();
        for part in form::parts(joined, &['&']) {
            let (name, number) = form::member(part)?;
            reader.member(&name)?;
            let by = integer(&number)?;
            let own = reader.patch.changes.get_mut(first..).unwrap_or_default();
            let earlier = own.iter_mut().find_map(|change| match change {
                Change::Incr { key, by } if *key == name => Some(by),
                _ => None,
            });
            match earlier {
                Some(earlier) => *earlier = by,
                None => reader.patch.changes.push(Change::Incr { key: name, by }),
            }
        }
    }
    Ok(())
}

fn integer(text: &str) -> Result<i64, Reason> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::Malformed);
    }
    text.parse().map_err(|_| Reason::NumberTooLarge)
}

fn unset(reader: &mut Reader<'_>, line: &[u8]) -> Result<(), Reason> {
    let text = reader.text(line)?;
    for part in form::parts(text, &[',']) {
        let key = form::decode(part)?;
        reader.member(&key)?;
        reader.patch.changes.push(Change::Unset(key));
    }
    Ok(())
}

/// Endings are obeyed whatever stands beside them, and however long the line is.
fn action(reader: &mut Reader<'_>, line: &[u8]) -> Result<(), Reason> {
    let mut known = true;
    for word in names::members(line) {
        match word.to_ascii_lowercase().as_slice() {
            b"clear" => reader.patch.ending = reader.patch.ending.max(Some(Ending::Clear)),
            b"cycle" => reader.patch.cycle = true,
            b"delete" => reader.patch.ending = reader.patch.ending.max(Some(Ending::Delete)),
            b"flush" => reader.patch.ending = reader.patch.ending.max(Some(Ending::Flush)),
            b"touch" => reader.patch.touch = true,
            _ => known = false,
        }
    }
    reader.text(line)?;
    if known { Ok(()) } else { Err(Reason::UnknownAction) }
}

/// The last one counts. An HTTP-date has a comma of its own, so a part that means nothing is tried with the next.
fn expiry(reader: &mut Reader<'_>, line: &[u8]) -> Result<(), Reason> {
    let text = reader.text(line)?;
    let mut parts = text.split(',');
    while let Some(part) = parts.next() {
        if part.trim().is_empty() {
            continue;
        }
        let expiry = match lifetime(part.trim()) {
            Some(expiry) => Some(expiry),
            None => parts.next().and_then(|rest| lifetime(format!("{part},{rest}").trim())),
        };
        reader.patch.expiry = Some(expiry.ok_or(Reason::Malformed)?);
    }
    Ok(())
}

fn lifetime(text: &str) -> Option<Expiry> {
    /// A hundred years stand for everything longer.
    const FOREVER: u64 = 100 * 366 * 86_400;

    if text.eq_ignore_ascii_case("default") {
        return Some(Expiry::Default);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        let seconds = text.parse().unwrap_or(u64::MAX).min(FOREVER);
        return Some(if seconds == 0 { Expiry::BrowserClose } else { Expiry::After(Duration::from_secs(seconds)) });
    }
    if is_rfc3339(text.as_bytes()) {
        let instant: jiff::Timestamp = text.parse().ok()?;
        return Some(Expiry::At(Timestamp::from_millis(instant.as_millisecond())));
    }
    let instant: SystemTime = httpdate::parse_http_date(text).ok()?;
    Some(Expiry::At(instant.into()))
}

/// Whether this has the shape of RFC 3339, section 5.6; the parser would take other forms of ISO 8601 too.
fn is_rfc3339(text: &[u8]) -> bool {
    let digits_and = |text: &[u8], shape: &[u8]| {
        text.len() == shape.len()
            && text
                .iter()
                .zip(shape)
                .all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form })
    };
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    let Some((separator, rest)) = rest.split_first() else { return false };
    let Some((time, rest)) = rest.split_at_checked(8) else { return false };
    let fraction = match rest.strip_prefix(b".") {
        Some(fraction) => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        None => 0,
    };
    let offset = rest.get(fraction..).unwrap_or_default();
    digits_and(date, b"0000-00-00")
        && matches!(separator, b'T' | b't' | b' ')
        && digits_and(time, b"00:00:00")
        && fraction != 1
        && (matches!(offset, b"Z" | b"z") || digits_and(offset, b"+00:00") || digits_and(offset, b"-00:00"))
}

impl From<JsonError> for Reason {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::DuplicateName => Self::DuplicateName,
            JsonError::TooDeep => Self::TooDeep,
            JsonError::LoneSurrogate | JsonError::Malformed | JsonError::Utf8 => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
