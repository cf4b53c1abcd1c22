//! An object being changed: members in their order, values as they were written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::mem;

use super::json::{self, Members};

/// The members of one JSON object. New ones go to the end, replaced ones keep their place.
#[derive(Default)]
pub(super) struct Object<'a> {
    members: Vec<Written<'a>>,
    places: HashMap<Cow<'a, str>, usize>,
}

struct Written<'a> {
    name: Cow<'a, str>,
    value: Value<'a>,
}

/// Nested objects stay open once a patch has reached into them: however many patches there are, each level is read and
/// written once.
enum Value<'a> {
    Number(String),
    Object(Object<'a>),
    /// It was there, and is not written any more.
    Removed,
    Text(&'a str),
}

impl<'a> Object<'a> {
    /// Of the text of an object in wire form.
    pub(super) fn read(text: &'a str) -> Self {
        let mut object = Self::default();
        for member in Members::new(text) {
            object.places.insert(member.key(), object.members.len());
            object.members.push(Written { name: member.name.into(), value: Value::Text(member.value) });
        }
        object
    }

    /// The number under a key, if it is there: its text, or that of whatever is there instead.
    pub(super) fn number(&self, key: &str) -> Option<&str> {
        let place = *self.places.get(key)?;
        match &self.members.get(place)?.value {
            Value::Number(text) => Some(text),
            Value::Object(_) => Some("{}"),
            Value::Removed => None,
            Value::Text(text) => Some(text),
        }
    }

    pub(super) fn set(&mut self, key: &'a str, value: &'a str) {
        self.put(key.into(), Value::Text(value));
    }

    pub(super) fn set_number(&mut self, key: &'a str, number: String) {
        self.put(key.into(), Value::Number(number));
    }

    fn put(&mut self, key: Cow<'a, str>, value: Value<'a>) {
        if let Some(place) = self.places.get(&key).and_then(|&place| self.members.get_mut(place)) {
            place.value = value;
        } else {
            let name = json::encode(&key).into();
            self.places.insert(key, self.members.len());
            self.members.push(Written { name, value });
        }
    }

    /// Takes a value out; its member goes unless something is put back under the same key.
    fn take(&mut self, key: &str) -> Value<'a> {
        let place = self.places.get(key).and_then(|&place| self.members.get_mut(place));
        place.map_or(Value::Removed, |member| mem::replace(&mut member.value, Value::Removed))
    }

    /// True if there was something to remove.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let removed = !matches!(self.take(key), Value::Removed);
        // What comes back later goes to the end.
        self.places.remove(key);
        removed
    }

    /// RFC 7396, section 2, on texts: what the patch does not name keeps its exact text at every level. True unless the
    /// patch is empty. Recursion is as deep as the patch, which was read with a limit.
    pub(super) fn merge(&mut self, patch: &'a str) -> bool {
        let mut any = false;
        for member in Members::new(patch) {
            any = true;
            let key = member.key();
            if member.value == "null" {
                self.remove(&key);
            } else if member.value.starts_with('{') {
                let mut nested = self.take(&key).open();
                nested.merge(member.value);
                self.put(key, Value::Object(nested));
            } else {
                self.put(key, Value::Text(member.value));
            }
        }
        any
    }

    pub(super) fn write(&self) -> String {
        let mut text = String::new();
        self.write_to(&mut text);
        text
    }

    fn write_to(&self, text: &mut String) {
        text.push('{');
        let mut separator = "";
        for Written { name, value } in &self.members {
            if matches!(value, Value::Removed) {
                continue;
            }
            text.push_str(separator);
            text.push_str(name);
            text.push(':');
            match value {
                Value::Number(number) => text.push_str(number),
                Value::Object(object) => object.write_to(text),
                Value::Removed => {}
                Value::Text(value) => text.push_str(value),
            }
            separator = ",";
        }
        text.push('}');
    }
}

impl<'a> Value<'a> {
    /// The object to reach into; where there was none, an empty one.
    fn open(self) -> Object<'a> {
        match self {
            Self::Object(object) => object,
            Self::Text(text) if text.starts_with('{') => Object::read(text),
            Self::Number(_) | Self::Removed | Self::Text(_) => Object::default(),
        }
    }
}
