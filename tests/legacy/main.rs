//! Backends of the old kind, in `examples/`: each as its own real server behind the proxy, from login to logout. To add
//! one: a function in `server.rs` that starts it, and a test here.

#[path = "../support/proxy.rs"]
mod proxy;
mod server;
#[path = "../support/visitor.rs"]
mod visitor;
mod wire;

use self::proxy::Proxy;
use self::server::Server;
use self::visitor::{Answer, Visitor};
use self::wire::Wire;

/// Umlauts, both kinds of quotes, and all that HTML, forms, headers and shells give a meaning to.
const HOSTILE: &str = r#"Jürgen "Jo" O'Hära & <script>100%</script> + ; , = \n $(id) 漢 😀"#;

#[test]
fn php() {
    login_to_logout(&Server::php());
}

#[test]
fn perl_cgi() {
    login_to_logout(&Server::cgi("visits.pl"));
}

#[test]
fn shell_cgi() {
    login_to_logout(&Server::cgi("visits.sh"));
}

#[test]
fn python_wsgiref() {
    login_to_logout(&Server::wsgiref());
}

#[test]
fn python_gunicorn() {
    login_to_logout(&Server::gunicorn());
}

#[test]
fn node() {
    login_to_logout(&Server::node());
}

fn login_to_logout(server: &Server) {
    let wire = Wire::to(server.address);
    let proxy = Proxy::start(&wire.url(), "[headers]\nexpose = [\"user\", \"visits\"]\n");

    let mut stranger = proxy.visitor();
    assert_anonymous(&stranger.get("/"));
    assert_eq!(stranger.session_id(), None, "a session for someone who has nothing to keep");

    let mut jo = proxy.visitor();
    jo.jar.insert("theme".to_owned(), "dark".to_owned());
    log_in(&mut jo, HOSTILE);
    let mut ada = proxy.visitor();
    log_in(&mut ada, "Ada");
    assert_greeted(&jo.get("/"), HOSTILE, 1);
    assert_greeted(&jo.get("/"), HOSTILE, 2);
    assert_greeted(&ada.get("/"), "Ada", 1);
    assert_greeted(&jo.get("/"), HOSTILE, 3);

    let forged = [
        ("X-Session-Data", r#"{"user":"Mallory"}"#),
        ("X_Session_Data", r#"{"user":"Mallory"}"#),
        ("X-Session-Attr-User", "Mallory"),
        ("X_SESSION_ATTR_USER", "Mallory"),
    ];
    assert_anonymous(&stranger.send("GET", "/", &forged, b""));
    assert_greeted(&jo.send("GET", "/", &forged, b""), HOSTILE, 4);

    let mut replayed = jo.clone();
    let ids = [&jo, &ada].map(|visitor| visitor.session_id().expect("a session").to_owned());
    let out = jo.send("POST", "/logout", &[], b"");
    assert_eq!(out.status, 303);
    assert_eq!(jo.session_id(), None, "the browser keeps the cookie of a session that ended");
    assert_anonymous(&jo.get("/"));
    assert_anonymous(&replayed.get("/"));
    assert_greeted(&ada.get("/"), "Ada", 2);

    let seen = wire.seen();
    assert!(seen.contains("theme=dark"), "the wire was not watched, or another cookie was lost:\n{seen}");
    for secret in ids.iter().map(String::as_str).chain(["sessionid"]) {
        assert!(!seen.contains(secret), "the backend was told {secret}:\n{seen}");
    }
}

fn log_in(visitor: &mut Visitor, user: &str) {
    let form = format!("user={}", percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC));
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = visitor.send("POST", "/login", &headers, form.as_bytes());
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.text());
    assert_clean(&answer);
    assert!(visitor.session_id().is_some(), "no cookie came with the login");
}

fn assert_greeted(answer: &Answer, user: &str, visits: u32) {
    let page = answer.text();
    assert_eq!(answer.status, 200, "{page}");
    assert_clean(answer);
    assert!(!page.contains("<script>"), "the name was not escaped:\n{page}");
    let greeting = format!("<p>Good day, <b>{user}</b>. This is visit {visits}.</p>");
    assert!(unescaped(&page).contains(&greeting), "no {greeting} in:\n{page}");
}

fn assert_anonymous(answer: &Answer) {
    let page = answer.text();
    assert_eq!(answer.status, 200, "{page}");
    assert_clean(answer);
    assert!(page.contains("You are not logged in."), "{page}");
}

/// What is between the proxy and the backend stays there.
fn assert_clean(answer: &Answer) {
    let ours = |name: &str| name.to_lowercase().starts_with("x-session");
    assert!(answer.headers.iter().all(|(name, _)| !ours(name)), "{:?}", answer.headers);
}

/// Text without HTML's entities, in the spellings that the languages' own functions choose.
fn unescaped(html: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#039;", "'"), ("&#x27;", "'"), ("&amp;", "&")]
        .iter()
        .fold(html.to_owned(), |text, (entity, character)| text.replace(entity, character))
}
