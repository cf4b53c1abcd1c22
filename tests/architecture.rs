//! The plan of the house, held against the sources: who may use whom, and what stays pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Module, and what of ours it may use. An arrow that is missing here fails, and so does one that nothing uses.
const ARROWS: [(&str, &[&str]); 20] = [
    ("admin", &["metrics", "store", "telemetry"]),
    ("app", &["clock", "cookies", "metrics", "routes", "sessions", "upstream"]),
    ("clock", &[]),
    ("command", &["clock", "config", "metrics", "session", "sessions", "store", "telemetry"]),
    ("config", &["admin", "cookies", "problem", "routes", "server", "session", "store", "telemetry", "upstream"]),
    ("cookies", &["clock", "problem", "secret", "session", "signing", "units"]),
    ("demo", &[]),
    ("metrics", &[]),
    ("problem", &[]),
    ("proxy", &["app", "metrics", "routes", "session", "sessions", "store", "telemetry", "upstream"]),
    ("routes", &["problem", "units"]),
    ("secret", &[]),
    (
        "server",
        &[
            "admin",
            "app",
            "clock",
            "config",
            "cookies",
            "metrics",
            "problem",
            "proxy",
            "routes",
            "sessions",
            "store",
            "telemetry",
            "units",
            "upstream",
        ],
    ),
    ("session", &["clock", "problem", "secret", "signing", "store", "units"]),
    ("sessions", &["clock", "metrics", "routes", "session", "store", "telemetry"]),
    ("signing", &[]),
    ("store", &["clock", "metrics", "problem", "secret", "units"]),
    ("telemetry", &[]),
    ("units", &[]),
    ("upstream", &["problem", "telemetry", "units"]),
];

/// Modules that decide and never wait, and what would give them away.
const PURE: [&str; 10] = [
    "src/cookies",
    "src/routes.rs",
    "src/session",
    "src/signing.rs",
    "src/upstream/balance.rs",
    "src/upstream/retry.rs",
    "src/proxy/accept.rs",
    "src/proxy/client.rs",
    "src/proxy/headers.rs",
    "src/units.rs",
];
const IMPURE: [&str; 8] =
    ["async ", ".await", "tokio", "SystemTime::now", "Instant::now", "std::fs", "std::net::Tcp", "std::env"];

fn sources(root: &Path) -> Vec<PathBuf> {
    if root.is_file() {
        return vec![root.to_owned()];
    }
    let entries = std::fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).flat_map(|path| sources(&path)).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    files
}

/// The code of a file, without comments and without its tests.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .fold(String::new(), |all, line| all + line + "\n")
}

fn is_test_file(file: &Path) -> bool {
    file.to_string_lossy().ends_with("tests.rs") || file.ends_with("config/example.rs")
}

/// The module of the crate that a file belongs to: its own name below `src`, or its folder's.
fn module(file: &Path) -> String {
    let below = file.strip_prefix("src").unwrap().components().next().unwrap();
    Path::new(&below).file_stem().unwrap().to_string_lossy().into_owned()
}

fn used(code: &str) -> BTreeSet<String> {
    let names = code.split("crate::").skip(1);
    names
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_arrow_is_in_the_plan_and_every_one_in_the_plan_is_used() {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut read = 0;
    for file in sources(Path::new("src")) {
        let module = module(&file);
        // `lib.rs` is the map and `main.rs` the door: they may use everything.
        if is_test_file(&file) || module == "lib" || module == "main" {
            continue;
        }
        read += 1;
        let mut used = used(&code(&file));
        used.remove(&module);
        arrows.entry(module).or_default().append(&mut used);
    }
    assert!(read > 50, "only {read} files were read");
    let plan = ARROWS.map(|(module, uses)| (module.to_owned(), uses.iter().map(ToString::to_string).collect()));
    let plan: BTreeMap<String, BTreeSet<String>> = plan.into_iter().collect();
    assert_eq!(arrows, plan);
}

#[test]
fn what_decides_does_not_wait() {
    let mut read = 0;
    for file in PURE.iter().flat_map(|place| sources(Path::new(place))).filter(|file| !is_test_file(file)) {
        read += 1;
        let code = code(&file);
        for sign in IMPURE {
            assert!(!code.contains(sign), "{} is to be pure and has {sign:?}", file.display());
        }
    }
    assert!(read > 20, "only {read} files were read");
}

#[test]
fn status_codes_are_chosen_in_one_place() {
    let mut read = 0;
    for file in sources(Path::new("src/proxy")).into_iter().chain(sources(Path::new("src/sessions"))) {
        read += 1;
        let choosing = [
            "StatusCode::BAD",
            "StatusCode::SERVICE",
            "StatusCode::INTERNAL",
            "StatusCode::GATEWAY",
            "StatusCode::NOT_FOUND",
        ];
        let chooses = choosing.iter().any(|status| code(&file).contains(status));
        assert!(!chooses || file.ends_with("proxy/error.rs"), "{} chooses a status", file.display());
    }
    assert!(read > 8, "only {read} files were read");
}
