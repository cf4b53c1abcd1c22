//! What PostgreSQL's errors mean, told without what they quote.

use std::error::Error as _;
use std::fmt::Write as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::super::super::{Cause, StoreError};
use super::super::pool::Fault;

pub(super) fn fault(error: &Error) -> Fault {
    let Some(answer) = error.as_db_error() else { return Fault::Lost(told(error)) };
    match answer.code() {
        code if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED => {
            Fault::TakenBack(told(error))
        }
        code if code.code().starts_with("54") => Fault::TooLarge,
        _ if is_the_end(answer) => Fault::Lost(told(error)),
        _ => Fault::Refused(told(error)),
    }
}

pub(super) fn is_no_table(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

/// Nothing was asked yet, so nothing happened: refused by the server itself, or not there, or not yet or no longer.
pub(super) fn not_connected(error: &Error) -> StoreError {
    match error.code() {
        Some(code)
            if *code != SqlState::CANNOT_CONNECT_NOW
                && *code != SqlState::TOO_MANY_CONNECTIONS
                && !code.code().starts_with("57") =>
        {
            StoreError::Failed(told(error))
        }
        _ => StoreError::Unreachable(told(error)),
    }
}

/// Whether the server hangs up after it.
fn is_the_end(answer: &DbError) -> bool {
    matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// The error in words. What PostgreSQL says of wrong data would quote it.
fn told(error: &Error) -> Cause {
    let Some(answer) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        return text.into();
    };
    let code = answer.code().code();
    if code.starts_with("22") || code.starts_with("23") {
        format!("PostgreSQL refused the data (SQLSTATE {code})").into()
    } else {
        format!("PostgreSQL says: {} (SQLSTATE {code})", answer.message()).into()
    }
}
