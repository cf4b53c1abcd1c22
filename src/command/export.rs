//! All sessions of a store as lines, for a backup or another program.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::progress::Progress;
use super::report::{Output, table};
use super::transfer::{self, Found};
use super::walk::every_key;
use super::{CommandError, Verdict};
use crate::session::codec::Codec;
use crate::session::line::Line;
use crate::sessions::Records;

/// Of the form of the whole; each session has a version of its own.
pub(super) const VERSION: u64 = 1;

/// The first line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub cloakroom_sessions: u64,
    /// Whether the keys are the sessions' ids, and not digests of them.
    pub keys_are_ids: bool,
}

/// The last line: without it, the end is missing.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    pub sessions: u64,
}

#[derive(Default, Serialize)]
struct Done {
    exported: u64,
    expired: u64,
    unreadable: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [("exported", self.exported), ("expired", self.expired), ("unreadable", self.unreadable)];
        formatter.write_str(&table(&rows))
    }
}

/// Ids leave the store only if that is wanted in so many words.
pub(super) fn refuse(codec: &Codec, with_ids: bool) -> Result<(), CommandError> {
    if codec.names_ids() && !with_ids {
        let message = "with format = \"django\" the export has the ids of all sessions in it, with which anyone can be any \
                       visitor; say --with-ids if you want that";
        return Err(CommandError::Impossible(message.to_owned()));
    }
    Ok(())
}

pub(super) async fn export(
    records: &Arc<Records>,
    file: Option<&Path>,
    output: Output,
) -> Result<Verdict, CommandError> {
    let keys_are_ids = records.codec.names_ids();
    let exported = match file {
        Some(file) => {
            let failed = |source| CommandError::File { path: file.to_owned(), source };
            let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
            let mut lines = BufWriter::new(new);
            let exported = write(records, keys_are_ids, &mut lines, &failed).await?;
            // Whoever removes the sessions next must find them here.
            lines
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|new| new.sync_all())
                .map_err(failed)?;
            output.tell(&exported)?;
            exported
        }
        None => {
            let mut lines = BufWriter::new(io::stdout());
            let exported = write(records, keys_are_ids, &mut lines, &CommandError::Output).await?;
            output.tell_aside(&exported)?;
            exported
        }
    };
    Ok(Verdict::of(exported.unreadable == 0))
}

async fn write(
    records: &Arc<Records>,
    keys_are_ids: bool,
    lines: &mut (impl Write + Send),
    failed: &impl Fn(io::Error) -> CommandError,
) -> Result<Done, CommandError> {
    let mut exported = Done::default();
    let mut progress = Progress::new();
    progress.begin("exported", None);
    write_line(lines, &First { cloakroom_sessions: VERSION, keys_are_ids }).map_err(failed)?;
    let find = {
        let records = Arc::clone(records);
        move |key| {
            let records = Arc::clone(&records);
            async move {
                let found = transfer::find(&records, &key).await?;
                Ok((key, found))
            }
        }
    };
    every_key(&*records.store, find, |(key, found)| {
        match found {
            Found::Gone => exported.expired += 1,
            Found::Unreadable(_) => exported.unreadable += 1,
            Found::There(stored) => {
                let line = Line { key, expires_at: stored.expires_at, session: stored.session };
                let text = line.write().map_err(|error| failed(io::Error::other(error)))?;
                writeln!(lines, "{text}").map_err(failed)?;
                exported.exported += 1;
            }
        }
        progress.step();
        Ok(())
    })
    .await?;
    write_line(lines, &Last { sessions: exported.exported }).map_err(failed)?;
    lines.flush().map_err(failed)?;
    Ok(exported)
}

fn write_line(lines: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, line)?;
    lines.write_all(b"\n")
}
