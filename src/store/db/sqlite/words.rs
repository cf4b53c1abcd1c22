//! What is said to SQLite. Parameters are the same for both tables, except for the version, which comes last.

use rusqlite::types::{FromSqlError, FromSqlResult, ToSqlOutput, Value, ValueRef};

use super::super::layout::Layout;
use super::super::{BATCH, PAGE};
use crate::clock::Timestamp;

pub(super) struct Words {
    pub(super) probe: String,
    /// Nothing, if the table is not ours to make.
    pub(super) make: &'static str,
    pub(super) load: String,
    pub(super) create: String,
    pub(super) replace: String,
    pub(super) touch: String,
    pub(super) delete: String,
    pub(super) sweep: String,
    pub(super) scan: String,
    pub(super) scan_on: String,
    as_text: bool,
}

const OUR_TABLE: &str = "
CREATE TABLE cloakroom_session (
    key TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX cloakroom_session_expires_at ON cloakroom_session (expires_at);";

/// As `manage.py sqlmigrate sessions 0001` prints it.
const DJANGO_TABLE: &str = r#"
CREATE TABLE "django_session" ("session_key" varchar(40) NOT NULL PRIMARY KEY, "session_data" text NOT NULL, "expire_date" datetime NOT NULL);
CREATE INDEX "django_session_expire_date_a5c62663" ON "django_session" ("expire_date");"#;

/// What the columns are called, and what is read of them.
struct Columns {
    key: &'static str,
    value: &'static str,
    value_as_bytes: &'static str,
    expires_at: &'static str,
    version: &'static str,
}

impl Words {
    pub(super) fn of(layout: &Layout) -> Self {
        match layout {
            Layout::Django(django) => {
                let columns = Columns {
                    key: "session_key",
                    value: "session_data",
                    value_as_bytes: "CAST(session_data AS BLOB)",
                    expires_at: "expire_date",
                    version: "cloakroom_digest(session_data)",
                };
                let table = format!("\"{}\"", django.table().replace('"', "\"\""));
                let make = if django.is_djangos_own() { DJANGO_TABLE } else { "" };
                Self { make, as_text: true, ..Self::with(&table, &columns, false) }
            }
            Layout::Native => {
                let columns = Columns {
                    key: "key",
                    value: "value",
                    value_as_bytes: "value",
                    expires_at: "expires_at",
                    version: "version",
                };
                Self::with(layout.table(), &columns, true)
            }
        }
    }

    fn with(table: &str, columns: &Columns, versioned: bool) -> Self {
        let Columns { key, value, value_as_bytes, expires_at, version } = columns;
        let version_or_none = |text: &'static str| if versioned { text } else { "" };
        let (column, created) = (version_or_none(", version"), version_or_none(", ?5"));
        let (renewed, replaced) = (version_or_none(", version = excluded.version"), version_or_none(", version = ?6"));
        Self {
            probe: format!("SELECT {key}, {value}, {expires_at}{column} FROM {table} LIMIT 0"),
            make: OUR_TABLE,
            load: format!(
                "SELECT {value_as_bytes}, {version}, {expires_at} FROM {table} WHERE {key} = ?1 AND {expires_at} > ?2"
            ),
            create: format!(
                "INSERT INTO {table} AS old ({key}, {value}, {expires_at}{column}) VALUES (?1, ?2, ?3{created})
                ON CONFLICT ({key}) DO UPDATE
                SET {value} = excluded.{value}, {expires_at} = excluded.{expires_at}{renewed}
                WHERE old.{expires_at} <= ?4"
            ),
            replace: format!(
                "UPDATE {table} SET {value} = ?2, {expires_at} = ?3{replaced}
                WHERE {key} = ?1 AND {expires_at} > ?4 AND {version} = ?5"
            ),
            touch: format!(
                "UPDATE {table} SET {expires_at} = max({expires_at}, ?2)
                WHERE {key} = ?1 AND {expires_at} > ?3 AND {version} = ?4"
            ),
            delete: format!("DELETE FROM {table} WHERE {key} = ?1"),
            sweep: format!(
                "DELETE FROM {table} WHERE {key} IN
                (SELECT {key} FROM {table} WHERE {expires_at} <= ?1 ORDER BY {expires_at} LIMIT {BATCH})"
            ),
            scan: format!("SELECT {key} FROM {table} ORDER BY {key} LIMIT {PAGE}"),
            scan_on: format!("SELECT {key} FROM {table} WHERE {key} > ?1 ORDER BY {key} LIMIT {PAGE}"),
            as_text: false,
        }
    }

    /// A value as its column has it.
    pub(super) fn value<'a>(&self, value: &'a [u8]) -> ToSqlOutput<'a> {
        ToSqlOutput::Borrowed(if self.as_text { ValueRef::Text(value) } else { ValueRef::Blob(value) })
    }
}

pub(super) fn deadline(layout: &Layout, at: Timestamp) -> Value {
    match layout {
        Layout::Django(django) => Value::Text(django.dates().text(at)),
        Layout::Native => Value::Integer(at.as_millis()),
    }
}

pub(super) fn instant(layout: &Layout, value: ValueRef<'_>) -> FromSqlResult<Timestamp> {
    match layout {
        Layout::Django(django) => django.dates().parse(value.as_str()?).ok_or(FromSqlError::InvalidType),
        Layout::Native => value.as_i64().map(Timestamp::from_millis),
    }
}
