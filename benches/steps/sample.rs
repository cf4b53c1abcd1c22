//! Settings and a session, as every step has them.

use bytes::Bytes;
use cloakroom::clock::Timestamp;
use cloakroom::config::Config;
use cloakroom::session::Session;
use cloakroom::session::data::Data;
use cloakroom::session::expiry::Expiry;
use cloakroom::session::id::SessionId;
use cloakroom::store::Key;

pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub const ID: &str = "k3v9q0z7m2x8c1b6n5a4s3d2f1g0h9j8";

/// About 200 bytes, as sessions are.
const DATA: &[u8] = br#"{"user_id":4711,"name":"Ann Example","roles":["editor","shop"],"cart":[{"sku":"A-1001","n":2},{"sku":"B-7","n":1}],"visits":1041,"csrf":"q8Zl2wXy0TtNn4RrVvEeKkPpHhJjDdSs","theme":"dark","last":1799999900}"#;

/// All settings as the defaults have them, but for these.
pub fn config(settings: &str) -> Config {
    let text = format!("upstreams.app.servers = ['http://127.0.0.1:9000']\n{settings}");
    Config::parse(&text, "these settings").unwrap_or_else(|error| panic!("{error:?}"))
}

pub fn session() -> Session {
    Session {
        data: Data::parse(Bytes::from_static(DATA)).expect("is in wire form"),
        created_at: NOW,
        saved_at: NOW,
        expiry: Expiry::Default,
        retired: None,
        predecessors: Vec::new(),
    }
}

pub fn id() -> SessionId {
    SessionId::parse(ID.as_bytes()).expect("is an id")
}

pub fn key() -> Key {
    id().digest()
}
