//! The whole proxy between a visitor and a backend, both on plain sockets.

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/visitor.rs"]
mod visitor;

mod cookies;
mod injected_headers;
mod protocol;
mod recording_store;
mod scene;
mod served;
mod session_ids;
mod updates;
