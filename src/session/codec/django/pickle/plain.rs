//! The values of a pickle that JSON says all about.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::graph::{Graph, Id, Node};
use crate::session::codec::numbers::float_text;
use crate::session::data::MAX_DEPTH;
use crate::session::json;

/// All members of a dictionary together have no more JSON than this. A pickle of a hundred bytes, where lists hold the
/// same list twice and that again, would have more than there is memory.
const MAX_BYTES: usize = 16 << 20;

pub(super) struct Plain<'g> {
    graph: &'g Graph<'g>,
    left: usize,
}

impl<'g> Plain<'g> {
    pub(super) fn new(graph: &'g Graph<'g>) -> Self {
        Self { graph, left: MAX_BYTES }
    }

    /// A member's value in wire form, if it is nothing but null, booleans, integers that Python prints, finite numbers,
    /// whole strings, lists, and dictionaries with strings as keys.
    pub(super) fn json(&mut self, value: Id) -> Option<String> {
        let mut out = String::new();
        // The dictionary around is a level too.
        let written = self.write(value, MAX_DEPTH - 1, &mut out);
        self.left = self.left.saturating_sub(out.len());
        written.map(|()| out)
    }

    /// Recursion is as deep as `depth` says; a value that holds itself is deeper.
    fn write(&self, value: Id, depth: usize, out: &mut String) -> Option<()> {
        match self.graph.node(value)? {
            Node::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Node::Dict => {
                let depth = depth.checked_sub(1)?;
                let mut separator = '{';
                for (key, value) in self.members(value)? {
                    out.push(separator);
                    out.push_str(&json::encode(key));
                    out.push(':');
                    self.write(value, depth, out)?;
                    separator = ',';
                }
                out.push_str(if separator == '{' { "{}" } else { "}" });
            }
            Node::Float(number) => out.push_str(&float_text(*number)?),
            Node::Integer(digits) => out.push_str(digits),
            Node::List => {
                let depth = depth.checked_sub(1)?;
                let mut separator = '[';
                for item in self.graph.items(value) {
                    out.push(separator);
                    self.write(item, depth, out)?;
                    separator = ',';
                }
                out.push_str(if separator == '[' { "[]" } else { "]" });
            }
            Node::None => out.push_str("null"),
            Node::Text(text) => out.push_str(&json::encode(text)),
            _ => return None,
        }
        (out.len() <= self.left).then_some(())
    }

    /// As in Python a key that comes again keeps its place and has its last value.
    fn members(&self, dictionary: Id) -> Option<Vec<(&'g str, Id)>> {
        let mut members: Vec<(&str, Id)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (key, value) in self.graph.pairs(dictionary) {
            let Node::Text(key) = self.graph.node(key)? else { return None };
            match places.entry(key.as_ref()) {
                Entry::Occupied(place) => members.get_mut(*place.get())?.1 = value,
                Entry::Vacant(place) => {
                    place.insert(members.len());
                    members.push((key, value));
                }
            }
        }
        Some(members)
    }
}
