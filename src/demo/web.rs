//! The shop's web server: as much HTTP as its pages need.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Buf;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;

use super::pages::{self, Page, Visit};

const LARGEST_FORM: usize = 4 << 10;

pub(super) async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(
            TokioIo::new(stream),
            service_fn(async |request| Ok::<_, Infallible>(answer(request).await)),
        );
        tokio::spawn(async move { connection.await.ok() });
    }
}

pub(super) async fn answer<B: Body + Unpin>(request: Request<B>) -> Response<String> {
    let (head, body) = request.into_parts();
    let data = head.headers.get("x-session-data").and_then(|data| serde_json::from_slice(data.as_bytes()).ok());
    let page = match read(body).await {
        Some(form) => {
            let visit = Visit { session: data.unwrap_or_default(), form: fields(&form) };
            pages::find(head.method.as_str(), head.uri.path())(&visit)
        }
        None => pages::refusal(400, "That form cannot be read."),
    };
    respond(page)
}

fn respond(page: Page) -> Response<String> {
    let mut response = Response::new(page.html);
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    for (name, value) in page.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// The body, if it comes whole and is no larger than a form may be.
async fn read<B: Body + Unpin>(mut body: B) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|waker| Pin::new(&mut body).poll_frame(waker)).await {
        if let Ok(mut data) = frame.ok()?.into_data() {
            if bytes.len() + data.remaining() > LARGEST_FORM {
                return None;
            }
            bytes.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
    }
    Some(bytes)
}

/// `application/x-www-form-urlencoded`.
fn fields(form: &[u8]) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    String::from_utf8_lossy(form)
        .split('&')
        .filter_map(|member| member.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}
