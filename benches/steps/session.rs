//! What is decided about a session: from the cookie to what the backend sees, and from its answer to what is stored.

use std::time::Duration;

use cloakroom::session::id::SessionId;
use cloakroom::session::inject::State;
use cloakroom::session::patch::SessionPatch;
use cloakroom::session::plan::plan;
use cloakroom::store::{Record, Version};
use hyper::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};

use super::sample::{ID, NOW, config, id, key, session};
use super::{Run, Step, each};

pub const STEPS: &[Step] = &[
    Step { name: "strip", prepare: strip },
    Step { name: "cookie/take, 1 cookie", prepare: |times| take(times, 1) },
    Step { name: "cookie/take, 10 cookies", prepare: |times| take(times, 10) },
    Step { name: "cookie/take, 40 cookies", prepare: |times| take(times, 40) },
    Step { name: "cookie/write", prepare: write_cookie },
    Step { name: "id/parse", prepare: |times| each(times, || ID, |id| SessionId::parse(id.as_bytes())) },
    Step { name: "id/digest", prepare: |times| each(times, id, |id| id.digest()) },
    Step { name: "decode/native", prepare: |times| decode(times, NATIVE) },
    Step { name: "decode/msgpack", prepare: |times| decode(times, MSGPACK) },
    Step { name: "decode/django json", prepare: |times| decode(times, DJANGO_ROW) },
    Step { name: "decode/django pickle", prepare: |times| decode(times, DJANGO_CACHE) },
    Step { name: "encode/native", prepare: |times| encode(times, NATIVE) },
    Step { name: "encode/msgpack", prepare: |times| encode(times, MSGPACK) },
    Step { name: "encode/django json", prepare: |times| encode(times, DJANGO_ROW) },
    Step { name: "encode/django pickle", prepare: |times| encode(times, DJANGO_CACHE) },
    Step { name: "inject/data", prepare: |times| inject(times, "") },
    Step { name: "inject/data, id and four keys", prepare: |times| inject(times, INJECT_MORE) },
    Step { name: "read update/none", prepare: |times| read_update(times, &[]) },
    Step { name: "read update/set", prepare: |times| read_update(times, SET) },
    Step { name: "read update/increment", prepare: |times| read_update(times, INCREMENT) },
    Step { name: "read update/cycle", prepare: |times| read_update(times, CYCLE) },
    Step { name: "plan/keep", prepare: |times| decide(times, &[]) },
    Step { name: "plan/set", prepare: |times| decide(times, SET) },
    Step { name: "plan/increment", prepare: |times| decide(times, INCREMENT) },
    Step { name: "plan/cycle", prepare: |times| decide(times, CYCLE) },
    Step { name: "backend's cookie/sign", prepare: sign },
    Step { name: "backend's cookie/check", prepare: check },
];

type Lines = &'static [(&'static str, &'static str)];

const SET: Lines = &[("x-session-set", "theme=light&page=7")];
const INCREMENT: Lines = &[("x-session-incr", "visits=1")];
const CYCLE: Lines = &[("x-session-set", "user_id=4712"), ("x-session-action", "cycle")];

const NATIVE: &str = "";
const MSGPACK: &str = "store.format = 'msgpack'";
const DJANGO_ROW: &str = "store = { engine = 'db', format = 'django', django = { secret_key = 'not a secret' } }";
const DJANGO_CACHE: &str = "store = { engine = 'redis', url = 'redis://127.0.0.1:6379/0', format = 'django' }";
const INJECT_MORE: &str = "headers = { id = true, id_key = '0123456789abcdef0123456789abcdef', expires_in = true, \
                           expose = ['user_id', 'name', 'roles', 'theme'] }";
const SIGNED_COOKIE: &str = "cookies = [{ name = 'user', sign = true, secret_key = 'not a secret', secure = true }]";

fn map(lines: Lines) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().expect("is a name"), HeaderValue::from_static(value))).collect()
}

fn strip(times: usize) -> Run {
    let injector = config("").headers;
    let input = || {
        map(&[
            ("host", "shop.example.com"),
            ("accept", "*/*"),
            ("accept-language", "en"),
            ("user-agent", "curl/8.0"),
            ("cookie", "a=1"),
            ("x-requested-with", "XMLHttpRequest"),
        ])
    };
    each(times, input, move |mut headers| {
        injector.strip(&mut headers);
        headers
    })
}

/// Ours comes last.
fn take(times: usize, cookies: usize) -> Run {
    let policy = config("").cookie;
    let others = (1..cookies).map(|number| format!("cookie{number}=value-{number}"));
    let all: Vec<String> = others.chain([format!("sessionid={ID}")]).collect();
    let line = HeaderValue::try_from(all.join("; ")).expect("is a value");
    let input = move || HeaderMap::from_iter([(COOKIE, line.clone())]);
    each(times, input, move |mut headers| (policy.take(&mut headers), headers))
}

fn write_cookie(times: usize) -> Run {
    let policy = config("").cookie;
    each(times, id, move |id| policy.set(&id, Some(Duration::from_secs(14 * 86_400)), NOW, true))
}

fn decode(times: usize, settings: &str) -> Run {
    let codec = config(settings).codec;
    let value = codec.encode(&key(), &session(), NOW);
    let record = Record { value, version: Version(1), expires_at: NOW.plus(Duration::from_secs(86_400)) };
    let key = key();
    each(times, move || record.clone(), move |record| codec.decode(&key, &record).expect("was encoded"))
}

fn encode(times: usize, settings: &str) -> Run {
    let codec = config(settings).codec;
    let key = key();
    each(times, session, move |session| codec.encode(&key, &session, NOW))
}

fn inject(times: usize, settings: &str) -> Run {
    let injector = config(settings).headers;
    let (session, key) = (session(), key());
    each(times, HeaderMap::new, move |mut headers| {
        let expires_in = Some(Duration::from_secs(86_400));
        injector.add(&mut headers, State::Active, Some((&session, Some(&key))), expires_in);
        headers
    })
}

/// The lines of an update among those of an ordinary answer.
fn answer(update: Lines) -> HeaderMap {
    let mut headers = map(&[
        ("server", "backend"),
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "100"),
    ]);
    headers.extend(map(update));
    headers
}

fn read_update(times: usize, update: Lines) -> Run {
    let limits = config("").session.limits;
    each(times, move || answer(update), move |mut headers| (SessionPatch::take_from(&mut headers, &limits), headers))
}

fn decide(times: usize, update: Lines) -> Run {
    let rules = config("").session;
    let session = session();
    let limits = rules.limits.clone();
    let input = move || SessionPatch::take_from(&mut answer(update), &limits);
    each(times, input, move |patch| plan(Some(&session), &patch, false, &rules, NOW))
}

fn sign(times: usize) -> Run {
    let rules = config(SIGNED_COOKIE).cookies;
    let input = || HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("user=ann; Path=/"))]);
    each(times, input, move |mut headers| (rules.to_visitor(&mut headers, NOW), headers))
}

fn check(times: usize) -> Run {
    let rules = config(SIGNED_COOKIE).cookies;
    let mut answer = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("user=ann"))]);
    assert_eq!(rules.to_visitor(&mut answer, NOW), 0, "the cookie was not signed");
    let line = answer.get(SET_COOKIE).map(HeaderValue::as_bytes).expect("there is a cookie");
    let pair = line.split(|&byte| byte == b';').next().unwrap_or_default().to_vec();
    let input = move || HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&pair).expect("is a value"))]);
    each(times, input, move |mut headers| {
        assert_eq!(rules.to_backend(&mut headers, NOW), 0, "the cookie was refused");
        headers
    })
}
