use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::Bytes;
use hyper::HeaderMap;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::*;
use crate::clock::Timestamp;
use crate::session::Session;
use crate::session::codec::django::{Django, iso};
use crate::session::data::EXPIRY_KEY;
use crate::session::expiry::Expiry;
use crate::session::inject::HeaderSettings;
use crate::session::limits::Limits;
use crate::session::patch::SessionPatch;
use crate::session::settings::SessionSettings;
use crate::store::{Record, Version};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What Django 3 and 4 had applications pickle. `pytz` is not what it was, but pickled as it was.
const PYTHON: &str = r#"
import pickle, sys, types
from datetime import datetime, timedelta, timezone, tzinfo

pytz = types.ModuleType("pytz")
exec('''
import datetime
class UTC(datetime.tzinfo):
    def utcoffset(self, at): return datetime.timedelta(0)
    def dst(self, at): return datetime.timedelta(0)
    def tzname(self, at): return "UTC"
    def __reduce__(self): return _UTC, ()
utc = UTC()
def _UTC(): return utc
''', pytz.__dict__)
sys.modules["pytz"] = pytz

class Summer(tzinfo):
    def utcoffset(self, at): return timedelta(hours=2)
    def dst(self, at): return timedelta(hours=1)
    def __repr__(self): return "Summer()"

told = [
    datetime(2023, 11, 15, 22, 13, 20, tzinfo=timezone.utc),
    datetime(2023, 11, 15, 22, 13, 20, 123456, tzinfo=timezone.utc),
    datetime(2023, 11, 15, 22, 13, 20, tzinfo=pytz.utc),
    datetime(2031, 1, 2, 3, 4, 5, 999000, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=timezone(-timedelta(hours=3), "name")),
    datetime(2023, 10, 29, 2, 30, fold=1, tzinfo=timezone.utc),
    datetime(9998, 12, 31, tzinfo=timezone.utc),
    datetime(2023, 11, 15, 22, 13, 20, 128255),
    datetime(2023, 10, 30, 2, 30, fold=1),
]
untold = [
    datetime(2023, 11, 15, 22, 13, 20, tzinfo=Summer()),
    timedelta(seconds=3),
    datetime(2023, 11, 15).date(),
    datetime(2023, 11, 15).time(),
    (1, 2),
    b"2023-11-15",
]
def session(value):
    return {"n": 1, "_session_expiry": value, "z": "last", "o": {1, 2}, "same": value}

if sys.argv[1] == "write":
    for value in told + untold:
        iso = value.isoformat() if value in told else "-"
        for protocol in range(6):
            print(iso, pickle.dumps(session(value), protocol).hex())
else:
    count = 0
    for line in sys.stdin:
        before, after = (pickle.loads(bytes.fromhex(pickled)) for pickled in line.split())
        before["n"] += 1
        assert list(before) == list(after), (before, after)
        assert repr(before) == repr(after), (before, after)
        count += 1
    print(count)
"#;

fn django(more: &str) -> Django {
    let rules = SessionSettings::default().check(&HeaderSettings::default()).unwrap();
    let store = format!("engine = 'redis'\nformat = 'django'\n{more}");
    Django::new(&toml::from_str(&store).unwrap(), &rules, "sessionid").unwrap()
}

fn decode(django: &Django, pickle: Vec<u8>) -> Session {
    django.decode(&Record { value: pickle.into(), version: Version(1), expires_at: NOW }).unwrap()
}

/// After a request that counted up.
fn counted(django: &Django, session: &Session) -> Bytes {
    let mut headers = HeaderMap::new();
    headers.append("x-session-incr", "n=1".parse().unwrap());
    let patch = SessionPatch::take_from(&mut headers, &Limits::default());
    let data = patch.apply(&session.data, &Limits::default()).unwrap().data;
    django.encode(&Session { data, ..session.clone() }, NOW)
}

fn python(step: &str, input: &str) -> String {
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON, step]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    // Should it give up before the end, it says why.
    let _ = python.stdin.take().unwrap().write_all(input.as_bytes());
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_session_lives_by_the_object_and_keeps_it() {
    let (aware, naive) = (django(""), django("django = { use_tz = false, time_zone = 'Europe/Berlin' }"));
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let (mut lines, mut told, mut untold) = (String::new(), 0, 0);
    for line in python("write", "").lines() {
        let (text, pickle) = line.split_once(' ').unwrap();
        for (django, local) in [(&aware, None), (&naive, Some(&berlin))] {
            let session = decode(django, hex::decode(pickle).unwrap());
            let expected = iso::read(text, local).map(Expiry::At);
            *(if expected.is_some() { &mut told } else { &mut untold }) += 1;
            assert_eq!(session.expiry, expected.unwrap_or_default(), "{line}");
            assert_eq!(session.data.value(EXPIRY_KEY), None, "{line}");
            let once = counted(django, &session);
            writeln!(lines, "{pickle} {}", hex::encode(&once)).unwrap();
            let again = decode(django, once.to_vec());
            assert_eq!((again.expiry, again.data.value("n")), (session.expiry, Some("2")), "{line}");
            assert_eq!(counted(django, &again).len(), once.len(), "it must not grow with every update");
        }
    }
    // Without an offset an instant is one only to an application that has no others.
    assert_eq!((told, untold), ((7 * 2 + 2) * 6, (6 * 2 + 2) * 6));
    assert_eq!(python("check", &lines).trim(), (told + untold).to_string());
}

#[test]
fn another_expiry_takes_its_place() {
    let django = django("");
    let session = decode(&django, hex::decode(vector("python_only_datetime_utc_p5")).unwrap());
    for (expiry, json) in [
        (Expiry::At(NOW), Some("\"2023-11-14T22:13:20+00:00\"")),
        (Expiry::BrowserClose, Some("0")),
        (Expiry::Default, None),
    ] {
        let written = django.encode(&Session { expiry, ..session.clone() }, NOW);
        let entries = super::super::read(&written).unwrap();
        assert_eq!(
            entries.iter().map(|entry| entry.json.as_deref()).collect::<Vec<_>>(),
            json.map(Some).into_iter().collect::<Vec<_>>()
        );
    }
}

#[test]
fn what_django_itself_pickled_is_understood() {
    for name in ["python_only_datetime_utc_p2", "python_only_datetime_utc_p5"] {
        let session = decode(&django(""), hex::decode(vector(name)).unwrap());
        assert_eq!(session.expiry, Expiry::At(iso::read("2023-11-15T22:13:20+00:00", None).unwrap()), "{name}");
    }
}

fn vector(name: &str) -> String {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/django/09_pickle.json"));
    let file: Value = serde_json::from_str(file).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let vector = vectors.iter().find(|vector| vector["name"] == name).unwrap();
    vector["hex"].as_str().unwrap().to_owned()
}

/// Some other call, other names, other states: none of them is believed to be an instant.
#[test]
fn f7_what_only_looks_like_one_is_none() {
    let state = b"C\x0a\x07\xe7\x0b\x0f\x16\x0d\x14\0\0\0".as_slice();
    let member = |callable: &[u8], arguments: &[u8]| [b"X\x01\0\0\0k".as_slice(), callable, arguments, b"R"].concat();
    let zone = |callable: &[u8], arguments: &[u8]| [b"(", state, callable, arguments, b"Rt"].concat();
    let right = b"cdatetime\ndatetime\n".as_slice();
    assert!(datetime(&member(right, &[state, b"\x85"].concat())).is_some());
    assert!(datetime(&member(right, &zone(b"cpytz\n_UTC\n", b")"))).is_some());
    let delta = b"cdatetime\ntimedelta\n".as_slice();
    let timezone = |days: &[u8]| [b"(".as_slice(), delta, b"(", days, b"K\0K\0tRt"].concat();
    assert!(datetime(&member(right, &zone(b"cdatetime\ntimezone\n", &timezone(b"K\0")))).is_some());
    for other in [
        b"X\x01\0\0\0kN".to_vec(),
        Vec::new(),
        b"\"_session_expiry\":NaN".to_vec(),
        b"\xaf_session_expiry\xc0".to_vec(),
        member(b"cdatetime\ndate\n", &[state, b"\x85"].concat()),
        member(b"cmydatetime\ndatetime\n", &[state, b"\x85"].concat()),
        member(right, b")"),
        member(right, &[state, b"NN\x87"].concat()),
        member(right, &[state, b"N\x86"].concat()),
        member(right, b"C\x09\x07\xe7\x0b\x0f\x16\x0d\x14\0\0\x85"),
        member(right, b"C\x0a\x07\xe7\x0d\x0f\x16\x0d\x14\0\0\0\x85"),
        member(right, b"C\x0a\x07\xe7\x0b\x0f\x18\x0d\x14\0\0\0\x85"),
        member(right, b"C\x0a\0\0\x0b\x0f\x16\x0d\x14\0\0\0\x85"),
        member(right, b"C\x0a\xff\xff\x0b\x0f\x16\x0d\x14\0\0\0\x85"),
        member(right, b"C\x0a\x07\xe7\x0b\x0f\x16\x0d\x14\xff\xff\xff\x85"),
        member(right, b"X\x0a\0\0\0          \x85"),
        member(right, &zone(b"cpytz\n_UTC\n", b"(Nt")),
        member(right, &zone(b"cdatetime\ntimezone\n", &timezone(b"K\x01"))),
        member(right, &zone(b"cdatetime\ntimezone\n", &timezone(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"))),
        member(right, &zone(b"cdatetime\ntimezone\n", &timezone(b"N"))),
    ] {
        assert_eq!(datetime(&other), None, "{}", other.escape_ascii());
    }
}
