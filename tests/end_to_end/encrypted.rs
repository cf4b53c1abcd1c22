//! Sessions that are encrypted in their store (`store.encrypt`).

use std::sync::Arc;

use cloakroom::clock::Clock;
use cloakroom::session::id::SessionId;
use cloakroom::store::{Expected, Key, Record, Saved, SessionStore};
use serde_json::json;

use crate::backend::{Backend, obey};
use crate::life_stage::{events, looks};
use crate::proxy::{Proxy, Setup};
use crate::stores::memory;
use crate::visitor::Visitor;

const A: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const B: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn proxy(backend: &Backend, store: &Arc<dyn SessionStore>, encrypt: &[&str]) -> Proxy {
    let text = format!("[admin]\nlisten = '127.0.0.1:0'\n[store]\nengine = 'memory'\nencrypt = {encrypt:?}");
    Setup::new(&backend.url(), &text).store(Arc::clone(store)).start()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn key(visitor: &Visitor) -> Key {
    SessionId::parse(visitor.session_id().unwrap().as_bytes()).unwrap().digest()
}

fn record(store: &Arc<dyn SessionStore>, visitor: &Visitor) -> Record {
    wait(store.load(&key(visitor))).unwrap().expect("a record")
}

#[test]
fn o12_two_records_that_were_swapped_in_the_store_are_refused() {
    let (backend, store) = (Backend::start(obey), memory(&Clock::system()));
    for (encrypt, swapped) in [(&[][..], true), (&[A], false)] {
        let proxy = proxy(&backend, &store, encrypt);
        let (mut ann, mut bob) = (proxy.visitor(), proxy.visitor());
        ann.ask(&["X-Session-Set: user=ann"]);
        bob.ask(&["X-Session-Set: user=bob"]);
        let (of_ann, of_bob) = (record(&store, &ann), record(&store, &bob));
        let readable = of_ann.value.windows(3).any(|window| window == b"ann");
        assert_eq!(readable, encrypt.is_empty());
        for (visitor, old, new) in [(&ann, &of_ann, &of_bob), (&bob, &of_bob, &of_ann)] {
            let key = key(visitor);
            let saved = wait(store.save(&key, Expected::Version(old.version), new.value.clone(), old.expires_at));
            assert!(matches!(saved.unwrap(), Saved::Stored(_)));
        }
        let expected = swapped.then(|| json!({"user": "bob"}));
        assert_eq!(looks(&mut ann, &backend).1, expected);
        assert_eq!(backend.last().header("x-session-state"), Some(if swapped { "active" } else { "none" }));
        assert_eq!(events(&proxy, "undecodable"), u64::from(!swapped));
    }
}

#[test]
fn o12_every_step_of_a_session_is_encrypted_and_keys_can_be_exchanged() {
    let (backend, store) = (Backend::start(obey), memory(&Clock::system()));
    let (old, both, new) =
        (proxy(&backend, &store, &[A]), proxy(&backend, &store, &[B, A]), proxy(&backend, &store, &[B]));
    let mut visitor = old.visitor();
    visitor.ask(&["X-Session-Set: user=ann"]);
    visitor.ask(&["X-Session-Action: cycle"]);
    visitor.proxy = both.address;
    assert_eq!(looks(&mut visitor, &backend).1, Some(json!({"user": "ann"})));
    visitor.ask(&["X-Session-Set: n=1"]);
    visitor.proxy = new.address;
    assert_eq!(looks(&mut visitor, &backend).1, Some(json!({"user": "ann", "n": "1"})));
    assert!(!record(&store, &visitor).value.windows(3).any(|window| window == b"ann"));
    visitor.ask(&["X-Session-Action: flush"]);
    assert_eq!(looks(&mut visitor, &backend).1, None);
}
