//! Holds `config.example.toml` to the code: every key of every part is in it, none that is not, and what it shows as a
//! default is the default. The keys are found by asking serde's derived readers what they would read.

use std::collections::BTreeSet;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::{Config, Written};

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// The name that stands for any name in a table of upstreams or exposed keys.
const ANY: &str = "*";

/// The example with every setting that is off unless written turned on.
fn all_turned_on() -> String {
    let on = |line: &'static str| line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| !c.is_whitespace()));
    EXAMPLE.lines().map(|line| on(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_loads_with_and_without_its_optional_settings() {
    Config::parse(EXAMPLE, "config.example.toml").unwrap();
    toml::from_str::<toml::Table>(&all_turned_on()).unwrap();
}

#[test]
fn the_example_shows_the_defaults() {
    let example: Written = toml::from_str(EXAMPLE).unwrap();
    let default = Written {
        upstreams: toml::from_str("app = { servers = ['http://127.0.0.1:9000'] }").unwrap(),
        routes: toml::from_str::<Written>("routes = [{ upstream = 'app' }]").unwrap().routes,
        ..Written::default()
    };
    assert_eq!(format!("{example:#?}"), format!("{default:#?}"));
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let document: toml::Table = toml::from_str(&all_turned_on()).unwrap();
    let mut shown = BTreeSet::new();
    keys_of_table(&document, "", &mut shown);
    for key in keys(&[]) {
        assert!(has(&shown, &key), "config.example.toml has no {key}");
    }
    // A key that nothing reads would make the text unreadable, also where it is commented out.
    if let Err(error) = toml::from_str::<Written>(&all_turned_on()) {
        assert!(!error.message().starts_with("unknown field"), "{error}");
    }
}

#[test]
fn a_key_that_is_missing_would_be_noticed() {
    let found = keys(&[]);
    for key in ["server.listen", "upstreams.*.servers", "routes.path", "admin.listen", "log.access"] {
        assert!(found.contains(key), "{key} was not found in {found:?}");
    }
    assert!(!has(&BTreeSet::from(["upstreams.app.servers".to_owned()]), "upstreams.*.timeout"));
}

fn has(shown: &BTreeSet<String>, key: &str) -> bool {
    let same = |shown: &String| {
        let (shown, key): (Vec<_>, Vec<_>) = (shown.split('.').collect(), key.split('.').collect());
        shown.len() == key.len() && shown.iter().zip(&key).all(|(shown, key)| shown == key || *key == ANY)
    };
    shown.iter().any(same)
}

fn keys_of_table(table: &toml::Table, above: &str, keys: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match value {
            toml::Value::Table(table) => keys_of_table(table, &key, keys),
            toml::Value::Array(array) => {
                array.iter().filter_map(toml::Value::as_table).for_each(|table| keys_of_table(table, &key, keys));
            }
            _ => {}
        }
        keys.insert(key);
    }
}

/// Every key below `path`, without indices.
fn keys(path: &[&str]) -> BTreeSet<String> {
    let mut found = Found::Value;
    // A store behind a store has the keys that `[store]` has.
    if matches!(path, ["store", "cache" | "db"]) {
        return BTreeSet::from([path.join(".")]);
    }
    // Always an error: the question breaks the reading off once it knows what stands there.
    Written::deserialize(Question { path, found: &mut found }).err();
    let below = |name: &'static str| keys(&[path, &[name]].concat());
    let mut keys = match found {
        Found::List => below(""),
        Found::Map => below(ANY),
        Found::Struct(names) => names.iter().flat_map(|name| below(name)).collect(),
        Found::Value => BTreeSet::new(),
    };
    if path.last().is_some_and(|name| ![ANY, ""].contains(name)) {
        keys.insert(path.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>().join("."));
    }
    keys
}

/// What a reader expects.
enum Found {
    List,
    Map,
    Struct(&'static [&'static str]),
    Value,
}

/// What does the reader expect at the end of `path`? An empty name is the element of a list.
struct Question<'a> {
    path: &'a [&'a str],
    found: &'a mut Found,
}

impl<'a> Question<'a> {
    fn answer<T>(self, found: Found) -> Result<T, Error> {
        *self.found = found;
        Err(Error::custom("answered"))
    }

    fn follow(self) -> Step<'a> {
        Step { question: Some(self) }
    }
}

impl<'de> Deserializer<'de> for Question<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        self.answer(Found::Value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.path.is_empty() { self.answer(Found::Struct(fields)) } else { visitor.visit_map(self.follow()) }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.path.is_empty() { self.answer(Found::Map) } else { visitor.visit_map(self.follow()) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.path.is_empty() { self.answer(Found::List) } else { visitor.visit_seq(self.follow()) }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

/// One entry of a table or list: the next one of the question's path.
struct Step<'a> {
    question: Option<Question<'a>>,
}

impl<'a> Step<'a> {
    fn next(&mut self) -> Result<Question<'a>, Error> {
        let Question { path, found } = self.question.take().ok_or_else(|| Error::custom("asked twice"))?;
        Ok(Question { path: &path[1..], found })
    }
}

impl<'de> MapAccess<'de> for Step<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.question.as_ref().and_then(|question| question.path.first()) else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.next()?)
    }
}

impl<'de> SeqAccess<'de> for Step<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        seed.deserialize(self.next()?).map(Some)
    }
}
