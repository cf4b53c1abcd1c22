//! Which requests are taken at all, before anything is asked of anyone.

use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Uri, Version};

use super::error::ProxyError;
use crate::app::RequestLimits;

/// Checks a request's head and puts its target into origin form, and the host it is for, perhaps with a port, into its one
/// `Host` line.
///
/// `body_bytes` is the length of the body where it is known.
pub fn accept<B>(request: &mut Request<B>, body_bytes: Option<u64>, limits: &RequestLimits) -> Result<(), ProxyError> {
    // TRACE echoes what only the backend should see; CONNECT asks for a tunnel.
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(ProxyError::MethodNotAllowed);
    }
    if target_bytes(request.uri()) > limits.max_uri_bytes {
        return Err(ProxyError::UriTooLong);
    }
    let header_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if header_bytes > limits.max_header_bytes {
        return Err(ProxyError::HeadersTooLarge);
    }
    if request.uri().authority().is_some() && request.uri().scheme().is_none() {
        // RFC 9112 section 3.2.3: only CONNECT names a host and nothing else.
        return Err(ProxyError::BadRequest("the target has no path"));
    }
    check_framing(request)?;
    if body_bytes.is_some_and(|bytes| usize::try_from(bytes).is_ok_and(|bytes| bytes > limits.max_body_bytes)) {
        return Err(ProxyError::BodyTooLarge);
    }
    check_host(request)?;
    if let Some(authority) = request.uri().authority() {
        // RFC 9112 section 3.2.2: the target's authority replaces whatever `Host` says. Written out, an empty path is
        // the slash it stands for.
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| ODD_HOST)?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        *request.uri_mut() = path.parse().map_err(|_| ProxyError::BadRequest("the target has no path"))?;
    }
    Ok(())
}

const ODD_HOST: ProxyError = ProxyError::BadRequest("the host has odd characters");

/// The host that an accepted request is for.
pub fn host<B>(request: &Request<B>) -> &str {
    request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn target_bytes(uri: &Uri) -> usize {
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    authority + uri.path_and_query().map_or(0, |path| path.as_str().len())
}

/// What hyper takes for chunked although another parser might not (RFC 9112 section 6.3): exactly one `chunked` and
/// nothing else is unambiguous.
fn check_framing<B>(request: &Request<B>) -> Result<(), ProxyError> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            if request.headers().contains_key(CONTENT_LENGTH) {
                return Err(ProxyError::BadRequest("the body has two lengths"));
            }
            Ok(())
        }
        _ => Err(ProxyError::BadRequest("the transfer coding is not \"chunked\" alone")),
    }
}

fn check_host<B>(request: &mut Request<B>) -> Result<(), ProxyError> {
    let mut lines = request.headers().get_all(HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return Err(ProxyError::BadRequest("there are several Host lines")),
        (Some(host), None) => Some(host.to_str().map_err(|_| ODD_HOST)?),
        (None, _) if request.version() == Version::HTTP_10 || request.uri().authority().is_some() => None,
        (None, _) => return Err(ProxyError::BadRequest("there is no Host")),
    };
    let authority = request.uri().authority().map(Authority::as_str);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte);
    if !authority.or(host).unwrap_or_default().bytes().all(allowed) {
        return Err(ODD_HOST);
    }
    if host.is_none() {
        request.headers_mut().insert(HOST, HeaderValue::from_static(""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::{Request, StatusCode};

    use super::*;

    const LIMITS: RequestLimits = RequestLimits { max_uri_bytes: 40, max_header_bytes: 100, max_body_bytes: 10 };

    /// The host, and the target as it goes on.
    fn accepted(method: &str, uri: &str, lines: &[(&str, &str)], body: Option<u64>) -> Result<(String, String), u16> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let mut request = request.body(()).unwrap();
        accept(&mut request, body, &LIMITS).map_err(|error| error.status().as_u16())?;
        assert_eq!(request.headers().get_all(HOST).iter().collect::<Vec<_>>(), [host(&request)]);
        Ok((host(&request).to_owned(), request.uri().to_string()))
    }

    #[test]
    fn m12_there_is_one_host_and_the_target_is_a_path() {
        for (uri, lines, expected) in [
            ("/p?q", &[("host", "h:80")][..], Ok(("h:80", "/p?q"))),
            ("/", &[("host", "")], Ok(("", "/"))),
            ("/", &[("host", "[::1]:80")], Ok(("[::1]:80", "/"))),
            ("http://a:81/p?q", &[("host", "h")], Ok(("a:81", "/p?q"))),
            ("http://a", &[], Ok(("a", "/"))),
            ("http://a?q", &[], Ok(("a", "/?q"))),
            ("/", &[], Err(400)),
            ("/", &[("host", "a"), ("host", "a")], Err(400)),
            ("/", &[("host", "a/b")], Err(400)),
            ("/", &[("host", "u@a")], Err(400)),
            ("/", &[("host", "a b")], Err(400)),
            ("/", &[("host", "\u{e9}")], Err(400)),
            ("http://u@a/", &[], Err(400)),
            ("a:80", &[("host", "a")], Err(400)),
        ] {
            let expected = expected.map(|(host, uri)| (host.to_owned(), uri.to_owned()));
            assert_eq!(accepted("GET", uri, lines, None), expected, "{uri} {lines:?}");
        }
    }

    #[test]
    fn m3_chunked_stands_alone() {
        for (lines, good) in [
            (&[("transfer-encoding", "chunked")][..], true),
            (&[("transfer-encoding", "CHUNKED")], true),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "chunked, chunked")], false),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
            (&[("transfer-encoding", "chunked"), ("content-length", "4")], false),
            (&[("content-length", "4")], true),
        ] {
            let lines = [lines, &[("host", "h")]].concat();
            assert_eq!(accepted("POST", "/", &lines, None).is_ok(), good, "{lines:?}");
        }
    }

    #[test]
    fn m13_m14_what_is_too_large_or_not_served_is_refused_by_its_own_status() {
        let host = ("host", "h");
        let (long, longer) = (format!("/{}", "u".repeat(39)), format!("/{}", "u".repeat(40)));
        // The host's line is 9 bytes with its end; the other has 5 besides its value.
        let (large, larger) = ("v".repeat(86), "v".repeat(87));
        for (method, uri, lines, body, status) in [
            ("GET", long.as_str(), &[host][..], None, None),
            ("GET", longer.as_str(), &[host], None, Some(StatusCode::URI_TOO_LONG)),
            ("GET", "/", &[host, ("a", large.as_str())], None, None),
            ("GET", "/", &[host, ("a", larger.as_str())], None, Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)),
            ("POST", "/", &[host], Some(10), None),
            ("POST", "/", &[host], Some(11), Some(StatusCode::PAYLOAD_TOO_LARGE)),
            ("POST", "/", &[host], Some(u64::MAX), Some(StatusCode::PAYLOAD_TOO_LARGE)),
            ("TRACE", "/", &[host], None, Some(StatusCode::METHOD_NOT_ALLOWED)),
            ("CONNECT", "h:80", &[host], None, Some(StatusCode::METHOD_NOT_ALLOWED)),
            ("PURGE", "/", &[host], None, None),
        ] {
            let refused = accepted(method, uri, lines, body).err();
            assert_eq!(refused, status.map(|status| status.as_u16()), "{method} {uri} {body:?}");
        }
    }
}
