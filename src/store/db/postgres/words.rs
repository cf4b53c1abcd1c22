//! What is said to PostgreSQL. Parameters are the same for both tables, except for the version, which comes last: keys
//! and values as bytes, instants in milliseconds.

use super::super::layout::Layout;
use super::super::{BATCH, PAGE};

pub(super) struct Words {
    pub(super) probe: String,
    pub(super) make: String,
    pub(super) load: String,
    pub(super) create: String,
    pub(super) replace: String,
    pub(super) touch: String,
    pub(super) delete: String,
    pub(super) sweep: String,
    pub(super) scan: String,
    pub(super) scan_on: String,
}

const OUR_TABLE: &str = "
CREATE TABLE cloakroom_session (
    key BYTEA NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL,
    version BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX cloakroom_session_expires_at ON cloakroom_session (expires_at);";

/// As `manage.py sqlmigrate sessions 0001` prints it.
const DJANGO_TABLE: &str = r#"
CREATE TABLE "django_session" ("session_key" varchar(40) NOT NULL PRIMARY KEY, "session_data" text NOT NULL, "expire_date" timestamp with time zone NOT NULL);
CREATE INDEX "django_session_session_key_c0390e0f_like" ON "django_session" ("session_key" varchar_pattern_ops);
CREATE INDEX "django_session_expire_date_a5c62663" ON "django_session" ("expire_date");"#;

impl Words {
    pub(super) fn of(layout: &Layout) -> Self {
        match layout {
            Layout::Django(django) => Self::django(&format!("\"{}\"", django.table().replace('"', "\"\""))),
            Layout::Native => Self::native(layout.table()),
        }
    }

    fn native(table: &str) -> Self {
        Self {
            probe: format!("SELECT key, value, version, expires_at FROM {table} LIMIT 0"),
            make: OUR_TABLE.to_owned(),
            load: format!("SELECT value, version, expires_at FROM {table} WHERE key = $1 AND expires_at > $2"),
            create: format!(
                "INSERT INTO {table} AS old (key, value, expires_at, version) VALUES ($1, $2, $3, $5)
                ON CONFLICT (key) DO UPDATE
                SET value = excluded.value, expires_at = excluded.expires_at, version = excluded.version
                WHERE old.expires_at <= $4"
            ),
            replace: format!(
                "UPDATE {table} SET value = $2, expires_at = $3, version = $6
                WHERE key = $1 AND expires_at > $4 AND version = $5"
            ),
            touch: format!(
                "UPDATE {table} SET expires_at = greatest(expires_at, $2)
                WHERE key = $1 AND expires_at > $3 AND version = $4"
            ),
            delete: format!("DELETE FROM {table} WHERE key = $1"),
            sweep: sweep(table, "key", "expires_at", "$1"),
            scan: format!("SELECT key FROM {table} ORDER BY key LIMIT {PAGE}"),
            scan_on: format!("SELECT key FROM {table} WHERE key > $1 ORDER BY key LIMIT {PAGE}"),
        }
    }

    fn django(table: &str) -> Self {
        let version = "('x' || left(encode(sha256(convert_to(session_data, 'UTF8')), 'hex'), 16))::bit(64)::bigint";
        // The first whole millisecond at which it is over.
        let millis = "CASE WHEN isfinite(expire_date)
            THEN ceil(extract(epoch FROM expire_date)::numeric * 1000)::bigint ELSE 9223372036854775807 END";
        let key = text("$1");
        Self {
            probe: format!("SELECT session_key, session_data, expire_date FROM {table} LIMIT 0"),
            make: DJANGO_TABLE.to_owned(),
            load: format!(
                "SELECT convert_to(session_data, 'UTF8'), {version}, {millis} FROM {table}
                WHERE session_key = {key} AND expire_date > {}",
                instant("$2")
            ),
            create: format!(
                "INSERT INTO {table} AS old (session_key, session_data, expire_date) VALUES ({key}, {}, {})
                ON CONFLICT (session_key) DO UPDATE
                SET session_data = excluded.session_data, expire_date = excluded.expire_date
                WHERE old.expire_date <= {}",
                text("$2"),
                instant("$3"),
                instant("$4")
            ),
            replace: format!(
                "UPDATE {table} SET session_data = {}, expire_date = {}
                WHERE session_key = {key} AND expire_date > {} AND {version} = $5",
                text("$2"),
                instant("$3"),
                instant("$4")
            ),
            touch: format!(
                "UPDATE {table} SET expire_date = greatest(expire_date, {})
                WHERE session_key = {key} AND expire_date > {} AND {version} = $4",
                instant("$2"),
                instant("$3")
            ),
            delete: format!("DELETE FROM {table} WHERE session_key = {key}"),
            sweep: sweep(table, "session_key", "expire_date", &instant("$1")),
            scan: format!("SELECT convert_to(session_key, 'UTF8') FROM {table} ORDER BY session_key LIMIT {PAGE}"),
            scan_on: format!(
                "SELECT convert_to(session_key, 'UTF8') FROM {table} WHERE session_key > {key}
                ORDER BY session_key LIMIT {PAGE}"
            ),
        }
    }
}

/// Rows that somebody is at are left for the next time, so that nobody waits.
fn sweep(table: &str, key: &str, expires_at: &str, now: &str) -> String {
    format!(
        "WITH expired AS (
            SELECT {key} FROM {table} WHERE {expires_at} <= {now} ORDER BY {expires_at} LIMIT {BATCH}
            FOR UPDATE SKIP LOCKED
        ) DELETE FROM {table} AS old USING expired WHERE old.{key} = expired.{key}"
    )
}

fn text(bytes: &str) -> String {
    format!("convert_from({bytes}::bytea, 'UTF8')")
}

fn instant(millis: &str) -> String {
    format!("(timestamptz 'epoch' + {millis}::bigint * interval '1 millisecond')")
}
