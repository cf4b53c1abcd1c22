//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `cloakroom sessions`.
#[derive(Args, Debug)]
pub struct Sessions {
    /// The configuration of the proxy whose sessions are meant.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Answer in JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Remove expired sessions now, as the proxy does now and then by itself.
    ClearExpired,
    /// Tell whether there is a session. Exit code 0: there is, 1: there is not.
    Exists {
        #[arg(help = KEY, value_name = "KEY")]
        key: String,
    },
    /// Show a session: its data, and when it was created, last saved and will expire. Exit code 1: there is none.
    Show {
        #[arg(help = KEY, value_name = "KEY")]
        key: String,
    },
    /// End a session, as a logout does. Exit code 1: there was none.
    Delete {
        #[arg(help = KEY, value_name = "KEY")]
        key: String,
    },
    /// Count the sessions that live.
    Count,
    /// Write all sessions that live as lines of JSON.
    Export {
        /// The file to make, for its owner alone; else standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// With format = "django" the lines have the sessions' ids in them: who reads them can be any visitor. This says
        /// that you want that.
        #[arg(long)]
        with_ids: bool,
    },
    /// Store what an export has written; sessions that are there already are left alone.
    ///
    /// To go on after an interruption, run it again. Exit code 1: some lines could not be stored; each is named.
    Import {
        /// The export; - for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Replace sessions that are there already.
        #[arg(long)]
        overwrite: bool,
    },
    /// Make the table for engine = "db" if it is not there, as the proxy does at its start unless told not to
    /// (`auto_migrate = false`).
    Migrate,
    /// Bring all sessions from one store into another, while proxies use both.
    ///
    /// A session that is newer at the target is left alone. Then everything is looked at again: what changed meanwhile is
    /// brought over, what ended at the source is ended at the target, and what is not as it should be is told. To go on
    /// after an interruption, run it again. Exit code 1: not every session is at the target.
    Copy {
        /// The configuration whose sessions are copied.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The configuration whose store gets them.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

const KEY: &str = "The session's id as it stands in the cookie (what Django calls session_key); - reads it from standard \
                   input, so that it stays out of the shell's history";
