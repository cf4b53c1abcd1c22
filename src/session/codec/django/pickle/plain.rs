//! The values of a pickle that JSON says all about.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::graph::{Graph, Id, MAX_STEPS, Node};
use crate::session::codec::numbers::float_text;
use crate::session::data::MAX_DEPTH;
use crate::session::json;

/// All members of a dictionary together have no more JSON than this, of no more values than a pickle may make. One of a
/// hundred bytes, where lists hold the same list twice and are held twice again, would have more than there is memory.
const MAX_BYTES: usize = 16 << 20;

pub(super) struct Plain<'g> {
    graph: &'g Graph<'g>,
    bytes_left: usize,
    values_left: usize,
}

impl<'g> Plain<'g> {
    pub(super) fn new(graph: &'g Graph<'g>) -> Self {
        Self { graph, bytes_left: MAX_BYTES, values_left: MAX_STEPS }
    }

    /// A member's value in wire form, if it is nothing but null, booleans, integers that Python prints, finite numbers,
    /// whole strings, lists, and dictionaries with strings as keys.
    pub(super) fn json(&mut self, value: Id) -> Option<String> {
        let mut out = String::new();
        // The dictionary around is a level too.
        let written = self.write(value, MAX_DEPTH - 1, &mut out);
        self.bytes_left = self.bytes_left.saturating_sub(out.len());
        written.map(|()| out)
    }

    /// Recursion is as deep as `depth` says; a value that holds itself is deeper.
    fn write(&mut self, value: Id, depth: usize, out: &mut String) -> Option<()> {
        self.values_left = self.values_left.checked_sub(1)?;
        let graph = self.graph;
        match graph.node(value)? {
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
                for item in graph.items(value) {
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
        (out.len() <= self.bytes_left).then_some(())
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
