//! Serving: not in the tree yet.

use crate::config::Config;

/// Why the server did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("this build cannot serve yet")]
    NotBuilt,
}

/// Answers visitors until the process is told to stop.
pub fn run(_: Config) -> Result<(), ServerError> {
    Err(ServerError::NotBuilt)
}
