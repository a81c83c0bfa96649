use satisfice_core::{Error, ErrorKind};
use satisfice_graph::GraphError;
use satisfice_store::StoreError;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// A group forms anew in less, where its nodes are back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What can go wrong between a partitioned graph and an answer.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or directory cannot be read or written: the operator's to mend, then a retry helps.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor file is damaged, missing or of another version: the operator's to mend.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model or the request is wrong; see the inner error.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A part does not hold what it says, or does not belong to the others: partition anew, or copy
    /// the right directory.
    #[error("{path}: {message}; make the parts anew with `satisfice partition`", path = path.display())]
    Part {
        /// The part's directory or file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An option or `cluster.toml` is wrong: the operator's to mend.
    #[error("{place}: {message}")]
    Config {
        /// The file or option.
        place: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// The network refuses: an address in use, or one that is not this machine's.
    #[error("{address}: {message}")]
    Network {
        /// The address.
        address: String,
        /// What the system or the peer said.
        message: String,
    },
    /// The group is not whole just now; the same request may succeed in a moment.
    #[error("the group is not whole: {message}")]
    Forming {
        /// Who is missing, or why the group fell apart.
        message: String,
    },
    /// A worker failed on this batch; the others go on.
    #[error("worker {worker} failed on the batch: {message}")]
    Worker {
        /// Index of the worker.
        worker: usize,
        /// What it said.
        message: String,
    },
    /// A round took longer than a peer may take: it hangs or is overloaded.
    #[error("no answer from worker {worker} in round {round} for {waited_ms} ms")]
    Slow {
        /// The worker waited for.
        worker: usize,
        /// The exchange, from 0.
        round: u32,
        /// How long, in milliseconds.
        waited_ms: u64,
    },
    /// The request's deadline has passed: with more time it may succeed.
    #[error("the deadline passed: {why}")]
    Late {
        /// What was waited for.
        why: String,
    },
}

impl ClusterError {
    /// The same, or that the deadline has passed, if it has.
    pub(crate) fn or_late(self, deadline: Option<Instant>) -> Self {
        match deadline {
            Some(deadline) if Instant::now() >= deadline => Self::Late {
                why: self.to_string(),
            },
            _ => self,
        }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Graph(error) => error.kind(),
            Self::Store(StoreError::Lost(_)) => ErrorKind::Unavailable,
            Self::Forming { .. } | Self::Slow { .. } | Self::Network { .. } => {
                ErrorKind::Unavailable
            }
            Self::Late { .. } => ErrorKind::DeadlineExceeded,
            Self::Io { .. }
            | Self::Store(_)
            | Self::Part { .. }
            | Self::Config { .. }
            | Self::Worker { .. } => ErrorKind::Internal,
        }
    }
}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        let kind = error.kind();
        match error {
            ClusterError::Graph(error) => error.into(),
            ClusterError::Store(error @ StoreError::Lost(_)) => GraphError::from(error).into(),
            ClusterError::Forming { .. } => Self::new(kind, "group_forming", error.to_string())
                .with_hint("send the request again in a second, or to another group")
                .with_retry_after(RETRY_AFTER),
            ClusterError::Slow { .. } => Self::new(kind, "peer_slow", error.to_string())
                .with_hint("send the request again; `satisfice cluster status` shows who is slow")
                .with_retry_after(RETRY_AFTER),
            ClusterError::Late { .. } => Self::new(kind, "deadline_exceeded", error.to_string()),
            other => Self::new(kind, "cluster", other.to_string()),
        }
    }
}

/// The parts hold nothing that was reduced before, which is what `refresh` starts from.
pub(crate) fn no_refresh() -> ClusterError {
    ClusterError::Graph(GraphError::Request {
        code: "nothing_kept",
        message: "plan `refresh` starts from kept sums, and the cluster's parts have none".to_owned(),
        hint: Some(
            "cut parts of a model whose sums are kept, or use `pe`, `recompute:<budget>` or `exact`"
                .to_owned(),
        ),
    })
}

/// Names the file with an error of the system.
pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ClusterError {
    let path = path.into();
    move |source| ClusterError::Io { path, source }
}
