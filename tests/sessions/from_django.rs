//! Moving away from a Django application: what it left in its table or its cache comes over, and visitors keep their
//! cookies. What Django wrote was recorded from Django itself.

use std::path::Path;
use std::time::Duration;

use cloakroom::clock::Timestamp;
use cloakroom::session::expiry::Expiry;
use cloakroom::session::id::SessionId;
use cloakroom::sessions::Records;
use jiff::tz::TimeZone;
use redis::Commands as _;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::place::Place;
use crate::process::Process;
use crate::program::{Said, run, text};
use crate::redis_server::RedisServer;

const ROWS: &str = include_str!("../data/django/02_session_encode.json");
const PICKLES: &str = include_str!("../data/django/09_pickle.json");
const TABLE: &str = "CREATE TABLE \"django_session\" (\"session_key\" varchar(40) NOT NULL PRIMARY KEY, \
     \"session_data\" text NOT NULL, \"expire_date\" datetime NOT NULL)";
const SECRET: &str = "django-insecure-vector-key-A-0123456789abcdefghijklmnop";
const HOUR: Duration = Duration::from_secs(3600);

fn vector(file: &str, name: &str) -> Value {
    let mut file: Value = serde_json::from_str(file).unwrap();
    let vectors = file["vectors"].as_array_mut().unwrap();
    vectors.iter_mut().find(|vector| vector["name"] == name).unwrap_or_else(|| panic!("{name}")).take()
}

/// As Django makes them.
fn id(number: u32) -> SessionId {
    SessionId::parse(format!("{number:q>32}").as_bytes()).unwrap()
}

fn copy(from: &Path, to: &Place, options: &[&str]) -> Said {
    let said = run(&[&["copy", "--from", text(from), "--to", text(&to.file)], options].concat());
    for shown in [&said.out, &said.err] {
        assert!(!shown.contains("qqqq"), "an id: {shown}");
        assert!(!shown.contains("_auth_user") && !shown.contains(SECRET), "a secret: {shown}");
    }
    said
}

/// What a backend behind the new proxy gets from visitors who have these cookies.
fn seen(to: &Place, ids: &[SessionId]) -> Vec<Option<Value>> {
    let backend = Backend::obedient();
    let store = format!("[store]\nurl = 'sqlite://{}'\ntimeout = '20s'\n", to.database.display());
    let process = Process::start(&backend.url(), "", &store);
    let ask = |id: &SessionId| {
        let mut visitor = process.visitor();
        visitor.jar.insert("sessionid".to_owned(), id.as_str().to_owned());
        assert_eq!(visitor.ask(&[]).status, 200);
        let session = backend.last().session();
        if session.is_some() {
            assert_eq!(visitor.ask(&["X-Session-Set: {\"came\":\"over\"}"]).status, 200);
            assert_eq!(visitor.session_id(), Some(id.as_str()), "the cookie stays as it is");
            assert_eq!(visitor.ask(&[]).status, 200);
            assert_eq!(backend.last().session().unwrap()["came"], "over");
        }
        session
    };
    ids.iter().map(ask).collect()
}

/// The deadline and the expiry of a session, before a proxy has touched it.
async fn lives(to: &Records, id: &SessionId) -> (Timestamp, Expiry) {
    let key = to.codec.key(id);
    let record = to.store.load(&key).await.unwrap().unwrap();
    (record.expires_at, to.codec.decode(&key, &record).unwrap().expiry)
}

#[tokio::test]
async fn a_table_comes_over_with_data_and_deadlines() {
    let folder = tempfile::tempdir().unwrap();
    let from = Place::new(folder.path(), "from", &format!("format = 'django'\ndjango.secret_key = '{SECRET}'"));
    let to = Place::new(folder.path(), "to", "");
    let database = rusqlite::Connection::open(&from.database).unwrap();
    database.execute_batch(TABLE).unwrap();
    let now = jiff::Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond()).unwrap();
    let mut expected = Vec::new();
    for (number, name) in (1..).zip(["A_auth_login", "A_auth_login_full", "A_nested", "A_compress_boundary_compressed"])
    {
        let vector = vector(ROWS, name);
        let deadline = now + HOUR * number;
        let text = deadline.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let row = (id(number).as_str().to_owned(), vector["expected"].as_str().unwrap().to_owned(), text);
        database.execute("INSERT INTO django_session VALUES (?1, ?2, ?3)", row).unwrap();
        let mut data = vector["input"].clone();
        let expiry = data.as_object_mut().unwrap().remove("_session_expiry");
        let expiry = expiry.map_or(Expiry::Default, |age| Expiry::After(Duration::from_secs(age.as_u64().unwrap())));
        expected.push((id(number), deadline.as_millisecond(), expiry, data));
    }
    assert!(expected.iter().any(|(_, _, expiry, _)| *expiry != Expiry::Default));
    database.execute_batch("CREATE TABLE before AS SELECT * FROM django_session").unwrap();

    let said = copy(&from.file, &to, &[]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(said.out, "         4  copied\n         4  verified\n");
    let records = to.open().await;
    for (id, deadline, expiry, _) in &expected {
        assert_eq!(lives(&records, id).await, (Timestamp::from_millis(*deadline), *expiry));
    }
    let again = copy(&from.file, &to, &["--json"]);
    assert_eq!((again.code, &again.json()["same"]), (Some(0), &json!(4)), "{again:?}");
    let ids: Vec<_> = expected.iter().map(|(id, ..)| id.clone()).collect();
    let data: Vec<_> = expected.into_iter().map(|(.., data)| Some(data)).collect();
    assert_eq!(seen(&to, &ids), data);
    let changed = "SELECT count(*) FROM (SELECT * FROM django_session EXCEPT SELECT * FROM before)";
    assert_eq!(database.query_row(changed, (), |row| row.get::<_, u32>(0)).unwrap(), 0, "the source is only read");
}

#[tokio::test]
async fn a_cache_comes_over_but_for_what_only_python_reads() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let to = Place::new(folder.path(), "to", "");
    let from = folder.path().join("from.toml");
    let store = format!("engine = 'redis'\nurl = '{}/1'\nformat = 'django'\ntimeout = '20s'\n", redis.tcp_url());
    std::fs::write(&from, format!("upstreams.app.servers = ['http://127.0.0.1:9']\n[store]\n{store}")).unwrap();
    let mut look = redis.look();
    redis::cmd("SELECT").arg(1).exec(&mut look).unwrap();
    let name = |number| format!(":1:django.contrib.sessions.cache{}", id(number).as_str());
    let names = ["auth_login_p2", "auth_login_full_p5", "nested_p4", "python_only_set_p5"];
    let vectors = names.map(|name| vector(PICKLES, name));
    let value = |vector: &Value| hex::decode(vector["hex"].as_str().unwrap()).unwrap();
    for (number, vector) in (1..).zip(&vectors) {
        let _: () = look.set_ex(name(number), value(vector), 3600).unwrap();
    }
    let deadline = |look: &mut redis::Connection, number| -> i64 { look.pexpire_time(name(number)).unwrap() };

    let said = copy(&from, &to, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let table =
        "         3  copied\n         1  failed: has data that the target's format cannot hold\n         3  verified\n";
    assert!(said.out.starts_with(table), "{said:?}");
    let records = to.open().await;
    for number in 1..=3 {
        let (there, expiry) = lives(&records, &id(number)).await;
        assert!((there.as_millis() - deadline(&mut look, number)).abs() < 1000, "{there:?}");
        let own = Expiry::After(Duration::from_secs(300));
        assert_eq!(expiry, if number == 2 { own } else { Expiry::Default });
    }
    let again = copy(&from, &to, &["--json"]);
    assert_eq!(again.code, Some(1));
    assert_eq!((&again.json()["same"], &again.json()["failed"]), (&json!(3), &json!({ "format": 1 })), "{again:?}");
    let ids = [1, 2, 3, 4].map(id);
    let mut data = vectors.clone().map(|vector| vector.get("expected").cloned());
    data[1].as_mut().unwrap().as_object_mut().unwrap().remove("_session_expiry");
    data[3] = None;
    assert_eq!(seen(&to, &ids), data);
    for (number, vector) in (1..).zip(&vectors) {
        assert_eq!(look.get::<_, Vec<u8>>(name(number)).unwrap(), value(vector), "the source is only read");
    }
}
