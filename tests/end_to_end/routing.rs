//! Which backend a request goes to, over the wire: by the host and the path that are forwarded.

use crate::backend::{Backend, Reply};
use crate::proxy::Proxy;
use crate::visitor::Connection;

struct Shop {
    /// The names of the upstreams with their backends; `app` has the routes nobody else has.
    backends: Vec<(&'static str, Backend)>,
    proxy: Proxy,
}

impl Shop {
    fn open() -> Self {
        let backends: Vec<_> =
            ["app", "admin", "assets", "shop"].map(|name| (name, Backend::start(move |_| Reply::ok(name)))).into();
        let mut text = String::new();
        for (name, backend) in &backends[1..] {
            text.push_str(&format!("upstreams.{name}.servers = ['{}']\n", backend.url()));
        }
        text.push_str(
            "routes = [
               { upstream = 'app' },
               { path = '/admin', upstream = 'admin' },
               { path = '/admin/assets/', upstream = 'assets', session = false },
               { host = ['shop.example', '*.shop.example'], path = '/cart', upstream = 'shop' },
               { host = 'only.example', path = '/one', upstream = 'shop' },
             ]\n",
        );
        let proxy = Proxy::start(&backends[0].1.url(), &text);
        Self { backends, proxy }
    }

    /// The status, the upstream that answered, and the target it was asked for.
    fn ask(&self, host: &str, target: &str) -> (u16, String, String) {
        let mut connection = Connection::open(self.proxy.address);
        connection.write(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes());
        let answer = connection.answer().unwrap();
        let name = answer.text();
        let backend = self.backends.iter().find(|(backend, _)| *backend == name);
        let seen = backend.map(|(_, backend)| backend.last().target).unwrap_or_default();
        (answer.status, if backend.is_some() { name } else { String::new() }, seen)
    }

    fn requests(&self) -> usize {
        self.backends.iter().map(|(_, backend)| backend.requests().len()).sum()
    }
}

#[test]
fn a_route_is_found_by_host_and_then_by_the_longest_prefix() {
    let shop = Shop::open();
    for (host, target, upstream) in [
        ("h", "/", "app"),
        ("h", "/admin", "admin"),
        ("h", "/admin?q=/x", "admin"),
        ("h", "/admin/users", "admin"),
        ("h", "/administrator", "app"),
        ("h", "/admin/assets", "admin"),
        ("h", "/admin/assets/", "assets"),
        ("h", "/admin/assets/a.css", "assets"),
        ("h", "/cart", "app"),
        ("shop.example", "/cart", "shop"),
        ("SHOP.example:8080", "/cart/1", "shop"),
        ("a.b.shop.example", "/cart", "shop"),
        ("notshop.example", "/cart", "app"),
        ("shop.example", "/admin", "admin"),
        ("only.example", "/one/two", "shop"),
        ("only.example", "/two", "app"),
    ] {
        assert_eq!(shop.ask(host, target), (200, upstream.to_owned(), target.to_owned()), "{host} {target}");
    }
}

#[test]
fn no_route_is_404() {
    let backend = Backend::obedient();
    let proxy = Proxy::start(&backend.url(), "routes = [{ host = 'a.example', path = '/x', upstream = 'app' }]\n");
    for target in ["/x", "/", "/y"] {
        assert_eq!(proxy.visitor().get(target).status, 404, "{target}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn m16_the_path_that_is_matched_is_the_path_that_is_forwarded() {
    let shop = Shop::open();
    for (target, upstream) in [
        ("//admin", "app"),
        ("/%61dmin", "app"),
        ("/Admin", "app"),
        ("/admin;x=1", "app"),
        ("/admin%2Fusers", "app"),
        ("/admin%3fx", "app"),
        ("/x?/admin", "app"),
        ("/x?../../admin", "app"),
        ("/x%23/admin", "app"),
        ("/admin//assets/a", "admin"),
        ("/admin/assets%2fa", "admin"),
        ("/admin/", "admin"),
        ("/admin?", "admin"),
        ("/admin/%00", "admin"),
        ("/...", "app"),
        ("/.well-known/x", "app"),
    ] {
        assert_eq!(shop.ask("h", target), (200, upstream.to_owned(), target.to_owned()), "{target}");
    }
    // A fragment is no part of a request's target: it takes part in neither.
    for (target, upstream, forwarded) in [("/admin#/../x", "admin", "/admin"), ("/x#/admin", "app", "/x")] {
        let (status, name, seen) = shop.ask("h", target);
        assert!(status == 400 || (name.as_str(), seen.as_str()) == (upstream, forwarded), "{target} {name} {seen}");
    }
}

#[test]
fn m16_dot_segments_are_400_however_they_are_written() {
    let shop = Shop::open();
    for target in [
        "/x/../admin",
        "/..",
        "/.",
        "/./admin",
        "/x/..",
        "/x/../admin?q",
        "/x/%2e%2e/admin",
        "/x/%2E./admin",
        "/x/.%2e/admin",
        "/x/..;a=b/admin",
        "/x\\..\\admin",
        "/admin/assets/../users",
        "http://h/x/../admin",
    ] {
        assert_eq!(shop.ask("h", target).0, 400, "{target}");
    }
    assert_eq!(shop.requests(), 0);
}
