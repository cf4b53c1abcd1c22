//! What an operator does with sessions from the command line, over any engine and format.

pub mod arguments;
pub mod copy;
mod count;
mod export;
mod import;
mod one;
mod progress;
mod report;
mod transfer;
mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use self::arguments::{Action, Sessions};
use self::report::Output;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::sessions::Records;
use crate::store::{self, Engine, StoreError, StoreSettings};
use crate::telemetry;

pub use self::progress::Progress;
pub use self::transfer::Unfit;

/// An operator has more patience than a visitor: a question to the store may take at least so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a command could not do what it is for. What it found is a [`Verdict`].
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{} cannot be used", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the log cannot be opened")]
    Log(#[source] io::Error),
    /// The configuration is good, and what was asked for is impossible with it.
    #[error("{0}")]
    Impossible(String),
    #[error("the answer cannot be written")]
    Output(#[source] io::Error),
    #[error("the system gives no runtime")]
    Runtime(#[source] io::Error),
    /// After so much was done as was said before; running it again goes on.
    #[error("the store broke off; run it again when it answers")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Usage(&'static str),
    #[error("the store cannot be opened")]
    Unopened(#[source] StoreError),
}

impl CommandError {
    /// The exit code: those of `sysexits.h`, and 2 as for any command line that cannot be meant.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Impossible(_) => 78,
            Self::Store(_) | Self::Unopened(_) => 69,
            Self::Usage(_) => 2,
            Self::File { .. } | Self::Log(_) | Self::Output(_) | Self::Runtime(_) => 1,
        }
    }
}

/// What scripts learn from the exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Found; or everything went well.
    Yes,
    /// Not found; or not everything went well, and the answer says what.
    No,
}

impl Verdict {
    const fn of(good: bool) -> Self {
        if good { Self::Yes } else { Self::No }
    }
}

/// Does what was asked for.
///
/// # Errors
/// See [`CommandError`].
pub fn run(wanted: &Sessions) -> Result<Verdict, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Runtime)?;
    runtime.block_on(act(wanted))
}

async fn act(wanted: &Sessions) -> Result<Verdict, CommandError> {
    let output = Output::new(wanted.json);
    let config = match (&wanted.config, &wanted.action) {
        (None, Action::Copy { from, to }) => {
            let (from, to) = (load(from)?, load(to)?);
            let _flush_at_the_end = telemetry::install(&from.log).map_err(CommandError::Log)?;
            copy::refuse(&from.codec, &to.codec)?;
            let (from, to) = (open(from).await?, open(to).await?);
            let done = copy::copy(&from, &to, &mut Progress::new()).await?;
            output.tell(&done)?;
            return Ok(Verdict::of(done.is_whole()));
        }
        (Some(_), Action::Copy { .. }) => return Err(CommandError::Usage("copy takes --from and --to, not --config")),
        (None, _) => return Err(CommandError::Usage("--config FILE is missing: it says where the sessions are")),
        (Some(file), _) => load(file)?,
    };
    let _flush_at_the_end = telemetry::install(&config.log).map_err(CommandError::Log)?;
    if let Action::Migrate = wanted.action {
        store::migrate(&settings(&config), config.codec.foreign()).await.map_err(CommandError::Unopened)?;
        output.tell(&Migrated { table: true })?;
        return Ok(Verdict::Yes);
    }
    if let Action::Export { with_ids, .. } = wanted.action {
        export::refuse(&config.codec, with_ids)?;
    }
    let records = open(config).await?;
    match &wanted.action {
        Action::ClearExpired => count::clear_expired(&records, output).await,
        // Taken above.
        Action::Copy { .. } | Action::Migrate => Ok(Verdict::No),
        Action::Count => count::count(&records, output).await,
        Action::Delete { key } => one::delete(&records, &one::read_key(key)?, output).await,
        Action::Exists { key } => one::exists(&records, &one::read_key(key)?, output).await,
        Action::Export { output: file, .. } => export::export(&records, file.as_deref(), output).await,
        Action::Import { file, overwrite } => import::import(&records, file, *overwrite, output).await,
        Action::Show { key } => one::show(&records, &one::read_key(key)?, output).await,
    }
}

/// A configuration whose sessions lie where another process can reach them.
fn load(file: &Path) -> Result<Config, CommandError> {
    let config = Config::load(file)?;
    let why = match config.store.engine {
        Engine::Memory => "are in the memory of the proxy that runs; no other process can reach them",
        Engine::SignedCookies => "are in the visitors' browsers; there is nothing here to look at, end or copy",
        Engine::CachedDb | Engine::Db | Engine::File | Engine::Memcached | Engine::Redis => return Ok(config),
    };
    let engine = config.store.engine.name();
    Err(CommandError::Impossible(format!("{}: the sessions of engine = \"{engine}\" {why}", file.display())))
}

/// `[store]`, with an operator's patience.
fn settings(config: &Config) -> StoreSettings {
    StoreSettings { timeout: config.store.timeout.max(PATIENCE), ..config.store.clone() }
}

async fn open(config: Config) -> Result<Arc<Records>, CommandError> {
    let settings = settings(&config);
    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()));
    let store = store::open(&settings, config.codec.foreign(), clock.clone(), Arc::clone(&metrics))
        .await
        .map_err(CommandError::Unopened)?;
    Ok(Arc::new(Records { store, codec: config.codec, clock, metrics, rules: Arc::new(config.session), near: None }))
}

#[derive(Serialize)]
struct Migrated {
    table: bool,
}

impl fmt::Display for Migrated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the table is there")
    }
}
