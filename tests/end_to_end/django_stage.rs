//! Where a flow of Django's is played: the proxy, its store, and a backend that does what the view did; and what came of
//! it, in the same words for Django and for the proxy.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cloakroom::clock::{Clock, Timestamp};
use cloakroom::config::Config;
use cloakroom::session::Session;
use cloakroom::session::codec::Codec;
use cloakroom::session::data::Data;
use cloakroom::session::expiry::Expiry;
use cloakroom::session::id::SessionId;
use cloakroom::store::{Expected, Key, Saved, SessionStore};
use serde_json::{Value, json};

use crate::backend::{Backend, obey};
use crate::django_ops::{Elsewhere, Play, instant};
use crate::life_stage::attribute;
use crate::proxy::{Proxy, Setup};
use crate::stores::{Call, Fate, Watched, memory};
use crate::visitor::{Answer, Visitor};

pub const MAX_AGE: i64 = 14 * 86_400;
pub const PLANTED: &str = r#"{"name":"ABC","list":[1]}"#;

/// One thing that is not as in Django.
#[derive(Debug)]
pub struct Found {
    pub part: &'static str,
    pub django: String,
    pub here: String,
}

/// A session under the name that a flow gives it, its key in Django, and its key here.
pub type Known = Vec<(String, String, String)>;

type Results = Vec<Option<Value>>;

/// The proxy, its store, and a backend that does what the view of a flow does.
pub struct Stage {
    clock: Clock,
    codec: Codec,
    store: Arc<Watched>,
    /// Every key that was ever written.
    keys: Mutex<BTreeSet<String>>,
    /// The operations of the request under way, and what they gave.
    work: Arc<Mutex<(Vec<Value>, Results)>>,
    proxy: Proxy,
    _backend: Backend,
}

impl Stage {
    pub fn new(settings: &Value, now: i64) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(now * 1000));
        let store = Watched::new(&memory(&clock), |_, _| Fate::Pass);
        let work = Arc::new(Mutex::new((Vec::<Value>::new(), Results::new())));
        let address = Arc::new(OnceLock::new());
        let (job, proxy_address, time) = (Arc::clone(&work), Arc::clone(&address), clock.clone());
        let backend = Backend::start(move |seen| {
            if seen.header("flow").is_none() {
                return obey(seen);
            }
            let mut job = job.lock().unwrap();
            let cookie = seen.header("flow-cookie").unwrap_or_default();
            let elsewhere = |what| {
                let reply = match what {
                    Elsewhere::Deleted => "X-Session-Action: delete".to_owned(),
                    Elsewhere::Set(members) => format!("X-Session-Set: {members}"),
                };
                let headers = [("Cookie", cookie), ("Reply", reply.as_str())];
                Visitor::new(*proxy_address.get().unwrap()).send("GET", "/", &headers, b"");
            };
            let play = Play::new(&job.0, seen, time.now().as_millis() / 1000, elsewhere);
            let reply = play.reply();
            job.1 = play.results;
            reply
        });
        let on = |name: &str| settings[name] == true;
        let text = format!(
            "[session]\ncycle_grace = 0\nsave_every_request = {}\nexpire_at_browser_close = {}\n\
             [[routes]]\nupstream = 'app'\non_interrupted = 'error'\n",
            on("SESSION_SAVE_EVERY_REQUEST"),
            on("SESSION_EXPIRE_AT_BROWSER_CLOSE"),
        );
        let setup = Setup::new(&backend.url(), &text).clock(&clock);
        let proxy = setup.store(Arc::clone(&store) as Arc<dyn SessionStore>).start();
        address.set(proxy.address).unwrap();
        let config = Config::parse("upstreams.app.servers = ['http://127.0.0.1:1']", "test.toml").unwrap();
        let codec = Codec::new(&config.store, &config.session, "sessionid").unwrap();
        Self { clock, codec, store, keys: Mutex::default(), work, proxy, _backend: backend }
    }

    /// Puts a session into the store that ends at `end`; its key in a cookie.
    pub fn plant(&self, end: i64) -> String {
        let id = SessionId::generate().unwrap();
        let key = self.codec.key(&id);
        let end = Timestamp::from_millis(end * 1000);
        let saved_at = end.minus(Duration::from_secs(MAX_AGE.unsigned_abs()));
        let session = Session {
            data: Data::parse(PLANTED.into()).unwrap(),
            created_at: saved_at,
            saved_at,
            expiry: Expiry::Default,
            retired: None,
            predecessors: Vec::new(),
        };
        let value = self.codec.encode(&key, &session, saved_at);
        assert!(matches!(wait(self.store.save(&key, Expected::Absent, value, end)).unwrap(), Saved::Stored(_)));
        id.as_str().to_owned()
    }

    /// Makes the request of a flow and compares what came of it.
    pub fn differences(&self, name: &str, flow: &Value, now: i64, known: &mut Known) -> Vec<Found> {
        let ahead = now * 1000 - self.clock.now().as_millis();
        self.clock.advance(Duration::from_millis(ahead.try_into().expect("time goes forward")));
        let cookie = flow["cookie_header"].as_str().map(|cookie| {
            known.iter().fold(cookie.to_owned(), |cookie, (_, django, here)| {
                cookie.replace(django, here).replace(&django.to_uppercase(), &here.to_uppercase())
            })
        });
        let ops = flow["ops"].as_array().unwrap().clone();
        *self.work.lock().unwrap() = (ops.clone(), Vec::new());
        let mut headers = vec![("Flow", name)];
        if let Some(cookie) = &cookie {
            // The backend sees no cookie of ours; for what happens elsewhere the test tells it.
            headers.extend([("Cookie", cookie.as_str()), ("Flow-Cookie", cookie)]);
        }
        let answer = self.proxy.visitor().send("GET", "/", &headers, b"");
        let expected = &flow["expected"];
        let (django_cookie, own_cookie) = (expected["set_cookie"][0].as_str(), answer.session_cookie());
        if let (Some(django), Some(own)) = (django_cookie.and_then(value_of), own_cookie.and_then(value_of)) {
            let fresh = known.iter().all(|(_, other, here)| other != django && here != own);
            if fresh {
                let name = format!("session {}", known.len());
                known.push((name, django.to_owned(), own.to_owned()));
            }
        }
        let has_deadlines = !name.starts_with("file__");
        let mut found = Vec::new();
        let mut compare = |part, django: String, here: String| {
            if django != here {
                found.push(Found { part, django, here });
            }
        };
        compare("status", expected["status"].to_string(), answer.status.to_string());
        let name_of = |known: Option<&(String, String, String)>| known.map_or("new", |known| &known.0).to_owned();
        let named = |django: &str| name_of(known.iter().find(|known| known.1 == django));
        let own_name = |own: &str| name_of(known.iter().find(|known| known.2 == own));
        compare("cookie", cookie_words(django_cookie, named), cookie_words(own_cookie, own_name));
        compare("vary", expected["vary"].as_str().unwrap_or("none").to_owned(), vary(&answer));
        let results = self.work.lock().unwrap().1.clone();
        for (place, (django, here)) in expected["op_results"].as_array().unwrap().iter().zip(&results).enumerate() {
            if let Some(here) = here {
                compare("result", format!("{} {django}", ops[place]), format!("{} {here}", ops[place]));
            }
        }
        assert_eq!(results.len(), expected["op_results"].as_array().unwrap().len(), "{name}");
        let all_over = !has_deadlines && name.contains("expired");
        let living = |name: &String| !(all_over && name == "planted");
        compare(
            "store",
            django_records(&expected["store_after"], has_deadlines, |key| Some(named(key)).filter(living)),
            self.records(has_deadlines, |key| {
                name_of(known.iter().find(|known| SessionId::parse(known.2.as_bytes()).unwrap().digest() == *key))
            }),
        );
        found
    }

    /// The living records in words.
    fn records(&self, has_deadlines: bool, name: impl Fn(&Key) -> String) -> String {
        let mut keys = self.keys.lock().unwrap();
        keys.extend(self.store.take_calls().into_iter().filter(|(call, _)| *call == Call::Save).map(|(_, key)| key));
        let living = keys.iter().filter_map(|key| {
            let key = Key::new(key.as_str());
            let record = wait(self.store.load(&key)).unwrap()?;
            let session = self.codec.decode(&key, &record).unwrap();
            if session.retired.as_ref().is_some_and(|retired| retired.until <= self.clock.now()) {
                return None;
            }
            let mut data: Value = serde_json::from_str(session.data.as_str()).unwrap();
            match session.expiry {
                Expiry::Default => {}
                Expiry::After(age) => data["_session_expiry"] = json!(age.as_secs()),
                Expiry::BrowserClose => data["_session_expiry"] = json!(0),
                Expiry::At(at) => data["_session_expiry"] = json!(instant(at.as_millis() / 1000)),
            }
            let left = record.expires_at.since(self.clock.now()).as_secs();
            Some(record_words(&name(&key), &data, has_deadlines.then_some(left)))
        });
        in_order(living)
    }
}

/// The records of a flow; of `cached_db` the rows, which are the truth.
pub fn store_of(store: &Value) -> &Value {
    store.get("db").unwrap_or(store)
}

/// As [`Stage::records`], of a flow's store. What Django leaves lying about after its end is no living record.
fn django_records(store: &Value, has_deadlines: bool, named: impl Fn(&str) -> Option<String>) -> String {
    let records = store_of(store).as_object().unwrap().iter();
    in_order(records.filter_map(|(key, record)| {
        let left = seconds(&record["expires_in"]);
        let left = if has_deadlines { Some(u64::try_from(left?).ok()?) } else { None };
        let mut data = record["data"].clone();
        if let Some(expiry) = data.get_mut("_session_expiry") {
            let at = expiry.as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap().to_string());
            *expiry = at.map_or_else(|| expiry.clone(), |at| json!(at));
        }
        Some(record_words(&named(key)?, &data, left))
    }))
}

/// A number of seconds, which the vectors write with a point.
pub fn seconds(value: &Value) -> Option<i64> {
    let text = value.as_f64()?.to_string();
    Some(text.parse().expect("whole seconds"))
}

fn record_words(name: &str, data: &Value, left: Option<u64>) -> String {
    left.map_or_else(|| format!("{name} {data}"), |left| format!("{name} {data} for {left} s"))
}

fn in_order(words: impl Iterator<Item = String>) -> String {
    let words: BTreeSet<String> = words.collect();
    if words.is_empty() { "nothing".to_owned() } else { words.into_iter().collect::<Vec<_>>().join("; ") }
}

/// The key in a cookie that is set; `None` if it is removed.
fn value_of(line: &str) -> Option<&str> {
    let value = line.split_once('=')?.1.split(';').next()?;
    (!["", "\"\""].contains(&value)).then_some(value)
}

fn cookie_words(line: Option<&str>, name: impl Fn(&str) -> String) -> String {
    match (line, line.and_then(value_of)) {
        (None, _) => "none".to_owned(),
        (Some(_), None) => "removed".to_owned(),
        (Some(line), Some(key)) => format!("{} for {}", name(key), attribute(line, "Max-Age").unwrap_or("the browser")),
    }
}

fn vary(answer: &Answer) -> String {
    answer.header("vary").unwrap_or("none").to_owned()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
