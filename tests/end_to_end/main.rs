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
mod protocol_answers;
mod protocol_limits;
mod protocol_requests;
mod protocol_updates;
mod recording_store;
mod scene;
mod served;
mod session_ids;
mod updates;
