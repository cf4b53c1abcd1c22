//! `manage.py clearsessions` and `cloakroom sessions clear-expired` on copies of the same store.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::databases::{self, sqlite};
use crate::files;
use crate::site::{Site, Version};

/// Some sessions that are over and some that are not; all keys.
fn sessions_of_all_ages(site: &Site) -> Vec<String> {
    let long_ago = json!({ "$datetime": "2020-01-01T00:00:00+00:00" });
    let far_off = json!({ "$datetime": "2070-01-01T00:00:00+00:00" });
    let ages = [json!(-10), json!(300), json!(0), json!(null), long_ago, far_off, json!(-1)];
    let make = |age| site.work(None, &json!([["set", "a", 1], ["set_expiry", age]])).expect("a key");
    ages.into_iter().map(make).collect()
}

/// Runs `cloakroom sessions clear-expired` with this `[store]`.
fn clear_expired(directory: &Path, store: &str) {
    let file = directory.join("cloakroom.toml");
    fs::write(&file, format!("upstreams.app.servers = ['http://127.0.0.1:9']\n{store}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    let output = command.args(["sessions", "clear-expired", "--config"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn rows_that_are_over_go() {
    let directory = tempfile::tempdir().unwrap();
    let (file, copy) = (directory.path().join("site.sqlite3"), directory.path().join("copy.sqlite3"));
    let site = Site::start(Version::Newest, json!({ "DATABASES": sqlite(&file) }));
    site.manage(&["migrate", "sessions"]);
    let keys = sessions_of_all_ages(&site);
    fs::copy(&file, &copy).unwrap();
    site.manage(&["clearsessions"]);
    clear_expired(directory.path(), &databases::store(&format!("sqlite://{}", copy.display()), ""));
    let left = |file: &Path| -> Vec<String> {
        let connection = rusqlite::Connection::open(file).unwrap();
        let mut rows = connection.prepare("SELECT session_key FROM django_session ORDER BY 1").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(left(&file).len(), keys.len() - 3);
    assert_eq!(left(&file), left(&copy));
}

#[test]
fn files_that_are_over_go() {
    let directory = tempfile::tempdir().unwrap();
    let [folder, copy] = ["sessions", "copy"].map(|name| directory.path().join(name));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&copy).unwrap();
    let site = Site::start(Version::Newest, files::settings(&folder));
    let keys = sessions_of_all_ages(&site);
    for path in paths(&folder) {
        // Untouched for longer than a session without an expiry of its own lives: only those go.
        let three_weeks_ago = fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(21 * 86_400);
        let to = copy.join(path.file_name().unwrap());
        fs::copy(&path, &to).unwrap();
        for path in [&path, &to] {
            let file = File::options().write(true).open(path).unwrap();
            file.set_times(FileTimes::new().set_modified(three_weeks_ago)).unwrap();
        }
    }
    site.manage(&["clearsessions"]);
    clear_expired(directory.path(), &files::store(&copy));
    let left = |folder: &Path| -> BTreeSet<String> {
        let names = paths(folder).into_iter().map(|path| path.file_name().unwrap().to_owned().into_string().unwrap());
        names.filter_map(|name| name.strip_prefix("sessionid").map(str::to_owned)).collect()
    };
    let [over, far_off] = [&keys[1], &keys[5]].map(Clone::clone);
    // Django leaves a file whose session ends so many seconds after it was written for ever.
    assert_eq!(left(&folder), BTreeSet::from([over, far_off.clone()]));
    assert_eq!(left(&copy), BTreeSet::from([far_off]));
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}
