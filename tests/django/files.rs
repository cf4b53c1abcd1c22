//! `SESSION_ENGINE = "django.contrib.sessions.backends.file"`.

use std::path::Path;

use serde_json::{Value, json};

use crate::shared::{Plain, share};
use crate::site::{SECRET_KEY, Site, Version};

pub fn settings(directory: &Path) -> Value {
    json!({ "SESSION_ENGINE": "django.contrib.sessions.backends.file", "SESSION_FILE_PATH": directory })
}

pub fn store(directory: &Path) -> String {
    format!(
        "[store]\nengine = 'file'\npath = '{}'\nformat = 'django'\ntimeout = '60s'\n\
         [store.django]\nsecret_key = '{SECRET_KEY}'\n",
        directory.display()
    )
}

fn share_files(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(version, settings(directory.path()));
    share(&site, &store(directory.path()));
}

#[test]
fn files() {
    share_files(Version::Newest);
}

#[test]
fn files_with_django_4_2() {
    share_files(Version::V42);
}

#[test]
fn files_are_called_after_the_cookie() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = settings(directory.path());
    all["SESSION_COOKIE_NAME"] = json!("sid");
    let site = Site::start(Version::Newest, all);
    let key = site.work(None, &json!([["set", "a", 1]])).expect("a key");
    let plain = Plain::new(&format!("[cookie]\nname = 'sid'\n{}", store(directory.path())));
    let mut visitor = plain.proxy.visitor();
    visitor.jar.insert("sid".to_owned(), key.clone());
    visitor.ask(&["X-Session-Set: b=1"]);
    assert_eq!(plain.backend.last().session(), Some(json!({ "a": 1 })));
    assert_eq!(site.items(&key), json!({ "a": 1, "b": "1" }));
}
