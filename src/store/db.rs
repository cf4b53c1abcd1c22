//! Sessions as rows: in SQLite, which is a file, in PostgreSQL, or in MySQL and MariaDB; in a table of our own or in
//! Django's.

mod layout;
mod mysql;
mod pool;
mod postgres;
mod server;
mod sqlite;
mod tls;

use std::sync::Arc;

use bytes::Bytes;

use self::layout::Layout;
use self::mysql::MySql;
use self::postgres::Postgres;
use self::server::Rows;
use super::settings::Database;
use super::{Expected, ForeignRecords, Key, SessionStore, StoreError, StoreSettings, Version};
use crate::clock::{Clock, Timestamp};

/// Rows one sweep deletes at most: then it lets others in.
const BATCH: u16 = 500;
/// Keys on a page.
const PAGE: u16 = 1000;

pub(super) async fn open(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
    clock: Clock,
) -> Result<Arc<dyn SessionStore>, StoreError> {
    let layout = layout(settings, foreign.is_some())?;
    let missing = if settings.auto_migrate.unwrap_or(true) { Missing::Make } else { Missing::Refuse };
    Ok(match database(settings)? {
        Database::MySql(server) => Arc::new(Rows::open(MySql::new(&server, layout)?, settings, missing, clock).await?),
        Database::Postgres(server) => {
            Arc::new(Rows::open(Postgres::new(&server, layout)?, settings, missing, clock).await?)
        }
        Database::Sqlite(path) => {
            Arc::new(sqlite::Sqlite::open(&path, settings.timeout, layout, missing, clock).await?)
        }
    })
}

/// Makes the table if it is not there.
pub(super) async fn migrate(
    settings: &StoreSettings,
    foreign: Option<Arc<dyn ForeignRecords>>,
) -> Result<(), StoreError> {
    let settings = StoreSettings { auto_migrate: Some(true), ..settings.clone() };
    open(&settings, foreign, Clock::system()).await.map(drop)
}

fn database(settings: &StoreSettings) -> Result<Database, StoreError> {
    settings.database().map_err(|problem| StoreError::Failed(problem.into()))
}

fn layout(settings: &StoreSettings, django: bool) -> Result<Arc<Layout>, StoreError> {
    let layout = if django { Layout::django(&settings.django()) } else { Ok(Layout::Native) };
    layout.map(Arc::new).map_err(|problem| StoreError::Failed(problem.into()))
}

/// What to do about a table that is not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Missing {
    Make,
    Refuse,
}

/// Why a store without its table does not open.
fn no_table(layout: &Layout) -> StoreError {
    StoreError::Failed(match layout {
        Layout::Django(django) if !django.is_djangos_own() => {
            format!("there is no table {}: make it with the application's own `manage.py migrate`", django.table())
                .into()
        }
        layout => format!("there is no table {}: make it with `cloakroom sessions migrate`", layout.table()).into(),
    })
}

/// One change to one row.
enum Change {
    Delete { key: Key },
    Save { key: Key, expected: Expected, version: Version, value: Bytes, expires_at: Timestamp },
    Touch { key: Key, expected: Version, expires_at: Timestamp },
}

impl Change {
    fn key(&self) -> &Key {
        match self {
            Self::Delete { key } | Self::Save { key, .. } | Self::Touch { key, .. } => key,
        }
    }
}

/// What becomes of a change under a key that Django's table cannot have: there is no such row.
fn without_a_place(change: &Change) -> Result<bool, StoreError> {
    match change {
        Change::Save { expected: Expected::Absent, .. } => {
            Err(StoreError::Failed("no session of Django's can have this key".into()))
        }
        _ => Ok(false),
    }
}

/// Says that a row is there and cannot be read, and not what is in it.
fn warn_of_a_strange_row() {
    tracing::warn!("a record in the database is not one of ours; it counts as absent");
}
