//! Which requests are taken at all, before anything is asked of anyone.

use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Uri, Version};

use super::error::ProxyError;
use crate::app::RequestLimits;

/// Checks a request's head and puts its target into origin form; the host it is for, perhaps with a port.
///
/// `body_bytes` is the length of the body where it is known.
pub fn accept(parts: &mut Parts, body_bytes: Option<u64>, limits: &RequestLimits) -> Result<String, ProxyError> {
    // TRACE echoes what only the backend should see; CONNECT asks for a tunnel.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(ProxyError::MethodNotAllowed);
    }
    if target_bytes(&parts.uri) > limits.max_uri_bytes {
        return Err(ProxyError::UriTooLong);
    }
    let header_bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if header_bytes > limits.max_header_bytes {
        return Err(ProxyError::HeadersTooLarge);
    }
    check_framing(parts)?;
    if body_bytes.is_some_and(|bytes| usize::try_from(bytes).is_ok_and(|bytes| bytes > limits.max_body_bytes)) {
        return Err(ProxyError::BodyTooLarge);
    }
    let host = host(parts)?;
    if parts.uri.authority().is_some() {
        // RFC 9112 section 3.2.2: the target's authority replaces whatever `Host` says.
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(|_| ProxyError::BadRequest("the target has no path"))?;
    }
    let value = HeaderValue::from_str(&host).map_err(|_| ProxyError::BadRequest("the host has odd characters"))?;
    parts.headers.insert(HOST, value);
    Ok(host)
}

fn target_bytes(uri: &Uri) -> usize {
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    authority + uri.path_and_query().map_or(0, |path| path.as_str().len())
}

/// What hyper takes for chunked although another parser might not (RFC 9112 section 6.3): exactly one `chunked` and
/// nothing else is unambiguous.
fn check_framing(parts: &Parts) -> Result<(), ProxyError> {
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            if parts.headers.contains_key(CONTENT_LENGTH) {
                return Err(ProxyError::BadRequest("the body has two lengths"));
            }
            Ok(())
        }
        _ => Err(ProxyError::BadRequest("the transfer coding is not \"chunked\" alone")),
    }
}

fn host(parts: &Parts) -> Result<String, ProxyError> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return Err(ProxyError::BadRequest("there are several Host lines")),
        (Some(host), None) => host.to_str().map_err(|_| ProxyError::BadRequest("the host has odd characters"))?,
        (None, _) if parts.version == Version::HTTP_10 || parts.uri.authority().is_some() => "",
        (None, _) => return Err(ProxyError::BadRequest("there is no Host")),
    };
    let host = parts.uri.authority().map_or(host, |authority| authority.as_str());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte);
    if host.bytes().all(allowed) {
        Ok(host.to_owned())
    } else {
        Err(ProxyError::BadRequest("the host has odd characters"))
    }
}
