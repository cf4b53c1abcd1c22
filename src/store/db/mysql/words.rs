//! What is said to MySQL.

use mysql_async::Value;

use super::super::super::{Key, Version};
use super::super::layout::Layout;
use super::super::{BATCH, PAGE};

pub(super) struct Words {
    pub(super) probe: String,
    pub(super) make: &'static [&'static str],
    /// [`Words::key`], now
    pub(super) load: String,
    /// the key, what is new
    pub(super) insert: String,
    /// what is new, [`Words::key`], now
    pub(super) renew: String,
    /// what is new, [`Words::key`], now, the version there
    pub(super) replace: String,
    /// the deadline, [`Words::key`], now, the version there
    pub(super) touch: String,
    /// [`Words::key`]
    pub(super) delete: String,
    /// now
    pub(super) sweep: String,
    pub(super) begin_sweep: String,
    pub(super) end_sweep: String,
    pub(super) scan: String,
    /// the key before
    pub(super) scan_on: String,
    django: bool,
}

/// `VARBINARY` is compared byte by byte, whatever the collation.
const OUR_TABLE: &str = "
CREATE TABLE cloakroom_session (
    `key` VARBINARY(2048) NOT NULL PRIMARY KEY,
    value LONGBLOB NOT NULL,
    version BIGINT UNSIGNED NOT NULL,
    expires_at BIGINT NOT NULL,
    INDEX cloakroom_session_expires_at (expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC";

/// As `manage.py sqlmigrate sessions 0001` prints it.
const DJANGO_TABLE: [&str; 2] = [
    "CREATE TABLE `django_session` (`session_key` varchar(40) NOT NULL PRIMARY KEY, `session_data` longtext NOT NULL, \
     `expire_date` datetime(6) NOT NULL)",
    "CREATE INDEX `django_session_expire_date_a5c62663` ON `django_session` (`expire_date`)",
];

impl Words {
    pub(super) fn of(layout: &Layout) -> Self {
        match layout {
            Layout::Django(django) => {
                // Its collation may take other keys for this one.
                let key = "session_key = ? AND CAST(session_key AS BINARY) = ?";
                let version = "CAST(CONV(LEFT(SHA2(session_data, 256), 16), 16, 10) AS UNSIGNED)";
                let columns = Columns { key: "session_key", value: "session_data", expires_at: "expire_date" };
                Self {
                    make: &DJANGO_TABLE,
                    django: true,
                    ..Self::with(&quoted(django.table()), &columns, key, version, false)
                }
            }
            Layout::Native => {
                let columns = Columns { key: "`key`", value: "value", expires_at: "expires_at" };
                Self::with(layout.table(), &columns, "`key` = ?", "version", true)
            }
        }
    }

    fn with(table: &str, columns: &Columns, met: &str, version: &str, versioned: bool) -> Self {
        let Columns { key, value, expires_at } = columns;
        let (column, place, set) = if versioned { (", version", ", ?", ", version = ?") } else { ("", "", "") };
        let new = format!("{value} = ?, {expires_at} = ?{set}");
        let turn =
            format!("CONCAT('cloakroom ', LEFT(SHA2(CONCAT(DATABASE(), '/', '{}'), 256), 32))", hex::encode(table));
        Self {
            probe: format!("SELECT {key}, {value}, {expires_at}{column} FROM {table} LIMIT 0"),
            make: &[OUR_TABLE],
            load: format!("SELECT {value}, {version}, {expires_at} FROM {table} WHERE {met} AND {expires_at} > ?"),
            insert: format!("INSERT INTO {table} ({key}, {value}, {expires_at}{column}) VALUES (?, ?, ?{place})"),
            renew: format!("UPDATE {table} SET {new} WHERE {met} AND {expires_at} <= ?"),
            replace: format!("UPDATE {table} SET {new} WHERE {met} AND {expires_at} > ? AND {version} = ?"),
            touch: format!(
                "UPDATE {table} SET {expires_at} = GREATEST({expires_at}, ?)
                WHERE {met} AND {expires_at} > ? AND {version} = ?"
            ),
            delete: format!("DELETE FROM {table} WHERE {met}"),
            sweep: format!("DELETE FROM {table} WHERE {expires_at} <= ? ORDER BY {expires_at} LIMIT {BATCH}"),
            begin_sweep: format!("SELECT GET_LOCK({turn}, 0)"),
            end_sweep: format!("DO RELEASE_LOCK({turn})"),
            scan: format!("SELECT {key} FROM {table} ORDER BY {key} LIMIT {PAGE}"),
            scan_on: format!("SELECT {key} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {PAGE}"),
            django: false,
        }
    }

    /// What stands for the key where a row is looked for.
    pub(super) fn key(&self, key: &Key) -> Vec<Value> {
        vec![Value::from(key.as_str()); if self.django { 2 } else { 1 }]
    }

    /// The version of what is new, where there is a place for it.
    pub(super) fn version(&self, version: Version) -> Vec<Value> {
        if self.django { Vec::new() } else { vec![Value::UInt(version.0)] }
    }
}

struct Columns {
    key: &'static str,
    value: &'static str,
    expires_at: &'static str,
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
