//! A site of Django: its own process, its pages on a free port, and its sessions at hand.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::visitor::Visitor;

pub const SECRET_KEY: &str = "a key that nobody has to guess";

/// Which Django, by its environment in `target/` that `scripts/test` makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    Newest,
    V42,
}

pub struct Site {
    pub address: SocketAddr,
    version: Version,
    child: Child,
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// A session as a view of Django sees it.
#[derive(Debug, Deserialize)]
pub struct Seen {
    pub items: Value,
    pub age: i64,
    pub until_the_browser_closes: bool,
}

impl Site {
    /// `settings` are Django's own.
    pub fn start(version: Version, settings: Value) -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let name = if version == Version::Newest { "django" } else { "django-4.2" };
        let mut all = json!({ "SECRET_KEY": SECRET_KEY });
        let Value::Object(settings) = settings else { panic!("settings have names") };
        all.as_object_mut().expect("settings").extend(settings);
        let mut child = Command::new(format!("{root}/target/{name}/bin/python"))
            .arg("run.py")
            .current_dir(format!("{root}/tests/django/site"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SITE", all.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("target/{name} cannot be used ({error}): scripts/test makes it"));
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut site = Self { address, version, child, pipe: Mutex::new((input, output)) };
        let ready = site.answer();
        let version = ready["django"].as_str().expect("a version");
        assert_eq!(version.starts_with("4.2."), site.version == Version::V42, "{version}");
        site.address.set_port(ready["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port"));
        site
    }

    /// A browser that asks the site itself.
    pub fn visitor(&self) -> Visitor {
        Visitor::new(self.address)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does with a session what a view would, and the middleware after it; its key by then.
    pub fn work(&self, key: Option<&str>, operations: &Value) -> Option<String> {
        let done = self.done(&json!({ "do": "work", "key": key, "operations": operations }));
        done["key"].as_str().map(str::to_owned)
    }

    /// A new session with these items; its key.
    pub fn new_session(&self, items: &Map<String, Value>) -> String {
        let operations: Value = items.iter().map(|(key, value)| json!(["set", key, value])).collect();
        self.work(None, &operations).expect("a key")
    }

    /// What a view would see; `None` if there is no such session.
    pub fn look(&self, key: &str) -> Option<Seen> {
        let seen = self.done(&json!({ "do": "look", "key": key }));
        serde_json::from_value(seen).expect("a session or none")
    }

    /// Only the items of a session that must be there.
    pub fn items(&self, key: &str) -> Value {
        self.look(key).unwrap_or_else(|| panic!("Django finds no session {key}")).items
    }

    /// Changes settings of sessions, from here on and not for the pages.
    pub fn set(&self, settings: Value) {
        let mut request = settings;
        request["do"] = json!("use");
        self.done(&request);
    }

    /// `manage.py COMMAND…`
    pub fn manage(&self, command: &[&str]) {
        self.done(&json!({ "do": "manage", "command": command }));
    }

    pub fn make_user(&self, name: &str, password: &str) {
        self.done(&json!({ "do": "make_user", "name": name, "password": password }));
    }

    fn done(&self, request: &Value) -> Value {
        let mut pipe = self.pipe.lock().expect("the pipe");
        writeln!(pipe.0, "{request}").expect("Django listens");
        let mut answer = read(&mut pipe.1);
        assert_eq!(answer["raised"], Value::Null, "{request}\n{}", answer["raised"].as_str().unwrap_or_default());
        answer["done"].take()
    }

    fn answer(&self) -> Value {
        read(&mut self.pipe.lock().expect("the pipe").1)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read(output: &mut impl BufRead) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).expect("a line of text");
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("Django ended, or said what is not JSON: {line:?}"))
}
