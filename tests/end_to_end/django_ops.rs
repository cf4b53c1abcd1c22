//! What a view of Django does with `request.session`, as a backend behind the proxy says it.

use cloakroom::session::data::Data;
use serde_json::{Value, json};

use crate::backend::{Reply, Seen};

/// Operations that no header stands for, and why. A flow that has one is driven without it.
pub const UNSPOKEN: [(&str, &str); 3] = [
    ("exists", "a backend learns of no session but the visitor's own"),
    ("is_empty", "it says whether a key was asked for, and backends are told no key"),
    ("session_key", "backends are told no key: `X-Session-Id` is another name"),
];

/// A view's work on the session it was given, and the answer that it amounts to.
pub struct Play {
    /// What the view has before it, in order: what came, and what it changed since.
    session: Vec<(String, Value)>,
    now: i64,
    status: u16,
    headers: Vec<(String, String)>,
    actions: Vec<&'static str>,
    set: Vec<(String, Value)>,
    unset: Vec<String>,
    expiry: Option<String>,
    /// Keys whose values were changed in place, which nobody is told of.
    in_place: Vec<String>,
    /// What each operation gave; `None` where no header could tell.
    pub results: Vec<Option<Value>>,
}

/// What another request of the same visitor does while this one is under way.
pub enum Elsewhere {
    Deleted,
    Set(String),
}

impl Play {
    /// Plays `ops` on the session that the backend was told of; `elsewhere` lets another request come between.
    pub fn new(ops: &[Value], seen: &Seen, now: i64, elsewhere: impl Fn(Elsewhere)) -> Self {
        let mut play = Self {
            session: seen.header("x-session-data").map(members).unwrap_or_default(),
            now,
            status: 200,
            headers: Vec::new(),
            actions: Vec::new(),
            set: Vec::new(),
            unset: Vec::new(),
            expiry: None,
            in_place: Vec::new(),
            results: Vec::new(),
        };
        for op in ops {
            let op = op.as_array().expect("an operation is a list");
            let name = op[0].as_str().expect("it begins with its name");
            match name {
                "delete_elsewhere" => elsewhere(Elsewhere::Deleted),
                "set_elsewhere" => elsewhere(Elsewhere::Set(json!({ text(&op[1]): op[2] }).to_string())),
                _ => {}
            }
            if name == "raise" {
                // What a view raises Django answers with 500.
                play.status = 500;
                break;
            }
            let result = play.act(name, &op[1..]);
            play.results.push(result);
        }
        play
    }

    fn act(&mut self, name: &str, arguments: &[Value]) -> Option<Value> {
        let key = arguments.first().and_then(Value::as_str).unwrap_or_default();
        let given = |place: usize| arguments.get(place).cloned().unwrap_or_default();
        let result = match name {
            "get" => self.value(key),
            "contains" => json!(self.session.iter().any(|(name, _)| name == key)),
            "keys" => self.session.iter().map(|(key, _)| json!(key)).collect(),
            "values" => self.session.iter().map(|(_, value)| value.clone()).collect(),
            "items" => self.session.iter().map(|(key, value)| json!([key, value])).collect(),
            "test_cookie_worked" => json!(self.value("testcookie") == "worked"),
            "set" => self.change(key, given(1)),
            "set_test_cookie" => self.change("testcookie", json!("worked")),
            "setdefault" => match self.found(key) {
                Some(value) => value.clone(),
                None => {
                    self.change(key, given(1));
                    given(1)
                }
            },
            "update" => {
                // Whatever the dictionary holds, also nothing: the session counts as modified.
                self.actions.push("touch");
                for (key, value) in given(0).as_object().expect("a dictionary") {
                    self.change(key, value.clone());
                }
                Value::Null
            }
            "pop" => self.remove(key).unwrap_or_else(|| given(1)),
            "del" => self.remove(key).map_or_else(|| json!({ "raises": "KeyError" }), |_| Value::Null),
            "delete_test_cookie" => self.remove("testcookie").map(|_| Value::Null).expect("a test cookie"),
            "mutate_nested" => {
                let found = self.session.iter_mut().find(|(name, _)| name == key);
                found.and_then(|(_, list)| list.as_array_mut()).expect("a list").push(given(1));
                self.in_place.push(key.to_owned());
                Value::Null
            }
            "modified" => {
                assert_eq!(given(0), json!(true), "nothing takes a change back");
                for key in std::mem::take(&mut self.in_place) {
                    self.change(&key, self.value(&key));
                }
                self.act_by("touch")
            }
            "clear" => self.forget("clear"),
            "flush" => self.forget("flush"),
            "delete" => self.act_by("delete"),
            "cycle_key" => self.act_by("cycle"),
            "save" => self.act_by("touch"),
            "set_expiry" => {
                self.expiry = Some(self.lifetime(&given(0)));
                Value::Null
            }
            "delete_elsewhere" | "set_elsewhere" => Value::Null,
            "status" => {
                self.status = given(0).as_u64().and_then(|status| status.try_into().ok()).expect("a status");
                Value::Null
            }
            "header" => {
                self.headers.push((key.to_owned(), text(&given(1))));
                Value::Null
            }
            "set_cookie" => {
                let path = text(&given(2)["path"]);
                self.headers.push(("Set-Cookie".to_owned(), format!("{key}={}; Path={path}", text(&given(1)))));
                return None;
            }
            other if UNSPOKEN.iter().any(|(name, _)| *name == other) => return None,
            other => panic!("unknown operation {other}"),
        };
        Some(result)
    }

    fn found(&self, key: &str) -> Option<&Value> {
        self.session.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn value(&self, key: &str) -> Value {
        self.found(key).cloned().unwrap_or_default()
    }

    fn change(&mut self, key: &str, value: Value) -> Value {
        self.unset.retain(|unset| unset != key);
        match self.session.iter_mut().find(|(name, _)| name == key) {
            Some(member) => member.1.clone_from(&value),
            None => self.session.push((key.to_owned(), value.clone())),
        }
        self.set.retain(|(name, _)| name != key);
        self.set.push((key.to_owned(), value));
        Value::Null
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        let place = self.session.iter().position(|(name, _)| name == key)?;
        self.set.retain(|(name, _)| name != key);
        self.unset.push(key.to_owned());
        Some(self.session.remove(place).1)
    }

    fn act_by(&mut self, action: &'static str) -> Value {
        self.actions.push(action);
        Value::Null
    }

    /// What was done before is gone with the data.
    fn forget(&mut self, action: &'static str) -> Value {
        self.session.clear();
        self.set.clear();
        self.unset.clear();
        self.in_place.clear();
        self.expiry = None;
        self.act_by(action)
    }

    fn lifetime(&self, expiry: &Value) -> String {
        if let Some(seconds) = expiry.as_i64() {
            // No header gives a negative age; an instant may lie in the past.
            return if seconds < 0 { instant(self.now + seconds) } else { seconds.to_string() };
        }
        if let Some(seconds) = expiry["timedelta"].as_i64() {
            return instant(self.now + seconds);
        }
        if expiry.is_null() { "default".to_owned() } else { text(&expiry["datetime"]) }
    }

    /// The answer: the lines that say all of this.
    pub fn reply(&self) -> Reply {
        let mut reply = Reply::ok("ok").status(self.status);
        for (name, value) in &self.headers {
            reply = reply.header(name, value.as_str());
        }
        for action in &self.actions {
            reply = reply.header("X-Session-Action", *action);
        }
        for (key, value) in &self.set {
            reply = reply.header("X-Session-Set", json!({ key: value }).to_string());
        }
        if !self.unset.is_empty() {
            reply = reply.header("X-Session-Unset", self.unset.join(", "));
        }
        if let Some(expiry) = &self.expiry {
            reply = reply.header("X-Session-Expiry", expiry.as_str());
        }
        reply
    }
}

/// The members of an object, in their order.
fn members(object: &str) -> Vec<(String, Value)> {
    let data = Data::parse(object.to_owned().into()).expect("X-Session-Data is in wire form");
    let members = data.members();
    members.map(|member| (member.key().into_owned(), serde_json::from_str(member.value).expect("JSON"))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// An instant as `X-Session-Expiry` takes it.
pub fn instant(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).expect("an instant").to_string()
}
