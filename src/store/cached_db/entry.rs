//! What lies in the cache: a copy of a row, or the mark of somebody who is about to put one there.

use std::sync::Arc;

use bytes::Bytes;

use super::super::record;
use super::super::{ForeignRecords, Record};
use crate::clock::Timestamp;

/// In our own layout a copy is the row's version and deadline, in the line that [`record`] describes, and its value.
pub(super) struct Entries {
    foreign: Option<Arc<dyn ForeignRecords>>,
}

impl Entries {
    pub(super) fn new(foreign: Option<Arc<dyn ForeignRecords>>) -> Self {
        Self { foreign }
    }

    /// The mark, which no other mark is equal to. In Django's layout it is a pickle that puts a random number on the
    /// stack, takes it away and is `None`; Django takes it for a miss, as it does, with any serializer, what it cannot
    /// read. In ours it is empty: versions tell one from another.
    pub(super) fn mark(&self) -> Bytes {
        match &self.foreign {
            Some(_) => {
                let token: [u8; 8] = rand::random();
                [b"\x80\x02\x8a\x08".as_slice(), &token, b"0N."].concat().into()
            }
            None => Bytes::new(),
        }
    }

    /// A copy of the row; `None` if there can be none.
    pub(super) fn copy(&self, row: &Record) -> Option<Bytes> {
        match &self.foreign {
            Some(foreign) => foreign.cache_value(row),
            None => Some(record::whole(row.version, row.expires_at, &row.value)),
        }
    }

    /// The row behind an entry; `None` if the entry is a mark or nothing that we know. In Django's layout an entry does
    /// not say the row's version, so it gets one that is not the row's: whoever saves over it is told to look again.
    pub(super) fn row(&self, entry: &Record, now: Timestamp) -> Option<Record> {
        let row = match &self.foreign {
            Some(foreign) => foreign.row_value(entry).map(|value| Record { value, ..entry.clone() }),
            None => record::parse(&entry.value),
        };
        row.filter(|row| row.expires_at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl ForeignRecords for Nothing {
        fn file_prefix(&self) -> &'static str {
            ""
        }

        fn deadline(&self, _: &[u8], written_at: Timestamp) -> Timestamp {
            written_at
        }

        fn cache_value(&self, _: &Record) -> Option<Bytes> {
            None
        }

        fn row_value(&self, _: &Record) -> Option<Bytes> {
            None
        }
    }

    /// `80 02`: protocol 2. `8a 08 …`: a number of eight bytes. `30`: away with it. `4e 2e`: `None`, and that is all.
    #[test]
    fn a_mark_in_djangos_layout_is_a_pickled_none_unlike_any_other() {
        let entries = Entries::new(Some(Arc::new(Nothing)));
        let [one, other] = [entries.mark(), entries.mark()];
        assert!(one.starts_with(b"\x80\x02\x8a\x08") && one.ends_with(b"0N.") && one.len() == 15);
        assert_ne!(one, other);
    }
}
