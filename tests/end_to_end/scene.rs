//! What most tests begin with: a proxy before a backend that does what the test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::backend::{Backend, Reply, Seen, obey};
use crate::proxy::{Proxy, Setup};
use crate::visitor::{Answer, Connection, Visitor};

/// Routes of which one has no sessions: by its path, and by its host.
pub const OFF_ROUTES: &str = "
    [[routes]]
    upstream = 'app'

    [[routes]]
    path = '/off'
    upstream = 'app'
    session = false

    [[routes]]
    host = 'off.example'
    upstream = 'app'
    session = false
";

/// A proxy that believes its peer, as behind a TLS terminator, and so can be told that a visitor came by HTTPS.
pub const TRUSTING: &str = "
    [server]
    listen = ['127.0.0.1:0']
    workers = 1
    trusted_proxies = ['127.0.0.1']
";

pub struct Scene {
    pub backend: Backend,
    pub proxy: Proxy,
    next: Arc<Mutex<Option<Reply>>>,
}

impl Scene {
    pub fn new(text: &str) -> Self {
        Self::with(text, |setup| setup)
    }

    pub fn with(text: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let next = Arc::new(Mutex::new(None));
        let put_down = Arc::clone(&next);
        let backend = Backend::start(move |seen| put_down.lock().unwrap().take().unwrap_or_else(|| obey(seen)));
        let proxy = change(Setup::new(&backend.url(), text)).start();
        Self { backend, proxy, next }
    }

    /// The next request is answered with this, whatever it asks for.
    pub fn answer_next(&self, reply: Reply) {
        *self.next.lock().unwrap() = Some(reply);
    }

    pub fn visitor(&self) -> Visitor {
        self.proxy.visitor()
    }

    /// A visitor whose session holds this; without a session if it is an empty object.
    pub fn visitor_with(&self, session: &Value) -> Visitor {
        let mut visitor = self.visitor();
        if session.as_object().is_some_and(|session| !session.is_empty()) {
            let answer = visitor.ask(&[&format!("X-Session-Set: {session}")]);
            assert!(answer.session_cookie().is_some(), "no session came of {session}");
        }
        visitor
    }

    /// A visitor whose session holds `{"a":"1"}`, in a cookie of this name.
    pub fn visitor_named(&self, cookie: &str) -> Visitor {
        let mut visitor = self.visitor();
        visitor.ask(&["X-Session-Set: a=1"]);
        assert!(visitor.jar.contains_key(cookie), "{:?}", visitor.jar);
        visitor
    }

    /// What the backend is told of the visitor's session.
    pub fn session(&self, visitor: &mut Visitor) -> Option<Value> {
        visitor.get("/");
        self.backend.last().session()
    }

    /// What the backend saw of a GET with these headers, sent as they are on a connection of its own.
    pub fn seen(&self, target: &str, headers: &[(&str, &str)]) -> Seen {
        let before = self.backend.requests().len();
        let answer = self.visitor().send("GET", target, headers, b"");
        assert_eq!(answer.status, 200, "{headers:?}");
        assert_eq!(self.backend.requests().len(), before + 1);
        self.backend.last()
    }

    /// The value of a counter; 0 if it was never moved. Needs an `[admin]` section.
    pub fn counter(&self, name_and_labels: &str) -> u64 {
        self.proxy.metric(name_and_labels).unwrap_or(0)
    }
}

/// Sends these bytes and nothing else; the answer to them.
pub fn raw(proxy: &Proxy, bytes: &[u8]) -> Answer {
    let mut connection = Connection::open(proxy.address);
    connection.write(bytes);
    connection.answer().expect("an answer")
}

fn normalised(name: &str) -> String {
    name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// The lines whose names are, or could be taken for, the protocol's; their names in lower case.
pub fn session_lines(headers: &[(String, String)]) -> Vec<(String, String)> {
    let ours = headers.iter().filter(|(name, _)| normalised(name).starts_with("x-session-"));
    ours.map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
}

/// A `Set-Cookie` line in parts; names of attributes in lower case.
#[derive(Debug)]
pub struct SetCookie {
    pub name: String,
    pub value: String,
    pub attributes: BTreeMap<String, String>,
}

impl SetCookie {
    pub fn parse(line: &str) -> Self {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
        let mut attributes = BTreeMap::new();
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let earlier = attributes.insert(name.to_lowercase(), value.to_owned());
            assert_eq!(earlier, None, "{name} stands twice in {line}");
        }
        Self { name: name.to_owned(), value: value.to_owned(), attributes }
    }

    /// Everything but what changes from answer to answer.
    pub fn fixed_attributes(&self) -> Vec<(&str, &str)> {
        let fixed = self.attributes.iter().filter(|(name, _)| !["expires", "max-age"].contains(&name.as_str()));
        fixed.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}
