//! The command line as scripts see it: what it prints and with which code it ends.

#[path = "support/backend.rs"]
mod backend;
#[path = "support/process.rs"]
mod process;
#[path = "support/visitor.rs"]
mod visitor;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Output};

use self::backend::{Backend, Reply};
use self::process::Process;
use self::visitor::Visitor;

const GOOD: &str = "[upstreams.app]\nservers = ['http://127.0.0.1:9']\n";

fn cloakroom(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloakroom")).args(arguments).output().unwrap()
}

/// Checks `text` as a file `cloakroom.toml`: code, standard output, standard error.
fn check(text: &str, options: &[&str]) -> (Option<i32>, String, String) {
    run("check", text, options)
}

/// `command` with `text` as a file `cloakroom.toml`: code, standard output, standard error.
fn run(command: &str, text: &str, options: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cloakroom.toml"), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
        .args([command, "--config", "cloakroom.toml"])
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

#[test]
fn f12_an_empty_prefix_is_refused() {
    let text = format!("{GOOD}[store]\nengine = 'redis'\nurl = 'redis://127.0.0.1:1'\nprefix = ''\n");
    for command in ["check", "serve"] {
        let (code, _, complained) = run(command, &text, &[]);
        assert_eq!(code, Some(78), "{command}: {complained}");
        assert!(complained.starts_with("cloakroom.toml:6:10: store.prefix = "), "{complained}");
    }
}

/// Visitors and operators at these addresses.
fn at(visitors: &str, operators: &str) -> String {
    format!("{GOOD}[store]\nengine = 'memory'\n[server]\nlisten = ['{visitors}']\n[admin]\nlisten = '{operators}'\n")
}

#[test]
fn check_binds_nothing() {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [visitors, operators] = held.each_ref().map(|held| held.local_addr().unwrap().to_string());
    let (code, _, complained) = check(&at(&visitors, &operators), &[]);
    assert_eq!((code, complained.as_str()), (Some(0), ""));
}

#[test]
fn serve_with_an_address_in_use_is_1() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    for (visitors, operators) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", &address)] {
        let (code, said, complained) = run("serve", &at(visitors, operators), &[]);
        assert_eq!((code, said.as_str()), (Some(1), ""), "{complained}");
        assert!(complained.contains(&address), "{complained}");
    }
}

#[test]
fn serve_with_a_store_that_cannot_be_opened_is_69() {
    let server = "[server]\nlisten = ['127.0.0.1:0']\n";
    for store in
        ["engine = 'redis'\nurl = 'redis://:hunter2@127.0.0.1:1/0'", "url = 'sqlite:///nonexistent/cloakroom.sqlite3'"]
    {
        let (code, said, complained) = run("serve", &format!("{GOOD}{server}[store]\n{store}\n"), &[]);
        assert_eq!((code, said.as_str()), (Some(69), ""), "{complained}");
        assert!(complained.contains("the store cannot be opened: "), "{complained}");
        assert!(!complained.contains("hunter2"), "{complained}");
    }
}

#[test]
fn serve_needs_no_file_and_ends_with_0_when_interrupted() {
    let backend = Backend::obedient();
    let arguments = ["serve", "--upstream", &backend.url(), "--listen", "127.0.0.1:0"];
    let mut process = Process::run(tempfile::tempdir().unwrap(), &arguments);
    let mut visitor = process.visitor();
    for visit in 1..3 {
        assert_eq!(visitor.ask(&["X-Session-Incr: n=1"]).text(), "ok");
        visitor.get("/");
        assert_eq!(backend.last().session(), Some(serde_json::json!({ "n": visit })));
    }
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(0), "{:#?}", process.seen);
}

#[test]
fn the_demonstration_counts_visits_where_it_says() {
    let mut process = Process::run(tempfile::tempdir().unwrap(), &["demo", "--listen", "127.0.0.1:0"]);
    // The shop itself stands in the same line, before the proxy.
    let line = process.said(|line| line.contains("http://127.0.0.1:"));
    let (_, said) = line.rsplit_once("http://").unwrap();
    let end = said.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(said.len());
    let mut visitor = Visitor::new(said[..end].parse().unwrap());
    assert_eq!(visitor.proxy, process.address);
    for visit in ["visit 1.", "visit 2."] {
        let answer = visitor.get("/");
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(visit), "no {visit} in {}", answer.text());
        assert!(visitor.session_id().is_some());
    }
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(0), "{:#?}", process.seen);
    assert!(!process.seen.iter().any(|line| line.contains("panicked")), "{:#?}", process.seen);
}

#[test]
fn the_access_log_tells_everything_about_a_request() {
    let backend = Backend::start(|_| Reply::ok("four").status(201).header("X-Session-Set", "a=1"));
    let routes = "[store]\n[[routes]]\npath = '/cart'\nupstream = 'app'\n";
    let mut process = Process::start(&backend.url(), "", routes);
    let mut visitor = process.visitor();
    visitor.get("/cart");
    assert_eq!(process.event(|line| line["target"] == "cloakroom::access")["session"], "none");
    let answer = visitor.send("POST", "/cart/coat?size=xl", &[], b"blue!");
    let line = process.event(|line| line["target"] == "cloakroom::access");
    for (field, value) in [
        ("level", serde_json::json!("INFO")),
        ("method", "POST".into()),
        ("path", "/cart/coat".into()),
        ("status", 201.into()),
        ("received", 5.into()),
        ("sent", 4.into()),
        ("route", "/cart".into()),
        ("session", "active".into()),
        ("client", "127.0.0.1".into()),
        ("request", backend.last().header("x-request-id").unwrap().into()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert_eq!((answer.status, answer.text().as_str()), (201, "four"));
    let [all, upstream, store] = ["duration_us", "upstream_us", "store_us"].map(|field| line[field].as_u64().unwrap());
    assert!(upstream > 0 && store > 0 && upstream + store <= all, "{line}");
    let fields: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields.len(), 15, "the fields above, a time and a target: {fields:?}");
}
