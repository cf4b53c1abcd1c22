//! `expire_date` as Django has it where the database knows no time zones.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

/// The years that Python's `datetime` and every database can tell, less a day at both ends for the time zone.
const FIRST: i64 = -62_135_510_400_000;
const LAST: i64 = 253_402_214_400_000;

/// Instants as the clocks of one place show them: UTC with `USE_TZ`, the application's `TIME_ZONE` without.
pub(in super::super) struct Dates(TimeZone);

impl Dates {
    pub(super) fn of(zone: &str) -> Option<Self> {
        TimeZone::get(zone).ok().map(Self)
    }

    pub(in super::super) fn civil(&self, at: Timestamp) -> DateTime {
        let at = jiff::Timestamp::from_millisecond(bounded(at)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        self.0.to_datetime(at)
    }

    /// The first whole millisecond at which the record is over, and of two instants that the clocks show alike the
    /// earlier.
    pub(in super::super) fn instant(&self, civil: DateTime) -> Option<Timestamp> {
        let Ok(instant) = self.0.to_ambiguous_timestamp(civil).compatible() else {
            // The last day of all, which people write for "never".
            return (civil.year() > 0).then_some(Timestamp::from_millis(LAST));
        };
        let micros = instant.as_microsecond();
        Some(Timestamp::from_millis(micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) > 0)))
    }

    /// SQLite's text, which is compared as text: a fraction of nothing is left out.
    pub(in super::super) fn text(&self, at: Timestamp) -> String {
        let civil = self.civil(at);
        let (date, time) = (civil.date(), civil.time());
        let mut text = format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            date.year(),
            date.month(),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        let micros = time.subsec_nanosecond() / 1000;
        if micros > 0 {
            text.push_str(&format!(".{micros:06}"));
        }
        text
    }

    pub(in super::super) fn parse(&self, text: &str) -> Option<Timestamp> {
        self.instant(text.parse().ok()?)
    }
}

/// Within what a date can say.
pub(in super::super) fn bounded(at: Timestamp) -> i64 {
    at.as_millis().clamp(FIRST, LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chicago() -> Dates {
        Dates::of("America/Chicago").unwrap()
    }

    #[test]
    fn the_fraction_is_there_only_if_it_says_something() {
        let utc = Dates::of("UTC").unwrap();
        for (millis, text) in [
            (1_701_209_600_000, "2023-11-28 22:13:20"),
            (1_701_209_600_123, "2023-11-28 22:13:20.123000"),
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59.999000"),
        ] {
            assert_eq!(utc.text(Timestamp::from_millis(millis)), text);
            assert_eq!(utc.parse(text), Some(Timestamp::from_millis(millis)), "{text}");
        }
        assert_eq!(chicago().text(Timestamp::from_millis(1_701_209_600_000)), "2023-11-28 16:13:20");
    }

    #[test]
    fn a_part_of_a_millisecond_counts_as_a_whole_one() {
        let at = |text: &str| Dates::of("UTC").unwrap().parse(text).unwrap().as_millis();
        assert_eq!(at("1970-01-01 00:00:00.000001"), 1);
        assert_eq!(at("1970-01-01 00:00:00.001000"), 1);
        assert_eq!(at("1969-12-31 23:59:59.999999"), 0);
    }

    #[test]
    fn the_far_past_and_future_are_still_dates() {
        for millis in [i64::MIN, i64::MAX] {
            let text = chicago().text(Timestamp::from_millis(millis));
            assert!(text.len() == 19 && !text.starts_with(['-', '+']), "{text}");
            assert!(chicago().parse(&text).is_some(), "{text}");
        }
        // What people write for "never".
        assert_eq!(chicago().parse("9999-12-31 23:59:59"), Some(Timestamp::from_millis(LAST)));
    }

    #[test]
    fn an_hour_that_comes_twice_or_never_has_an_instant() {
        for (text, millis) in [("2023-11-05 01:30:00", 1_699_165_800_000), ("2023-03-12 02:30:00", 1_678_609_800_000)] {
            assert_eq!(chicago().parse(text), Some(Timestamp::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_no_instant() {
        for text in ["", "soon", "2023-13-01 00:00:00", "2023-11-28"] {
            let read = chicago().parse(text);
            assert!(text == "2023-11-28" || read.is_none(), "{text}");
        }
    }
}
