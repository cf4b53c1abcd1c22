use hyper::{Request, Response};
use serde_json::{Value, json};

use super::pages::{Page, Visit, find};
use super::{greeting, web};

fn visit(session: Value, form: &[(&str, &str)]) -> Visit {
    let Value::Object(session) = session else { panic!("a session is an object") };
    Visit { session, form: form.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect() }
}

fn header<'a>(page: &'a Page, name: &str) -> Option<&'a str> {
    page.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_visit_is_counted_and_shown() {
    for (session, shown) in [
        (json!({}), "visit 1."),
        (json!({ "visits": 41 }), "visit 42."),
        (json!({ "visits": "many" }), "visit 1."),
        (json!({ "visits": i64::MAX }), "visit 9223372036854775807."),
    ] {
        let page = find("GET", "/")(&visit(session, &[]));
        assert_eq!(header(&page, "x-session-incr"), Some("visits=1"));
        assert!(page.html.contains(shown), "{}", page.html);
    }
}

#[test]
fn login_names_the_user_and_asks_for_a_new_key() {
    let page = find("POST", "/login")(&visit(json!({}), &[("name", " Zoë & Söhne, GmbH ")]));
    assert_eq!(page.status, 303);
    assert_eq!(header(&page, "x-session-set"), Some("user_id=Zo%C3%AB%20%26%20S%C3%B6hne%2C%20GmbH"));
    assert_eq!(header(&page, "x-session-action"), Some("cycle"));
    for name in ["", "  ", "a\r\nX-Session-Action: flush", &"x".repeat(41)] {
        let page = find("POST", "/login")(&visit(json!({}), &[("name", name)]));
        assert_eq!((page.status, page.headers.len()), (400, 0), "{name}");
    }
}

#[test]
fn logout_ends_the_session() {
    let page = find("POST", "/logout")(&visit(json!({ "user_id": "Ada" }), &[]));
    assert_eq!(page.status, 303);
    assert_eq!(header(&page, "x-session-action"), Some("flush"));
    assert_eq!(find("GET", "/logout")(&Visit::default()).status, 405, "a link must not log anyone out");
}

#[test]
fn the_cart_fills_without_touching_its_neighbours() {
    let page = find("POST", "/")(&visit(json!({ "cart": { "hat": 2, "coat": 1 } }), &[("item", "hat")]));
    assert_eq!(header(&page, "x-session-patch"), Some(r#"{"cart":{"hat":3}}"#));
    let page = find("POST", "/")(&visit(json!({ "cart": "broken" }), &[("item", "coat")]));
    assert_eq!(header(&page, "x-session-patch"), Some(r#"{"cart":{"coat":1}}"#));
    let page = find("POST", "/")(&visit(json!({}), &[("item", "yacht")]));
    assert_eq!((page.status, page.headers.len()), (400, 0));
}

#[test]
fn what_a_session_holds_is_escaped() {
    let page = find("GET", "/")(&visit(json!({ "user_id": "<script>'\"&", "<b>": 1 }), &[]));
    assert!(page.html.contains("<b>&lt;script&gt;&#39;&quot;&amp;</b>"), "{}", page.html);
    assert!(!page.html.contains("<script>") && page.html.matches("<b>").count() == 1, "{}", page.html);
}

async fn ask(method: &str, path: &str, data: &str, body: &str) -> Response<String> {
    let request = Request::builder().method(method).uri(path).header("x-session-data", data);
    web::answer(request.body(body.to_owned()).unwrap()).await
}

#[tokio::test]
async fn the_session_comes_from_its_header_and_the_form_from_the_body() {
    let page = ask("GET", "/?x=1", r#"{"user_id":"Zo\u00eb"}"#, "").await;
    assert_eq!(page.status(), 200);
    assert!(page.body().contains("<b>Zoë</b>"));
    let page = ask("POST", "/login", "{}", "name=Ada+L%C3%B6we&x").await;
    assert_eq!(page.headers()["x-session-set"], "user_id=Ada%20L%C3%B6we");
    assert_eq!(page.headers()["location"], "/");
    assert_eq!(ask("GET", "/", "not json", "").await.status(), 200);
    assert_eq!(ask("POST", "/login", "{}", &format!("name={}", "x".repeat(5000))).await.status(), 400);
    assert_eq!(ask("GET", "/admin", "{}", "").await.status(), 404);
    assert_eq!(ask("PUT", "/", "{}", "").await.status(), 405);
}

#[test]
fn the_shop_opens_on_this_machine_only_and_is_announced() {
    use std::io::{Read, Write};

    let address = super::open_shop().unwrap();
    assert!(address.ip().is_loopback());
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("x-session-incr: visits=1\r\n"),
        "{response}"
    );
    let greeting = greeting("127.0.0.1:8080".parse().unwrap(), address);
    for word in ["http://127.0.0.1:8080/login", &address.to_string(), "cloakroom.sqlite3"] {
        assert!(greeting.contains(word), "{greeting}");
    }
}
