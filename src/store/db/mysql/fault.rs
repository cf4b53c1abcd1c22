//! What MySQL's errors mean, told without what they quote.

use mysql_async::{DriverError, Error, IoError, ServerError};

use super::super::super::{Cause, StoreError};
use super::super::pool::Fault;

const DATA_TOO_LONG: u16 = 1406;
const DEADLOCK: u16 = 1213;
const DUPLICATE: u16 = 1062;
const NO_SUCH_TABLE: u16 = 1146;
const PACKET_TOO_LARGE: u16 = 1153;
const TOO_MANY_CONNECTIONS: [u16; 2] = [1040, 1203];
/// The server is going, ends our connection, or interrupts what runs in it.
const ENDS: [u16; 8] = [1053, 1152, 1158, 1159, 1160, 1161, 1927, 4031];

pub(super) fn fault(error: Error) -> Fault {
    match &error {
        Error::Driver(DriverError::PacketTooLarge) => Fault::TooLarge,
        Error::Server(ServerError { code, .. }) => match *code {
            DATA_TOO_LONG | PACKET_TOO_LARGE => Fault::TooLarge,
            DEADLOCK => Fault::TakenBack(told(error)),
            code if ENDS.contains(&code) => Fault::Lost(told(error)),
            _ => Fault::Refused(told(error)),
        },
        _ => Fault::Lost(told(error)),
    }
}

pub(super) fn is_no_table(error: &Error) -> bool {
    matches!(error, Error::Server(ServerError { code: NO_SUCH_TABLE, .. }))
}

/// Whether there is a row with this key.
pub(super) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Server(ServerError { code: DUPLICATE, .. }))
}

/// Nothing was asked yet, so nothing happened: refused by the server itself, or not there, or full, or going.
pub(super) fn not_connected(error: Error) -> StoreError {
    match &error {
        Error::Server(ServerError { code, .. }) if !ENDS.contains(code) && !TOO_MANY_CONNECTIONS.contains(code) => {
            StoreError::Failed(told(error))
        }
        _ => StoreError::Unreachable(told(error)),
    }
}

/// The error in words. What MySQL says of wrong data would quote it, and so does the library's own debugging text.
fn told(error: Error) -> Cause {
    match error {
        Error::Server(ServerError { code, state, .. }) if state.starts_with("22") || state.starts_with("23") => {
            format!("MySQL refused the data (error {code})").into()
        }
        Error::Server(ServerError { code, message, .. }) => format!("MySQL says: {message} (error {code})").into(),
        Error::Io(IoError::Io(cause)) => cause.into(),
        Error::Io(error) => error.to_string().into(),
        Error::Driver(error) => error.to_string().into(),
        _ => "the connection to MySQL failed".into(),
    }
}
