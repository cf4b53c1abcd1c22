//! The line before a value in Redis, memcached and files. Any bytes may be there: reading never panics, and a header that was read is
//! written the same again, byte for byte.
#![no_main]

// What the module expects around it.
use cloakroom::{clock, store};

// The module is private to the crate; its source is all that is needed.
#[path = "../../src/store/record.rs"]
mod record;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let stored = Bytes::copy_from_slice(bytes);
    let Some(found) = record::parse(&stored) else { return };
    assert_eq!([record::header(found.version, found.expires_at).as_bytes(), &found.value].concat(), bytes);
});
