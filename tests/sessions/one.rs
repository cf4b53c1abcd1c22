//! exists, show, delete: one session, named by its id.

use cloakroom::clock::Timestamp;
use cloakroom::session::{Predecessor, Retired, Session};
use serde_json::json;

use crate::place::{HOUR, Place, get, id, put, session};
use crate::program::{run, run_with, text};

const DATA: &str = r#"{"user":"Ada","n":1.10}"#;

#[tokio::test]
async fn show_tells_data_and_times_and_no_id() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "a", "");
    let records = place.open().await;
    let saved = Timestamp::from_millis(records.clock.now().as_millis() / 1000 * 1000);
    let old = Timestamp::from_millis(1_600_000_000_123);
    put(&records, &records.codec.key(&id(1)), &Session { created_at: old, ..session(DATA, saved) }).await;
    let config = text(&place.file);

    let said = run(&["--config", config, "show", id(1).as_str()]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.out.starts_with("created  2020-09-13T12:26:40.123Z\nsaved    2"), "{}", said.out);
    assert!(said.out.ends_with(&format!("\nexpiry   default\n{DATA}\n")), "{}", said.out);

    let json_said = run_with(&["--config", config, "--json", "show", "-"], &format!("{}\n", id(1).as_str()));
    let answer = json_said.json();
    assert_eq!(json_said.code, Some(0));
    assert_eq!(answer["data"], json!({ "user": "Ada", "n": 1.10 }));
    assert!(json_said.out.contains(&format!("\"data\":{DATA}")), "as it is stored: {}", json_said.out);
    let time = |name: &str| answer[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert_eq!((time("created"), time("saved")), (old.as_millis(), saved.as_millis()));
    assert!(time("expires") >= saved.plus(HOUR).as_millis());

    let key = records.codec.key(&id(1));
    for said in [said, json_said] {
        let all = said.out + &said.err;
        assert!(!all.contains(id(1).as_str()) && !all.contains(key.as_str()), "{all}");
    }
}

#[tokio::test]
async fn the_exit_code_tells_found_from_not_found_and_from_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "a", "");
    let records = place.open().await;
    put(&records, &records.codec.key(&id(1)), &session(DATA, records.clock.now())).await;
    let config = text(&place.file);
    let (there, other, digest) = (id(1), id(2), id(1).digest());
    for (action, key, input, code) in [
        ("exists", there.as_str(), "", 0),
        ("exists", "-", there.as_str(), 0),
        ("exists", other.as_str(), "", 1),
        ("show", other.as_str(), "", 1),
        ("delete", other.as_str(), "", 1),
        // What the store calls it opens nothing.
        ("exists", digest.as_str(), "", 2),
        ("show", "-", "", 2),
        ("delete", "-", "no id", 2),
    ] {
        for json in [&[][..], &["--json"]] {
            let said = run_with(&[&["--config", config, action, key], json].concat(), input);
            assert_eq!(said.code, Some(code), "{action}: {said:?}");
            assert!(!said.out.contains("00000") && !said.err.contains("00000"), "no id: {said:?}");
            match (code, json) {
                (2, _) => assert!(said.out.is_empty() && said.err.contains("32 characters"), "{said:?}"),
                (_, []) => assert!(said.out.contains("such a session") || said.out.contains("no such"), "{said:?}"),
                _ => assert!(said.json().is_object(), "{said:?}"),
            }
        }
    }
    let gone = Place::new(folder.path(), "b", "engine = 'redis'\nformat = 'native'");
    let redis = std::fs::read_to_string(&gone.file)
        .unwrap()
        .replace(&format!("sqlite://{}", gone.database.display()), "redis://:hunter2@127.0.0.1:1");
    std::fs::write(&gone.file, redis).unwrap();
    let said = run(&["--config", text(&gone.file), "count"]);
    assert_eq!(said.code, Some(69), "{said:?}");
    assert!(said.err.contains("the store cannot be opened") && !said.err.contains("hunter2"), "{said:?}");
}

#[tokio::test]
async fn delete_ends_a_session_with_all_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "a", "");
    let records = place.open().await;
    let now = records.clock.now();
    let [old, new, other] = [1, 2, 3].map(|number| records.codec.key(&id(number)));
    let until = now.plus(HOUR);
    let retired = Some(Retired { until, successor: new.clone() });
    put(&records, &old, &Session { retired, ..session(DATA, now) }).await;
    let predecessors = vec![Predecessor { key: old.clone(), until }];
    put(&records, &new, &Session { predecessors, ..session(DATA, now) }).await;
    put(&records, &other, &session(DATA, now)).await;

    let said = run(&["--config", text(&place.file), "delete", "--json", id(2).as_str()]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "{\"deleted\":true}\n", ""));
    assert_eq!((get(&records, &old).await, get(&records, &new).await), (None, None));
    assert!(get(&records, &other).await.is_some());
    let again = run(&["--config", text(&place.file), "delete", id(2).as_str()]);
    assert_eq!((again.code, again.out.as_str()), (Some(1), "there is no such session\n"));
}

#[test]
fn what_no_other_process_reaches_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let upstream = "upstreams.app.servers = ['http://127.0.0.1:9']\n";
    let carried = format!("engine = 'signed_cookies'\nkeys = ['{}']", "a1".repeat(32));
    for (store, why) in [("engine = 'memory'", "in the memory of the proxy"), (&carried, "in the visitors' browsers")] {
        std::fs::write(&file, format!("{upstream}[store]\n{store}\n")).unwrap();
        for arguments in [
            &["--config", text(&file), "count"][..],
            &["--config", text(&file), "clear-expired"],
            &["copy", "--from", text(&file), "--to", text(&file)],
        ] {
            let said = run(arguments);
            assert_eq!(said.code, Some(78), "{said:?}");
            assert!(said.err.contains(why), "{said:?}");
        }
    }
    std::fs::write(&file, format!("{upstream}session.max_age = 0\n")).unwrap();
    let said = run(&["--config", text(&file), "count"]);
    assert_eq!(said.code, Some(78));
    assert!(said.err.contains("session.max_age"), "{said:?}");
    for arguments in [&["count"][..], &["--config", text(&file), "copy", "--from", "a", "--to", "b"]] {
        assert_eq!(run(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn migrate_makes_the_table_that_the_proxy_must_not_make() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "a", "auto_migrate = false");
    let config = text(&place.file);
    let said = run(&["--config", config, "count"]);
    assert_eq!(said.code, Some(69), "{said:?}");
    assert!(said.err.contains("`cloakroom sessions migrate`"), "{said:?}");
    for _ in 0..2 {
        let said = run(&["--config", config, "migrate"]);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "the table is there\n", ""));
    }
    assert_eq!(run(&["--config", config, "count", "--json"]).json()["live"], 0);
}

#[test]
fn what_would_need_or_tell_ids_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Place::new(folder.path(), "ours", "");
    let django = folder.path().join("django.toml");
    let text_of = "upstreams.app.servers = ['http://127.0.0.1:9']\n\
                   [store]\nengine = 'redis'\nurl = 'redis://127.0.0.1:1'\nformat = 'django'\n";
    std::fs::write(&django, text_of).unwrap();
    let said = run(&["copy", "--from", text(&ours.file), "--to", text(&django)]);
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.err.contains("nobody can get the ids back"), "{said:?}");
    let said = run(&["--config", text(&django), "export"]);
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.err.contains("--with-ids"), "{said:?}");
    let said = run(&["--config", text(&django), "export", "--with-ids"]);
    assert_eq!(said.code, Some(69), "then it is the store that fails: {said:?}");
}
