//! `cloakroom sessions`: the real program on real stores, and a copy step by step.

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/visitor.rs"]
mod visitor;

mod copying;
mod from_django;
mod many;
mod one;
mod place;
mod program;
