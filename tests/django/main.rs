//! Sessions shared with real Django, version by version and engine by engine: a site of Django (`site/`) and a plain
//! backend behind the proxy write, read, renew and end the same sessions. `scripts/test` makes the environments in
//! `target/` that Django lives in. To add an engine: a test that gives both sides their settings to `shared::share`.

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/memcached.rs"]
mod memcached_server;
#[path = "../support/mysql.rs"]
mod mysql_server;
#[path = "../support/postgres.rs"]
mod postgres_server;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/visitor.rs"]
mod visitor;

mod caches;
mod clearing;
mod cookies;
mod databases;
mod files;
mod guide;
mod pages;
mod shared;
mod site;
