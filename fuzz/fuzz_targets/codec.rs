//! Records of our own format. Any bytes may be in a store: reading them never panics, and what was read is written so
//! that it reads the same again.
#![no_main]

use bytes::Bytes;
use cloakroom::session::codec::native::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(session) = decode(&Bytes::copy_from_slice(bytes)) else { return };
    assert!(session.data.wire().iter().all(|byte| (0x20..=0x7e).contains(byte)), "not what a header may be");
    let written = encode(&session);
    let again = decode(&written).expect("what was written can be read");
    assert_eq!(again, session);
    assert_eq!(encode(&again), written);
});
