use std::fmt;

/// The id of a node, owned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeId {
    /// An integer, or the node's position where ids are positions.
    Int(i64),
    /// A string.
    Text(String),
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(id) => id.fmt(f),
            Self::Text(id) => f.write_str(&crate::error::shown(id.as_bytes())),
        }
    }
}

/// One change of a graph. Operations of one write are done in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Inserts a node, which needs features, or replaces what is given of one that is there.
    ///
    /// Where ids are positions, a new node's id is the next position, or that of a deleted node,
    /// which then lives again at its position.
    PutNode {
        /// Its id.
        id: NodeId,
        /// Its features; they are kept in the precision of the store.
        x: Option<Box<[f32]>>,
        /// Its label; -1 = unknown.
        label: Option<i32>,
    },
    /// Deletes a node and all its edges. Its position stays empty; its id may be put again.
    DeleteNode {
        /// Its id.
        id: NodeId,
    },
    /// Inserts an edge, in an undirected graph both ways. An edge that is there stays as it is.
    PutEdge {
        /// Where it comes from.
        source: NodeId,
        /// Where it leads.
        target: NodeId,
    },
    /// Deletes every edge from `source` to `target`, in an undirected graph both ways. There need
    /// be none, but both nodes must be there.
    DeleteEdge {
        /// Where it comes from.
        source: NodeId,
        /// Where it leads.
        target: NodeId,
    },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutNode { id, .. } => write!(f, "put node `{id}`"),
            Self::DeleteNode { id } => write!(f, "delete node `{id}`"),
            Self::PutEdge { source, target } => write!(f, "put edge `{source}` -> `{target}`"),
            Self::DeleteEdge { source, target } => {
                write!(f, "delete edge `{source}` -> `{target}`")
            }
        }
    }
}

/// Where a write stands in a stream that is read from its beginning or from any later place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceOffset {
    /// Name of the stream.
    pub source: String,
    /// Place in it; a write whose offset is not above the last one of its source is not done again.
    pub offset: u64,
}

/// Operations that are done together or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Write {
    /// What is done, in this order.
    pub operations: Vec<Operation>,
    /// A name of the caller's: a write of the same name is answered as the first, not done again.
    pub request_id: Option<String>,
    /// Where it stands in a stream.
    pub offset: Option<SourceOffset>,
    /// The version that the graph must have; at another one the write is refused.
    pub if_version: Option<u64>,
}

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ack {
    /// It is on the disk.
    #[default]
    Durable,
    /// It is on the disk, and every follower shows it.
    Visible,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// The graph's version with it. Versions count commits; the imported graph is version 0.
    pub version: u64,
    /// Whether it had been done before: then the rest is the first one's answer. (Of an earlier
    /// write of a source, only the version of the source's last one is known.)
    pub repeated: bool,
    /// Nodes inserted.
    pub nodes_added: usize,
    /// Nodes deleted.
    pub nodes_deleted: usize,
    /// Directed edges inserted: an edge of an undirected graph is two, a self-loop one.
    pub edges_added: usize,
    /// Directed edges deleted, those of deleted nodes among them.
    pub edges_deleted: usize,
}
