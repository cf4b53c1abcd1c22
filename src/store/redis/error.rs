//! What Redis's errors mean to a caller, in words that quote nobody.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{Cause, StoreError};

/// Whether the connection is lost, stuck, or to a server that no longer is a master (after a failover).
pub(super) fn is_of_the_connection(error: &RedisError) -> bool {
    let demoted = [ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown].map(ErrorKind::Server);
    error.is_unrecoverable_error() || error.is_io_error() || demoted.contains(&error.kind())
}

/// A call failed after it was sent: whether Redis acted is unknown.
pub(super) fn failed(error: &RedisError) -> StoreError {
    if error.is_timeout() { StoreError::Timeout } else { StoreError::Failed(told(error)) }
}

/// Nothing was asked yet, so nothing happened: refused by Redis itself, or not there at all.
pub(super) fn not_connected(cause: &RedisError) -> StoreError {
    if cause.is_io_error() { StoreError::Unreachable(told(cause)) } else { StoreError::Failed(told(cause)) }
}

/// An answer that the library could read and we cannot.
pub(super) fn not_understood() -> StoreError {
    StoreError::Failed(NOT_UNDERSTOOD.into())
}

const NOT_UNDERSTOOD: &str = "Redis gave an answer that was not understood";

/// The library's error in words: as a source it would print itself twice, and an answer that it did not understand
/// would be quoted, session and all.
pub(super) fn told(error: &RedisError) -> Cause {
    match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => NOT_UNDERSTOOD.into(),
        _ => error.to_string().into(),
    }
}

/// Why, without the general words before it.
pub(super) fn cause(error: &StoreError) -> String {
    match error {
        StoreError::Failed(cause) | StoreError::Unreachable(cause) => cause.to_string(),
        other => other.to_string(),
    }
}
