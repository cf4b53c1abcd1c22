//! Random commands through the whole proxy, against a plain model of what a session is.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::life_stage::{HOUR, MINUTE, START, Stage, forgets, max_age};
use crate::visitor::Connection;

const STEPS: usize = 500;

const SETTINGS: &str = "
[session]
max_age = '1h'
idle_timeout = '30m'
touch_interval = 0
absolute_timeout = '3h'
cycle_on_change = ['login']
";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expiry {
    After(u64),
    At(u64),
    Browser,
    Default,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Ending {
    Clear,
    Delete,
    Flush,
}

/// What one answer of the backend asks for. Seconds count from the start.
#[expect(clippy::struct_excessive_bools, reason = "each is there or not, whatever the others are")]
#[derive(Clone, Debug, Default)]
struct Commands {
    fails: bool,
    bad: bool,
    endings: Vec<Ending>,
    set: Vec<(&'static str, String)>,
    incr: Option<&'static str>,
    unset: Option<&'static str>,
    expiry: Option<Expiry>,
    cycle: bool,
    touch: bool,
}

impl Commands {
    fn random(rng: &mut StdRng, now: u64) -> Self {
        let mut commands = Self { fails: rng.random_bool(0.1), bad: rng.random_bool(0.05), ..Self::default() };
        for ending in [Ending::Clear, Ending::Delete, Ending::Flush] {
            if rng.random_bool(0.03) {
                commands.endings.push(ending);
            }
        }
        for key in ["a", "b", "login"] {
            if rng.random_bool(0.2) {
                commands.set.push((key, rng.random_range(0..3).to_string()));
            }
        }
        commands.incr = rng.random_bool(0.2).then(|| *["a", "n", "n", "n"].choose(rng).unwrap());
        commands.unset = rng.random_bool(0.2).then(|| *["a", "b", "login", "n"].choose(rng).unwrap());
        let expiries =
            [Expiry::After(60), Expiry::After(2 * HOUR), Expiry::At(now + 90), Expiry::Browser, Expiry::Default];
        commands.expiry = rng.random_bool(0.15).then(|| *expiries.choose(rng).unwrap());
        commands.cycle = rng.random_bool(0.15);
        commands.touch = rng.random_bool(0.1);
        commands
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.endings.iter().map(|ending| format!("X-Session-Action: {ending:?}").to_lowercase()).collect();
        lines.extend(self.bad.then(|| "X-Session-Set: a=%zz".to_owned()));
        lines.extend(self.set.iter().map(|(key, value)| format!("X-Session-Set: {key}={value}")));
        lines.extend(self.incr.map(|key| format!("X-Session-Incr: {key}=2")));
        lines.extend(self.unset.map(|key| format!("X-Session-Unset: {key}")));
        lines.extend(self.expiry.map(|expiry| match expiry {
            Expiry::After(seconds) => format!("X-Session-Expiry: {seconds}"),
            Expiry::At(second) => {
                let instant = SystemTime::from(START.plus(Duration::from_secs(second)));
                format!("X-Session-Expiry: {}", httpdate::fmt_http_date(instant))
            }
            Expiry::Browser => "X-Session-Expiry: 0".to_owned(),
            Expiry::Default => "X-Session-Expiry: default".to_owned(),
        }));
        lines.extend(self.cycle.then(|| "X-Session-Action: cycle".to_owned()));
        lines.extend(self.touch.then(|| "X-Session-Action: touch".to_owned()));
        lines
    }

    /// The data after, and whether it counts as changed; `None` if the update is refused.
    fn apply(&self, before: &Map<String, Value>) -> Option<(Map<String, Value>, bool)> {
        let mut data = if self.endings.is_empty() { before.clone() } else { Map::new() };
        if self.bad {
            return None;
        }
        if self.fails {
            return Some((data, false));
        }
        let mut changed = !self.set.is_empty() || self.incr.is_some();
        for (key, value) in &self.set {
            data.insert((*key).to_owned(), json!(value));
        }
        if let Some(key) = self.incr {
            let number = data.get(key).map_or(Some(0), Value::as_i64)?;
            data.insert(key.to_owned(), json!(number + 2));
        }
        changed |= self.unset.is_some_and(|key| data.remove(key).is_some());
        Some((data, changed))
    }
}

#[derive(Clone, Debug)]
struct Session {
    data: Map<String, Value>,
    created: u64,
    saved: u64,
    expiry: Expiry,
    deadline: u64,
    ended: bool,
}

impl Session {
    fn new(data: Map<String, Value>, expiry: Option<Expiry>, now: u64) -> Self {
        let expiry = expiry.unwrap_or(Expiry::Default);
        let mut session = Self { data, created: now, saved: now, expiry, deadline: 0, ended: false };
        session.deadline = session.due(now);
        session
    }

    fn due(&self, now: u64) -> u64 {
        let expires = match self.expiry {
            Expiry::After(seconds) => self.saved + seconds,
            Expiry::At(second) => second,
            Expiry::Browser | Expiry::Default => self.saved + HOUR,
        };
        expires.min(now + 30 * MINUTE).min(self.created + 3 * HOUR)
    }

    fn cookie(&self, now: u64) -> Cookie {
        let age = match self.expiry {
            Expiry::After(seconds) => seconds,
            Expiry::At(second) => second - now,
            Expiry::Browser => return Cookie::Set(None),
            Expiry::Default => HOUR,
        };
        Cookie::Set(Some(age.min(self.created + 3 * HOUR - now)))
    }
}

#[derive(Debug, PartialEq)]
enum Cookie {
    None,
    Removal,
    Set(Option<u64>),
}

#[derive(Clone, Debug)]
enum Key {
    Current { session: usize },
    Old { session: usize, data: Map<String, Value>, until: u64 },
}

#[derive(Default)]
struct Model {
    sessions: Vec<Session>,
    keys: HashMap<String, Key>,
}

/// Where the id of an expected cookie leads from then on.
enum Names {
    Nothing,
    New(usize),
    Moved { from: String, session: usize, data: Map<String, Value>, until: u64 },
}

impl Model {
    fn seen(&self, id: Option<&str>, now: u64) -> Option<(Key, Map<String, Value>)> {
        let key = self.keys.get(id?)?.clone();
        match &key {
            Key::Current { session } => {
                let session = &self.sessions[*session];
                (!session.ended && now < session.deadline).then(|| (key.clone(), session.data.clone()))
            }
            Key::Old { session, data, until } => {
                (!self.sessions[*session].ended && now < *until).then(|| (key.clone(), data.clone()))
            }
        }
    }

    fn step(&mut self, id: Option<&str>, commands: &Commands, now: u64) -> (Cookie, Names) {
        let seen = self.seen(id, now);
        let before = seen.as_ref().map(|(_, data)| data.clone()).unwrap_or_default();
        let ending = commands.endings.iter().max().copied();
        let accepted = commands.apply(&before).is_some() && !commands.fails;
        let kept = if ending.is_some() { Map::new() } else { before.clone() };
        let (data, changed) = commands.apply(&before).unwrap_or((kept, false));
        let expiry = commands.expiry.filter(|_| accepted);

        let ends = matches!(ending, Some(Ending::Delete | Ending::Flush));
        if let (Some((Key::Current { session } | Key::Old { session, .. }, _)), true) = (&seen, ends) {
            self.sessions[*session].ended = true;
        }
        let current = match seen {
            Some((Key::Old { .. }, _)) if !ends => return (Cookie::None, Names::Nothing),
            Some((Key::Current { session }, _)) if !ends => session,
            _ if changed && !data.is_empty() => {
                self.sessions.push(Session::new(data, expiry, now));
                let session = self.sessions.len() - 1;
                return (self.sessions[session].cookie(now), Names::New(session));
            }
            _ if ending == Some(Ending::Flush) && id.is_some() => return (Cookie::Removal, Names::Nothing),
            _ => return (Cookie::None, Names::Nothing),
        };

        let session = &mut self.sessions[current];
        let login = data.get("login").is_some_and(|login| before.get("login") != Some(login));
        let cycles = accepted && (commands.cycle || login);
        let cleared = ending == Some(Ending::Clear);
        if !(changed || cleared || cycles || accepted && (commands.touch || expiry.is_some())) {
            session.deadline = session.deadline.max(session.due(now));
            return (Cookie::None, Names::Nothing);
        }
        let until = (now + 10).min(session.deadline);
        (session.data, session.saved) = (data, now);
        session.expiry = expiry.unwrap_or(if cleared { Expiry::Default } else { session.expiry });
        session.deadline = session.due(now);
        let from = id.unwrap().to_owned();
        let names = if cycles { Names::Moved { from, session: current, data: before, until } } else { Names::Nothing };
        (session.cookie(now), names)
    }

    fn named(&mut self, id: &str, names: Names) {
        match names {
            Names::Nothing => assert!(self.keys.contains_key(id), "a new id for an old session"),
            Names::New(session) => {
                assert!(self.keys.insert(id.to_owned(), Key::Current { session }).is_none());
            }
            Names::Moved { from, session, data, until } => {
                self.keys.insert(from, Key::Old { session, data, until });
                assert!(self.keys.insert(id.to_owned(), Key::Current { session }).is_none());
            }
        }
    }
}

#[test]
fn random_commands_do_what_the_model_does() {
    let seed: u64 = std::env::var("CLOAKROOM_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("to repeat this: CLOAKROOM_SEED={seed}");
    Stage::each(SETTINGS, |stage| {
        let mut met = Met::default();
        // A database syncs every step to the disk.
        let rounds = if stage.engine == "memory" { 6 } else { 1 };
        for round in 0..rounds {
            run(stage, &mut StdRng::seed_from_u64(seed ^ round), &mut met);
        }
        // Far below what is usual: it says that nothing was missed altogether.
        assert!(met.created > 10 && met.moved > 10 && met.live > 100 && met.old > 0, "{met:?}");
    });
}

/// What the commands met with.
#[derive(Debug, Default)]
struct Met {
    created: usize,
    moved: usize,
    live: usize,
    old: usize,
}

fn run(stage: &Stage, rng: &mut StdRng, met: &mut Met) {
    let mut model = Model::default();
    let mut ids: Vec<String> = vec!["z".repeat(32)];
    let mut connection = Connection::open(stage.proxy.address);
    for step in 0..STEPS {
        stage.advance(*[0, 0, 0, 0, 0, 0, 1, 1, 4, 9, 60, 29 * MINUTE].choose(rng).unwrap());
        let now = stage.clock.now().since(START).as_secs();
        // Mostly the newest, now and then one from before, or none.
        let back = rng.random_range(0..12_usize);
        let id = if back < 3 { ids.last() } else { ids.iter().rev().nth(back - 3) }.cloned();
        let commands = Commands::random(rng, now);
        let context = format!("step {step}, second {now}, {id:?}, {commands:?}");

        let seen = model.seen(id.as_deref(), now);
        met.live += usize::from(matches!(seen, Some((Key::Current { .. }, _))));
        met.old += usize::from(matches!(seen, Some((Key::Old { .. }, _))));
        let (cookie, names) = model.step(id.as_deref(), &commands, now);

        let mut visitor = stage.proxy.visitor();
        visitor.jar.extend(id.map(|id| ("sessionid".to_owned(), id)));
        let lines = commands.lines();
        let mut headers: Vec<(&str, &str)> = lines.iter().map(|line| ("Reply", line.as_str())).collect();
        headers.extend(commands.fails.then_some(("Reply-Status", "500")));
        let answer = visitor.send_on(&mut connection, "GET", "/", &headers, b"");

        let told = stage.backend.last().session();
        assert_eq!(told, seen.map(|(_, data)| Value::Object(data)), "{context}");
        let got = match answer.session_cookie() {
            None => Cookie::None,
            Some(_) if forgets(&answer) => Cookie::Removal,
            Some(_) => Cookie::Set(max_age(&answer)),
        };
        assert_eq!(got, cookie, "{context}");
        if let Cookie::Set(_) = got {
            let id = visitor.session_id().unwrap();
            met.created += usize::from(matches!(names, Names::New(_)));
            met.moved += usize::from(matches!(names, Names::Moved { .. }));
            model.named(id, names);
            if ids.last().is_none_or(|last| last != id) {
                ids.push(id.to_owned());
            }
        }
    }
}
