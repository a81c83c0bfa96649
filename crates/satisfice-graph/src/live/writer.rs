//! Writes as they come over the wire, done to a living graph.

use crate::{
    GraphError,
    engine::request::{features, integer, parse, wrong_datatype, wrong_shape},
};
use satisfice_core::{
    ApplyRequest, ApplyResponse, Error, ErrorKind, GraphStatus, Tensor, TensorData, WritableGraph,
    parameters::{ACK, IF_VERSION, OFFSET, REQUEST_ID, SOURCE},
};
use satisfice_store::{
    NodeIdKind,
    live::{Ack, Applied, LiveError, LiveGraph, NodeId, Operation, SourceOffset, Write},
};
use std::{sync::Arc, time::Duration};

/// The inputs of a write.
const INPUTS: [(&str, &str); 6] = [
    ("node_ids", "INT64 [n], or BYTES [n] where ids are strings"),
    ("x", "FP32 [n, features]"),
    ("y", "INT64 [n], -1 where the label is not known"),
    (
        "edge_index",
        "INT64 [2, edges], or BYTES where ids are strings",
    ),
    ("delete_nodes", "as `node_ids`"),
    ("delete_edges", "as `edge_index`"),
];

/// When to come again while the disk is busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A living graph as those write to it who have tensors.
#[derive(Debug)]
pub struct GraphWriter {
    name: String,
    graph: Arc<LiveGraph>,
}

impl GraphWriter {
    /// The graph under this name.
    pub fn new(name: impl Into<String>, graph: Arc<LiveGraph>) -> Self {
        Self {
            name: name.into(),
            graph,
        }
    }

    /// The graph itself.
    pub fn graph(&self) -> &Arc<LiveGraph> {
        &self.graph
    }
}

impl WritableGraph for GraphWriter {
    fn name(&self) -> &str {
        &self.name
    }

    fn apply(&self, request: &ApplyRequest) -> Result<ApplyResponse, Error> {
        let kind = self.graph.snapshot().id_kind();
        let ack = match ACK.text(&request.parameters)? {
            Some("visible") => Ack::Visible,
            _ => Ack::Durable,
        };
        let write = write(request, kind)?;
        let Some(deadline) = request.deadline.filter(|_| ack == Ack::Visible) else {
            let applied = self
                .graph
                .apply(write, ack)
                .map_err(|refusal| error(&refusal))?;
            return Ok(response(&applied));
        };
        let applied = self
            .graph
            .apply(write, Ack::Durable)
            .map_err(|refusal| error(&refusal))?;
        match self.graph.wait_for(applied.version, deadline) {
            true => Ok(response(&applied)),
            false => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "not_visible_in_time",
                format!(
                    "the write is on disk as version {}, but not every model shows it yet",
                    applied.version
                ),
            )
            .with_hint("ask models with `min_version`, or give the write more time")),
        }
    }

    fn status(&self) -> GraphStatus {
        let status = self.graph.status();
        let snapshot = self.graph.snapshot();
        GraphStatus {
            version: status.version,
            visible_version: status.shown_version,
            nodes: status.nodes as u64,
            edges: status.edges as u64,
            features: snapshot.base().feature_width() as u64,
            directed: !snapshot.is_undirected(),
            log_bytes: status.log_bytes,
            failed: (!status.is_writable).then(|| {
                "the log could not be written: check the disk, then start again".to_owned()
            }),
        }
    }
}

fn response(applied: &Applied) -> ApplyResponse {
    ApplyResponse {
        version: applied.version,
        repeated: applied.repeated,
        nodes_added: applied.nodes_added,
        nodes_deleted: applied.nodes_deleted,
        edges_added: applied.edges_added,
        edges_deleted: applied.edges_deleted,
    }
}

/// The write that a request asks for: edges are deleted first, then nodes; then nodes are put, then edges.
fn write(request: &ApplyRequest, kind: NodeIdKind) -> Result<Write, Error> {
    check_names(request)?;
    let offset = match (SOURCE.text(&request.parameters)?, whole(request, &OFFSET)?) {
        (Some(source), Some(offset)) => Some(SourceOffset {
            source: source.to_owned(),
            offset,
        }),
        (None, None) => None,
        _ => {
            let message = "parameters `source` and `offset` need each other";
            return Err(
                Error::new(ErrorKind::InvalidInput, "wrong_parameter", message)
                    .with_hint("send both, or neither"),
            );
        }
    };
    let request_id = REQUEST_ID.text(&request.parameters)?;
    Ok(Write {
        operations: operations(request, kind).map_err(Error::from)?,
        request_id: request_id.map(str::to_owned),
        offset,
        if_version: whole(request, &IF_VERSION)?,
    })
}

fn whole(
    request: &ApplyRequest,
    spec: &satisfice_core::parameters::ParameterSpec,
) -> Result<Option<u64>, Error> {
    let number = spec.whole(&request.parameters)?;
    Ok(number.map(i64::unsigned_abs))
}

fn check_names(request: &ApplyRequest) -> Result<(), Error> {
    let known = |name: &str| INPUTS.iter().any(|(input, _)| *input == name);
    let unknown = request.inputs.iter().find(|input| !known(&input.name));
    let Some(unknown) = unknown else {
        return Ok(());
    };
    let name: String = unknown.name.chars().take(80).collect();
    let names = INPUTS.map(|(name, what)| format!("`{name}` ({what})"));
    let message = format!("a write has no input `{name}`");
    Err(
        Error::new(ErrorKind::InvalidInput, "unknown_input", message)
            .with_hint(format!("inputs are {}", names.join(", "))),
    )
}

fn operations(request: &ApplyRequest, kind: NodeIdKind) -> Result<Vec<Operation>, GraphError> {
    let mut operations = Vec::new();
    if let Some(tensor) = request.input("delete_edges") {
        for (source, target) in edges("delete_edges", tensor, kind)? {
            operations.push(Operation::DeleteEdge { source, target });
        }
    }
    if let Some(tensor) = request.input("delete_nodes") {
        for id in ids("delete_nodes", tensor, kind)? {
            operations.push(Operation::DeleteNode { id });
        }
    }
    put_nodes(request, kind, &mut operations)?;
    if let Some(tensor) = request.input("edge_index") {
        for (source, target) in edges("edge_index", tensor, kind)? {
            operations.push(Operation::PutEdge { source, target });
        }
    }
    match operations.is_empty() {
        true => Err(GraphError::request_hint(
            "nothing_written",
            "the write holds nothing",
            "send `node_ids` with `x` or `y`, `edge_index`, `delete_nodes` or `delete_edges`",
        )),
        false => Ok(operations),
    }
}

fn put_nodes(
    request: &ApplyRequest,
    kind: NodeIdKind,
    operations: &mut Vec<Operation>,
) -> Result<(), GraphError> {
    let (x, y) = (request.input("x"), request.input("y"));
    let Some(tensor) = request.input("node_ids") else {
        return match x.or(y) {
            None => Ok(()),
            Some(_) => Err(GraphError::request_hint(
                "missing_input",
                "`x` or `y` is there, but not `node_ids`",
                "`node_ids` says whose features and labels they are",
            )),
        };
    };
    let ids = ids("node_ids", tensor, kind)?;
    let nodes = ids.len();
    let features = x.map(|tensor| rows(tensor, nodes)).transpose()?;
    let labels = y.map(|tensor| labels(tensor, nodes)).transpose()?;
    let mut rows = features.into_iter().flatten();
    let mut labels = labels.into_iter().flatten();
    operations.extend(ids.into_iter().map(|id| Operation::PutNode {
        id,
        x: rows.next(),
        label: labels.next(),
    }));
    Ok(())
}

/// The features of `nodes` nodes.
fn rows(tensor: &Tensor, nodes: usize) -> Result<Vec<Box<[f32]>>, GraphError> {
    let [rows, width] = *tensor.shape() else {
        return Err(wrong_shape("x", tensor, "[nodes, features]"));
    };
    if rows != nodes {
        return Err(of_other_length("x", rows, nodes));
    }
    let values = features::single(tensor)?;
    Ok((0..rows)
        .map(|row| values[row * width..][..width].into())
        .collect())
}

fn labels(tensor: &Tensor, nodes: usize) -> Result<Vec<i32>, GraphError> {
    let [count] = *tensor.shape() else {
        return Err(wrong_shape("y", tensor, "[nodes]"));
    };
    if count != nodes {
        return Err(of_other_length("y", count, nodes));
    }
    check_integers("y", tensor)?;
    let label = |node: usize| {
        let label = integer(tensor.data(), node);
        i32::try_from(label).map_err(|_| {
            let message = format!("`y`: element {node} is {label}, which is no label");
            GraphError::request("wrong_label", message)
        })
    };
    (0..count).map(label).collect()
}

fn of_other_length(name: &str, found: usize, nodes: usize) -> GraphError {
    let message = format!("`{name}` is of {found} nodes, but `node_ids` names {nodes}");
    GraphError::request("wrong_shape", message)
}

fn check_integers(name: &str, tensor: &Tensor) -> Result<(), GraphError> {
    match tensor.data() {
        TensorData::Int64(_) | TensorData::Int32(_) => Ok(()),
        _ => Err(wrong_datatype(name, tensor, "INT64 or INT32")),
    }
}

fn ids(name: &str, tensor: &Tensor, kind: NodeIdKind) -> Result<Vec<NodeId>, GraphError> {
    let [count] = *tensor.shape() else {
        return Err(wrong_shape(name, tensor, "[nodes]"));
    };
    let ids = (0..count).map(|at| id(name, tensor, at, kind));
    ids.collect()
}

fn edges(
    name: &str,
    tensor: &Tensor,
    kind: NodeIdKind,
) -> Result<Vec<(NodeId, NodeId)>, GraphError> {
    let [2, count] = *tensor.shape() else {
        return Err(wrong_shape(name, tensor, "[2, edges]"));
    };
    let edge = |at: usize| {
        let source = id(name, tensor, at, kind)?;
        Ok((source, id(name, tensor, count + at, kind)?))
    };
    (0..count).map(edge).collect()
}

/// The id that element `at` is: decimal text stands for a number where ids are numbers, as in requests.
fn id(name: &str, tensor: &Tensor, at: usize, kind: NodeIdKind) -> Result<NodeId, GraphError> {
    let TensorData::Bytes(strings) = tensor.data() else {
        if kind == NodeIdKind::String {
            return Err(wrong_datatype(name, tensor, "BYTES, for ids are strings"));
        }
        check_integers(name, tensor)?;
        return Ok(NodeId::Int(integer(tensor.data(), at)));
    };
    let bytes = strings.get(at).unwrap_or_default();
    let wrong = |what: &str| {
        let text: String = String::from_utf8_lossy(bytes).chars().take(80).collect();
        let message = format!("`{name}`: element {at} is `{text}`, which is no {what}");
        GraphError::request("wrong_node_id", message)
    };
    match kind {
        NodeIdKind::String => {
            let text = std::str::from_utf8(bytes).map_err(|_| wrong("UTF-8 text"))?;
            Ok(NodeId::Text(text.to_owned()))
        }
        NodeIdKind::Int64 | NodeIdKind::Position => {
            let number = parse(bytes).ok_or_else(|| wrong("number, as ids are here"))?;
            Ok(NodeId::Int(number))
        }
    }
}

/// A refusal of the graph, as those get it who write.
fn error(error: &LiveError) -> Error {
    let (kind, code) = match error {
        LiveError::TooLarge { .. } => (ErrorKind::TooLarge, "write_too_large"),
        LiveError::Name { .. } => (ErrorKind::InvalidInput, "wrong_parameter"),
        LiveError::VersionMoved { .. } => (ErrorKind::InvalidInput, "version_moved"),
        LiveError::RequestIdReused { .. } => (ErrorKind::InvalidInput, "request_id_reused"),
        LiveError::Sources { .. } => (ErrorKind::TooLarge, "too_many_sources"),
        LiveError::Full { .. } => (ErrorKind::Unavailable, "graph_full"),
        LiveError::Busy { .. } => (ErrorKind::Unavailable, "queue_full"),
        LiveError::DiskFull { .. } => (ErrorKind::Unavailable, "disk_full"),
        LiveError::LogFailed { .. } => (ErrorKind::Internal, "log_failed"),
        LiveError::FollowerFailed { .. } => (ErrorKind::Internal, "follower_failed"),
        // An operation, and what is not known here: the write's fault.
        _ => (ErrorKind::InvalidInput, "wrong_operation"),
    };
    let is_busy = matches!(error, LiveError::Busy { .. });
    let message = error.to_string();
    // The way out follows the last semicolon.
    let error = match message.rsplit_once("; ") {
        Some((what, way_out)) => Error::new(kind, code, what).with_hint(way_out),
        None => Error::new(kind, code, message),
    };
    match is_busy {
        true => error.with_retry_after(RETRY_AFTER),
        false => error,
    }
}

#[cfg(test)]
mod tests;
