//! What is wrong with a configuration, said so that it can be put right: where, which key, which value, what would do.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use toml::de::DeTable;

use crate::problem::Problem;

use super::place;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// A line for each fault that was found: the first one of what is no TOML, has an unknown key or a value of the
    /// wrong type; else the first of every part, in the order of the file.
    #[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Fault>),
}

/// One thing to put right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// `file:line:column`, or the option of the command line.
    place: String,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)
    }
}

/// The text of a configuration and what people call it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub origin: Origin<'a>,
    pub text: &'a str,
}

#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// Each line of the text stands for the option of that place in the list.
    CommandLine(&'a [&'a str]),
    File(&'a str),
}

impl Source<'_> {
    pub(super) fn faults(&self, problems: Vec<Problem>) -> ConfigError {
        let document = DeTable::parse(self.text).map(toml::Spanned::into_inner).unwrap_or_default();
        let mut placed: Vec<_> =
            problems.into_iter().map(|problem| (place::offset_of(&document, &problem.key), problem)).collect();
        placed.sort_by_key(|(offset, _)| *offset);
        let faults = placed.into_iter().map(|(offset, problem)| match self.origin {
            Origin::CommandLine(_) => {
                Fault { place: self.place(offset), message: format!("{}: {}", problem.value, problem.message) }
            }
            Origin::File(_) => Fault { place: self.place(offset), message: problem.to_string() },
        });
        ConfigError::Wrong(faults.collect())
    }

    pub(super) fn unreadable(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start);
        let entry = DeTable::parse(self.text).ok().and_then(|document| place::entry_at(document.get_ref(), offset));
        let message = match entry {
            Some(entry) => {
                let value = entry.value.and_then(|range| self.text.get(range));
                explain(&entry.key, value, error.message())
            }
            None => explain("", None, error.message()),
        };
        ConfigError::Wrong(vec![Fault { place: self.place(offset), message }])
    }

    fn place(&self, offset: usize) -> String {
        let (line, column) = place::line_and_column(self.text, offset);
        match self.origin {
            Origin::CommandLine(options) => options.get(line - 1).unwrap_or(&"command line").to_string(),
            Origin::File(name) => format!("{name}:{line}:{column}"),
        }
    }
}

/// The message of serde or toml about a key, in words that say what would be right.
fn explain(key: &str, value: Option<&str>, message: &str) -> String {
    if let Some((unknown, known)) = split(message, "unknown field `") {
        return format!("{key}: there is no such key; {}", suggest(unknown, &known));
    }
    if let Some((unknown, known)) = split(message, "unknown variant `") {
        return format!("{key} = {unknown:?}: {}", suggest(unknown, &known));
    }
    let message = match message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(missing) => format!("{missing} is missing"),
        None => without_value(message.trim_end()).replace('\n', ", "),
    };
    match value.filter(|value| is_printable(key, value)) {
        _ if key.is_empty() => message,
        Some(value) => format!("{key} = {value}: {message}"),
        None => format!("{key}: {message}"),
    }
}

/// What is wrong, without the string that serde repeats: whether that may be shown is not for serde to say.
fn without_value(message: &str) -> Cow<'_, str> {
    let repeated = message.strip_prefix("invalid type: string \"").and_then(|rest| rest.rsplit_once("\", expected "));
    repeated.map_or(message.into(), |(_, expected)| format!("invalid type: string, expected {expected}").into())
}

/// What stands in the first backquotes after `start`, and in all others.
fn split<'a>(message: &'a str, start: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let (unknown, rest) = message.strip_prefix(start)?.split_once('`')?;
    Some((unknown, rest.split('`').skip(1).step_by(2).collect()))
}

/// `did you mean …?` when one of `known` is near, else all of them.
pub(super) fn suggest(unknown: &str, known: &[&str]) -> String {
    let near = known.iter().map(|name| (distance(unknown, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 2 && distance < name.len() => format!("did you mean {name}?"),
        Some(_) => format!("expected one of {}", known.join(", ")),
        None => "nothing is expected here".to_owned(),
    }
}

/// How many letters must be put in, taken out or exchanged to make one the other (Levenshtein).
#[expect(clippy::indexing_slicing, reason = "the row is one longer than the word whose letters count its places")]
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (column, candidate) in other.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Secrets and what may hold one stay out of messages, and so does what would fill the screen.
fn is_printable(key: &str, value: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    let secret =
        ["encrypt", "key", "password", "secret", "url"].iter().any(|word| name.contains(word)) || value.contains('@');
    !secret && value.len() <= 60 && !value.contains(char::is_control)
}
