//! The steps between the visitor's connection and the backend's.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cloakroom::app::RequestLimits;
use cloakroom::proxy::accept::accept;
use cloakroom::proxy::client::{Client, Peer};
use cloakroom::proxy::headers;
use cloakroom::routes::{RouteSettings, Routes};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri};

use super::{Run, Step, each};

pub const STEPS: &[Step] = &[
    Step { name: "accept", prepare: accepting },
    Step { name: "client/direct", prepare: |times| reading_client(times, &[]) },
    Step { name: "client/behind a proxy", prepare: |times| reading_client(times, &["127.0.0.0/8"]) },
    Step { name: "route/the only one", prepare: |times| routing(times, 0) },
    Step { name: "route/one of 1000", prepare: |times| routing(times, 1000) },
    Step { name: "headers/to backend", prepare: to_backend },
    Step { name: "headers/to client", prepare: |times| to_client(times, None) },
    Step { name: "headers/to client with cookie", prepare: |times| to_client(times, Some("sessionid=new; Path=/")) },
];

const LIMITS: RequestLimits =
    RequestLimits { max_uri_bytes: 8 << 10, max_header_bytes: 32 << 10, max_body_bytes: 100 << 20 };

/// What a browser sends, and what a proxy before us adds.
const REQUEST: [(&str, &str); 10] = [
    ("host", "shop.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example.com/cart"),
    ("cookie", "theme=dark; lang=en"),
    ("upgrade-insecure-requests", "1"),
    ("x-forwarded-for", "198.51.100.7, 127.0.0.2"),
    ("x-forwarded-proto", "https"),
];

const RESPONSE: [(&str, &str); 6] = [
    ("server", "backend"),
    ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "100"),
    ("vary", "Accept-Encoding"),
    ("connection", "keep-alive"),
];

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn accepting(times: usize) -> Run {
    let input = || {
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static("/cart/items?page=2");
        *request.headers_mut() = map(&REQUEST);
        request
    };
    each(times, input, |mut request| (accept(&mut request, Some(0), &LIMITS), request))
}

fn reading_client(times: usize, trusted: &[&str]) -> Run {
    let trusted: Vec<_> = trusted.iter().map(|network| network.parse().expect("is a network")).collect();
    let peer = Arc::new(Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    each(times, || map(&REQUEST), move |headers| Client::new(Arc::clone(&peer), &headers, &trusted))
}

/// Each time in tables of their own: a table's places are drawn at random, and some lie worse than others.
fn routing(times: usize, others: usize) -> Run {
    let with_path = |path: String| RouteSettings { path, ..RouteSettings::to("app") };
    let input = move || {
        let mut settings = vec![with_path("/".to_owned())];
        for number in 0..others {
            let host = vec![format!("{number}.example.com")];
            settings.push(RouteSettings { host, ..with_path("/cart".to_owned()) });
        }
        Routes::new(settings).expect("no two are for the same")
    };
    let host = if others == 0 { "shop.example.com".to_owned() } else { format!("{}.example.com", others / 2) };
    // Handed out whole, so that taking the tables down is not counted.
    let tables: Vec<Routes> = (0..times.min(8)).map(|_| input()).collect();
    let tables: &'static [Routes] = tables.leak();
    let mut next = tables.iter().cycle();
    each(times, move || next.next().expect("there is a table"), move |routes| routes.find(&host, "/cart/items").is_ok())
}

fn to_backend(times: usize) -> Run {
    let peer = Arc::new(Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let client = Client::new(peer, &map(&REQUEST), &[]);
    each(
        times,
        || map(&REQUEST),
        move |mut headers| {
            headers::to_backend(&mut headers, &client);
            headers
        },
    )
}

fn to_client(times: usize, cookie: Option<&'static str>) -> Run {
    each(
        times,
        || map(&RESPONSE),
        move |mut headers| {
            headers::to_client(&mut headers, cookie.map(HeaderValue::from_static), true);
            headers
        },
    )
}
