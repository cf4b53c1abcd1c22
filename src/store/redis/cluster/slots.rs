//! The slots that keys fall into, and who has them.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Cmd, FromRedisValue, Value, from_redis_value};

use super::super::error::not_understood;
use super::super::server::Place;
use crate::store::StoreError;

const SLOTS: u16 = 16_384;

/// The slot of a key: of what stands between its first pair of braces, if anything does.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let (_, rest) = key.split_at_checked(open + 1)?;
        let (tag, _) = rest.split_at_checked(rest.iter().position(|&byte| byte == b'}')?)?;
        (!tag.is_empty()).then_some(tag)
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16 as XMODEM has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(
            crc ^ (u16::from(byte) << 8),
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

pub(super) fn question() -> Cmd {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    question
}

/// Masters by the last slot of each range of theirs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct SlotMap(BTreeMap<u16, Range>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Range {
    first: u16,
    master: Place,
}

impl SlotMap {
    /// The answer that `asked` gave; where it names no host it means its own.
    pub(super) fn read(answer: Value, asked: &Place) -> Result<Self, StoreError> {
        let ranges: Vec<Vec<Value>> = understood(answer)?;
        let mut map = BTreeMap::new();
        for range in ranges {
            let mut parts = range.into_iter();
            let mut next = || parts.next().ok_or_else(not_understood);
            let (first, last) = (number(next()?)?, number(next()?)?);
            let master: Vec<Value> = understood(next()?)?;
            let mut parts = master.into_iter();
            let mut next = || parts.next().ok_or_else(not_understood);
            let (host, port): (Option<String>, u16) = (understood(next()?)?, number(next()?)?);
            if first > last || last >= SLOTS {
                return Err(not_understood());
            }
            let master = Place { host: host.unwrap_or_default(), port }.seen_from(asked);
            map.insert(last, Range { first, master });
        }
        if map.is_empty() {
            return Err(StoreError::Failed("the cluster has given its slots to nobody".into()));
        }
        Ok(Self(map))
    }

    pub(super) fn master(&self, slot: u16) -> Option<Place> {
        let (_, range) = self.0.range(slot..).next()?;
        (range.first <= slot).then(|| range.master.clone())
    }

    /// One slot is another's from now on.
    pub(super) fn assign(&mut self, slot: u16, master: &Place) {
        let found = self.0.range(slot..).next().filter(|(_, range)| range.first <= slot);
        if let Some((last, range)) = found.map(|(last, range)| (*last, range.clone())) {
            self.0.remove(&last);
            if range.first < slot {
                self.0.insert(slot - 1, range.clone());
            }
            if slot < last {
                self.0.insert(last, Range { first: slot + 1, ..range });
            }
        }
        self.0.insert(slot, Range { first: slot, master: master.clone() });
    }

    pub(super) fn masters(&self) -> Vec<Place> {
        let masters: BTreeSet<&Place> = self.0.values().map(|range| &range.master).collect();
        masters.into_iter().cloned().collect()
    }
}

impl Place {
    /// A server that does not know its own host leaves it out.
    pub(super) fn seen_from(self, asked: &Self) -> Self {
        if self.host.is_empty() || self.host == "?" { Self { host: asked.host.clone(), ..self } } else { self }
    }
}

fn understood<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    from_redis_value(value).map_err(|_| not_understood())
}

/// The library itself cuts off what does not fit.
fn number(value: Value) -> Result<u16, StoreError> {
    u16::try_from(understood::<i64>(value)?).map_err(|_| not_understood())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    /// By the cluster specification, and by `CLUSTER KEYSLOT`.
    #[test]
    fn keys_fall_where_redis_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, expected) in [
            ("", 0),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("x{foo}{bar}", 12_182),
            ("{}foo", crc16(b"{}foo") % SLOTS),
            ("{foo", crc16(b"{foo") % SLOTS),
            ("foo{{bar}}zap", crc16(b"{bar") % SLOTS),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key:?}");
        }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master.clone(), master])
    }

    fn host(name: &str) -> Value {
        Value::BulkString(name.as_bytes().to_vec())
    }

    #[test]
    fn the_map_knows_every_slot_and_changes_one_by_one() {
        let answer = Value::Array(vec![range(0, 99, host("a"), 1), range(200, 16_383, Value::Nil, 2)]);
        let mut map = SlotMap::read(answer, &place("asked:9")).unwrap();
        let masters = |map: &SlotMap, slots: &[u16]| {
            slots.iter().map(|slot| map.master(*slot).map(|place| place.to_string())).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            masters(&map, &[0, 99, 100, 199, 200, 16_383]),
            [some("a:1"), some("a:1"), None, None, some("asked:2"), some("asked:2")]
        );
        for slot in [0, 50, 99, 150] {
            map.assign(slot, &place("b:3"));
        }
        assert_eq!(
            masters(&map, &[0, 1, 49, 50, 51, 98, 99, 100, 149, 150, 151]),
            ["b:3", "a:1", "a:1", "b:3", "a:1", "a:1", "b:3", "", "", "b:3", ""]
                .map(|text| (!text.is_empty()).then(|| text.to_owned()))
        );
        assert_eq!(map.masters(), ["a:1", "asked:2", "b:3"].map(place));
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        for answer in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Array(vec![Value::Int(0)])]),
            Value::Array(vec![range(5, 4, host("a"), 1)]),
            Value::Array(vec![range(0, 16_384, host("a"), 1)]),
            Value::Array(vec![range(0, 1, host("a"), 70_000)]),
        ] {
            assert!(SlotMap::read(answer.clone(), &place("asked:9")).is_err(), "{answer:?}");
        }
    }
}
