//! MySQL and MariaDB.

mod connection;
mod fault;
mod words;

use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use self::connection::{Connection, Connector};
use self::fault::{fault, is_no_table, is_taken};
use self::words::Words;
use super::super::settings::Server as Account;
use super::super::{Expected, Key, Record, StoreError, Version};
use super::layout::Layout;
use super::pool::{Fault, Server};
use super::server::Dialect;
use super::{Change, warn_of_a_strange_row};
use crate::clock::Timestamp;

pub(super) struct MySql {
    layout: Arc<Layout>,
    words: Arc<Words>,
    connector: Connector,
}

impl MySql {
    pub(super) fn new(server: &Account, layout: Arc<Layout>) -> Result<Self, StoreError> {
        let words = Arc::new(Words::of(&layout));
        Ok(Self { connector: Connector::new(server)?, layout, words })
    }
}

impl Server for MySql {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection, StoreError> {
        self.connector.connect(Arc::clone(&self.layout), Arc::clone(&self.words)).await
    }

    /// Nothing but an answer tells that the server is still there.
    async fn is_alive(connection: &mut Connection) -> bool {
        connection.conn.ping().await.is_ok()
    }
}

impl Dialect for MySql {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn has_table(connection: &mut Connection) -> Result<bool, Fault> {
        match connection.conn.query_drop(&connection.words.probe).await {
            Ok(()) => Ok(true),
            Err(error) if is_no_table(&error) => Ok(false),
            Err(error) => Err(fault(error)),
        }
    }

    async fn make_table(connection: &mut Connection) -> Result<(), Fault> {
        for statement in connection.words.make {
            connection.conn.query_drop(*statement).await.map_err(fault)?;
        }
        Ok(())
    }

    async fn load(connection: &mut Connection, key: &Key, now: Timestamp) -> Result<Option<Record>, Fault> {
        let Connection { conn, words, layout, .. } = connection;
        let values = [words.key(key), vec![deadline(layout, now)]].concat();
        let row: Option<Row> = conn.exec_first(&words.load, values).await.map_err(fault)?;
        Ok(row.and_then(|row| {
            let record = record(layout, row.unwrap());
            if record.is_none() {
                warn_of_a_strange_row();
            }
            record
        }))
    }

    async fn change(connection: &mut Connection, change: &Change, now: Timestamp) -> Result<bool, Fault> {
        let Connection { conn, words, layout, most } = connection;
        let (now, key) = (deadline(layout, now), words.key(change.key()));
        match change {
            Change::Delete { .. } => met(conn, &words.delete, key).await,
            Change::Save { expected, version, value, expires_at, .. } => {
                if value.len().saturating_add(change.key().as_str().len()) > *most {
                    return Err(Fault::TooLarge);
                }
                let new = vec![Value::Bytes(value.to_vec()), deadline(layout, *expires_at)];
                let new = [new, words.version(*version)].concat();
                match expected {
                    Expected::Absent => create(conn, words, change.key(), new, now).await,
                    Expected::Version(Version(expected)) => {
                        let values = [new, key, vec![now, Value::UInt(*expected)]].concat();
                        met(conn, &words.replace, values).await
                    }
                }
            }
            Change::Touch { expected, expires_at, .. } => {
                let expires_at = vec![deadline(layout, *expires_at)];
                met(conn, &words.touch, [expires_at, key, vec![now, Value::UInt(expected.0)]].concat()).await
            }
        }
    }

    async fn begin_sweep(connection: &mut Connection) -> Result<bool, Fault> {
        let begun: Option<Option<i64>> =
            connection.conn.query_first(&connection.words.begin_sweep).await.map_err(fault)?;
        Ok(begun.flatten() == Some(1))
    }

    async fn sweep(connection: &mut Connection, now: Timestamp) -> Result<u64, Fault> {
        let Connection { conn, words, layout, .. } = connection;
        conn.exec_drop(&words.sweep, (deadline(layout, now),)).await.map_err(fault)?;
        Ok(conn.affected_rows())
    }

    async fn end_sweep(connection: &mut Connection) -> Result<(), Fault> {
        connection.conn.query_drop(&connection.words.end_sweep).await.map_err(fault)
    }

    async fn scan(connection: &mut Connection, after: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Fault> {
        let Connection { conn, words, .. } = connection;
        match after {
            Some(after) => conn.exec(&words.scan_on, (after,)).await,
            None => conn.exec(&words.scan, ()).await,
        }
        .map_err(fault)
    }
}

/// Whether a row was met, also if nothing in it changed.
async fn met(conn: &mut Conn, statement: &str, values: Vec<Value>) -> Result<bool, Fault> {
    conn.exec_drop(statement, values).await.map_err(fault)?;
    Ok(conn.affected_rows() > 0)
}

/// An expired row gives way. It may also go between our two statements; then there is place for a new one.
async fn create(conn: &mut Conn, words: &Words, key: &Key, new: Vec<Value>, now: Value) -> Result<bool, Fault> {
    let inserted = [vec![Value::from(key.as_str())], new.clone()].concat();
    let renewed = [new, words.key(key), vec![now]].concat();
    for _ in 0..2 {
        match conn.exec_drop(&words.insert, inserted.clone()).await {
            Ok(()) => return Ok(true),
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(fault(error)),
        }
        if met(conn, &words.renew, renewed.clone()).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn deadline(layout: &Layout, at: Timestamp) -> Value {
    match layout {
        Layout::Django(django) => {
            let at = django.dates().civil(at);
            let year = u16::try_from(at.year()).unwrap_or_default();
            let part = |part: i8| part.unsigned_abs();
            let micros = at.subsec_nanosecond().unsigned_abs() / 1000;
            let (hour, minute, second) = (part(at.hour()), part(at.minute()), part(at.second()));
            Value::Date(year, part(at.month()), part(at.day()), hour, minute, second, micros)
        }
        Layout::Native => Value::Int(at.as_millis()),
    }
}

fn record(layout: &Layout, row: Vec<Value>) -> Option<Record> {
    let [value, version, expires_at] = <[Value; 3]>::try_from(row).ok()?;
    let Value::Bytes(value) = value else { return None };
    Some(Record { value: value.into(), version: Version(number(&version)?), expires_at: instant(layout, &expires_at)? })
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::UInt(number) => Some(*number),
        _ => None,
    }
}

fn instant(layout: &Layout, value: &Value) -> Option<Timestamp> {
    match (layout, value) {
        (Layout::Django(django), Value::Date(year, month, day, hour, minute, second, micros)) => {
            let part = |part: &u8| i8::try_from(*part).ok();
            let nanos = i32::try_from(micros.checked_mul(1000)?).ok()?;
            let year = i16::try_from(*year).ok()?;
            let (month, day, hour) = (part(month)?, part(day)?, part(hour)?);
            let civil = jiff::civil::DateTime::new(year, month, day, hour, part(minute)?, part(second)?, nanos);
            django.dates().instant(civil.ok()?)
        }
        (Layout::Native, Value::Int(millis)) => Some(Timestamp::from_millis(*millis)),
        _ => None,
    }
}
