//! The whole proxy between a visitor and a backend, both on plain sockets.

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/stores.rs"]
mod stores;
#[path = "../support/visitor.rs"]
mod visitor;

mod failure_redis;
mod failure_steps;
mod failure_store;
mod life_cycle;
mod life_end;
mod life_model;
mod life_stage;
mod life_time;
mod protocol;
mod two_proxies;
