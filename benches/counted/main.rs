//! Counts the instructions of each step under callgrind and holds them against those in `counts.toml`. See README.md.

#[path = "../steps/mod.rs"]
mod steps;

mod callgrind;
mod counts;

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use clap::Parser;

use self::counts::{Comparison, Counts};
use self::steps::Step;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(bin_name = "cargo bench --profile counted --bench counted --")]
struct Arguments {
    /// Only the steps whose name has one of these in it.
    steps: Vec<String>,
    /// Writes what was counted to counts.toml, for a commit that says why.
    #[arg(long)]
    accept: bool,
    /// What callgrind starts: takes this one step.
    #[arg(long, hide = true)]
    run: Option<String>,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match compare(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn compare(arguments: &Arguments) -> Result<bool, Error> {
    if let Some(name) = &arguments.run {
        let step = steps::all().find(|step| step.name == name).ok_or("there is no such step")?;
        callgrind::take(step);
        return Ok(true);
    }
    callgrind::check_profile()?;
    let wanted = |step: &&Step| {
        arguments.steps.is_empty() || arguments.steps.iter().any(|part| step.name.contains(part.as_str()))
    };
    let steps: Vec<&Step> = steps::all().filter(wanted).collect();
    let counted = Counts::new(count(&steps)?)?;
    if arguments.accept {
        counted.write(arguments.steps.is_empty())?;
    }
    let comparison = Comparison::new(&Counts::read()?, &counted, arguments.steps.is_empty());
    println!("{comparison}");
    Ok(comparison.is_well())
}

/// What each step costs, several at once: counts do not depend on who else is running.
fn count(steps: &[&Step]) -> Result<Vec<(&'static str, u64)>, Error> {
    let left = Mutex::new(steps.iter());
    let take = || {
        let mut counted = Vec::new();
        while let Some(step) = { left.lock().expect("nobody panics with it").next() } {
            counted.push((step.name, callgrind::count(step.name)?));
        }
        Ok::<_, Error>(counted)
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(take)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().map_err(|_| "counting panicked")??);
        }
        Ok(all)
    })
}
