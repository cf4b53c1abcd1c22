//! The whole proxy between a visitor and a backend, both on plain sockets.

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/mysql.rs"]
mod mysql_server;
#[path = "../support/postgres.rs"]
mod postgres_server;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/raw_backend.rs"]
mod raw_backend;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/redis_topologies.rs"]
mod redis_topologies;
#[path = "../support/stores.rs"]
mod stores;
#[path = "../support/visitor.rs"]
mod visitor;

mod backend_cookies;
mod carried;
mod carried_django;
mod cookies;
mod crashes;
mod django_differences;
mod django_flows;
mod django_ops;
mod django_stage;
mod draining;
mod encrypted;
mod failure_failover;
mod failure_redis;
mod failure_steps;
mod failure_store;
mod forwarding;
mod http_bodies;
mod http_connections;
mod http_framing;
mod http_messages;
mod http_syntax;
mod injected_headers;
mod life_cycle;
mod life_end;
mod life_model;
mod life_stage;
mod life_time;
mod near_failover;
mod near_outage;
mod near_routes;
mod near_workers;
mod operations;
mod outage_stage;
mod pair;
mod protocol;
mod protocol_answers;
mod protocol_limits;
mod protocol_requests;
mod protocol_updates;
mod routing;
mod scene;
mod session_ids;
mod sweeping;
mod two_proxies;
mod updates;
mod upstreams;
mod vanishing;
