//! The command line: what was asked for, done by the library; and what the outcome is as an exit code.
#![forbid(unsafe_code)]
#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use cloakroom::clock::Clock;
use cloakroom::command::arguments::Sessions;
use cloakroom::command::{self, CommandError, Verdict};
use cloakroom::config::{Config, ConfigError};
use cloakroom::demo;
use cloakroom::metrics::Metrics;
use cloakroom::server::{self, ServerError};
use cloakroom::store::{self, StoreError};
use cloakroom::telemetry::{self, Causes};
use mimalloc::MiMalloc;

/// A request takes some eighty pieces of memory and gives them back; this costs a third of what the system's allocator
/// takes for it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A reverse proxy that gives server-side sessions to backends that have none.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer visitors until told to stop.
    Serve(Serve),
    /// Tell what is wrong with a configuration.
    ///
    /// Opens the store, binds no address, asks no backend. Exit codes: 0 all is well, 78 the configuration is wrong,
    /// 69 the store cannot be opened.
    Check {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Leave the store alone.
        #[arg(long)]
        offline: bool,
    },
    /// Show what it does: a small shop, and the proxy before it.
    Demo {
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: String,
    },
    /// Look at sessions, end, count, export, import and copy them, in any store.
    Sessions(Sessions),
}

#[derive(Args, Debug)]
struct Serve {
    /// All settings; config.example.toml shows them.
    #[arg(long, value_name = "FILE", required_unless_present = "upstream", conflicts_with_all = ["upstream", "listen"])]
    config: Option<PathBuf>,
    #[arg(long, value_name = "URL", help = "Without a file: the backend, such as http://127.0.0.1:9000")]
    upstream: Option<String>,
    /// Without a file: where to answer [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS", requires = "upstream")]
    listen: Option<String>,
}

/// Why the command failed; each kind has an exit code that scripts can tell apart, those of `sysexits.h`.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the demonstration cannot start")]
    Demo(#[source] std::io::Error),
    #[error("the log cannot be opened")]
    Log(#[source] std::io::Error),
    #[error("the system gives no runtime")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
}

impl Failure {
    fn code(&self) -> ExitCode {
        match self {
            Self::Command(error) => ExitCode::from(error.code()),
            Self::Config(_) => ExitCode::from(78),
            Self::Store(_) | Self::Server(ServerError::Store(_)) => ExitCode::from(69),
            Self::Demo(_) | Self::Log(_) | Self::Runtime(_) | Self::Server(_) => ExitCode::FAILURE,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(wanted) => serve(&wanted),
        Command::Check { config, offline } => check(&config, offline),
        Command::Demo { listen } => show(&listen),
        Command::Sessions(wanted) => match command::run(&wanted) {
            Ok(Verdict::No) => return ExitCode::FAILURE,
            done => done.map(drop).map_err(Failure::from),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", Causes(&failure));
            failure.code()
        }
    }
}

fn serve(wanted: &Serve) -> Result<(), Failure> {
    let config = match (&wanted.config, &wanted.upstream) {
        (Some(file), _) => Config::load(file)?,
        (None, upstream) => Config::for_upstream(upstream.as_deref().unwrap_or_default(), wanted.listen.as_deref())?,
    };
    start(config, |_| {})
}

fn check(file: &Path, offline: bool) -> Result<(), Failure> {
    let config = Config::load(file)?;
    if offline {
        println!("{}: the configuration is good; the store was left alone", file.display());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(store::open(&config.store, config.codec.foreign(), Clock::system(), Arc::new(Metrics::new())))?;
    println!("{}: the configuration is good, and the store can be opened", file.display());
    Ok(())
}

fn show(listen: &str) -> Result<(), Failure> {
    let shop = demo::open_shop().map_err(Failure::Demo)?;
    let config = Config::for_upstream(&format!("http://{shop}"), Some(listen))?;
    start(config, |addresses| {
        for address in addresses {
            println!("{}", demo::greeting(*address, shop));
        }
    })
}

fn start(config: Config, listening: impl FnOnce(&[SocketAddr])) -> Result<(), Failure> {
    let _flush_at_the_end = telemetry::install(&config.log).map_err(Failure::Log)?;
    Ok(server::run(config, listening)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_takes_a_file_or_an_upstream() {
        for (line, good) in [
            ("serve --config a.toml", true),
            ("serve --upstream http://h", true),
            ("serve --upstream http://h --listen 127.0.0.1:1", true),
            ("serve", false),
            ("serve --listen 127.0.0.1:1", false),
            ("serve --config a.toml --upstream http://h", false),
            ("serve --config a.toml --listen 127.0.0.1:1", false),
            ("check --config a.toml", true),
            ("check --config a.toml --offline", true),
            ("check", false),
            ("demo", true),
            ("demo --listen 127.0.0.1:1", true),
            ("sessions", false),
            ("sessions --config a.toml count", true),
            ("sessions count --config a.toml --json", true),
            ("sessions --config a.toml show", false),
            ("sessions --config a.toml show -", true),
            ("sessions copy --from a.toml", false),
            ("sessions copy --from a.toml --to b.toml", true),
            ("", false),
        ] {
            let words = std::iter::once("cloakroom").chain(line.split_whitespace());
            assert_eq!(Arguments::try_parse_from(words).is_ok(), good, "{line}");
        }
    }
}
