//! What a pickle makes, as far as one can tell without making it.

use std::borrow::Cow;
use std::collections::HashMap;

/// Values and changes together. A session has hundreds; a hundred thousand, each of which costs more time and memory than
/// its byte or two in the pickle, are an attack.
pub(super) const MAX_STEPS: usize = 1 << 17;

/// A value's place in the order in which values are made. What something is made of has a place before its own; only a
/// [`Change`] can put later values into earlier ones.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Id(u32);

pub(super) enum Node<'a> {
    Bool(bool),
    ByteArray(&'a [u8]),
    Bytes(&'a [u8]),
    /// `callable(*arguments)`
    Call {
        callable: Id,
        arguments: Id,
    },
    Dict,
    Float(f64),
    FrozenSet(Vec<Id>),
    /// What a module has under a name. How names are looked up depends on the protocol.
    Global {
        module: Id,
        name: Id,
        protocol: u8,
    },
    /// Longer than Python turns into text: little-endian, in two's complement.
    HugeInteger(&'a [u8]),
    /// An instance as Python 2 had them.
    Instance {
        class: Id,
        arguments: Vec<Id>,
    },
    /// Its decimal digits.
    Integer(String),
    List,
    /// `class.__new__(class, *arguments, **keywords)`
    New {
        class: Id,
        arguments: Id,
        keywords: Option<Id>,
    },
    None,
    Set,
    /// A string with halves of surrogate pairs, which Python writes as if UTF-8 had room for them.
    Surrogates(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    Tuple(Vec<Id>),
}

/// Something is put into a value that was there before.
pub(super) struct Change {
    pub(super) target: Id,
    /// How many values had been made by then.
    pub(super) after: usize,
    pub(super) kind: ChangeKind,
    pub(super) items: Vec<Id>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum ChangeKind {
    Add,
    Append,
    Build,
    Extend,
    /// Keys and values by turns.
    Set,
}

#[derive(Default)]
pub(super) struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    changes: Vec<Change>,
    /// Which changes a value went through.
    changes_of: HashMap<Id, Vec<usize>>,
}

impl<'a> Graph<'a> {
    pub(super) fn make(&mut self, node: Node<'a>) -> Option<Id> {
        let id = Id(u32::try_from(self.nodes.len()).ok()?);
        self.nodes.push(node);
        self.is_sane().then_some(id)
    }

    /// `None` for a change that Python would not make.
    pub(super) fn change(&mut self, target: Id, kind: ChangeKind, items: Vec<Id>) -> Option<()> {
        let allowed = match self.node(target)? {
            Node::Call { .. } | Node::Instance { .. } | Node::New { .. } => true,
            Node::Dict => kind == ChangeKind::Set,
            Node::List => matches!(kind, ChangeKind::Append | ChangeKind::Extend),
            Node::Set => kind == ChangeKind::Add,
            _ => false,
        };
        let whole = kind != ChangeKind::Set || items.len().is_multiple_of(2);
        if !allowed || !whole {
            return None;
        }
        self.changes_of.entry(target).or_default().push(self.changes.len());
        self.changes.push(Change { target, after: self.nodes.len(), kind, items });
        self.is_sane().then_some(())
    }

    fn is_sane(&self) -> bool {
        self.nodes.len() + self.changes.len() <= MAX_STEPS
    }

    pub(super) fn node(&self, id: Id) -> Option<&Node<'a>> {
        self.nodes.get(usize::try_from(id.0).ok()?)
    }

    /// Whether it was there when `after` values had been made.
    pub(super) fn is_among_first(id: Id, after: usize) -> bool {
        usize::try_from(id.0).is_ok_and(|place| place < after)
    }

    /// The places of the changes that a value went through, in their order.
    pub(super) fn places_of_changes(&self, id: Id) -> &[usize] {
        self.changes_of.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn change_at(&self, place: usize) -> Option<&Change> {
        self.changes.get(place)
    }

    /// All that was put into a list, dictionary, set or object.
    pub(super) fn items(&self, id: Id) -> impl Iterator<Item = Id> {
        let changes = self.places_of_changes(id).iter().filter_map(|&place| self.change_at(place));
        changes.flat_map(|change| change.items.iter().copied())
    }

    /// The keys and values that were put into a dictionary.
    pub(super) fn pairs(&self, id: Id) -> impl Iterator<Item = (Id, Id)> {
        let mut items = self.items(id);
        std::iter::from_fn(move || Some((items.next()?, items.next()?)))
    }

    /// What a value is made of and what was put into it.
    pub(super) fn parts(&self, id: Id) -> impl Iterator<Item = Id> {
        let (few, many): ([Option<Id>; 3], &[Id]) = match self.node(id) {
            Some(Node::Call { callable, arguments }) => ([Some(*callable), Some(*arguments), None], &[]),
            Some(Node::FrozenSet(items) | Node::Tuple(items)) => ([None; 3], items),
            Some(Node::Global { module, name, .. }) => ([Some(*module), Some(*name), None], &[]),
            Some(Node::Instance { class, arguments }) => ([Some(*class), None, None], arguments),
            Some(Node::New { class, arguments, keywords }) => ([Some(*class), Some(*arguments), *keywords], &[]),
            _ => ([None; 3], &[]),
        };
        few.into_iter().flatten().chain(many.iter().copied()).chain(self.items(id))
    }
}
