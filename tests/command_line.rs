//! The command line as scripts see it: what it prints and with which code it ends.

use std::process::{Command, Output};

const GOOD: &str = "[upstreams.app]\nservers = ['http://127.0.0.1:9']\n";

fn cloakroom(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloakroom")).args(arguments).output().unwrap()
}

/// Checks `text` as a file `cloakroom.toml`: code, standard output, standard error.
fn check(text: &str, options: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cloakroom.toml"), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
        .args(["check", "--config", "cloakroom.toml"])
        .args(options)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_good_configuration_is_0() {
    for options in [&[][..], &["--offline"]] {
        let (code, said, complained) = check(GOOD, options);
        assert_eq!((code, complained.as_str()), (Some(0), ""));
        assert!(said.starts_with("cloakroom.toml: the configuration is good"), "{said}");
    }
}

#[test]
fn a_wrong_configuration_is_78_and_names_every_fault() {
    let (code, said, complained) = check(&format!("{GOOD}[server]\nlisten = []\n[session]\nmax_age = 0\n"), &[]);
    assert_eq!((code, said.as_str()), (Some(78), ""));
    let lines: Vec<&str> = complained.lines().collect();
    assert_eq!(lines.len(), 2, "{complained}");
    assert!(lines[0].starts_with("cloakroom.toml:4:10: server.listen = "), "{complained}");
    assert!(lines[1].starts_with("cloakroom.toml:6:11: session.max_age = "), "{complained}");
}

#[test]
fn a_store_that_cannot_be_opened_is_69_unless_it_is_left_alone() {
    let text = format!("{GOOD}[store]\nengine = 'redis'\nurl = 'redis://:hunter2@127.0.0.1:1/0'\n");
    let (code, said, complained) = check(&text, &[]);
    assert_eq!((code, said.as_str()), (Some(69), ""), "{complained}");
    assert!(complained.starts_with("the store cannot be opened: "), "{complained}");
    assert!(!complained.contains("hunter2"), "{complained}");
    let (code, ..) = check(&text, &["--offline"]);
    assert_eq!(code, Some(0));
}

#[test]
fn a_file_that_is_not_there_is_78_and_says_why() {
    let output = cloakroom(&["check", "--config", "/nonexistent/cloakroom.toml"]);
    let complained = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(complained.contains("/nonexistent/cloakroom.toml cannot be read: No such file"), "{complained}");
}

#[test]
fn the_example_is_good() {
    let (code, _, complained) = check(include_str!("../config.example.toml"), &["--offline"]);
    assert_eq!(code, Some(0), "{complained}");
}

#[test]
fn serve_refuses_what_check_refuses() {
    let output = cloakroom(&["serve", "--upstream", "ftp://127.0.0.1"]);
    let complained = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{complained}");
    assert!(complained.starts_with("--upstream: \"ftp://127.0.0.1\": "), "{complained}");
}
