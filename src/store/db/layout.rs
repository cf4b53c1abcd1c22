//! How a record lies in its table: as we would have it, or as Django has it.

mod dates;

use bytes::Bytes;

pub(super) use self::dates::{Dates, bounded};
use super::super::{DjangoSettings, Key, Version, record};
use crate::problem::Problem;

/// Django's own, which it makes by its own migration.
const DJANGO_TABLE: &str = "django_session";
const OUR_TABLE: &str = "cloakroom_session";
/// `session_key varchar(40)`.
const DJANGO_KEY_LENGTH: usize = 40;

pub(super) enum Layout {
    Django(DjangoTable),
    Native,
}

/// Text in columns, without a place for a version: that is a digest of the value.
pub(super) struct DjangoTable {
    table: String,
    dates: Dates,
}

impl Layout {
    pub(super) fn django(settings: &DjangoSettings) -> Result<Self, Problem> {
        if settings.table.is_empty() || settings.table.contains('\0') {
            return Err(Problem::new("store.django.table", &settings.table, "must be the name of a table"));
        }
        let zone = if settings.use_tz { "UTC" } else { &settings.time_zone };
        let dates = Dates::of(zone).ok_or_else(|| {
            let message = "is no time zone we know: write one such as \"Europe/Berlin\"";
            Problem::new("store.django.time_zone", &settings.time_zone, message)
        })?;
        Ok(Self::Django(DjangoTable { table: settings.table.clone(), dates }))
    }

    pub(super) fn table(&self) -> &str {
        match self {
            Self::Django(django) => &django.table,
            Self::Native => OUR_TABLE,
        }
    }

    /// Whether there can be a record under this key. No key of Django's is longer or has anything but ASCII in it, and
    /// a zero byte is an error to PostgreSQL.
    pub(super) fn takes(&self, key: &Key) -> bool {
        let text = key.as_str();
        match self {
            Self::Django(_) => text.len() <= DJANGO_KEY_LENGTH && text.is_ascii() && !text.contains('\0'),
            Self::Native => true,
        }
    }

    /// What the next write of this value is called.
    pub(super) fn version(&self, value: &Bytes) -> Version {
        match self {
            Self::Django(_) => record::digest(value),
            Self::Native => Version(rand::random()),
        }
    }
}

impl DjangoTable {
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    pub(super) fn dates(&self) -> &Dates {
        &self.dates
    }

    /// Whether we know all columns of the table, and may make it. Any other belongs to a model of the application's.
    pub(super) fn is_djangos_own(&self) -> bool {
        self.table == DJANGO_TABLE
    }
}
