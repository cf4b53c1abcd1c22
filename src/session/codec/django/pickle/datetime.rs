//! `datetime.datetime`, the one Python object whose meaning matters here: it is told by its name and its state, and never
//! made.

use std::borrow::Cow;

use jiff::civil::{Date, DateTime, Time};

use super::graph::{Graph, Id, Node};
use super::program;
use crate::session::codec::django::dict::Member;

const DAY_MICROS: i64 = 86_400_000_000;

/// The date and time that an opaque member has as its value, and how many microseconds they are ahead of UTC if it says
/// so. `None` for any other value, and for a time zone that is more than a distance: its rules are Python's.
pub(in crate::session::codec::django) fn datetime(member: &[u8]) -> Option<(DateTime, Option<i64>)> {
    let pickle = super::write(&[Member::Opaque(member)]);
    let (graph, top) = program::read(&pickle)?;
    let (_, value) = graph.pairs(top).next()?;
    match *arguments(&graph, value, "datetime", "datetime")? {
        [state] => Some((civil(&bytes(&graph, state)?)?, None)),
        [state, zone] => Some((civil(&bytes(&graph, state)?)?, Some(offset(&graph, zone)?))),
        _ => None,
    }
}

/// With what a function of this module is called.
fn arguments<'g>(graph: &'g Graph<'_>, call: Id, module: &str, name: &str) -> Option<&'g [Id]> {
    let Node::Call { callable, arguments } = graph.node(call)? else { return None };
    let Node::Global { module: of, name: called, .. } = graph.node(*callable)? else { return None };
    match graph.node(*arguments)? {
        Node::Tuple(items) if is(graph, *of, module) && is(graph, *called, name) => Some(items),
        _ => None,
    }
}

fn is(graph: &Graph<'_>, id: Id, expected: &str) -> bool {
    matches!(graph.node(id), Some(Node::Text(text)) if text == expected)
}

/// Protocols before 3 have no bytes, but a text of as many characters and how to make them of it.
fn bytes<'g>(graph: &'g Graph<'_>, id: Id) -> Option<Cow<'g, [u8]>> {
    if let Node::Bytes(bytes) = graph.node(id)? {
        return Some(Cow::Borrowed(bytes));
    }
    let &[text, encoding] = arguments(graph, id, "_codecs", "encode")? else { return None };
    let Node::Text(text) = graph.node(text)? else { return None };
    let bytes = text.chars().map(|character| u8::try_from(character).ok()).collect::<Option<_>>()?;
    is(graph, encoding, "latin1").then_some(Cow::Owned(bytes))
}

fn civil(state: &[u8]) -> Option<DateTime> {
    let &[century, year, month, day, hour, minute, second, high, middle, low] = state else { return None };
    let part = |part: u8| i8::try_from(part).ok();
    // The highest bit tells the second of two equal hours; subtracting, as Django does, looks past it.
    let year = Some(i16::from_be_bytes([century, year])).filter(|&year| year > 0)?;
    let date = Date::new(year, part(month & 0x7f)?, part(day)?).ok()?;
    let nanos = i32::from_be_bytes([0, high, middle, low]).checked_mul(1000)?;
    let time = Time::new(part(hour)?, part(minute)?, part(second)?, nanos).ok()?;
    Some(DateTime::from_parts(date, time))
}

/// `datetime.timezone(datetime.timedelta(days, seconds, microseconds))`, perhaps with a name, and what Django before 4
/// had for UTC.
fn offset(graph: &Graph<'_>, zone: Id) -> Option<i64> {
    if let Some([]) = arguments(graph, zone, "pytz", "_UTC") {
        return Some(0);
    }
    let (&[delta] | &[delta, _]) = arguments(graph, zone, "datetime", "timezone")? else { return None };
    let &[days, seconds, micros] = arguments(graph, delta, "datetime", "timedelta")? else { return None };
    let number = |id| match graph.node(id) {
        Some(Node::Integer(digits)) => digits.parse::<i64>().ok(),
        _ => None,
    };
    let whole = number(days)?.checked_mul(86_400)?.checked_add(number(seconds)?)?;
    let micros = whole.checked_mul(1_000_000)?.checked_add(number(micros)?)?;
    (-DAY_MICROS < micros && micros < DAY_MICROS).then_some(micros)
}

#[cfg(test)]
mod tests;
