//! Counts as they are committed, and how others compare with them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::Error;
use super::steps;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counted/counts.toml");

const HEADING: &str = "# Instructions of each step, and what they were counted with. Written by
#     cargo bench --profile counted --bench counted -- --accept

";

/// How much dearer a step may become unseen, in percent; also how much cheaper before the counts should be renewed.
const TOLERANCE: f64 = 5.0;

#[derive(Deserialize, Serialize)]
pub struct Counts {
    with: BTreeMap<String, String>,
    instructions: BTreeMap<String, u64>,
}

impl Counts {
    pub fn new(counted: Vec<(&'static str, u64)>) -> Result<Self, Error> {
        let instructions = counted.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Ok(Self { with: tools()?, instructions })
    }

    pub fn read() -> Result<Self, Error> {
        let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        Ok(toml::from_str(&text)?)
    }

    /// Writes these into the file: instead of what is there, or if they are not `all`, beside it.
    pub fn write(&self, all: bool) -> Result<(), Error> {
        let mut instructions = self.instructions.clone();
        if !all {
            for (name, count) in Self::read()?.instructions {
                instructions.entry(name).or_insert(count);
            }
        }
        let counts = Self { with: self.with.clone(), instructions };
        fs::write(FILE, format!("{HEADING}{}", toml::to_string(&counts)?))?;
        Ok(())
    }
}

/// What counts depend on beside the sources.
fn tools() -> Result<BTreeMap<String, String>, Error> {
    let says = |command: &str, argument: &str| {
        let output = Command::new(command).arg(argument).output().map_err(|error| format!("{command}: {error}"))?;
        Ok::<_, Error>(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    Ok(BTreeMap::from([
        ("architecture".to_owned(), std::env::consts::ARCH.to_owned()),
        ("libc".to_owned(), says("getconf", "GNU_LIBC_VERSION")?),
        ("rustc".to_owned(), says("rustc", "--version")?),
        ("valgrind".to_owned(), says("valgrind", "--version")?),
    ]))
}

/// How what was counted now differs from what is in the file.
pub struct Comparison {
    /// Name, in the file, now.
    rows: Vec<(String, Option<u64>, Option<u64>)>,
    /// What was counted with something else then: its name, then, now.
    tools: Vec<(String, String, String)>,
}

impl Comparison {
    /// Of `all` steps, or only of those that were counted now.
    pub fn new(committed: &Counts, counted: &Counts, all: bool) -> Self {
        let row = |name: &str| {
            (name.to_owned(), committed.instructions.get(name).copied(), counted.instructions.get(name).copied())
        };
        let mut rows: Vec<_> = steps::all().map(|step| row(step.name)).filter(|(.., now)| now.is_some()).collect();
        if all {
            let gone = committed.instructions.keys().filter(|name| !counted.instructions.contains_key(*name));
            rows.extend(gone.map(|name| row(name)));
        }
        let differs = |(tool, now): (&String, &String)| {
            let then = committed.with.get(tool).map_or("unknown", String::as_str);
            (then != now).then(|| (tool.clone(), then.to_owned(), now.clone()))
        };
        Self { rows, tools: counted.with.iter().filter_map(differs).collect() }
    }

    pub fn is_well(&self) -> bool {
        !self.is_comparable() || self.rows.iter().all(|&(_, then, now)| Verdict::of(then, now).is_well())
    }

    /// Another instruction set has other counts.
    fn is_comparable(&self) -> bool {
        self.tools.iter().all(|(tool, ..)| tool != "architecture")
    }
}

enum Verdict {
    Cheaper,
    Dearer,
    Gone,
    New,
    Same,
}

impl Verdict {
    fn of(then: Option<u64>, now: Option<u64>) -> Self {
        match (then, now) {
            (None, _) => Self::New,
            (_, None) => Self::Gone,
            (Some(then), Some(now)) if change(then, now) > TOLERANCE => Self::Dearer,
            (Some(then), Some(now)) if change(then, now) < -TOLERANCE => Self::Cheaper,
            _ => Self::Same,
        }
    }

    const fn is_well(&self) -> bool {
        matches!(self, Self::Cheaper | Self::Same)
    }

    const fn as_str(&self) -> &'static str {
        match self {
            Self::Cheaper => "  cheaper",
            Self::Dearer => "  DEARER",
            Self::Gone => "  GONE",
            Self::New => "  NEW",
            Self::Same => "",
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn change(then: u64, now: u64) -> f64 {
    (now as f64 / then as f64 - 1.0) * 100.0
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        writeln!(formatter, "{:<32} {:>10} {:>10} {:>9}", "instructions", "committed", "now", "change")?;
        for (name, then, now) in &self.rows {
            let change = then.zip(*now).map_or_else(String::new, |(then, now)| format!("{:+.1} %", change(then, now)));
            let verdict = Verdict::of(*then, *now);
            let (then, now) = (number(*then), number(*now));
            writeln!(formatter, "{name:<32} {then:>10} {now:>10} {change:>9}{}", verdict.as_str())?;
        }
        for (tool, then, now) in &self.tools {
            writeln!(formatter, "\nThe committed counts are of another {tool}: \"{then}\", here \"{now}\".")?;
        }
        let any = |which: fn(&Verdict) -> bool| self.rows.iter().any(|&(_, then, now)| which(&Verdict::of(then, now)));
        if !self.is_comparable() {
            writeln!(formatter, "\nCounts of another instruction set are not judged.")?;
        } else if any(|verdict| !verdict.is_well()) {
            writeln!(
                formatter,
                "\nWhat is dearer by more than {TOLERANCE} % has to be mended, or accepted with its reason; what is new or \
                 gone has to be accepted: cargo bench --profile counted --bench counted -- --accept"
            )?;
        } else if any(|verdict| matches!(verdict, Verdict::Cheaper)) {
            writeln!(
                formatter,
                "\nCheaper by more than {TOLERANCE} %: so that it stays so, renew the counts with \
                 cargo bench --profile counted --bench counted -- --accept"
            )?;
        }
        Ok(())
    }
}
