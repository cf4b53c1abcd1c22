//! Answers on standard output: lines for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

use super::CommandError;

/// Where answers go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// On standard output.
    pub(super) fn tell(self, answer: &(impl Display + Serialize)) -> Result<(), CommandError> {
        let text = self.text(answer).map_err(CommandError::Output)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(CommandError::Output)
    }

    /// On standard error, where standard output has something else.
    pub(super) fn tell_aside(self, answer: &(impl Display + Serialize)) -> Result<(), CommandError> {
        let text = self.text(answer).map_err(CommandError::Output)?;
        writeln!(io::stderr(), "{text}").map_err(CommandError::Output)
    }

    fn text(self, answer: &(impl Display + Serialize)) -> io::Result<String> {
        Ok(if self.json { serde_json::to_string(answer)? } else { answer.to_string() })
    }
}

/// Numbers under one another, those that are not zero and the first.
pub(super) fn table(rows: &[(&str, u64)]) -> String {
    let shown = rows.iter().enumerate().filter(|(place, (_, count))| *place == 0 || *count > 0);
    let lines = shown.map(|(_, (what, count))| format!("{count:>10}  {what}"));
    lines.collect::<Vec<_>>().join("\n")
}
