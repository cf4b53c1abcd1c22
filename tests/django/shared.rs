//! What must hold for every engine: Django and a plain backend behind the proxy have the same sessions.

use serde_json::{Map, Value, json};

use crate::backend::Backend;
use crate::proxy::{Proxy, Setup};
use crate::site::Site;
use crate::visitor::Visitor;

/// A plain backend behind a proxy whose `[store]` is what Django uses.
pub struct Plain {
    pub backend: Backend,
    pub proxy: Proxy,
}

impl Plain {
    pub fn new(store: &str) -> Self {
        let backend = Backend::obedient();
        // No test here is about speed, nor about how long a header may be.
        let text = format!(
            "[headers]\nmax_header_bytes = '64KiB'\n[session]\nmax_bytes = '256KiB'\n\
             [session.limits]\nmax_line_bytes = '64KiB'\n{store}"
        );
        let proxy = Setup::new(&backend.url(), &text).start();
        Self { backend, proxy }
    }

    /// A visitor with the key of a session.
    pub fn visitor(&self, key: &str) -> Visitor {
        let mut visitor = self.proxy.visitor();
        visitor.jar.insert("sessionid".to_owned(), key.to_owned());
        visitor
    }

    /// What the backend is told of the session under a key.
    pub fn look(&self, key: &str) -> Option<Value> {
        assert_eq!(self.visitor(key).get("/").status, 200);
        self.backend.last().session()
    }
}

/// The backend answers a visitor with these lines; the visitor's key by then.
pub fn answer(visitor: &mut Visitor, lines: &[&str]) -> Option<String> {
    let answer = visitor.ask(lines);
    assert_eq!(answer.status, 200, "{lines:?}");
    visitor.session_id().map(str::to_owned)
}

/// All that an engine with records on a server does.
pub fn share(site: &Site, store: &str) {
    let plain = Plain::new(store);
    what_django_writes_the_backend_reads_and_changes(site, &plain);
    what_the_backend_writes_django_reads_and_changes(site, &plain);
    both_say_when_it_ends(site, &plain);
    a_new_key_and_an_end_are_the_same_for_both(site, &plain);
    every_kind_of_data_survives_both(site, &plain);
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("not an object: {value}") };
    object
}

fn what_django_writes_the_backend_reads_and_changes(site: &Site, plain: &Plain) {
    let key = site.new_session(&object(json!({ "user": "Ada", "cart": [1, { "coat": 2 }], "gone": true })));
    let mut visitor = plain.visitor(&key);
    visitor.get("/");
    let all = json!({ "user": "Ada", "cart": [1, { "coat": 2 }], "gone": true });
    assert_eq!(plain.backend.last().session(), Some(all));
    let lines = ["X-Session-Set: {\"visits\":1,\"user\":\"Jo\"}", "X-Session-Unset: gone", "X-Session-Incr: visits=2"];
    assert_eq!(answer(&mut visitor, &lines), Some(key.clone()), "the key stays");
    assert_eq!(site.items(&key), json!({ "user": "Jo", "cart": [1, { "coat": 2 }], "visits": 3 }));
    site.work(Some(&key), &json!([["append", "cart", 4], ["del", "user"]]));
    assert_eq!(plain.look(&key), Some(json!({ "cart": [1, { "coat": 2 }, 4], "visits": 3 })));
    answer(&mut visitor, &["X-Session-Action: clear"]);
    assert_eq!(site.items(&key), json!({}));
}

fn what_the_backend_writes_django_reads_and_changes(site: &Site, plain: &Plain) {
    let mut visitor = plain.proxy.visitor();
    let key = answer(&mut visitor, &["X-Session-Set: city=K%C3%B6ln&n=1"]).expect("a key");
    assert_eq!(site.items(&key), json!({ "city": "Köln", "n": "1" }));
    assert_eq!(site.work(Some(&key), &json!([["set", "n", 2]])), Some(key.clone()));
    assert_eq!(plain.look(&key), Some(json!({ "city": "Köln", "n": 2 })));
    assert_eq!(plain.look("nosuchkeynosuchkeynosuchkeynosuch"), None);
    assert!(site.look("nosuchkeynosuchkeynosuchkeynosuch").is_none());
}

fn both_say_when_it_ends(site: &Site, plain: &Plain) {
    let key = site.new_session(&object(json!({ "a": 1 })));
    let mut visitor = plain.visitor(&key);
    let fortnight = 14 * 86_400;
    let cases = [
        ("X-Session-Expiry: 300", 300, false),
        ("X-Session-Set: b=1", 300, false),
        ("X-Session-Expiry: 0", fortnight, true),
        ("X-Session-Expiry: default", fortnight, false),
    ];
    for (line, age, until_the_browser_closes) in cases {
        answer(&mut visitor, &[line]);
        let seen = site.look(&key).expect("a session");
        assert_eq!((seen.age, seen.until_the_browser_closes), (age, until_the_browser_closes), "{line}");
        assert!(seen.items.get("a").is_some(), "{line}");
    }
    // An instant is the same for both, to the second.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(500);
    answer(&mut visitor, &[&format!("X-Session-Expiry: {soon}")]);
    let age = site.look(&key).expect("a session").age;
    assert!((440..=500).contains(&age), "{age}");
    for (operation, told) in [(json!(["set_expiry", 200]), Some(200)), (json!(["set_expiry", 0]), None)] {
        site.work(Some(&key), &json!([operation]));
        let answer = visitor.ask(&["X-Session-Set: c=1"]);
        let cookie = answer.session_cookie().expect("a cookie");
        let age = cookie.split("Max-Age=").nth(1).map(|rest| rest.split(';').next().unwrap().parse::<i64>().unwrap());
        assert_eq!(age, told, "{operation}: {cookie}");
        assert!(!plain.backend.last().header("x-session-data").unwrap().contains("expiry"), "it is no data");
    }
    answer(&mut visitor, &["X-Session-Expiry: Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert!(site.look(&key).is_none());
}

fn a_new_key_and_an_end_are_the_same_for_both(site: &Site, plain: &Plain) {
    let key = site.new_session(&object(json!({ "a": 1 })));
    let mut visitor = plain.visitor(&key);
    let new = answer(&mut visitor, &["X-Session-Action: cycle", "X-Session-Set: {\"_auth_user_id\":\"42\"}"]);
    let new = new.expect("a key");
    assert_ne!(new, key);
    assert!(site.look(&key).is_none(), "the old key opens nothing");
    assert_eq!(site.items(&new), json!({ "a": 1, "_auth_user_id": "42" }));
    let newer = site.work(Some(&new), &json!([["cycle_key"]])).expect("a key");
    assert_eq!(plain.look(&new), None, "the old key opens nothing");
    assert_eq!(plain.look(&newer), Some(json!({ "a": 1, "_auth_user_id": "42" })));
    let mut visitor = plain.visitor(&newer);
    assert_eq!(answer(&mut visitor, &["X-Session-Action: flush"]), None);
    assert!(site.look(&newer).is_none());
    let key = answer(&mut visitor, &["X-Session-Set: a=1"]).expect("a key");
    site.work(Some(&key), &json!([["flush"]]));
    assert_eq!(plain.look(&key), None);
    visitor.ask(&["X-Session-Set: b=1"]);
    assert!(site.look(&key).is_none(), "a late change brought it back");
}

fn every_kind_of_data_survives_both(site: &Site, plain: &Plain) {
    let long: String = "Größe 漢字 😀 \u{7f} \\ \" ' <&> ".repeat(300);
    let data = json!({
        "": "no name", "漢字 😀": "Ünïcödé", "nested": { "list": [[], {}, [{ "deep": [null, true, false] }]] },
        "numbers": [0, -1, 255, 65536, -2_147_483_649_i64, 9_007_199_254_740_993_i64, 1.5, -0.25, 1e22],
        "long": long,
    });
    // A key of nothing cannot be set by a header; Django can.
    let key = site.new_session(&object(data.clone()));
    let mut visitor = plain.visitor(&key);
    visitor.get("/");
    assert_eq!(plain.backend.last().session().as_ref(), Some(&data));
    answer(&mut visitor, &["X-Session-Set: {\"seen\":\"\\ud83d\\ude00\"}"]);
    let mut with_more = data.clone();
    with_more["seen"] = json!("😀");
    assert_eq!(site.items(&key), with_more);

    let mut own = data;
    own.as_object_mut().expect("an object").remove("");
    let ascii = cloakroom::session::json::compact(own.to_string().as_bytes(), 64).expect("JSON");
    let mut visitor = plain.proxy.visitor();
    let key = answer(&mut visitor, &[&format!("X-Session-Set: {ascii}")]);
    assert_eq!(site.items(&key.expect("a key")), own);
}

/// What only Python has, in caches that pickle: the backend is not shown it, and it survives the backend's changes.
pub fn keep_what_only_python_has(site: &Site, store: &str) {
    let plain = Plain::new(store);
    let hidden = json!({
        "when": { "$datetime": "2026-05-04T03:02:01.000999+00:00" }, "price": { "$decimal": "1.10" },
        "own": { "$basket": ["coat"] }, "ids": { "$set": [1, 2] }, "raw": { "$bytes": "00ff" },
        "id": { "$uuid": "12345678-1234-5678-1234-567812345678" }, "left": { "$timedelta": 90.5 },
        "mixed": [1, { "$date": "2026-05-04" }], "pair": { "$tuple": [1, "x"] },
        "numbered": { "$dict": [[1, "one"], [{ "$tuple": [2] }, "two"]] },
    });
    let mut all = hidden.clone();
    all["plain"] = json!([1, 2]);
    let key = site.new_session(&object(all.clone()));
    assert_eq!(site.items(&key), all);
    let mut visitor = plain.visitor(&key);
    visitor.get("/");
    let shown = plain.backend.last().session().expect("a session");
    assert_eq!(shown["plain"], json!([1, 2]));
    assert_eq!(shown.get("own"), None, "{shown}");
    answer(&mut visitor, &["X-Session-Set: n=1", "X-Session-Unset: plain"]);
    let mut left = hidden;
    left["n"] = json!("1");
    assert_eq!(site.items(&key), left);
    let new = answer(&mut visitor, &["X-Session-Action: cycle"]).expect("a key");
    assert_eq!(site.items(&new), left);
    answer(&mut visitor, &["X-Session-Set: own=mine"]);
    left["own"] = json!("mine");
    assert_eq!(site.items(&new), left, "what is overwritten goes");
}
