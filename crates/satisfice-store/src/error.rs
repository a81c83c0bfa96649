use safetensors::Dtype;
use satisfice_kernels::LostFile;
use std::{fmt, io, path::PathBuf};

/// Why a store, a tensor file or a source of an import could not be read or written.
///
/// Every message names the file and the place in it, and says what to do where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused. Whoever runs the program; a retry helps when the disk was full or
    /// the file was not there yet.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, such as `"open it"`.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },

    /// A file that is in use is not any more what it was. Whoever truncated or changed it, or its disk; it helps to
    /// put a whole file in its place by renaming, and to open it again.
    #[error(transparent)]
    Lost(#[from] LostFile),

    /// The directory is no graph store. The caller named another directory, or nothing was imported
    /// yet; a retry does not help.
    #[error(
        "{path}: not a graph store: it has no manifest.toml; make one with `satisfice import`",
        path = path.display()
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },

    /// The graph was written to since its files were made, so that these alone are not the graph. Whoever reads
    /// the store, after folding the writes into it.
    #[error(
        "{path}: the graph has writes in its log that its files lack; fold them into the store with \
         `satisfice compact {path}`, then precompute again (or serve it with --live)",
        path = path.display()
    )]
    Written {
        /// The store.
        path: PathBuf,
    },

    /// The log of a living graph is damaged or of another store. A retry does not help.
    #[error(
        "{path}: {message} (at byte {offset}); restore the store with its directory `live` from a copy \
         (`satisfice snapshot` makes one)",
        path = path.display()
    )]
    Log {
        /// The log.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        message: String,
    },

    /// The manifest is of a format that this version does not know. Whoever upgraded one side only;
    /// a retry does not help.
    #[error(
        "{path}: format {found}, but this version reads format {known}; import the graph again with \
         this version, or use the version that wrote it",
        path = path.display()
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },

    /// The manifest is damaged or was edited. A retry does not help.
    #[error("{path}: {message}; restore it from a copy, or import the graph again", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// The file is no safetensors file, or its header is damaged, or the file is cut off. A retry
    /// does not help.
    #[error(
        "{path}: header: {message}; the file is damaged, cut off or no safetensors file: write it \
         again",
        path = path.display()
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// The file has another length than the manifest says: it is cut off or of another store. A
    /// retry does not help.
    #[error(
        "{path}: {found} bytes, but the manifest says {expected}; restore it from a copy, or import \
         the graph again",
        path = path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes that the manifest says.
        expected: u64,
        /// Bytes that the file has.
        found: u64,
    },

    /// Bytes have changed since they were written: the disk, a transfer or a person. A retry does
    /// not help.
    #[error(
        "{path}: {part}: checksum {found}, but {expected} was written; the file is damaged: restore \
         it from a copy, or import the graph again",
        path = path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The tensor, `header`, or `manifest`.
        part: String,
        /// The checksum recorded.
        expected: String,
        /// The checksum of what is there.
        found: String,
    },

    /// A tensor is not there. Whoever wrote the file; a retry does not help.
    #[error(
        "{path}: no tensor `{tensor}`; there are {}",
        listed(present),
        path = path.display()
    )]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor looked for.
        tensor: String,
        /// The tensors that are there.
        present: Vec<String>,
    },

    /// A tensor has another element type. Whoever wrote the file; a retry does not help.
    #[error(
        "{path}: tensor `{tensor}` holds {found}, but {} is needed",
        types(expected),
        path = path.display()
    )]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: Dtype,
        /// The types that would do.
        expected: Vec<Dtype>,
    },

    /// A tensor has another shape. Whoever wrote the file; a retry does not help.
    #[error(
        "{path}: tensor `{tensor}` has shape {found:?}, but {expected} is needed",
        path = path.display()
    )]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape needed, such as `[47577, features]`.
        expected: String,
    },

    /// A tensor does not start at a multiple of its element's size, so that it cannot be mapped.
    /// Whoever wrote the file; a retry does not help.
    #[error(
        "{path}: tensor `{tensor}` is not aligned; save the file again with safetensors 0.3 or later",
        path = path.display()
    )]
    Misaligned {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// The values of a tensor contradict each other or the manifest. Whoever wrote the file, or
    /// damage; a retry does not help.
    #[error("{path}: tensor `{tensor}`: {message}", path = path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What contradicts what, and where.
        message: String,
    },

    /// A writer was given tensors or bytes that do not fit what was declared. The calling code; a
    /// retry does not help.
    #[error("{path}: tensor `{tensor}`: {message}", path = path.display())]
    Declaration {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What does not fit.
        message: String,
    },

    /// Something is at the place of the output already. The caller; a retry does not help.
    #[error("{path}: exists already; {hint}", path = path.display())]
    Exists {
        /// The output.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },

    /// A source is of no format, or no variant of a format, that can be imported. The caller; a
    /// retry does not help.
    #[error("{path}: {message}; {hint}", path = path.display())]
    Unsupported {
        /// The file or directory.
        path: PathBuf,
        /// What it is.
        message: String,
        /// What to do.
        hint: String,
    },

    /// A source is damaged or contradicts itself. Whoever wrote it; a retry does not help.
    #[error("{path}: {message}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },

    /// A cell of a table cannot be read as what its column holds. Whoever wrote the table; a retry
    /// does not help.
    #[error("{path}: {place}: column `{column}`: {message}", path = path.display())]
    Cell {
        /// The table.
        path: PathBuf,
        /// The line or row.
        place: Place,
        /// The column.
        column: String,
        /// What is wrong.
        message: String,
    },

    /// An edge names a node that the node table does not have. Whoever wrote the tables; a retry
    /// does not help.
    #[error(
        "{path}: {place}: column `{column}` names node `{id}`, which the node table does not have; \
         add the node, or leave the edge out{}",
        first_line(*place),
        path = path.display()
    )]
    UnknownNode {
        /// The edge table.
        path: PathBuf,
        /// The line or row.
        place: Place,
        /// The column.
        column: String,
        /// The id, shortened to 80 characters.
        id: String,
    },

    /// Two nodes have the same id. Whoever wrote the source; a retry does not help.
    #[error(
        "{path}: nodes {first} and {second} (counted from 0) both have the id `{id}`; every node \
         needs its own",
        path = path.display()
    )]
    DuplicateId {
        /// The source.
        path: PathBuf,
        /// The id, shortened to 80 characters.
        id: String,
        /// Position of the first of them.
        first: usize,
        /// Position of the second.
        second: usize,
    },

    /// An edge names a position at which there is no node. Whoever wrote the source; a retry does
    /// not help.
    #[error(
        "{path}: edge {edge} (counted from 0) names node {node}, but there are {nodes} nodes; \
         positions go from 0 to {}",
        nodes.saturating_sub(1),
        path = path.display()
    )]
    EdgeOutOfRange {
        /// The source.
        path: PathBuf,
        /// Position of the edge.
        edge: u64,
        /// The position that it names.
        node: i64,
        /// Number of nodes.
        nodes: usize,
    },

    /// A feature is NaN, infinite, or too large for the type in which it is to be kept. Whoever
    /// wrote the source; a retry does not help.
    #[error(
        "{path}: node {node} (counted from 0), feature {column}: not a finite {dtype}; replace \
         missing values and scale features before training",
        path = path.display()
    )]
    NotFinite {
        /// The source.
        path: PathBuf,
        /// Position of the node.
        node: usize,
        /// The feature's column, counted from 0.
        column: usize,
        /// Type in which it is to be kept.
        dtype: Dtype,
    },

    /// A label is no class number. Whoever wrote the source; a retry does not help.
    #[error(
        "{path}: node {node} (counted from 0) has the label {label}, but {expected}",
        path = path.display()
    )]
    Label {
        /// The source.
        path: PathBuf,
        /// Position of the node.
        node: usize,
        /// Its label.
        label: String,
        /// What labels are.
        expected: String,
    },

    /// A graph without nodes, or one of more nodes than a store holds. The caller; a retry does not
    /// help.
    #[error(
        "{path}: {nodes} nodes, but a store holds between 1 and {} of them",
        crate::node_ids::NODES_MAX,
        path = path.display()
    )]
    NodeCount {
        /// The source.
        path: PathBuf,
        /// Number of nodes.
        nodes: usize,
    },

    /// A synthetic graph of that size or with these shares cannot be made. The caller; a retry does
    /// not help.
    #[error("cannot make such a graph: {message}")]
    Synthetic {
        /// What does not go, and what would.
        message: String,
    },
}

/// A place in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file, counted from 1.
    Line(u64),
    /// A row of a columnar file, counted from 0.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row} (counted from 0)"),
        }
    }
}

fn first_line(place: Place) -> &'static str {
    match place {
        Place::Line(1) => " (or, if line 1 is a header, call its columns `source` and `target`)",
        _ => "",
    }
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return "none".to_owned();
    }
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    format!("{}{more}", shown.join(", "))
}

fn types(types: &[Dtype]) -> String {
    let names: Vec<String> = types.iter().map(ToString::to_string).collect();
    names.join(" or ")
}

/// An id as errors show it: at most 80 characters.
pub(crate) fn shown(id: &[u8]) -> String {
    String::from_utf8_lossy(id).chars().take(80).collect()
}

/// Turns an I/O error into a [`StoreError`] that names the file.
pub(crate) trait At<T> {
    /// `path` is the file, `action` what was tried, such as `"open it"`.
    fn at(self, path: &std::path::Path, action: &'static str) -> Result<T, StoreError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &std::path::Path, action: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io {
            path: path.to_owned(),
            action,
            source,
        })
    }
}
