//! Cloakroom: a reverse proxy that gives server-side sessions to backends that have none.
#![forbid(unsafe_code)]

pub mod clock;
pub mod metrics;
pub mod problem;
pub mod secret;
pub mod store;
pub mod units;
