//! The backend's own cookies on the road, under the rules of `[[cookies]]`.

use hyper::HeaderMap;

use super::client::Client;
use crate::app::App;

/// Takes signed cookies out of their signatures, and those that are forged or too old out of the request.
pub fn check(app: &App, client: &Client, headers: &mut HeaderMap) {
    if app.cookies.is_empty() {
        return;
    }
    let refused = app.cookies.to_backend(headers, app.clock.now());
    if refused > 0 {
        app.metrics.refused("cookie_forged");
        let request = &*client.request_id;
        tracing::info!(request, cookies = refused, "forged or outdated signed cookies were kept from the backend");
    }
}

/// Signs the backend's cookies and adds their attributes.
pub fn sign(app: &App, client: &Client, headers: &mut HeaderMap) {
    if app.cookies.is_empty() {
        return;
    }
    let refused = app.cookies.to_visitor(headers, app.clock.now());
    if refused > 0 {
        app.metrics.refused("cookie_unsigned");
        let request = &*client.request_id;
        tracing::warn!(request, cookies = refused, "cookies were dropped: not text, or too long with their signature");
    }
}
