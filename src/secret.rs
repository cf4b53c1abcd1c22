//! Secrets: written in the file, kept in another file, or in the environment; never printed.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// A secret as the configuration has it: `"text"`, `{ file = "…" }` or `{ env = "NAME" }`.
///
/// Reading the configuration resolves it, so a missing file or variable is an error at the place where it is named.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Written")]
pub struct Secret(String);

impl Secret {
    /// The secret itself: for the code that needs it, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a secret: \"text\", { file = \"PATH\" } or { env = \"NAME\" }")]
enum Written {
    Elsewhere(Place),
    Inline(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Place {
    Env(String),
    File(PathBuf),
}

impl TryFrom<Written> for Secret {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let text = match written {
            Written::Inline(text) => text,
            Written::Elsewhere(Place::Env(name)) => std::env::var(&name)
                .map_err(|error| format!("the environment variable {name:?} cannot be used: {error}"))?,
            Written::Elsewhere(Place::File(path)) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
                // Editors and `echo` end a file with a newline that nobody means as part of the secret.
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
        };
        if text.is_empty() { Err("a secret must not be empty".to_owned()) } else { Ok(Self(text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Settings {
        key: Secret,
    }

    #[test]
    fn comes_from_text_file_or_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from file\n").unwrap();
        let from_file = format!("key = {{ file = {:?} }}", file.path());
        for (text, expected) in
            [("key = 'inline'", "inline"), (&from_file, "from file"), ("key = { env = 'CARGO_PKG_NAME' }", "cloakroom")]
        {
            let settings: Settings = toml::from_str(text).unwrap();
            assert_eq!(settings.key.expose(), expected);
            assert!(!format!("{settings:?}").contains(expected));
        }
    }

    #[test]
    fn a_missing_source_is_an_error_that_names_it() {
        for (text, named) in [
            ("key = { env = 'CLOAKROOM_NOT_SET' }", "CLOAKROOM_NOT_SET"),
            ("key = { file = '/nonexistent/secret' }", "/nonexistent/secret"),
            ("key = ''", "empty"),
            ("key = 3", "{ env ="),
            ("key = { vault = 'x' }", "{ env ="),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
