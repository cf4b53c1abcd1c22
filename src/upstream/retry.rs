//! Whether a request may be sent a second time: only if the backend cannot have acted on the first.

use hyper::Method;

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

/// Whether a request with this method may be sent again.
pub fn may_go_again(failure: Failure, method: &Method) -> bool {
    match failure {
        Failure::ClosedUnanswered => is_repeatable(method),
        Failure::Final => false,
        Failure::NotSent => true,
    }
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
        let again = |failure, method: &str| may_go_again(failure, &Method::from_bytes(method.as_bytes()).unwrap());
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(again(Failure::ClosedUnanswered, method));
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert!(!again(Failure::ClosedUnanswered, method));
            assert!(again(Failure::NotSent, method));
        }
        assert!(!again(Failure::Final, "GET"));
    }
}
