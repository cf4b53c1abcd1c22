//! An object being changed: members in their order, values as they were written.

use std::borrow::Cow;
use std::collections::HashMap;

use super::json::{self, Members};

/// The members of one JSON object. New ones go to the end, replaced ones keep their place.
#[derive(Default)]
pub(super) struct Object<'a> {
    members: Vec<Option<Written<'a>>>,
    places: HashMap<Cow<'a, str>, usize>,
}

struct Written<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

impl<'a> Object<'a> {
    /// Of the text of an object in wire form.
    pub(super) fn read(text: &'a str) -> Self {
        let mut object = Self::default();
        for member in Members::new(text) {
            object.places.insert(member.key(), object.members.len());
            object.members.push(Some(Written { name: member.name.into(), value: member.value.into() }));
        }
        object
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        let place = *self.places.get(key)?;
        self.members.get(place)?.as_ref().map(|member| &*member.value)
    }

    pub(super) fn set(&mut self, key: &'a str, value: impl Into<Cow<'a, str>>) {
        self.put(Cow::Borrowed(key), value.into());
    }

    fn put(&mut self, key: Cow<'a, str>, value: Cow<'a, str>) {
        let place = self.places.get(&key).and_then(|&place| self.members.get_mut(place)?.as_mut());
        if let Some(member) = place {
            member.value = value;
            return;
        }
        let name = json::encode(&key).into();
        self.places.insert(key, self.members.len());
        self.members.push(Some(Written { name, value }));
    }

    /// True if there was something to remove.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let place = self.places.remove(key);
        place.and_then(|place| self.members.get_mut(place)).and_then(Option::take).is_some()
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
                let before = self.value(&key).filter(|before| before.starts_with('{')).unwrap_or("{}");
                let mut nested = Object::read(before);
                nested.merge(member.value);
                let merged = nested.write();
                self.put(key, merged.into());
            } else {
                self.put(key, member.value.into());
            }
        }
        any
    }

    pub(super) fn write(&self) -> String {
        let mut text = String::from("{");
        for member in self.members.iter().flatten() {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&member.name);
            text.push(':');
            text.push_str(&member.value);
        }
        text.push('}');
        text
    }
}
