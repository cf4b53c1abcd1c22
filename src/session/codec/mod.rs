//! Sessions as bytes in a store. To add a format: one file here that encodes and decodes.

pub mod native;

use super::json::JsonError;

/// Why a record cannot be read. It counts as absent, and is logged without its content.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("its data cannot be used")]
    Data(#[source] JsonError),
    #[error("not a record of this format")]
    Malformed,
    #[error("written by a newer version, as format {0}")]
    Version(u64),
}
