//! PostgreSQL.

mod connection;
mod fault;
mod tls;
mod words;

use std::sync::Arc;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use self::connection::{Connection, Connector};
use self::fault::{fault, is_no_table};
use self::words::Words;
use super::super::settings::Server as Account;
use super::super::{Expected, Key, Record, StoreError, Version, record};
use super::layout::{self, Layout};
use super::pool::{Fault, Server};
use super::server::Dialect;
use super::{Change, warn_of_a_strange_row};
use crate::clock::Timestamp;

pub(super) struct Postgres {
    layout: Arc<Layout>,
    words: Arc<Words>,
    connector: Connector,
}

impl Postgres {
    pub(super) fn new(server: &Account, layout: Arc<Layout>) -> Result<Self, StoreError> {
        let words = Arc::new(Words::of(&layout));
        Ok(Self { connector: Connector::new(server)?, layout, words })
    }
}

impl Server for Postgres {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection, StoreError> {
        self.connector.connect(Arc::clone(&self.layout), Arc::clone(&self.words)).await
    }

    /// The server may have hung up since this thread last looked at its sockets. The first turn makes it look, the
    /// second lets the connection's own task find the end.
    async fn is_alive(connection: &mut Connection) -> bool {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        !connection.client.is_closed()
    }
}

impl Dialect for Postgres {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn has_table(connection: &mut Connection) -> Result<bool, Fault> {
        match connection.client.batch_execute(&connection.words.probe).await {
            Ok(()) => Ok(true),
            Err(error) if is_no_table(&error) => Ok(false),
            Err(error) => Err(fault(&error)),
        }
    }

    async fn make_table(connection: &mut Connection) -> Result<(), Fault> {
        // Several statements at once are one transaction.
        connection.client.batch_execute(&connection.words.make).await.map_err(|error| fault(&error))
    }

    async fn load(connection: &mut Connection, key: &Key, now: Timestamp) -> Result<Option<Record>, Fault> {
        let load = connection.prepared().await?.load;
        let now = connection.millis(now);
        let row = connection.client.query_opt(&load, &[&key.as_str().as_bytes(), &now]).await;
        Ok(row.map_err(|error| fault(&error))?.and_then(|row| record(&row)))
    }

    async fn change(connection: &mut Connection, change: &Change, now: Timestamp) -> Result<bool, Fault> {
        let prepared = connection.prepared().await?;
        let now = connection.millis(now);
        let key = change.key().as_str().as_bytes();
        let rows = match change {
            Change::Delete { .. } => connection.execute(&prepared.delete, &[&key]).await,
            Change::Save { expected: Expected::Absent, version, value, expires_at, .. } => {
                let (expires_at, version) = (connection.millis(*expires_at), version.0.cast_signed());
                connection.execute(&prepared.create, &[&key, &&value[..], &expires_at, &now, &version]).await
            }
            Change::Save { expected: Expected::Version(expected), version, value, expires_at, .. } => {
                let (expected, version) = (expected.0.cast_signed(), version.0.cast_signed());
                let expires_at = connection.millis(*expires_at);
                let values: [&(dyn ToSql + Sync); 6] = [&key, &&value[..], &expires_at, &now, &expected, &version];
                connection.execute(&prepared.replace, &values).await
            }
            Change::Touch { expected, expires_at, .. } => {
                let (expires_at, expected) = (connection.millis(*expires_at), expected.0.cast_signed());
                connection.execute(&prepared.touch, &[&key, &expires_at, &now, &expected]).await
            }
        };
        Ok(rows? > 0)
    }

    async fn begin_sweep(connection: &mut Connection) -> Result<bool, Fault> {
        let turn = connection.turn();
        let row = connection.client.query_one("SELECT pg_try_advisory_lock($1)", &[&turn]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| fault(&error))
    }

    async fn sweep(connection: &mut Connection, now: Timestamp) -> Result<u64, Fault> {
        let now = connection.millis(now);
        let swept = connection.client.execute(&connection.words.sweep, &[&now]).await;
        swept.map_err(|error| fault(&error))
    }

    async fn end_sweep(connection: &mut Connection) -> Result<(), Fault> {
        let turn = connection.turn();
        let ended = connection.client.execute("SELECT pg_advisory_unlock($1)", &[&turn]).await;
        ended.map(drop).map_err(|error| fault(&error))
    }

    async fn scan(connection: &mut Connection, after: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Fault> {
        let Connection { client, words, .. } = connection;
        let rows = match after {
            Some(after) => client.query(&words.scan_on, &[&after]).await,
            None => client.query(&words.scan, &[]).await,
        };
        let keys = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        keys.map_err(|error| fault(&error))
    }
}

impl Connection {
    /// As the table's layout can say it.
    fn millis(&self, at: Timestamp) -> i64 {
        match &*self.layout {
            Layout::Django(_) => layout::bounded(at),
            Layout::Native => at.as_millis(),
        }
    }

    /// The number under which who sweeps this table is known to others.
    fn turn(&self) -> i64 {
        record::digest(format!("cloakroom sweeps {}", self.layout.table()).as_bytes()).0.cast_signed()
    }

    /// Runs it with as many of the values as it takes: the last one, the version, has no place in Django's table.
    async fn execute(&self, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        let taken = values.get(..statement.params().len()).unwrap_or(values);
        self.client.execute(statement, taken).await.map_err(|error| fault(&error))
    }
}

fn record(row: &Row) -> Option<Record> {
    let read = || -> Result<Record, tokio_postgres::Error> {
        Ok(Record {
            value: row.try_get::<_, Vec<u8>>(0)?.into(),
            version: Version(row.try_get::<_, i64>(1)?.cast_unsigned()),
            expires_at: Timestamp::from_millis(row.try_get(2)?),
        })
    };
    read().inspect_err(|_| warn_of_a_strange_row()).ok()
}
