//! Durations and sizes as people write them: `"30m"`, `"16KiB"`, or a plain number.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

const DURATION_FORM: &str = "a duration such as \"250ms\", \"30s\", \"15m\", \"12h\", \"14d\", or a number of seconds";
const SIZE_FORM: &str = "a size such as \"512B\", \"64KiB\", \"16MiB\", \"1GiB\", or a number of bytes";

/// For `#[serde(deserialize_with = "units::duration")]`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let unit = Unit { form: DURATION_FORM, units: &DURATIONS, plain: 1_000 };
    deserializer.deserialize_any(unit).map(Duration::from_millis)
}

/// As [`duration`], for a setting that may be absent.
pub fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// For `#[serde(deserialize_with = "units::size")]`: bytes.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let unit = Unit { form: SIZE_FORM, units: &SIZES, plain: 1 };
    let bytes = deserializer.deserialize_any(unit)?;
    usize::try_from(bytes)
        .map_err(|_| D::Error::custom(format!("{bytes} bytes are more than this machine can address")))
}

struct Unit {
    form: &'static str,
    units: &'static [(&'static str, u64)],
    plain: u64,
}

impl Visitor<'_> for Unit {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.form)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        let number =
            u64::try_from(number).map_err(|_| E::custom(format!("{number} is negative; expected {}", self.form)))?;
        self.visit_u64(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        number
            .checked_mul(self.plain)
            .ok_or_else(|| E::custom(format!("{number} is too large; expected {}", self.form)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let factor = self.units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
        number
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(*factor))
            .ok_or_else(|| E::custom(format!("{text:?} is not {}", self.form)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Settings {
        #[serde(deserialize_with = "duration")]
        wait: Duration,
        #[serde(deserialize_with = "size")]
        room: usize,
    }

    fn read(wait: &str, room: &str) -> Result<(Duration, usize), String> {
        toml::from_str::<Settings>(&format!("wait = {wait}\nroom = {room}"))
            .map(|settings| (settings.wait, settings.room))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn accepts_every_unit_and_plain_numbers() {
        let cases = [
            ("\"250ms\"", 250),
            ("\"30s\"", 30_000),
            ("30", 30_000),
            ("\"2 m\"", 120_000),
            ("\"1h\"", 3_600_000),
            ("\"14d\"", 1_209_600_000),
        ];
        for (text, millis) in cases {
            assert_eq!(read(text, "1").unwrap().0, Duration::from_millis(millis), "{text}");
        }
        for (text, bytes) in
            [("\"12B\"", 12), ("12", 12), ("\"4KiB\"", 4096), ("\"1MiB\"", 1 << 20), ("\"1GiB\"", 1 << 30)]
        {
            assert_eq!(read("1", text).unwrap().1, bytes, "{text}");
        }
    }

    #[test]
    fn says_what_would_be_right() {
        for text in [
            "\"\"",
            "\"s\"",
            "\"1.5h\"",
            "\"10 years\"",
            "-1",
            "1.5",
            "true",
            "\"99999999999999999999d\"",
            "9223372036854775807",
        ] {
            let error = read(text, "1").unwrap_err();
            assert!(error.contains("14d"), "{text}: {error}");
        }
        for text in ["\"4KB\"", "\"k\"", "-1", "\"999999999999GiB\""] {
            let error = read("1", text).unwrap_err();
            assert!(error.contains("64KiB"), "{text}: {error}");
        }
    }
}
