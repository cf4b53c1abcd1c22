//! Lines of an export into a store.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::export::{First, Last, VERSION};
use super::progress::Progress;
use super::report::{Output, table};
use super::transfer::{self, Found, Parcel, Unfit};
use super::walk::every;
use super::{CommandError, Verdict};
use crate::session::line::{Line, LineError};
use crate::sessions::Records;
use crate::store::{Expected, Saved, StoreError};
use crate::telemetry::Causes;

/// No session is so large; what is, is no export.
const LONGEST_LINE: u64 = 64 << 20;
/// Tries to replace a session that keeps changing.
const TRIES: usize = 8;

#[derive(Debug, Default, Serialize)]
struct Done {
    imported: u64,
    replaced: u64,
    /// Was there already.
    skipped: u64,
    expired: u64,
    failed: u64,
    /// Whether the last line was there.
    complete: bool,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("imported", self.imported),
            ("replaced", self.replaced),
            ("skipped, for they are there already", self.skipped),
            ("expired", self.expired),
            ("failed", self.failed),
        ];
        formatter.write_str(&table(&rows))?;
        if self.complete { Ok(()) } else { formatter.write_str("\nthe end of the export is missing") }
    }
}

enum Outcome {
    Expired,
    Failed(Unfit),
    Imported,
    Replaced,
    Skipped,
}

pub(super) async fn import(
    records: &Arc<Records>,
    file: &Path,
    overwrite: bool,
    output: Output,
) -> Result<Verdict, CommandError> {
    let failed = |source| CommandError::File { path: file.to_owned(), source };
    let input: Box<dyn BufRead> = match file.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(File::open(file).map_err(failed)?)),
    };
    let mut lines = Lines { input, number: 0 };
    let first = lines.next_line().map_err(failed)?.unwrap_or_default();
    let wrong = |why: &str| CommandError::Impossible(format!("{}: {why}", file.display()));
    let First { cloakroom_sessions: version, keys_are_ids } =
        serde_json::from_str(&first).map_err(|_| wrong("is no export of sessions"))?;
    if version != VERSION {
        return Err(wrong(&format!("was written by a newer version, as export {version}")));
    }
    if records.codec.names_ids() && !keys_are_ids {
        return Err(wrong("has digests of the ids, and a store with format = \"django\" needs the ids themselves"));
    }
    let imported = store_all(records, lines, keys_are_ids, overwrite, file).await?;
    output.tell(&imported)?;
    Ok(Verdict::of(imported.failed == 0 && imported.complete))
}

async fn store_all(
    records: &Arc<Records>,
    mut lines: Lines,
    keys_are_ids: bool,
    overwrite: bool,
    file: &Path,
) -> Result<Done, CommandError> {
    let mut imported = Done::default();
    let mut progress = Progress::new();
    progress.begin("imported", None);
    let mut complete = false;
    let mut bad = 0;
    let name = file.display();
    let items = std::iter::from_fn(|| {
        loop {
            let text = match lines.next_line() {
                Ok(text) => text?,
                Err(source) => return Some(Err(CommandError::File { path: file.to_owned(), source })),
            };
            match Line::read(&text) {
                Ok(line) => return Some(Ok((lines.number, line))),
                Err(LineError::Malformed) if serde_json::from_str::<Last>(&text).is_ok() => complete = true,
                Err(error) => {
                    bad += 1;
                    eprintln!("{name}:{}: {}", lines.number, Causes(&error));
                }
            }
        }
    });
    let work = {
        let records = Arc::clone(records);
        move |(number, line): (u64, Line)| {
            let records = Arc::clone(&records);
            async move { Ok((number, store(&records, &line, keys_are_ids, overwrite).await?)) }
        }
    };
    every(items, work, |(number, outcome)| {
        match outcome {
            Outcome::Expired => imported.expired += 1,
            Outcome::Failed(why) => {
                imported.failed += 1;
                eprintln!("{name}:{number}: {why}");
            }
            Outcome::Imported => imported.imported += 1,
            Outcome::Replaced => imported.replaced += 1,
            Outcome::Skipped => imported.skipped += 1,
        }
        progress.step();
        Ok(())
    })
    .await?;
    imported.failed += bad;
    imported.complete = complete;
    Ok(imported)
}

async fn store(records: &Records, line: &Line, keys_are_ids: bool, overwrite: bool) -> Result<Outcome, StoreError> {
    let packed = Parcel::key(&records.codec, &line.key, keys_are_ids)
        .and_then(|key| Parcel::pack(&records.codec, key, &line.session, line.expires_at));
    let parcel = match packed {
        Ok(parcel) => parcel,
        Err(why) => return Ok(Outcome::Failed(why)),
    };
    if parcel.expires_at <= records.clock.now() {
        return Ok(Outcome::Expired);
    }
    for _ in 0..TRIES {
        let (expected, outcome) = match transfer::find(records, &parcel.key).await? {
            Found::Gone => (Expected::Absent, Outcome::Imported),
            Found::There(_) | Found::Unreadable(_) if !overwrite => return Ok(Outcome::Skipped),
            Found::There(stored) if parcel.is(&stored.session) => return Ok(Outcome::Skipped),
            Found::There(stored) => (Expected::Version(stored.version), Outcome::Replaced),
            Found::Unreadable(version) => (Expected::Version(version), Outcome::Replaced),
        };
        match records.store.save(&parcel.key, expected, parcel.value.clone(), parcel.expires_at).await {
            Ok(Saved::Stored(_)) => return Ok(outcome),
            Ok(Saved::Conflict) => {}
            Err(StoreError::TooLarge) => return Ok(Outcome::Failed(Unfit::TooLarge)),
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome::Failed(Unfit::Contended))
}

struct Lines {
    input: Box<dyn BufRead>,
    /// Of the line that was read last, from 1.
    number: u64,
}

impl Lines {
    /// Without its end; `None` after the last one.
    fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = (&mut self.input).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        self.number += 1;
        if read == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {} has no end", self.number)));
        }
        // What is no text is no line of an export either.
        Ok(Some(String::from_utf8(line).unwrap_or_default()))
    }
}
