//! Instants as texts, the way Python's `datetime.fromisoformat` (3.11 and later) and `isoformat` have them.

use jiff::civil::{Date, DateTime, ISOWeekDate, Time, Weekday};
use jiff::tz::{Offset, TimeZone};

use crate::clock::Timestamp;

/// The first and last instants that both sides can say.
const FIRST: i64 = -62_135_510_400_000;
const LAST: i64 = 253_402_207_200_000;

/// `datetime.isoformat()`: in UTC, or without an offset by the clocks of `local`.
pub(super) fn write(instant: Timestamp, local: Option<&TimeZone>) -> String {
    let instant = jiff::Timestamp::from_millisecond(instant.as_millis().clamp(FIRST, LAST)).unwrap_or_default();
    let offset = local.map_or(Offset::UTC, |zone| zone.to_offset(instant));
    let civil = offset.to_datetime(instant);
    let micros = civil.subsec_nanosecond() / 1000;
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    let zone = if local.is_some() { "" } else { "+00:00" };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{zone}",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
    )
}

/// `datetime.fromisoformat(text)`; without an offset by the clocks of `local`, and `None` where there are none.
pub(super) fn read(text: &str, local: Option<&TimeZone>) -> Option<Timestamp> {
    let (date, rest) = date(text)?;
    let mut characters = rest.chars();
    let (time, offset) = match characters.next() {
        // Any one character stands between date and time.
        Some(_) => time_and_offset(characters.as_str())?,
        None => (Time::midnight(), None),
    };
    instant(DateTime::from_parts(date, time), offset, local)
}

/// The instant of a date and time so many microseconds ahead of UTC; without an offset as [`read`].
pub(super) fn instant(civil: DateTime, offset: Option<i64>, local: Option<&TimeZone>) -> Option<Timestamp> {
    let micros = match (offset, local) {
        (Some(offset), _) => {
            civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_micros() - i128::from(offset)
        }
        (None, Some(zone)) => i128::from(zone.to_timestamp(civil).ok()?.as_microsecond()),
        (None, None) => return None,
    };
    i64::try_from(micros.div_euclid(1000)).ok().map(Timestamp::from_millis)
}

/// `2023-11-14`, `20231114`, `2023-W47`, `2023-W47-1`, `2023W471`, and what follows.
fn date(text: &str) -> Option<(Date, &str)> {
    let (year, rest) = number(text, 4)?;
    let year = i16::try_from(year).ok().filter(|&year| year > 0)?;
    let (dashed, rest) = skip(rest, '-');
    if let (true, rest) = skip(rest, 'W') {
        let (week, rest) = number(rest, 2)?;
        let (weekday, rest) = week_day(rest, dashed)?;
        let date = ISOWeekDate::new(year, i8::try_from(week).ok()?, weekday).ok()?.date();
        return Some((date, rest));
    }
    let (month, rest) = number(rest, 2)?;
    let rest = if dashed { rest.strip_prefix('-')? } else { rest };
    let (day, rest) = number(rest, 2)?;
    Some((Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?, rest))
}

/// The day of a week, if there is one. What else could be digits of the day's own are the time's: as Python does, they
/// are counted.
fn week_day(rest: &str, dashed: bool) -> Option<(Weekday, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let day = if dashed {
        rest.strip_prefix('-').filter(|day| digits(day) == 1)
    } else {
        Some(rest).filter(|day| matches!(digits(day), 1) || digits(day) > 0 && digits(day).is_multiple_of(2))
    };
    let Some(day) = day else { return Some((Weekday::Monday, rest)) };
    let (day, rest) = number(day, 1)?;
    Some((Weekday::from_monday_one_offset(i8::try_from(day).ok()?).ok()?, rest))
}

/// The time, and its distance from UTC in microseconds.
fn time_and_offset(text: &str) -> Option<(Time, Option<i64>)> {
    let (time, zone) = text.find(['-', '+', 'Z']).map_or((text, ""), |at| text.split_at(at));
    let clock = Clock::read(time)?;
    let nanos = i32::try_from(clock.micros.checked_mul(1000)?).ok()?;
    let part = |part: i64| i8::try_from(part).ok();
    let time = Time::new(part(clock.hours)?, part(clock.minutes)?, part(clock.seconds)?, nanos).ok()?;
    let offset = match (zone.chars().next(), zone.get(1..)) {
        (None, _) => None,
        (Some('Z'), Some("")) => Some(0),
        (Some('+'), Some(distance)) => Some(Clock::read(distance)?.distance()?),
        (Some('-'), Some(distance)) => Some(-Clock::read(distance)?.distance()?),
        _ => return None,
    };
    Some((time, offset))
}

struct Clock {
    hours: i64,
    minutes: i64,
    seconds: i64,
    micros: i64,
}

impl Clock {
    /// `HH`, `HH:MM`, `HHMM`, `HH:MM:SS` or `HHMMSS`, and perhaps a fraction of a second.
    fn read(text: &str) -> Option<Self> {
        let (hours, mut rest) = number(text, 2)?;
        let mut clock = Self { hours, minutes: 0, seconds: 0, micros: 0 };
        let separated = rest.starts_with(':');
        for part in [&mut clock.minutes, &mut clock.seconds] {
            if rest.is_empty() || rest.starts_with(['.', ',']) {
                break;
            }
            let digits = if separated { rest.strip_prefix(':')? } else { rest };
            (*part, rest) = number(digits, 2)?;
        }
        if !rest.is_empty() {
            let fraction = rest.strip_prefix(['.', ','])?;
            let all_digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
            if !all_digits {
                return None;
            }
            // What is finer than microseconds is cut off.
            clock.micros = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
        }
        Some(clock)
    }

    /// A distance from UTC is less than a day.
    fn distance(&self) -> Option<i64> {
        let micros = ((self.hours * 60 + self.minutes) * 60 + self.seconds) * 1_000_000 + self.micros;
        (micros < 86_400_000_000).then_some(micros)
    }
}

/// A number of so many digits, and what follows.
fn number(text: &str, digits: usize) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| number.parse().ok())?.map(|number| (number, rest))
}

fn skip(text: &str, character: char) -> (bool, &str) {
    text.strip_prefix(character).map_or((false, text), |rest| (true, rest))
}

#[cfg(test)]
mod tests;
