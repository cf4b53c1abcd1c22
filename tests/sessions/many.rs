//! count, clear-expired, export, import, copy: all sessions of a store, by the real program.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom::session::{Retired, Session};
use cloakroom::sessions::Records;
use cloakroom::store::{Expected, Saved};
use serde_json::{Value, json};

use crate::place::{HOUR, Place, get, id, put, session};
use crate::program::{command, run, run_with, text};

/// Nothing here takes so long; it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than one page of keys.
const MANY: u32 = 1_234;

/// So many sessions that live, with different data.
async fn fill(records: Arc<Records>, count: u32) {
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..count {
        let (store, codec, clock) = (records.store.clone(), records.codec.clone(), records.clock.clone());
        under_way.spawn(async move {
            let key = codec.key(&id(number));
            let value = codec.encode(
                &key,
                &session(&format!("{{\"n\":{number},\"f\":1.5,\"l\":[\"\\u00e4\",null]}}"), clock.now()),
                clock.now(),
            );
            let saved = store.save(&key, Expected::Absent, value, clock.now().plus(HOUR)).await.unwrap();
            assert!(matches!(saved, Saved::Stored(_)));
        });
    }
    under_way.join_all().await;
}

/// A record that has expired, and one that no format reads.
async fn spoil(records: Arc<Records>) {
    let now = records.clock.now();
    let key = records.codec.key(&id(1_000_001));
    let value = records.codec.encode(&key, &session("{}", now), now);
    // The store itself takes nothing that has expired.
    let soon = now.plus(Duration::from_millis(1));
    let _ = records.store.save(&key, Expected::Absent, value, soon).await.unwrap();
    while records.clock.now() <= soon {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let key = records.codec.key(&id(1_000_002));
    let _ = records.store.save(&key, Expected::Absent, "not ours".into(), now.plus(HOUR)).await.unwrap();
}

fn no_ids(text: &str) {
    assert!(!text.contains("000000000000"), "an id: {text}");
}

#[tokio::test]
async fn count_tells_the_living_and_clear_expired_removes_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "a", "");
    let records = place.open().await;
    fill(records.clone(), MANY).await;
    spoil(records.clone()).await;
    let now = records.clock.now();
    let retired = Some(Retired { until: now.plus(HOUR), successor: records.codec.key(&id(1)) });
    put(&records, &records.codec.key(&id(1_000_003)), &Session { retired, ..session("{}", now) }).await;

    let config = text(&place.file);
    let said = run(&["--config", config, "count"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(
        said.out,
        "      1234  live\n         1  old keys of them\n         1  expired\n         1  unreadable\n"
    );
    let said = run(&["--config", config, "count", "--json"]);
    assert_eq!(said.json(), json!({ "live": MANY, "retired": 1, "expired": 1, "unreadable": 1 }));

    let said = run(&["--config", config, "clear-expired", "--json"]);
    assert_eq!((said.code, said.json()), (Some(0), json!({ "expired": 1 })));
    assert_eq!(place.rows(), MANY + 2);
    let said = run(&["--config", config, "clear-expired"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "         0  expired sessions were removed\n"));
}

/// What a `--config FILE` export writes.
fn export(place: &Place, file: &Path) -> String {
    let said = run(&["--config", text(&place.file), "--json", "export", "--output", text(file)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.json(), json!({ "exported": MANY, "expired": 0, "unreadable": 0 }));
    std::fs::read_to_string(file).unwrap()
}

fn sorted(export: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = export.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn an_export_comes_back_whole_in_another_store() {
    let folder = tempfile::tempdir().unwrap();
    let from = Place::new(folder.path(), "from", "");
    let to = Place::new(folder.path(), "to", "format = 'msgpack'");
    fill(from.open().await, MANY).await;
    let file = folder.path().join("sessions.jsonl");
    let exported = export(&from, &file);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    no_ids(&exported);
    let on_output = run(&["--config", text(&from.file), "export"]);
    assert_eq!(sorted(&on_output.out), sorted(&exported));
    let refused = run(&["--config", text(&from.file), "export", "--output", text(&file)]);
    assert_eq!(refused.code, Some(1), "nothing is overwritten");

    let import = |options: &[&str]| run(&[&["--config", text(&to.file), "import", text(&file)], options].concat());
    let said = import(&["--json"]);
    let counts = |imported: u32, replaced: u32, skipped: u32| json!({ "imported": imported, "replaced": replaced, "skipped": skipped, "expired": 0, "failed": 0, "complete": true });
    assert_eq!((said.code, said.json()), (Some(0), counts(MANY, 0, 0)), "{}", said.err);
    let back = export(&to, &folder.path().join("back.jsonl"));
    assert_eq!(sorted(&back), sorted(&exported));

    let records = to.open().await;
    let [changed, lost] = [1, 2].map(|number| records.codec.key(&id(number)));
    crate::place::replace(&records, &changed, &session("{\"later\":1}", records.clock.now())).await;
    records.store.delete(&lost).await.unwrap();
    assert_eq!(import(&["--json"]).json(), counts(1, 0, MANY - 1));
    assert_eq!(get(&records, &changed).await.unwrap().data.as_str(), "{\"later\":1}");
    assert_eq!(import(&["--json", "--overwrite"]).json(), counts(0, 1, MANY - 1));
    assert_eq!(get(&records, &changed).await.unwrap().data.value("n"), Some("1"));
    assert!(import(&[]).out.contains("      1234  skipped, for they are there already\n"));
}

#[tokio::test]
async fn a_bad_line_is_named_and_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| Place::new(folder.path(), name, ""));
    fill(from.open().await, 3).await;
    let exported = run(&["--config", text(&from.file), "export"]).out;
    let lines: Vec<&str> = exported.lines().collect();
    assert_eq!(lines.len(), 5, "{exported}");
    let newer = lines[2].replacen("\"v\":1", "\"v\":9", 1);
    let secret = "{\"key\":\"sesame\"";
    let all = [lines[0], lines[1], &newer, secret, lines[3], lines[4], ""].join("\n");
    let import = |text_in: &str| run_with(&["--config", text(&to.file), "--json", "import", "-"], text_in);
    let said = import(&all);
    assert_eq!(said.code, Some(1));
    assert_eq!((&said.json()["imported"], &said.json()["failed"]), (&json!(2), &json!(2)), "{said:?}");
    assert!(said.err.contains("-:3: its session cannot be read: written by a newer version, as format 9"), "{said:?}");
    assert!(said.err.contains("-:4: not a line of an export"), "{said:?}");
    assert!(!said.err.contains("sesame"), "{said:?}");
    assert_eq!(to.rows(), 2);

    let said = import(&[lines[0], lines[1], lines[2], lines[3]].join("\n"));
    assert_eq!((said.code, &said.json()["imported"], &said.json()["complete"]), (Some(1), &json!(1), &json!(false)));
    for (first, why) in [
        (lines[1], "is no export of sessions"),
        ("", "is no export of sessions"),
        ("{\"cloakroom_sessions\":2,\"keys_are_ids\":false}", "was written by a newer version"),
    ] {
        let said = import(&format!("{first}\n{}\n", lines[1]));
        assert_eq!(said.code, Some(78), "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
}

fn copy(from: &Place, to: &Place, options: &[&str]) -> crate::program::Said {
    run(&[&["copy", "--from", text(&from.file), "--to", text(&to.file)], options].concat())
}

#[tokio::test]
async fn copy_brings_everything_over_and_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let from = Place::new(folder.path(), "from", "format = 'msgpack'");
    let to = Place::new(folder.path(), "to", "");
    fill(from.open().await, MANY).await;
    let said = copy(&from, &to, &[]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(said.out, "      1234  copied\n      1234  verified\n");
    let [one, other] = [(&from, "a"), (&to, "b")].map(|(place, name)| export(place, &folder.path().join(name)));
    assert_eq!(sorted(&one), sorted(&other));
    let again = copy(&from, &to, &["--json"]);
    let expected = json!({
        "copied": 0, "same": MANY, "newer": 0, "expired": 0, "ended": 0, "failed": {}, "verified": MANY, "missing": 0,
        "different": 0,
    });
    assert_eq!((again.code, again.json()), (Some(0), expected));

    spoil(from.open().await).await;
    let said = copy(&from, &to, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("         1  failed: cannot be read\n"), "{said:?}");
    let said = copy(&from, &to, &["--json"]);
    assert_eq!((said.code, &said.json()["failed"]), (Some(1), &json!({ "unreadable": 1 })));
    no_ids(&(said.out + &said.err));
}

#[tokio::test]
async fn a_copy_that_was_killed_goes_on() {
    const COUNT: u32 = 4_000;
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| Place::new(folder.path(), name, ""));
    fill(from.open().await, COUNT).await;
    let mut child = command(&["copy", "--from", text(&from.file), "--to", text(&to.file)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !to.database.exists() || to.rows() == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing was copied");
        std::thread::sleep(Duration::from_millis(1));
    }
    // From here on it cannot write, so that it is killed in the middle.
    let other = rusqlite::Connection::open(&to.database).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    let before = to.rows();
    assert!(before > 0 && before < COUNT, "{before}");

    let said = copy(&from, &to, &["--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let done = said.json();
    assert_eq!((&done["same"], &done["verified"]), (&json!(before), &json!(COUNT)), "{done}");
    assert_eq!(done["copied"], json!(COUNT - before));
    assert_eq!(to.rows(), COUNT);
}

#[tokio::test]
async fn on_a_terminal_progress_is_a_line_that_goes_and_elsewhere_there_is_none_so_soon() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "a", "");
    fill(place.open().await, 20_000).await;
    let program = env!("CARGO_BIN_EXE_cloakroom");
    let line = format!("{program} sessions --config {} count --json", text(&place.file));
    // `script` gives the program a terminal.
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (progress, answer) = said.rsplit_once("\r\x1b[K").unwrap_or_else(|| panic!("no progress: {said:?}"));
    assert!(progress.contains("\r\x1b[Kcounted: "), "{said:?}");
    assert!(!progress.contains('\n'), "{said:?}");
    assert_eq!(serde_json::from_str::<Value>(answer.trim()).unwrap()["live"], 20_000);
    let piped = run(&["--config", text(&place.file), "count", "--json"]);
    assert!(!(piped.out + &piped.err).contains('\x1b'));
}
