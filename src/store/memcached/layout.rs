//! How a session lies in memcached: what it is called, what is in it and how long it is kept.

use std::io::Read;

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use sha2::{Digest as _, Sha256};

use super::super::record::{self, digest};
use super::super::{DjangoSettings, Key, Record, Version};
use super::wire::Item;
use crate::clock::{Clock, Timestamp};

/// How much longer than its deadline memcached keeps a record of ours, whose deadline stands in it: memcached's clock
/// counts whole seconds and is not ours.
const GRACE: i64 = 60;
/// The longest name memcached takes.
const LONGEST: usize = 250;
/// What the name of a record begins with, after the prefix, whose key cannot be part of a name.
const DIGEST: char = '~';
/// Up to here memcached takes seconds from now; beyond it takes seconds since the epoch.
const RELATIVE: i64 = 30 * 24 * 3_600;
/// Later instants have passed already, in memcached's arithmetic.
const LAST: i64 = i32::MAX as i64;

/// pymemcache's flags of a pickle and of a value that it compressed.
const PICKLE: u32 = 1;
const ZLIB: u32 = 8;
/// The largest session that is decompressed.
const LARGEST: u64 = 16 << 20;

pub(super) enum Layout {
    /// As Django's `PyMemcacheCache` has it: the value alone, and the deadline is memcached's.
    Django { prefix: String },
    /// The line that [`record`] describes, and the value.
    Native { prefix: String },
}

impl Layout {
    pub(super) fn django(settings: &DjangoSettings) -> Self {
        Self::Django { prefix: settings.cache_prefix() }
    }

    /// `None` if there can be no session of that name.
    pub(super) fn name(&self, key: &Key) -> Option<String> {
        let key = key.as_str();
        let is_name = |name: &String| name.len() <= LONGEST && key.bytes().all(|byte| byte.is_ascii_graphic());
        match self {
            Self::Django { prefix } => Some(format!("{prefix}{key}")).filter(is_name),
            Self::Native { prefix } => {
                let name = Some(format!("{prefix}{key}")).filter(|_| !key.starts_with(DIGEST)).filter(is_name);
                name.or_else(|| Some(format!("{prefix}{DIGEST}{}", hex::encode(Sha256::digest(key)))))
            }
        }
    }

    /// The key of a record by its name; `None` for other items, and for a key that is not in the name.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        match self {
            Self::Django { prefix } => name.strip_prefix(prefix).filter(|key| !key.is_empty()).map(Key::new),
            Self::Native { prefix } => name.strip_prefix(prefix).filter(|key| !key.starts_with(DIGEST)).map(Key::new),
        }
    }

    /// `None` if it is not one of our records.
    pub(super) fn read(&self, item: &Item, now: Timestamp) -> Option<Record> {
        match self {
            Self::Django { .. } => {
                let value = match item.flags {
                    0 | PICKLE => item.value.clone(),
                    flags if flags & !PICKLE == ZLIB => inflated(&item.value)?,
                    _ => return None,
                };
                let left =
                    item.ttl.map_or(i64::MAX, |ttl| i64::try_from(ttl).unwrap_or(i64::MAX).saturating_mul(1_000));
                let expires_at = Timestamp::from_millis(now.as_millis().saturating_add(left));
                Some(Record { value, version: digest(&item.value), expires_at })
            }
            Self::Native { .. } => record::parse(&item.value),
        }
    }

    /// The value as it is kept, and the version that it has from then on.
    pub(super) fn write(&self, value: &Bytes, expires_at: Timestamp) -> (Bytes, Version) {
        match self {
            Self::Django { .. } => (value.clone(), digest(value)),
            Self::Native { .. } => {
                let version = Version(rand::random());
                (record::whole(version, expires_at, value), version)
            }
        }
    }

    /// The same record with another deadline.
    pub(super) fn moved(&self, item: &Item, record: &Record, expires_at: Timestamp) -> Bytes {
        match self {
            Self::Django { .. } => item.value.clone(),
            Self::Native { .. } => record::whole(record.version, expires_at, &record.value),
        }
    }

    pub(super) fn flags(&self) -> u32 {
        match self {
            Self::Django { .. } => PICKLE,
            Self::Native { .. } => 0,
        }
    }

    /// What memcached is told of a deadline.
    pub(super) fn exptime(&self, expires_at: Timestamp, now: Timestamp) -> i64 {
        let left = expires_at.since(now).as_millis().div_ceil(1_000);
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        // Whatever clock we go by, memcached goes by the time of day.
        let today = Clock::system().now().as_millis() / 1_000;
        match self {
            Self::Django { .. } => exptime(left, today),
            Self::Native { .. } => match exptime(left.saturating_add(GRACE), today) {
                LAST => 0,
                exptime => exptime,
            },
        }
    }
}

/// Django's `BaseMemcachedCache.get_backend_timeout`, but never past the last instant that memcached knows.
fn exptime(seconds: i64, now: i64) -> i64 {
    match seconds {
        ..=0 => -1,
        1..=RELATIVE => seconds,
        _ => now.saturating_add(seconds).min(LAST),
    }
}

fn inflated(value: &[u8]) -> Option<Bytes> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(value).take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LARGEST).then(|| bytes.into())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn vectors(kind: &str) -> Vec<Value> {
        let file: Value = serde_json::from_str(include_str!("../../../tests/data/django/11_memcached.json")).unwrap();
        let of_kind = |vector: &&Value| vector["kind"] == kind;
        let vectors: Vec<Value> = file["vectors"].as_array().unwrap().iter().filter(of_kind).cloned().collect();
        assert!(vectors.len() >= 4, "{kind}");
        vectors
    }

    fn django(key_prefix: &str, before_db: bool) -> Layout {
        let key_prefix = key_prefix.to_owned();
        Layout::django(&DjangoSettings { key_prefix, before_db, ..DjangoSettings::default() })
    }

    fn item(value: impl Into<Bytes>, flags: u32) -> Item {
        Item { value: value.into(), flags, cas: 1, ttl: Some(60) }
    }

    #[test]
    fn times_are_told_as_django_tells_them() {
        for vector in vectors("timeout") {
            let (timeout, now) = (vector["timeout"].as_f64().unwrap(), vector["now"].as_i64().unwrap());
            #[expect(clippy::cast_possible_truncation, reason = "as Django cuts off")]
            let seconds = timeout as i64;
            assert_eq!(exptime(seconds, now), vector["exptime_sent"], "{vector}");
        }
        assert_eq!(exptime(i64::MAX, 1_700_000_000), i64::from(i32::MAX));
    }

    #[test]
    fn names_values_and_flags_are_djangos() {
        for vector in vectors("value") {
            let key = vector["session_key"].as_str().unwrap();
            let name = vector["memcached_key"].as_str().unwrap();
            let layout = django(name.split(':').next().unwrap(), false);
            assert_eq!(layout.name(&Key::new(key)).as_deref(), Some(name));
            assert_eq!(layout.key(name).unwrap(), Key::new(key));
            let (stored, flags) =
                (hex::decode(vector["value_hex"].as_str().unwrap()).unwrap(), vector["flags"].as_u64());
            let record = layout.read(&item(stored.clone(), u32::try_from(flags.unwrap()).unwrap()), NOW).unwrap();
            assert!(record.value.starts_with(b"\x80\x05") && record.value.ends_with(b"."), "{vector}");
            assert_eq!(record.value == stored, flags == Some(1), "{vector}");
            assert_eq!(record.expires_at, Timestamp::from_millis(NOW.as_millis() + 60_000));
            let (written, version) = layout.write(&Bytes::from(stored), NOW);
            assert_eq!((version, layout.flags()), (record.version, 1));
            assert_eq!(digest(&written), version);
        }
    }

    /// Every line that Django sends names the key, flags and lifetime that we would.
    #[test]
    fn lines_are_djangos() {
        let mut seen = 0;
        for vector in vectors("script").iter().filter(|vector| vector["CACHES"]["OPTIONS"]["binary"].is_null()) {
            let prefix = vector["CACHES"]["KEY_PREFIX"].as_str().unwrap_or_default();
            let layout = django(prefix, vector["engine"] == "cached_db");
            let now = vector["now"].as_i64().unwrap();
            let lines = vector["steps"].as_array().unwrap().iter().flat_map(|step| step["wire"].as_array().unwrap());
            for line in lines.filter_map(|line| line["line"].as_str()) {
                let words: Vec<&str> = line.split(' ').collect();
                let key = layout.key(words[1]).unwrap_or_else(|| panic!("{line}"));
                assert_eq!(layout.name(&key).as_deref(), Some(words[1]), "{line}");
                if let ["add" | "set", _, flags, sent, _] = words[..] {
                    assert_eq!(flags, layout.flags().to_string(), "{line}");
                    let known = [1_209_600, 300, 31_536_000].map(|seconds| exptime(seconds, now).to_string());
                    // Only what has ended already is told in another way: any such word ends it.
                    assert!(known.contains(&sent.to_owned()) || matches!(sent, "-10" | "4294967286"), "{line}");
                }
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn a_key_that_memcached_cannot_have_is_absent_or_goes_by_its_digest() {
        let native = Layout::Native { prefix: "session:".to_owned() };
        let long = "k".repeat(250);
        for key in ["a b", "a\0", "a\r\nflush_all", "ä", &long] {
            assert_eq!(django("", false).name(&Key::new(key)), None, "{key}");
            let name = native.name(&Key::new(key)).unwrap();
            assert!(name.starts_with("session:~") && name.len() <= LONGEST, "{name}");
            assert_eq!(native.key(&name), None);
        }
        assert_ne!(native.name(&Key::new("~x")), Some("session:~x".to_owned()));
        assert_eq!(native.name(&Key::new("0a")).as_deref(), Some("session:0a"));
    }

    #[test]
    fn what_is_no_session_is_not_read() {
        let native = Layout::Native { prefix: "session:".to_owned() };
        assert!(native.read(&item("hello", 0), NOW).is_none());
        assert!(django("", false).read(&item("x", 2), NOW).is_none());
        assert!(django("", false).read(&item("not zlib", 9), NOW).is_none());
        let bomb = {
            let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut bomb, &vec![0; (16 << 20) + 1]).unwrap();
            bomb.finish().unwrap()
        };
        assert!(bomb.len() < 100_000 && django("", false).read(&item(bomb, 9), NOW).is_none());
    }

    #[test]
    fn ours_are_kept_a_little_longer_than_they_live() {
        let native = Layout::Native { prefix: "session:".to_owned() };
        assert_eq!(native.exptime(Timestamp::from_millis(NOW.as_millis() + 1), NOW), 61);
        assert_eq!(native.exptime(Timestamp::from_millis(i64::MAX), NOW), 0);
        assert_eq!(django("", false).exptime(Timestamp::from_millis(NOW.as_millis() + 1_199_999), NOW), 1_200);
    }
}
