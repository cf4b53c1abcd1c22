//! Whether a request may be sent a second time: only if the backend cannot have acted on the first.

use hyper::{Method, Request};

/// How a try ended without an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// A reused connection closed before any byte of an answer: most likely the backend had closed it before the
    /// request came, but it may have acted.
    ClosedUnanswered,
    /// The backend may have acted.
    Final,
    /// The request never left.
    NotSent,
}

/// The request to send again, if it may be.
pub fn retry_after<B>(failure: Failure, request: Option<Request<B>>) -> Option<Request<B>> {
    request.filter(|request| match failure {
        Failure::ClosedUnanswered => is_repeatable(request.method()),
        Failure::Final => false,
        Failure::NotSent => true,
    })
}

/// Methods that are safe to repeat when nobody knows whether the first try arrived. RFC 9110 would allow PUT and DELETE
/// too; legacy backends do not always agree.
pub fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_been_acted_on_is_sent_again() {
        let again = |failure, method: &str| {
            let request = Request::builder().method(method).body(()).unwrap();
            retry_after(failure, Some(request)).is_some()
        };
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(again(Failure::ClosedUnanswered, method));
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert!(!again(Failure::ClosedUnanswered, method));
            assert!(again(Failure::NotSent, method));
        }
        assert!(!again(Failure::Final, "GET"));
        assert!(retry_after::<()>(Failure::NotSent, None).is_none());
    }
}
