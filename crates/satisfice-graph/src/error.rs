use satisfice_core::{Error, ErrorKind};
use satisfice_kernels::LostFile;
use satisfice_store::StoreError;
use std::path::PathBuf;

/// What can go wrong between a model directory and an answer.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// Nobody waits for the answer any more; nobody is told.
    #[error("nobody waits for the answer")]
    Canceled,
    /// A file or directory cannot be read or written: the operator's to mend (path, permissions,
    /// disk), then a retry helps.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store, or a tensor file, is damaged, missing or of another version: the operator's to
    /// mend; a retry does not help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `model.toml` does not describe a model that this version serves: the exporter's or the
    /// author's to mend.
    #[error("{path}: {message}", path = path.display())]
    Config {
        /// The sidecar file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// A tensor of the state dict is missing, left over or of another shape than `model.toml`
    /// says: the exporter's or the author's to mend.
    #[error("{path}: tensor `{tensor}`: {message} ({hint})", path = path.display())]
    Weights {
        /// The weights file.
        path: PathBuf,
        /// Full name of the tensor.
        tensor: String,
        /// What is wrong, with both shapes where shapes differ.
        message: String,
        /// The likely cause.
        hint: String,
    },
    /// The precomputed embeddings do not belong to this store and these weights, or are not there:
    /// the operator's to mend by `satisfice precompute`.
    #[error("{path}: {message}; run `satisfice precompute`", path = path.display())]
    Embeddings {
        /// The embeddings directory.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// The profile is damaged or does not belong to this store, weights and embeddings: the
    /// operator's to mend by `satisfice profile`.
    #[error("{path}: {message}; run `satisfice profile`", path = path.display())]
    Profile {
        /// `profile.json`.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// The request asks for a promise that cannot be given: the caller's to ask for less, or the
    /// operator's to profile the model.
    #[error("{message}")]
    Unpromised {
        /// Stable word for programs.
        code: &'static str,
        /// What was asked for, and what can be promised.
        message: String,
        /// What to do.
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
        what: &'static str,
        /// The request's count.
        found: usize,
        /// The largest count allowed.
        limit: usize,
    },
}

impl GraphError {
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
            Self::Canceled => ErrorKind::DeadlineExceeded,
            Self::Unpromised { .. } => ErrorKind::Unsupported,
            Self::Store(StoreError::Lost(_)) => ErrorKind::Unavailable,
            Self::Io { .. }
            | Self::Store(_)
            | Self::Config { .. }
            | Self::Weights { .. }
            | Self::Embeddings { .. }
            | Self::Profile { .. } => ErrorKind::Internal,
        }
    }
}

impl From<Error> for GraphError {
    /// What is wrong with a parameter.
    fn from(error: Error) -> Self {
        Self::Request {
            code: error.code(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

impl From<satisfice_core::Stopped> for GraphError {
    fn from(_: satisfice_core::Stopped) -> Self {
        Self::Canceled
    }
}

impl From<LostFile> for GraphError {
    fn from(lost: LostFile) -> Self {
        Self::Store(lost.into())
    }
}

impl From<GraphError> for Error {
    fn from(error: GraphError) -> Self {
        let kind = error.kind();
        match error {
            GraphError::Request {
                code,
                message,
                hint,
            } => {
                let error = Self::new(kind, code, message);
                match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
            GraphError::Unpromised {
                code,
                message,
                hint,
            } => Self::new(kind, code, message).with_hint(hint),
            GraphError::TooLarge { .. } => Self::new(kind, "too_large", error.to_string())
                .with_hint("send the queries in several requests"),
            GraphError::Canceled => Self::new(kind, "canceled", error.to_string()),
            GraphError::Store(StoreError::Lost(_)) => {
                Self::new(kind, "file_lost", error.to_string()).with_hint(
                    "put a whole file in its place by renaming, and load the model again or restart the server",
                )
            }
            other => Self::new(kind, "graph_engine", other.to_string()),
        }
    }
}
