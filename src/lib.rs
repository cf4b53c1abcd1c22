//! Cloakroom: a reverse proxy that gives server-side sessions to backends that have none.
//!
//! # The life of a request
//!
//! ```text
//! worker thread   server::worker -> connection         TCP, HTTP/1.1 (hyper)
//!                 proxy::handle(app, peer, request) -> Response       cannot fail
//!   1  accept, routes.find                             pure   400 404 405 413 414 431
//!   2  sessions.open(headers) -> OpenSession           I/O    503      cookie -> store.load -> decode
//!   3  headers::to_backend, sessions.inject            pure            forged headers out, ours in
//!   4  upstream.send(request) -> Response              I/O    502 504
//!   5  SessionPatch::take_from(headers)                pure
//!   6  sessions.commit(open, patch) -> Option<cookie>  I/O    503      plan -> save | touch | end -> cookie
//!   7  headers::to_client(headers, cookie)             pure
//! ```
//!
//! Bodies stream past all this untouched. A visitor without a cookie costs no store call at 2; one whose session did not
//! change costs none at 6. From 4 on the road is walked to its end even if the visitor hangs up. To read the road:
//! [`server`], [`proxy`], [`sessions`].
//!
//! # The layers
//!
//! [`session`] decides what a session is and how it changes, without waiting for anything; [`store`] keeps bytes under a
//! key; [`sessions`] joins the two. [`upstream`] speaks with backends, [`proxy`] with visitors. Each part owns its
//! settings, and [`config`] puts them together. What operators do from the command line is in [`command`]. `tests/architecture.rs` says who may use whom, and fails when the
//! sources do otherwise.
#![forbid(unsafe_code)]
#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod admin;
pub mod app;
pub mod clock;
pub mod command;
pub mod config;
pub mod cookies;
pub mod demo;
pub mod metrics;
pub mod problem;
pub mod proxy;
pub mod routes;
pub mod secret;
pub mod server;
pub mod session;
pub mod sessions;
pub mod signing;
pub mod store;
pub mod telemetry;
pub mod units;
pub mod upstream;
