use std::path::PathBuf;

/// Why a write was refused. A refused write has changed nothing, unless its message says that it is
/// not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// An operation cannot be done. The caller; a retry does not help.
    #[error("operation {index} (counted from 0; {operation}): {problem}")]
    Operation {
        /// Its place in the write.
        index: usize,
        /// The operation, as text.
        operation: String,
        /// Why not.
        problem: Problem,
    },

    /// The write is larger than a limit. The caller; it helps to split it.
    #[error("{found} {what}, but a write has at most {max}; split it")]
    TooLarge {
        /// What is counted, such as `"operations"`.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },

    /// The name of a request or source is not of 1 to 256 bytes. The caller; a retry does not help.
    #[error(
        "{what} has {bytes} bytes, but may have 1 to {}",
        super::limits::NAME_BYTES_MAX
    )]
    Name {
        /// Which name.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },

    /// The graph has another version than the write is for. The caller, who reads again.
    #[error(
        "the graph has version {found}, but the write is for version {expected}; read the graph \
         again and make the write anew"
    )]
    VersionMoved {
        /// The version named by the write.
        expected: u64,
        /// The graph's.
        found: u64,
    },

    /// A request id came again with other operations. The caller; a retry does not help.
    #[error("request id `{request_id}` was used for another write; each write needs its own")]
    RequestIdReused {
        /// The request id.
        request_id: String,
    },

    /// There are more sources than offsets are kept for. The caller; a retry does not help.
    #[error(
        "`{source_name}` is a new source, but offsets of {max} are kept already; use one of these"
    )]
    Sources {
        /// The new source.
        source_name: String,
        /// How many there may be.
        max: usize,
    },

    /// The log or the patches in memory are full. The operator.
    #[error(
        "the {what} hold {bytes} bytes of at most {max}; stop the server, fold the log into the \
         store with `satisfice compact STORE` and precompute again"
    )]
    Full {
        /// What is full.
        what: &'static str,
        /// Bytes in it.
        bytes: u64,
        /// Bytes that may be in it.
        max: u64,
    },

    /// Too many writes wait for the disk. A retry helps.
    #[error("{waiting} writes wait for the disk, and no more may; try again later")]
    Busy {
        /// How many wait.
        waiting: usize,
    },

    /// The disk is full. The operator; a retry helps once there is room. The graph goes on
    /// answering.
    #[error("{path}: the disk is full, nothing was written: {message}", path = path.display())]
    DiskFull {
        /// The log.
        path: PathBuf,
        /// The system's answer.
        message: String,
    },

    /// The log could not be written or brought to the disk, now or before. Whether this write is on
    /// the disk is not known; the graph goes on answering, and takes no write until it is opened
    /// anew.
    #[error(
        "{path}: writing failed: {message}; it is not known whether this write is on the disk. No \
         more are taken: check the disk, then start again (a request id tells a write that was done)",
        path = path.display()
    )]
    LogFailed {
        /// The log.
        path: PathBuf,
        /// The system's answer.
        message: String,
    },

    /// The write is on the disk, but a model that follows the graph has failed and will not show it.
    #[error(
        "version {version} is on the disk, but a model that follows the graph has failed; start again"
    )]
    FollowerFailed {
        /// The graph's version with the write.
        version: u64,
    },
}

/// Why an operation cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is no such node.
    #[error("there is no node `{0}`; put it first")]
    UnknownNode(String),
    /// The id is of another kind than the store's ids.
    #[error("`{id}` is {found}, but the graph's ids are {expected}")]
    IdKind {
        /// The id.
        id: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A string id is too long or empty.
    #[error("an id of {0} bytes; ids have 1 to {max}", max = super::limits::ID_BYTES_MAX)]
    IdLength(usize),
    /// A new node where ids are positions, but not at the next one.
    #[error("ids are positions here: a new node is node {next}, not {id}")]
    Position {
        /// The id named.
        id: i64,
        /// The next position.
        next: usize,
    },
    /// A new node without features.
    #[error("the node is new and needs features (x)")]
    NoFeatures,
    /// Nothing to be put.
    #[error("neither features nor a label are given, and the node is there already")]
    Nothing,
    /// Another number of features.
    #[error("{found} features, but nodes have {expected}")]
    Width {
        /// How many are given.
        found: usize,
        /// How many a node has.
        expected: usize,
    },
    /// A feature is no finite number in the store's precision.
    #[error("feature {column} (counted from 0) is {value}, which is not finite as {dtype}")]
    NotFinite {
        /// The column.
        column: usize,
        /// The value.
        value: String,
        /// Type in which features are kept.
        dtype: String,
    },
    /// A label where the store has none.
    #[error("a label, but the graph has no labels")]
    NoLabels,
    /// A label that is no class.
    #[error("label {label} is no class; labels are {expected}")]
    Label {
        /// The label.
        label: i32,
        /// What labels are.
        expected: String,
    },
    /// The graph has all the nodes that it can have.
    #[error(
        "the graph has {0} node positions, and no more fit; `satisfice compact` frees those of deleted nodes"
    )]
    TooManyNodes(usize),
}
