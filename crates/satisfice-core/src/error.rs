use std::{fmt, time::Duration};

/// Whose fault a failure is, and what the caller can do about it.
///
/// The server crate holds the only tables from a kind to an HTTP status and a gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; the same request will fail again.
    InvalidInput,
    /// Nobody is known to ask; the same request with credentials may succeed.
    Unauthenticated,
    /// Whoever asks may not; the same request with other credentials may succeed.
    Forbidden,
    /// The model, version or resource named in the request does not exist.
    NotFound,
    /// The request asks for something that this server does not do.
    Unsupported,
    /// The request is over a limit; a smaller one may succeed.
    TooLarge,
    /// The server is busy or not ready; the same request may succeed later.
    Unavailable,
    /// The deadline has passed; the same request with more time may succeed.
    DeadlineExceeded,
    /// The server is at fault; retrying is of no use until an operator has looked.
    Internal,
}

/// A failed request: kind, stable code for programs, message and hint for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of `kind`. `code` is a stable `snake_case` word that programs may match on;
    /// `message` says what was wrong and where.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            hint: None,
            retry_after: None,
        }
    }

    /// The same error with advice on what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with the time after which the same request is predicted to succeed.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same error with the place that it is about before its message.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Stable `snake_case` word for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What was wrong and where.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do, if there is advice.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// After what time the same request is predicted to succeed, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
