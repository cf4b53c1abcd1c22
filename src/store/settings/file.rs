//! What only `engine = "file"` takes.

use std::path::Path;

use super::{Format, StoreSettings};
use crate::problem::Problem;
use crate::store::file::names::escaped;

/// Bytes of a file's name, in which a key has 64 beside it.
const LONGEST_PREFIX: usize = 160;

impl StoreSettings {
    /// The directory that the sessions are in.
    pub(in crate::store) fn directory(&self) -> Result<&Path, Problem> {
        let Some(path) = self.path.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
            let message = "engine = \"file\" needs one: write a directory such as \"/var/lib/cloakroom/sessions\"";
            return Err(Problem::new("store.path", "nothing", message));
        };
        if self.format != Format::Django {
            if self.prefix.is_empty() {
                let message = "must not be empty: it tells our files from others in the directory";
                return Err(Problem::new("store.prefix", "\"\"", message));
            }
            if escaped(&self.prefix).len() > LONGEST_PREFIX {
                let message = "is too long for the name of a file: write a short word";
                return Err(Problem::new("store.prefix", &self.prefix, message));
            }
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> StoreSettings {
        toml::from_str(&format!("engine = 'file'\n{text}")).unwrap()
    }

    #[test]
    fn what_can_be_meant_is_accepted() {
        for text in ["path = '/var/lib/cloakroom/sessions'\nfsync = false", "path = '/tmp'\nformat = 'django'"] {
            read(text).check().unwrap_or_else(|problem| panic!("{text}: {problem}"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key_and_without_its_password() {
        for (text, key) in [
            ("", "store.path"),
            ("path = ''", "store.path"),
            ("path = 'x'\nprefix = ''", "store.prefix"),
            ("path = 'x'\nprefix = '////////////////////////////////////////////////////////////'", "store.prefix"),
            ("path = 'x'\nurl = 'redis://:hunter2@a'", "store.url"),
            ("path = 'x'\ncache_max_age = 60", "store.cache_max_age"),
        ] {
            let settings = read(text);
            let problem = settings.check().expect_err(text);
            assert_eq!(problem.key, key, "{text}: {problem}");
            assert!(!format!("{problem} {problem:?} {settings:?}").contains("hunter2"), "{text}: {problem}");
        }
    }
}
