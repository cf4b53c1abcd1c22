//! Runs a pickle without making anything: every operation of protocols 0 to 5, as far as data goes. What only a certain
//! application understands (persistent ids, registered extensions, buffers on the side) is refused.

use std::collections::HashMap;

use super::graph::{ChangeKind, Graph, Id, Node};
use super::{integer, op, text};
use crate::session::codec::input::Input;

const HIGHEST_PROTOCOL: u8 = 5;

/// What the pickle makes, and which of it is the result.
pub(super) fn read(pickle: &[u8]) -> Option<(Graph<'_>, Id)> {
    let mut machine = Machine::new(pickle)?;
    loop {
        let operation = machine.input.byte()?;
        if operation == op::STOP {
            let top = machine.pop()?;
            return Some((machine.graph, top));
        }
        machine.step(operation)?;
    }
}

struct Machine<'a> {
    input: Input<'a>,
    graph: Graph<'a>,
    stack: Vec<Id>,
    /// How much lay on the stack at each mark: what lies below the last is out of reach.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    protocol: u8,
    /// Values that take one byte of a pickle are there once.
    common: Common,
}

struct Common {
    empty: Id,
    none: Id,
    no: Id,
    yes: Id,
}

impl<'a> Machine<'a> {
    fn new(pickle: &'a [u8]) -> Option<Self> {
        let mut graph = Graph::default();
        let common = Common {
            empty: graph.make(Node::Tuple(Vec::new()))?,
            none: graph.make(Node::None)?,
            no: graph.make(Node::Bool(false))?,
            yes: graph.make(Node::Bool(true))?,
        };
        Some(Self {
            input: Input::new(pickle),
            graph,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            protocol: 0,
            common,
        })
    }

    fn step(&mut self, operation: u8) -> Option<()> {
        match operation {
            op::PROTO => {
                self.protocol = self.input.byte().filter(|&protocol| protocol <= HIGHEST_PROTOCOL)?;
            }
            op::FRAME => {
                // Nothing but a hint of how much to read at once, which must not lie all the same.
                let length = u64::from_le_bytes(self.input.array()?);
                if length > u64::try_from(self.input.rest().len()).ok()? {
                    return None;
                }
            }
            op::MARK => self.marks.push(self.stack.len()),
            op::POP_MARK => drop(self.pop_mark()?),
            op::POP if self.stack.len() == self.floor() => drop(self.pop_mark()?),
            op::POP => drop(self.pop()?),
            op::DUP => self.stack.push(self.top()?),
            op::NONE => self.stack.push(self.common.none),
            op::NEWTRUE => self.stack.push(self.common.yes),
            op::NEWFALSE => self.stack.push(self.common.no),
            op::EMPTY_TUPLE => self.stack.push(self.common.empty),
            op::INT => match self.input.line()? {
                b"00" => self.stack.push(self.common.no),
                b"01" => self.stack.push(self.common.yes),
                text => self.push(Node::Integer(integer::digits(text)?))?,
            },
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE | op::GET | op::BINGET | op::LONG_BINGET => {
                self.remember(operation)?;
            }
            op::APPEND | op::APPENDS | op::SETITEM | op::SETITEMS | op::ADDITEMS | op::BUILD => {
                self.change(operation)?;
            }
            op::GLOBAL | op::STACK_GLOBAL | op::REDUCE | op::NEWOBJ | op::NEWOBJ_EX | op::INST | op::OBJ => {
                let node = self.object(operation)?;
                self.push(node)?;
            }
            op::DICT | op::LIST => {
                let items = self.pop_mark()?;
                let (node, kind) = if operation == op::DICT {
                    (Node::Dict, ChangeKind::Set)
                } else {
                    (Node::List, ChangeKind::Extend)
                };
                self.push(node)?;
                self.graph.change(self.top()?, kind, items)?;
            }
            op::EMPTY_DICT => self.push(Node::Dict)?,
            op::EMPTY_LIST => self.push(Node::List)?,
            op::EMPTY_SET => self.push(Node::Set)?,
            op::FROZENSET => {
                let items = self.pop_mark()?;
                self.push(Node::FrozenSet(items))?;
            }
            op::TUPLE => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items))?;
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let mut items = Vec::with_capacity(3);
                for _ in op::TUPLE1..=operation {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Node::Tuple(items))?;
            }
            _ => {
                let node = self.scalar(operation)?;
                self.push(node)?;
            }
        }
        Some(())
    }

    fn scalar(&mut self, operation: u8) -> Option<Node<'a>> {
        let input = &mut self.input;
        match operation {
            op::BININT => Some(Node::Integer(i32::from_le_bytes(input.array()?).to_string())),
            op::BININT1 => Some(Node::Integer(input.byte()?.to_string())),
            op::BININT2 => Some(Node::Integer(u16::from_le_bytes(input.array()?).to_string())),
            op::LONG => {
                let line = input.line()?;
                integer::digits(line.strip_suffix(b"L").unwrap_or(line)).map(Node::Integer)
            }
            op::LONG1 | op::LONG4 => {
                let bytes = if operation == op::LONG1 { short(input) } else { long(input) }?;
                Some(integer::decimal(bytes).map_or(Node::HugeInteger(bytes), Node::Integer))
            }
            op::FLOAT => str::from_utf8(input.line()?).ok()?.trim().parse().ok().map(Node::Float),
            op::BINFLOAT => Some(Node::Float(f64::from_be_bytes(input.array()?))),
            op::UNICODE => text::raw_unicode_escape(input.line()?),
            op::SHORT_BINUNICODE => text::utf8(short(input)?.into()),
            op::BINUNICODE => text::utf8(long(input)?.into()),
            op::BINUNICODE8 => text::utf8(very_long(input)?.into()),
            op::STRING => text::quoted(input.line()?),
            op::SHORT_BINSTRING => text::ascii(short(input)?.into()),
            op::BINSTRING => text::ascii(long(input)?.into()),
            op::SHORT_BINBYTES => short(input).map(Node::Bytes),
            op::BINBYTES => long(input).map(Node::Bytes),
            op::BINBYTES8 => very_long(input).map(Node::Bytes),
            op::BYTEARRAY8 => very_long(input).map(Node::ByteArray),
            _ => None,
        }
    }

    fn remember(&mut self, operation: u8) -> Option<()> {
        let place = match operation {
            op::PUT | op::GET => str::from_utf8(self.input.line()?).ok()?.parse().ok()?,
            op::BINPUT | op::BINGET => self.input.byte()?.into(),
            op::MEMOIZE => u64::try_from(self.memo.len()).ok()?,
            _ => u32::from_le_bytes(self.input.array()?).into(),
        };
        if matches!(operation, op::GET | op::BINGET | op::LONG_BINGET) {
            self.stack.push(*self.memo.get(&place)?);
        } else {
            self.memo.insert(place, self.top()?);
        }
        Some(())
    }

    /// The last value on the stack, or all above the mark, go into the one before.
    fn change(&mut self, operation: u8) -> Option<()> {
        let (kind, items) = match operation {
            op::APPEND => (ChangeKind::Append, vec![self.pop()?]),
            op::APPENDS => (ChangeKind::Extend, self.pop_mark()?),
            op::BUILD => (ChangeKind::Build, vec![self.pop()?]),
            op::SETITEM => {
                let value = self.pop()?;
                (ChangeKind::Set, vec![self.pop()?, value])
            }
            op::SETITEMS => (ChangeKind::Set, self.pop_mark()?),
            _ => (ChangeKind::Add, self.pop_mark()?),
        };
        let target = self.top()?;
        self.graph.change(target, kind, items)
    }

    fn object(&mut self, operation: u8) -> Option<Node<'a>> {
        match operation {
            op::GLOBAL => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.global(module, name)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let texts = [module, name].map(|id| matches!(self.graph.node(id), Some(Node::Text(_))));
                (texts == [true, true]).then_some(Node::Global { module, name, protocol: self.protocol })
            }
            op::INST => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let arguments = self.pop_mark()?;
                let class = self.global(module, name)?;
                Some(Node::Instance { class: self.graph.make(class)?, arguments })
            }
            op::OBJ => {
                let mut arguments = self.pop_mark()?;
                (!arguments.is_empty())
                    .then(|| arguments.remove(0))
                    .and_then(|class| self.is_callable(class).then_some(Node::Instance { class, arguments }))
            }
            op::REDUCE => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let sane = self.is_callable(callable) && self.is_tuple(arguments);
                sane.then_some(Node::Call { callable, arguments })
            }
            _ => {
                let keywords = if operation == op::NEWOBJ_EX { Some(self.pop()?) } else { None };
                let (arguments, class) = (self.pop()?, self.pop()?);
                let named = keywords.is_none_or(|id| matches!(self.graph.node(id), Some(Node::Dict)));
                let sane = named && self.is_callable(class) && self.is_tuple(arguments);
                sane.then_some(Node::New { class, arguments, keywords })
            }
        }
    }

    fn global(&mut self, module: &'a [u8], name: &'a [u8]) -> Option<Node<'a>> {
        let mut text = |line: &'a [u8]| self.graph.make(Node::Text(str::from_utf8(line).ok()?.into()));
        Some(Node::Global { module: text(module)?, name: text(name)?, protocol: self.protocol })
    }

    fn is_callable(&self, id: Id) -> bool {
        let node = self.graph.node(id);
        matches!(node, Some(Node::Call { .. } | Node::Global { .. } | Node::Instance { .. } | Node::New { .. }))
    }

    fn is_tuple(&self, id: Id) -> bool {
        matches!(self.graph.node(id), Some(Node::Tuple(_)))
    }

    fn push(&mut self, node: Node<'a>) -> Option<()> {
        self.stack.push(self.graph.make(node)?);
        Some(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or_default()
    }

    fn top(&self) -> Option<Id> {
        self.stack.get(self.floor()..)?.last().copied()
    }

    fn pop(&mut self) -> Option<Id> {
        if self.stack.len() > self.floor() { self.stack.pop() } else { None }
    }

    fn pop_mark(&mut self) -> Option<Vec<Id>> {
        let mark = self.marks.pop()?;
        (mark <= self.stack.len()).then(|| self.stack.split_off(mark))
    }
}

fn short<'a>(input: &mut Input<'a>) -> Option<&'a [u8]> {
    let length = input.byte()?;
    input.take(length)
}

fn long<'a>(input: &mut Input<'a>) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(input.array()?);
    input.take(length)
}

fn very_long<'a>(input: &mut Input<'a>) -> Option<&'a [u8]> {
    let length = u64::from_le_bytes(input.array()?);
    input.take(length)
}
