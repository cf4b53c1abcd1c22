//! Django's formats: what lies in its database, files, caches and cookies (`django.contrib.sessions`).
//!
//! A reader ([`mod@rows`], [`cache`]) finds the members of a dictionary, [`dict`] makes data of them, [`expiry`] what Django
//! keeps among them about the session's end; writing is the way back. What JSON has no words for, and everything that
//! was not changed, is written as it was found.

mod cache;
mod compress;
mod dict;
mod expiry;
mod iso;
mod json;
mod messagepack;
mod pickle;
mod rows;

use bytes::Bytes;
use jiff::tz::TimeZone;

use self::dict::{Entry, Member};
use self::rows::{Row, Rows};
use super::DecodeError;
use crate::clock::Timestamp;
use crate::problem::Problem;
use crate::secret::Secret;
use crate::session::Session;
use crate::session::data::Data;
use crate::session::expiry::Expiry;
use crate::session::settings::SessionRules;
use crate::store::{Compressor, DjangoSettings, Engine, ForeignRecords, Record, Serializer, StoreSettings};

const COOKIE_SALT: &str = "django.contrib.sessions.backends.signed_cookies";

/// Records as a Django application reads and writes them.
#[derive(Debug)]
pub struct Django {
    /// `None` where sessions are the entries of a cache and nothing else.
    rows: Option<Rows>,
    serializer: Serializer,
    compressor: Compressor,
    file_prefix: String,
    /// Whether nothing in a file is an empty session.
    in_files: bool,
    /// By which clocks an instant without an offset is told; `None` where instants have one (`USE_TZ`).
    local: Option<TimeZone>,
    rules: SessionRules,
}

impl Django {
    pub(super) fn new(settings: &StoreSettings, rules: &SessionRules, cookie_name: &str) -> Result<Self, Problem> {
        let django = settings.django();
        refuse_deadlines_without_place(settings.engine, rules)?;
        let rows = match settings.engine {
            Engine::Memcached | Engine::Redis => None,
            Engine::SignedCookies => Some(rows(&django, settings.engine, COOKIE_SALT)?),
            Engine::CachedDb | Engine::Db | Engine::File | Engine::Memory => {
                Some(rows(&django, settings.engine, &django.salt)?)
            }
        };
        Ok(Self {
            rows,
            serializer: django.serializer,
            compressor: django.compressor,
            file_prefix: cookie_name.to_owned(),
            in_files: settings.engine == Engine::File,
            local: if django.use_tz { None } else { Some(django.zone()?) },
            rules: rules.clone(),
        })
    }

    pub(super) fn encode(&self, session: &Session, now: Timestamp) -> Bytes {
        let mut fresh = String::new();
        let members = self.members(session, &mut fresh);
        match &self.rows {
            Some(rows) => rows.write(&members, now).into(),
            None => cache::encode(members.into_iter(), self.serializer, self.compressor),
        }
    }

    pub(super) fn decode(&self, record: &Record) -> Result<Session, DecodeError> {
        let (entries, signed_at) = self.entries(&record.value)?;
        let (data, expiry) = self.understand(entries)?;
        // The deadline tells the time of the save to the millisecond, unless it was an instant of its own or requests may
        // have moved it since.
        let tells = !matches!(expiry, Expiry::At(_)) && self.rules.idle.is_none();
        let saved_at = match signed_at {
            Some(signed_at) if !tells => signed_at,
            // An instant tells nothing of the save: as if the session had its usual time from then on.
            _ => record.expires_at.minus(match expiry {
                Expiry::At(_) => self.rules.max_age,
                other => other.age(&self.rules, record.expires_at),
            }),
        };
        Ok(session(data, expiry, saved_at))
    }

    /// The value of the cookie that has the session in it (`engine = "signed_cookies"`).
    pub fn write_cookie(&self, session: &Session, now: Timestamp) -> String {
        let mut fresh = String::new();
        let members = self.members(session, &mut fresh);
        self.rows.as_ref().map(|rows| rows.write(&members, now)).unwrap_or_default()
    }

    /// The session in the value of a cookie. Unlike Django, which believes any for `SESSION_COOKIE_AGE`, this ends those
    /// that were to end earlier.
    ///
    /// # Errors
    /// When it is none of ours, or has ended.
    pub fn read_cookie(&self, text: &str, now: Timestamp) -> Result<Session, DecodeError> {
        let rows = self.rows.as_ref().ok_or(DecodeError::Malformed)?;
        let Row { entries, signed_at } = rows.read(text.as_bytes())?;
        let signed_at = signed_at.ok_or(DecodeError::Malformed)?;
        let (data, expiry) = self.understand(entries)?;
        let ended = now.since(signed_at) > self.rules.max_age
            || match expiry {
                Expiry::At(instant) => instant <= now,
                Expiry::After(age) => signed_at.plus(age) <= now,
                Expiry::BrowserClose | Expiry::Default => false,
            };
        if ended { Err(DecodeError::Ended) } else { Ok(session(data, expiry, signed_at)) }
    }

    fn entries(&self, value: &[u8]) -> Result<(Vec<Entry>, Option<Timestamp>), DecodeError> {
        match &self.rows {
            // Between its creation and its first write Django leaves a file with nothing in it.
            Some(_) if self.in_files && value.is_empty() => Ok((Vec::new(), None)),
            Some(rows) => rows.read(value).map(|Row { entries, signed_at }| (entries, signed_at)),
            None => {
                let entries = cache::decode(value, self.serializer, self.compressor);
                entries.map(|entries| (entries, None)).ok_or(DecodeError::Malformed)
            }
        }
    }

    fn understand(&self, entries: Vec<Entry>) -> Result<(Data, Expiry), DecodeError> {
        let data = dict::read(entries).map_err(DecodeError::Data)?;
        let expiry = expiry::read(&data, self.local.as_ref());
        Ok((data, expiry))
    }

    fn members<'a>(&self, session: &'a Session, fresh: &'a mut String) -> Vec<Member<'a>> {
        dict::members(&session.data, expiry::member(session, self.local.as_ref(), fresh))
    }
}

impl ForeignRecords for Django {
    fn file_prefix(&self) -> &str {
        &self.file_prefix
    }

    /// Unlike Django, which never ends a file with a number of seconds in it, this counts them from the last write.
    fn deadline(&self, value: &[u8], written_at: Timestamp) -> Timestamp {
        let understood = self.entries(value).and_then(|(entries, _)| self.understand(entries));
        match understood.map(|(_, expiry)| expiry).unwrap_or_default() {
            Expiry::At(instant) => instant,
            other => written_at.plus(other.age(&self.rules, written_at)),
        }
    }

    fn cache_value(&self, row: &Record) -> Option<Bytes> {
        let Row { entries, .. } = self.rows.as_ref()?.read(&row.value).ok()?;
        let entries = dict::last_of_each(entries);
        let plain = plain(&entries)?;
        Some(cache::encode(members(&plain).into_iter(), self.serializer, self.compressor))
    }

    fn row_value(&self, cached: &Record) -> Option<Bytes> {
        let entries = dict::last_of_each(cache::decode(&cached.value, self.serializer, self.compressor)?);
        let plain = plain(&entries)?;
        // Nothing in a cache says when it was written; what is read twice is to be the same.
        Some(self.rows.as_ref()?.write(&members(&plain), Timestamp::from_millis(0)).into())
    }
}

fn rows(django: &DjangoSettings, engine: Engine, salt: &str) -> Result<Rows, Problem> {
    let Some(key) = &django.secret_key else {
        let message = format!(
            "engine = \"{}\" with format = \"django\" needs the application's SECRET_KEY: \
             write secret_key = {{ env = \"DJANGO_SECRET_KEY\" }}",
            engine.name()
        );
        return Err(Problem::new("store.django.secret_key", "nothing", message));
    };
    let bytes = |key: &'_ Secret| key.expose().as_bytes().to_vec();
    let fallbacks: Vec<_> = django.secret_key_fallbacks.iter().map(bytes).collect();
    let fallbacks: Vec<&[u8]> = fallbacks.iter().map(Vec::as_slice).collect();
    let rows = Rows::new(salt, key.expose().as_bytes(), &fallbacks);
    if !django.legacy {
        return Ok(rows);
    }
    let keys = [&[key.expose().as_bytes()], fallbacks.as_slice()].concat();
    let rows = rows.with_sha1(salt, &keys);
    Ok(if engine == Engine::SignedCookies { rows } else { rows.with_envelope(salt, &keys) })
}

/// Django's dictionary has no place for a session's creation, nor its cache, file and cookie for the last request and the
/// last save beside each other.
fn refuse_deadlines_without_place(engine: Engine, rules: &SessionRules) -> Result<(), Problem> {
    let problem = |key, value: std::time::Duration, message: String| {
        Err(Problem::new(format!("session.{key}"), format!("{}s", value.as_secs_f64()), message))
    };
    if let Some(absolute) = rules.absolute_timeout {
        let message = "is not for format = \"django\", which has no place for a session's creation";
        return problem("absolute_timeout", absolute, message.to_owned());
    }
    match rules.idle {
        Some(idle) if engine != Engine::Db => {
            let message = format!(
                "is not for engine = \"{}\" with format = \"django\", which has no place for the time of the last \
                 request beside that of the last save",
                engine.name()
            );
            problem("idle_timeout", idle.timeout, message)
        }
        _ => Ok(()),
    }
}

/// The names and values of a dictionary that JSON has words for; `None` if it is another.
fn plain(entries: &[Entry]) -> Option<Vec<(String, &str)>> {
    entries.iter().map(|entry| Some((json::literal(entry.key.as_ref()?), entry.json.as_deref()?))).collect()
}

fn members<'a>(plain: &'a [(String, &'a str)]) -> Vec<Member<'a>> {
    plain.iter().map(|(name, value)| Member::Plain { name, value }).collect()
}

fn session(data: Data, expiry: Expiry, saved_at: Timestamp) -> Session {
    Session { data, created_at: saved_at, saved_at, expiry, retired: None, predecessors: Vec::new() }
}

#[cfg(test)]
mod tests;
