//! The shop's pages.

use std::fmt::Write;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

const WARES: [(&str, &str); 3] = [("coat", "Coat"), ("hat", "Hat"), ("umbrella", "Umbrella")];
const LONGEST_NAME: usize = 40;

/// What a page knows of the request.
#[derive(Debug, Default)]
pub(super) struct Visit {
    /// From `X-Session-Data`; empty without a session.
    pub session: Map<String, Value>,
    /// The fields of a form that was sent.
    pub form: Vec<(String, String)>,
}

impl Visit {
    fn field(&self, name: &str) -> &str {
        self.form.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.trim())
    }

    fn user(&self) -> Option<&str> {
        self.session.get("user_id").and_then(Value::as_str)
    }

    fn in_cart(&self, ware: &str) -> u64 {
        self.session.get("cart").and_then(|cart| cart.get(ware)).and_then(Value::as_u64).unwrap_or(0)
    }
}

/// What a page answers.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Page {
    pub status: u16,
    /// Response headers: the commands to the session, and where to go next.
    pub headers: Vec<(&'static str, String)>,
    pub html: String,
}

pub(super) type Handler = fn(&Visit) -> Page;

/// The page behind a method and a path.
pub(super) fn find(method: &str, path: &str) -> Handler {
    match (method, path) {
        ("GET" | "HEAD", "/") => shop,
        ("POST", "/") => into_cart,
        ("GET" | "HEAD", "/login") => login_form,
        ("POST", "/login") => login,
        ("POST", "/logout") => logout,
        (_, "/" | "/login" | "/logout") => |_| refusal(405, "That is not done here."),
        _ => |_| refusal(404, "There is no such page."),
    }
}

fn shop(visit: &Visit) -> Page {
    // This visit is counted when the answer passes the proxy, so what was handed to us is one behind.
    let visits = visit.session.get("visits").and_then(Value::as_i64).unwrap_or(0).saturating_add(1);
    let mut html = match visit.user() {
        Some(user) => format!(
            "<p>Good day, <b>{}</b>. This is visit {visits}.</p>\n\
             <form method=\"post\" action=\"/logout\"><button>Log out</button></form>\n",
            escaped(user)
        ),
        None => format!("<p>Good day. This is visit {visits}. <a href=\"/login\">Log in</a></p>\n"),
    };
    html.push_str("<form method=\"post\" action=\"/\"><table>\n<tr><th>Ware<th>In your cart<th>\n");
    for (ware, name) in WARES {
        let count = visit.in_cart(ware);
        let _ = writeln!(html, "<tr><td>{name}<td>{count}<td><button name=\"item\" value=\"{ware}\">Take one</button>");
    }
    html.push_str("</table></form>\n<p>What the proxy handed to this page:</p>\n<pre>");
    html.push_str(&escaped(&serde_json::to_string_pretty(&visit.session).unwrap_or_default()));
    html.push_str("</pre>\n");
    Page { status: 200, headers: vec![("x-session-incr", "visits=1".to_owned())], html: document("The shop", &html) }
}

fn into_cart(visit: &Visit) -> Page {
    let item = visit.field("item");
    if !WARES.iter().any(|(ware, _)| *ware == item) {
        return refusal(400, "We do not have that.");
    }
    let cart = json!({ "cart": { item: visit.in_cart(item).saturating_add(1) } });
    redirect("/", vec![("x-session-patch", cart.to_string())])
}

fn login_form(_: &Visit) -> Page {
    let html = "<form method=\"post\" action=\"/login\">\n\
                <label>Your name <input name=\"name\" maxlength=\"40\" required autofocus></label>\n\
                <button>Log in</button>\n</form>\n";
    Page { status: 200, headers: Vec::new(), html: document("Log in", html) }
}

fn login(visit: &Visit) -> Page {
    let name = visit.field("name");
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
        return refusal(400, "A name has 1 to 40 letters.");
    }
    let user = format!("user_id={}", utf8_percent_encode(name, NON_ALPHANUMERIC));
    // A new key at each login: whoever knew the key from before does not come in with the visitor.
    redirect("/", vec![("x-session-set", user), ("x-session-action", "cycle".to_owned())])
}

fn logout(_: &Visit) -> Page {
    redirect("/", vec![("x-session-action", "flush".to_owned())])
}

fn redirect(location: &str, mut headers: Vec<(&'static str, String)>) -> Page {
    headers.push(("location", location.to_owned()));
    Page { status: 303, headers, html: document("See there", &format!("<p><a href=\"{location}\">Go on</a></p>\n")) }
}

pub(super) fn refusal(status: u16, words: &str) -> Page {
    Page {
        status,
        headers: Vec::new(),
        html: document("Sorry", &format!("<p>{words} <a href=\"/\">The shop</a></p>\n")),
    }
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto; padding: 0 1rem }} \
         td, th {{ padding: .2rem 1rem .2rem 0; text-align: left }} pre {{ background: #eee; padding: 1rem }}</style>\n\
         <h1>{title}</h1>\n{body}</html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}
