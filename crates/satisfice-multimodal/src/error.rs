use satisfice_core::{Error, ErrorKind};
use std::path::PathBuf;

/// What can go wrong between a model directory and an answer.
#[derive(Debug, thiserror::Error)]
pub enum MultimodalError {
    /// A file cannot be read or written: the operator's to mend (path, permissions, disk), then a
    /// retry helps.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the model directory, or a calibration file, is not what this version reads: its
    /// author's to mend.
    #[error("{path}: {message}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// The profile does not belong to the model: the operator's to mend by `satisfice profile`.
    #[error("{path}: {message}; run `satisfice profile` again, or remove the file", path = path.display())]
    Profile {
        /// The profile.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// A runtime that the model or the operator asks for is not there: the operator's to mend.
    #[error("{message}")]
    Runtime {
        /// What is missing.
        message: String,
        /// How to get it.
        hint: String,
    },
    /// The request is wrong: the caller's to mend; the same request will fail again.
    #[error("{message}")]
    Request {
        /// Stable word for programs.
        code: &'static str,
        /// What is wrong and where.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The request is over a limit: a smaller one may succeed.
    #[error("{what}: {found} is over the limit of {limit}")]
    TooLarge {
        /// What is counted.
        what: String,
        /// The request's count.
        found: u64,
        /// The largest count allowed.
        limit: u64,
    },
    /// A network failed on a batch, or gave NaN or infinite numbers for an input: the model
    /// author's to mend; a retry does not help.
    #[error("{message}")]
    Execution {
        /// Stable word for programs.
        code: &'static str,
        /// Which network, and what it did.
        message: String,
    },
}

impl MultimodalError {
    /// A wrong request, without a hint.
    pub(crate) fn request(code: &'static str, message: impl Into<String>) -> Self {
        Self::Request {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// A wrong request, with a hint.
    pub(crate) fn request_hint(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Request {
            code,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request { .. } => ErrorKind::InvalidInput,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Io { .. }
            | Self::File { .. }
            | Self::Profile { .. }
            | Self::Runtime { .. }
            | Self::Execution { .. } => ErrorKind::Internal,
        }
    }
}

impl From<Error> for MultimodalError {
    /// What is wrong with a parameter.
    fn from(error: Error) -> Self {
        Self::Request {
            code: error.code(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

impl From<MultimodalError> for Error {
    fn from(error: MultimodalError) -> Self {
        let kind = error.kind();
        let message = error.to_string();
        match error {
            MultimodalError::Request { code, hint, .. } => {
                let error = Self::new(kind, code, message);
                match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
            MultimodalError::TooLarge { .. } => Self::new(kind, "too_large", message),
            MultimodalError::Runtime { hint, .. } => {
                Self::new(kind, "runtime", message).with_hint(hint)
            }
            MultimodalError::Execution { code, .. } => Self::new(kind, code, message),
            MultimodalError::Io { .. }
            | MultimodalError::File { .. }
            | MultimodalError::Profile { .. } => Self::new(kind, "multimodal_engine", message),
        }
    }
}
