//! A setting that cannot be: where it stands, what it says and what would be right.

/// What [`crate::config`] reports for a setting that was written well but cannot be meant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{key} = {value}: {message}")]
pub struct Problem {
    /// The dotted path of the key as the file has it, such as `cookie.same_site` or `routes[1].path`.
    pub key: String,
    /// The value as the operator would recognise it.
    pub value: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    pub fn new(key: impl Into<String>, value: impl std::fmt::Display, message: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), message: message.into() }
    }
}
