//! Python's pickles, read and written without Python: what most caches of Django hold.
//!
//! A pickle is a program that puts a value together, and may call anything on the way. Here nothing is called: reading
//! ([`program`]) only notes what would be made and in which order ([`graph`]). A member of the dictionary that is plain
//! data becomes JSON ([`plain`]). Any other - a tuple already is one, for JSON would make a list of it - stays the part
//! of the program that makes it ([`fragment`]), to be written back among members that changed: the application finds it
//! as it left it.

mod datetime;
mod fragment;
mod graph;
mod integer;
mod op;
mod plain;
mod program;
mod text;

use bytes::Bytes;

pub(super) use self::datetime::datetime;
use self::fragment::Fragments;
use self::graph::Node;
use self::plain::Plain;
use super::dict::{Entry, Member};
use crate::session::codec::numbers::is_integer;
use crate::session::codec::tokens::{Token, Tokens};
use crate::session::json;

/// Writes a dictionary in protocol 2, which every Python reads.
pub(super) fn write(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = vec![op::PROTO, 2, op::EMPTY_DICT];
    if members.iter().any(|member| matches!(member, Member::Opaque(_))) {
        // Fragments may refer to the dictionary itself.
        out.extend_from_slice(&[op::BINPUT, fragment::DICTIONARY]);
    }
    if !members.is_empty() {
        out.push(op::MARK);
        for member in members {
            match *member {
                Member::Plain { name, value } => {
                    write_json(&mut out, name);
                    write_json(&mut out, value);
                }
                Member::Opaque(written) => out.extend_from_slice(written),
            }
        }
        out.push(op::SETITEMS);
    }
    out.push(op::STOP);
    out
}

/// What Python has after reading this JSON.
fn write_json(out: &mut Vec<u8>, value: &str) {
    let mut tokens = Tokens::new(value).peekable();
    let mut open = Vec::new();
    while let Some(token) = tokens.next() {
        let (begin, fill) = match token {
            Token::Array => (op::EMPTY_LIST, op::APPENDS),
            Token::Object => (op::EMPTY_DICT, op::SETITEMS),
            Token::End => {
                out.extend(open.pop());
                continue;
            }
            Token::False => {
                out.push(op::NEWFALSE);
                continue;
            }
            Token::Null => {
                out.push(op::NONE);
                continue;
            }
            Token::True => {
                out.push(op::NEWTRUE);
                continue;
            }
            Token::Number(text) if is_integer(text) => {
                integer::write(out, text);
                continue;
            }
            Token::Number(text) => {
                // What is beyond all floats is infinite, as in Python.
                write_float(out, text.parse().unwrap_or_default());
                continue;
            }
            Token::String(literal) => {
                text::write(out, json::decode(literal).unwrap_or_default().as_bytes());
                continue;
            }
        };
        out.push(begin);
        if tokens.next_if_eq(&Token::End).is_none() {
            out.push(op::MARK);
            open.push(fill);
        }
    }
}

fn write_float(out: &mut Vec<u8>, number: f64) {
    out.push(op::BINFLOAT);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Reads a dictionary; `None` if Python would not find one here either, or if it is so entangled that taking its members
/// apart would make a multiple of it.
pub(super) fn read(pickle: &[u8]) -> Option<Vec<Entry>> {
    let (graph, top) = program::read(pickle)?;
    if !matches!(graph.node(top)?, Node::Dict) {
        return None;
    }
    let mut plain = Plain::new(&graph);
    let mut fragments = Fragments::new(&graph, top);
    let mut entries = Vec::new();
    for (key, value) in graph.pairs(top) {
        let name = match graph.node(key)? {
            Node::Text(name) => Some(name.to_string()),
            _ => None,
        };
        let json = name.as_ref().and_then(|_| plain.json(value));
        let written = match json {
            // Nobody asks for it.
            Some(_) => Bytes::new(),
            None => fragments.write(key, value)?.into(),
        };
        entries.push(Entry { key: name, json, written });
    }
    Some(entries)
}

#[cfg(test)]
mod tests;
