//! How a record lies where only bytes can be kept: one line of ASCII with deadline and version, then the value.
//!
//! `c1 0001760000000000000 9f86d081884c7d65\n…`: the layout's name, the deadline in milliseconds since the epoch as 19
//! digits, the version as 16 lower-case hexadecimal digits. The widths are fixed, so that a script can compare deadlines
//! as text and move one in place; the scripts for Redis read the same line.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::store::{Record, Version};

/// Bytes before the value.
pub(super) const HEADER: usize = 40;

const NAME: &[u8] = b"c1 ";

/// The header line; a deadline before the epoch is written as the epoch, which has passed as well.
pub(super) fn header(version: Version, expires_at: Timestamp) -> String {
    format!("c1 {} {}\n", deadline_text(expires_at), version_text(version))
}

pub(super) fn deadline_text(deadline: Timestamp) -> String {
    format!("{:019}", deadline.as_millis().max(0))
}

pub(super) fn version_text(Version(version): Version) -> String {
    format!("{version:016x}")
}

/// The line and the value after it.
pub(super) fn whole(version: Version, expires_at: Timestamp, value: &[u8]) -> Bytes {
    Bytes::from([header(version, expires_at).as_bytes(), value].concat())
}

/// The version of a record in a layout that has no place for one: the first eight bytes of the value's SHA-256, which
/// databases can find as well.
pub(super) fn digest(value: &[u8]) -> Version {
    let digest: [u8; 32] = Sha256::digest(value).into();
    Version(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// None if these bytes are not a record of ours. The value is a slice of `stored`, not a copy.
pub(super) fn parse(stored: &Bytes) -> Option<Record> {
    let (header, _) = stored.split_first_chunk::<HEADER>()?;
    let (deadline, rest) = header.strip_prefix(NAME)?.split_first_chunk::<19>()?;
    let (version, end) = rest.strip_prefix(b" ")?.split_first_chunk::<16>()?;
    if end != b"\n" {
        return None;
    }
    let deadline = number(deadline, 10)?;
    let expires_at = Timestamp::from_millis(i64::try_from(deadline).ok()?);
    Some(Record { value: stored.slice(HEADER..), version: Version(number(version, 16)?), expires_at })
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // `from_str_radix` alone would take a sign and capitals.
    let plain = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "c1 0001760000000000000 9f86d081884c7d65\n";

    #[test]
    fn reads_what_it_wrote() {
        let version = Version(0x9f86_d081_884c_7d65);
        let expires_at = Timestamp::from_millis(1_760_000_000_000_000);
        assert_eq!(header(version, expires_at), LINE);
        let record = parse(&Bytes::from(format!("{LINE}value\n"))).unwrap();
        assert_eq!(record, Record { value: Bytes::from("value\n"), version, expires_at });
    }

    #[test]
    fn anything_else_is_no_record() {
        for (place, wrong) in
            [(0, "d"), (1, "2"), (2, "_"), (3, "-"), (3, "+"), (3, "a"), (22, "_"), (23, "A"), (23, "+"), (39, " ")]
        {
            let mut line = LINE.to_owned();
            line.replace_range(place..=place, wrong);
            assert_eq!(parse(&Bytes::from(line.clone())), None, "{line:?}");
        }
        let too_far = LINE.replace("0001760000000000000", "9999999999999999999");
        assert_eq!(parse(&Bytes::from(too_far)), None);
        for length in 0..HEADER {
            assert_eq!(parse(&Bytes::from(LINE[..length].to_owned())), None, "{length} bytes");
        }
        assert!(parse(&Bytes::from(LINE)).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&Bytes::from(bytes));
        }

        #[test]
        fn bytes_like_a_header_do_not_either(line in "c1 [0-9a-f+ -]{19} [0-9a-fA-F]{16}\n", value: Vec<u8>) {
            let _ = parse(&Bytes::from([line.into_bytes(), value].concat()));
        }

        #[test]
        fn every_record_comes_back(version: u64, millis in 0..=i64::MAX, value: Vec<u8>) {
            let (version, expires_at) = (Version(version), Timestamp::from_millis(millis));
            let stored = Bytes::from([header(version, expires_at).as_bytes(), &value].concat());
            prop_assert_eq!(parse(&stored), Some(Record { value: value.into(), version, expires_at }));
        }
    }
}
