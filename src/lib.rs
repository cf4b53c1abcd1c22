//! Cloakroom: a reverse proxy that gives server-side sessions to backends that have none.
#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod admin;
pub mod app;
pub mod clock;
pub mod config;
pub mod demo;
pub mod metrics;
pub mod problem;
pub mod proxy;
pub mod routes;
pub mod secret;
pub mod server;
pub mod session;
pub mod sessions;
pub mod store;
pub mod telemetry;
pub mod units;
pub mod upstream;
