//! What only `engine = "db"` takes.

use std::path::Path;

use super::{StoreSettings, shown};
use crate::problem::Problem;
use crate::secret::Secret;

const DB_URL: &str = "sqlite://cloakroom.sqlite3";

impl StoreSettings {
    /// The file behind `sqlite://PATH`.
    pub(in crate::store) fn database_path(&self) -> Result<&Path, Problem> {
        let url = self.url.as_ref().map_or(DB_URL, Secret::expose);
        let problem = |message| Problem::new("store.url", shown(url), message);
        let path = url.strip_prefix("sqlite://").ok_or_else(|| {
            problem(
                "is not a database we know: write sqlite://PATH, such as sqlite:///var/lib/cloakroom/sessions.sqlite3",
            )
        })?;
        match path {
            "" => Err(problem("names no file: write sqlite://PATH")),
            ":memory:" => Err(problem("would be another database for every connection: write engine = \"memory\"")),
            _ if path.contains('?') => Err(problem("takes no options: write sqlite://PATH alone")),
            _ => Ok(Path::new(path)),
        }
    }
}
