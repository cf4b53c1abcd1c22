//! The part of a pickle that makes one member, as a pickle of its own.
//!
//! Of the operations that were run it has those that the member's key and value need, in the order in which they were
//! run, so that whatever depends on order (an object is filled before a set asks for its hash) is as it was. Values are
//! made, remembered and dropped again, and in the end key and value are fetched: what was shared or went in circles in
//! the member does so again. Between members nothing is shared but the dictionary itself, for any of them may go.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::graph::{Change, ChangeKind, Graph, Id, Node};
use super::{integer, op, text, write_float};

/// Where the dictionary is remembered.
pub(super) const DICTIONARY: u8 = 0;

/// All members together take no more than so many bytes: each has a copy of its own of what they share.
const MAX_BYTES: usize = 16 << 20;

/// Looking what a value is made of takes as long as writing so many.
const LOOK: usize = 16;

/// A protocol in which names are looked up as in the protocol that fragments are written in.
const OLD_NAMES: u8 = 2;

/// Shorter strings are written each time: remembering takes as much.
const SHORT: usize = 8;

pub(super) struct Fragments<'g> {
    graph: &'g Graph<'g>,
    top: Id,
    /// Numbers go on from member to member, so that none means two things in one pickle.
    next_place: u32,
    left: usize,
}

impl<'g> Fragments<'g> {
    pub(super) fn new(graph: &'g Graph<'g>, top: Id) -> Self {
        Self { graph, top, next_place: u32::from(DICTIONARY) + 1, left: MAX_BYTES }
    }

    /// `None` if all this becomes too much.
    pub(super) fn write(&mut self, key: Id, value: Id) -> Option<Vec<u8>> {
        let uses = self.uses(key, value)?;
        let fragment = Fragment {
            graph: self.graph,
            top: self.top,
            next_place: self.next_place,
            places: HashMap::new(),
            inline: inline(self.graph, &uses),
            out: Vec::new(),
        };
        let (written, next_place) = fragment.write(&uses, key, value)?;
        self.next_place = next_place;
        self.left = self.left.checked_sub(written.len())?;
        Some(written)
    }

    /// All values that a member needs, and how often each.
    fn uses(&mut self, key: Id, value: Id) -> Option<BTreeMap<Id, usize>> {
        let mut uses = BTreeMap::new();
        let mut waiting = vec![key, value];
        while let Some(id) = waiting.pop() {
            self.left = self.left.checked_sub(LOOK)?;
            let times: &mut usize = uses.entry(id).or_default();
            *times += 1;
            if *times == 1 && id != self.top {
                waiting.extend(self.graph.parts(id));
            }
        }
        uses.remove(&self.top);
        Some(uses)
    }
}

/// Values that are written where they are used: no one can tell when they were made or whether they are the same.
fn inline(graph: &Graph<'_>, uses: &BTreeMap<Id, usize>) -> HashSet<Id> {
    let mut inline = HashSet::new();
    let mut tuples = HashSet::new();
    for (&id, &times) in uses {
        let is_inline = match graph.node(id) {
            Some(Node::Bool(_) | Node::Float(_) | Node::HugeInteger(_) | Node::Integer(_) | Node::None) => true,
            Some(Node::ByteArray(_)) => times == 1,
            Some(Node::Bytes(bytes)) => times == 1 || bytes.len() <= SHORT,
            Some(Node::Surrogates(bytes)) => times == 1 || bytes.len() <= SHORT,
            Some(Node::Text(text)) => times == 1 || text.len() <= SHORT,
            // Tuples in tuples in tuples would be written by recursion.
            Some(Node::Tuple(items)) => {
                let flat = items.is_empty() || (times == 1 && !items.iter().any(|item| tuples.contains(item)));
                flat && tuples.insert(id)
            }
            _ => false,
        };
        if is_inline {
            inline.insert(id);
        }
    }
    inline
}

struct Fragment<'g> {
    graph: &'g Graph<'g>,
    top: Id,
    next_place: u32,
    places: HashMap<Id, u32>,
    inline: HashSet<Id>,
    out: Vec<u8>,
}

impl Fragment<'_> {
    fn write(mut self, uses: &BTreeMap<Id, usize>, key: Id, value: Id) -> Option<(Vec<u8>, u32)> {
        let mut values = uses.keys().copied().peekable();
        let mut changes: Vec<usize> = uses.keys().flat_map(|&id| self.graph.places_of_changes(id)).copied().collect();
        changes.sort_unstable();
        for place in changes {
            let change = self.graph.change_at(place)?;
            while let Some(id) = values.next_if(|&id| Graph::is_among_first(id, change.after)) {
                self.make(id)?;
            }
            self.change(change)?;
        }
        for id in values {
            self.make(id)?;
        }
        self.fetch(key)?;
        self.fetch(value)?;
        Some((self.out, self.next_place))
    }

    fn make(&mut self, id: Id) -> Option<()> {
        if self.inline.contains(&id) {
            return Some(());
        }
        self.construct(id)?;
        self.places.insert(id, self.next_place);
        self.at_place(op::BINPUT, op::LONG_BINPUT, self.next_place);
        self.next_place = self.next_place.checked_add(1)?;
        self.out.push(op::POP);
        Some(())
    }

    fn change(&mut self, change: &Change) -> Option<()> {
        self.fetch(change.target)?;
        let (marked, operation) = match change.kind {
            ChangeKind::Add => (true, op::ADDITEMS),
            ChangeKind::Append => (false, op::APPEND),
            ChangeKind::Build => (false, op::BUILD),
            ChangeKind::Extend => (true, op::APPENDS),
            ChangeKind::Set => (true, op::SETITEMS),
        };
        if marked {
            self.out.push(op::MARK);
        }
        for &item in &change.items {
            self.fetch(item)?;
        }
        self.out.extend_from_slice(&[operation, op::POP]);
        Some(())
    }

    /// Puts a value that was made before onto the stack. Recursion ends at a tuple's items.
    fn fetch(&mut self, id: Id) -> Option<()> {
        if id == self.top {
            self.out.extend_from_slice(&[op::BINGET, DICTIONARY]);
        } else if let Some(&place) = self.places.get(&id) {
            self.at_place(op::BINGET, op::LONG_BINGET, place);
        } else if self.inline.contains(&id) {
            self.construct(id)?;
        } else {
            return None;
        }
        Some(())
    }

    fn construct(&mut self, id: Id) -> Option<()> {
        match self.graph.node(id)? {
            Node::Bool(yes) => self.out.push(if *yes { op::NEWTRUE } else { op::NEWFALSE }),
            Node::ByteArray(bytes) => {
                self.out.push(op::BYTEARRAY8);
                self.out.extend_from_slice(&u64::try_from(bytes.len()).ok()?.to_le_bytes());
                self.out.extend_from_slice(bytes);
            }
            Node::Bytes(bytes) => {
                self.out.push(op::BINBYTES);
                self.out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
                self.out.extend_from_slice(bytes);
            }
            Node::Call { callable, arguments } => self.apply(&[*callable, *arguments], op::REDUCE)?,
            Node::Dict => self.out.push(op::EMPTY_DICT),
            Node::Float(number) => write_float(&mut self.out, *number),
            Node::FrozenSet(items) => {
                self.out.push(op::MARK);
                self.apply(items, op::FROZENSET)?;
            }
            Node::Global { module, name, protocol } => {
                // Names that the protocol of the fragment would have looked up otherwise.
                let other = *protocol > OLD_NAMES;
                if other {
                    self.out.extend_from_slice(&[op::PROTO, *protocol]);
                }
                self.apply(&[*module, *name], op::STACK_GLOBAL)?;
                if other {
                    self.out.extend_from_slice(&[op::PROTO, OLD_NAMES]);
                }
            }
            Node::HugeInteger(bytes) => integer::write_bytes(&mut self.out, bytes),
            Node::Instance { class, arguments } => {
                self.out.push(op::MARK);
                self.fetch(*class)?;
                self.apply(arguments, op::OBJ)?;
            }
            Node::Integer(digits) => integer::write(&mut self.out, digits),
            Node::List => self.out.push(op::EMPTY_LIST),
            Node::New { class, arguments, keywords: None } => self.apply(&[*class, *arguments], op::NEWOBJ)?,
            Node::New { class, arguments, keywords: Some(keywords) } => {
                self.apply(&[*class, *arguments, *keywords], op::NEWOBJ_EX)?;
            }
            Node::None => self.out.push(op::NONE),
            Node::Set => self.out.push(op::EMPTY_SET),
            Node::Surrogates(utf8) => text::write(&mut self.out, utf8),
            Node::Text(text) => text::write(&mut self.out, text.as_bytes()),
            Node::Tuple(items) => match items.len() {
                0 => self.out.push(op::EMPTY_TUPLE),
                1 => self.apply(items, op::TUPLE1)?,
                2 => self.apply(items, op::TUPLE2)?,
                3 => self.apply(items, op::TUPLE3)?,
                _ => {
                    self.out.push(op::MARK);
                    self.apply(items, op::TUPLE)?;
                }
            },
        }
        Some(())
    }

    fn apply(&mut self, operands: &[Id], operation: u8) -> Option<()> {
        for &operand in operands {
            self.fetch(operand)?;
        }
        self.out.push(operation);
        Some(())
    }

    fn at_place(&mut self, short: u8, long: u8, place: u32) {
        if let Ok(place) = u8::try_from(place) {
            self.out.extend_from_slice(&[short, place]);
        } else {
            self.out.push(long);
            self.out.extend_from_slice(&place.to_le_bytes());
        }
    }
}
