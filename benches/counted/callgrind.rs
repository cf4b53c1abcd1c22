//! This program under callgrind, which counts what one function and all that it calls execute.

use std::any::Any;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;
use super::steps::{Run, Step};

/// Enough to even out what hash tables draw at random.
const TIMES: u64 = 100;

/// The function that is counted, as callgrind matches names.
const COUNTED: &str = "*counted_part*";

/// Takes a step, so that only the step itself is in the counted function.
pub fn take(step: &Step) {
    // What is made at its first use, such as a table, is not the step's.
    (step.prepare)(1)();
    let times = usize::try_from(TIMES).expect("is small");
    drop(counted_part((step.prepare)(times)));
}

#[inline(never)]
fn counted_part(run: Run) -> Box<dyn Any> {
    // Anything behind the call, so that it does not become a jump out of this function.
    black_box(run())
}

/// Instructions of one time of a step, by a process of its own: what other steps leave behind in the heap changes nothing.
pub fn count(name: &str) -> Result<u64, Error> {
    let program = std::env::current_exe()?;
    let report = report(&program, name)?;
    let ended = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", &format!("--toggle-collect={COUNTED}")])
        .arg(format!("--callgrind-out-file={}", report.display()))
        .arg(&program)
        .args(["--run", name])
        // What lies in the environment shifts the stack.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .output()
        .map_err(|error| format!("valgrind cannot be started: {error}"))?;
    if !ended.status.success() {
        return Err(format!("{name}: {}\n{}", ended.status, String::from_utf8_lossy(&ended.stderr)).into());
    }
    let text = fs::read_to_string(&report)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("the report has no total")?;
    let total: u64 = total.trim().parse()?;
    if total == 0 {
        return Err(format!("{name}: nothing was counted").into());
    }
    Ok((total + TIMES / 2) / TIMES)
}

/// Where callgrind's report of a step lies afterwards, for `callgrind_annotate`.
fn report(program: &Path, name: &str) -> Result<PathBuf, Error> {
    let folder = profile_folder(program).ok_or("this program has no place")?.join("callgrind");
    fs::create_dir_all(&folder)?;
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Ok(folder.join(format!("{name}.out")))
}

/// # Errors
/// When this was built with another profile than the counts in the file were.
pub fn check_profile() -> Result<(), Error> {
    let program = std::env::current_exe()?;
    if profile_folder(&program).is_some_and(|folder| folder.ends_with("counted")) {
        return Ok(());
    }
    Err("counts of another profile do not compare: cargo bench --profile counted --bench counted".into())
}

/// `target/PROFILE`, where this program is in `deps`.
fn profile_folder(program: &Path) -> Option<&Path> {
    program.parent()?.parent()
}
