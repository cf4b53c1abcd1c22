//! Reading, beside whoever writes.

use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::super::{Key, Record, StoreError, Version};
use super::super::layout::Layout;
use super::super::warn_of_a_strange_row;
use super::thread::Answer;
use super::words::{Words, deadline, instant};
use crate::clock::Clock;

/// A question to the reader.
pub(super) enum Read {
    Load { key: Key, answer: Answer<Option<Record>> },
    Scan { after: Option<Vec<u8>>, answer: Answer<Vec<Vec<u8>>> },
}

/// Works until nobody can ask any more.
pub(super) fn work(connection: &Connection, queue: &Receiver<Read>, words: &Words, layout: &Layout, clock: &Clock) {
    while let Ok(read) = queue.recv() {
        match read {
            Read::Load { key, answer } if !answer.is_closed() => {
                let _ = answer.send(find(connection, &key, words, layout, clock));
            }
            Read::Scan { after, answer } if !answer.is_closed() => {
                let _ = answer.send(scan(connection, after, words).map_err(|error| StoreError::Failed(error.into())));
            }
            Read::Load { .. } | Read::Scan { .. } => {}
        }
    }
}

fn find(
    connection: &Connection,
    key: &Key,
    words: &Words,
    layout: &Layout,
    clock: &Clock,
) -> Result<Option<Record>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(Record {
            value: row.get::<_, Vec<u8>>(0)?.into(),
            version: Version(row.get::<_, i64>(1)?.cast_unsigned()),
            expires_at: instant(layout, row.get_ref(2)?)?,
        })
    };
    let mut statement = connection.prepare_cached(&words.load).map_err(|error| StoreError::Failed(error.into()))?;
    match statement.query_row((key.as_str(), deadline(layout, clock.now())), read).optional() {
        Err(rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)) => {
            warn_of_a_strange_row();
            Ok(None)
        }
        found => found.map_err(|error| StoreError::Failed(error.into())),
    }
}

fn scan(connection: &Connection, after: Option<Vec<u8>>, words: &Words) -> rusqlite::Result<Vec<Vec<u8>>> {
    let key = |row: &Row<'_>| Ok(row.get_ref(0)?.as_bytes_or_null()?.unwrap_or_default().to_owned());
    match after {
        Some(after) => {
            let mut statement = connection.prepare_cached(&words.scan_on)?;
            statement.query_map([String::from_utf8_lossy(&after)], key)?.collect()
        }
        None => connection.prepare_cached(&words.scan)?.query_map((), key)?.collect(),
    }
}
