use crate::{Error, NamedTensor, Parameters, Tensor};
use std::time::Instant;

/// One write to a graph: all of it is done, or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApplyRequest {
    /// What is put and deleted, each name once.
    pub inputs: Vec<NamedTensor>,
    /// Parameters of the write ([`APPLY`](crate::parameters::APPLY)).
    pub parameters: Parameters,
    /// When nobody waits for the answer any more, if the request says so. What is durable by then stays.
    pub deadline: Option<Instant>,
}

impl ApplyRequest {
    /// The input of that name, if the request has it.
    pub fn input(&self, name: &str) -> Option<&Tensor> {
        let mut inputs = self.inputs.iter();
        let input = inputs.find(|input| input.name == name);
        input.map(|input| &input.tensor)
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyResponse {
    /// The graph's version that holds the write.
    pub version: u64,
    /// True if the same write had been done before, and so nothing was done now.
    pub repeated: bool,
    /// Nodes that were not there before.
    pub nodes_added: usize,
    /// Nodes that are there no more.
    pub nodes_deleted: usize,
    /// Edges that were not there before.
    pub edges_added: usize,
    /// Edges that are there no more, those of deleted nodes included.
    pub edges_deleted: usize,
}

/// How a graph stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphStatus {
    /// Number of writes since the graph was imported.
    pub version: u64,
    /// The version that every model of the graph shows.
    pub visible_version: u64,
    /// Nodes that are there.
    pub nodes: u64,
    /// Edges that are there, each direction of an undirected one counted.
    pub edges: u64,
    /// Numbers of a node's features.
    pub features: u64,
    /// False if every edge goes both ways.
    pub directed: bool,
    /// Bytes of the log at rest.
    pub log_bytes: u64,
    /// Why writes are refused until an operator has looked, if they are.
    pub failed: Option<String>,
}

impl GraphStatus {
    /// Versions that not every model shows yet.
    pub fn pending(&self) -> u64 {
        self.version.saturating_sub(self.visible_version)
    }
}

/// A graph that may be written to while models answer from it.
///
/// Calls block; the server runs them off its async threads, several at once.
pub trait WritableGraph: Send + Sync {
    /// Name of the graph, the same for its whole life.
    fn name(&self) -> &str;

    /// Does one write, whole and durable, or refuses it and changes nothing.
    ///
    /// # Errors
    /// A typed [`Error`]. What had become durable before one with code `not_visible_in_time` stays.
    fn apply(&self, request: &ApplyRequest) -> Result<ApplyResponse, Error>;

    /// How the graph stands.
    fn status(&self) -> GraphStatus;
}
