//! The whole proxy between a visitor and a backend, both on plain sockets.

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/stage.rs"]
mod stage;
#[path = "../support/visitor.rs"]
mod visitor;

mod draining;
mod forwarding;
mod http_bodies;
mod http_connections;
mod http_framing;
mod http_messages;
mod http_syntax;
mod operations;
mod protocol;
mod routing;
mod upstreams;
mod vanishing;
