//! Writes to graphs and how graphs stand, as JSON.

use super::{DecodedRequest, TensorLimits, decode_request, message::invalid};
use bytes::Buf;
use satisfice_core::{ApplyRequest, ApplyResponse, Error, GraphStatus};
use serde::Serialize;

/// A write and the client's own name for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecodedWrite {
    /// To be echoed.
    pub id: Option<String>,
    pub request: ApplyRequest,
}

/// Reads a write, which stands on the wire like an inference without outputs.
///
/// # Errors
/// As [`decode_request`]; `InvalidInput` for outputs that are asked for.
pub(crate) fn decode_write(
    body: impl Buf,
    json_length: Option<usize>,
    limits: TensorLimits,
) -> Result<DecodedWrite, Error> {
    let DecodedRequest { id, request, .. } = decode_request(body, json_length, limits)?;
    if let Some(output) = request.outputs.first() {
        let message = format!(
            "a write has no outputs, such as `{}`",
            crate::clip::clip(output)
        );
        return Err(invalid("unknown_output", message).with_hint("leave `outputs` out"));
    }
    Ok(DecodedWrite {
        id,
        request: ApplyRequest {
            inputs: request.inputs,
            parameters: request.parameters,
            deadline: None,
        },
    })
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WriteAnswer {
    pub graph_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub version: u64,
    pub repeated: bool,
    pub nodes_added: usize,
    pub nodes_deleted: usize,
    pub edges_added: usize,
    pub edges_deleted: usize,
}

impl WriteAnswer {
    pub(crate) fn new(graph: &str, id: Option<String>, response: ApplyResponse) -> Self {
        Self {
            graph_name: graph.to_owned(),
            id,
            version: response.version,
            repeated: response.repeated,
            nodes_added: response.nodes_added,
            nodes_deleted: response.nodes_deleted,
            edges_added: response.edges_added,
            edges_deleted: response.edges_deleted,
        }
    }
}

/// How a graph stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GraphAnswer {
    pub name: String,
    pub models: Vec<String>,
    pub version: u64,
    pub visible_version: u64,
    pub pending: u64,
    pub nodes: u64,
    pub edges: u64,
    pub features: u64,
    pub directed: bool,
    pub log_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl GraphAnswer {
    pub(crate) fn new(name: &str, models: Vec<String>, status: GraphStatus) -> Self {
        Self {
            name: name.to_owned(),
            models,
            version: status.version,
            visible_version: status.visible_version,
            pending: status.pending(),
            nodes: status.nodes,
            edges: status.edges,
            features: status.features,
            directed: status.directed,
            log_bytes: status.log_bytes,
            failed: status.failed,
        }
    }
}

/// The graphs.
#[derive(Debug, Serialize)]
pub(crate) struct GraphList {
    pub graphs: Vec<GraphAnswer>,
}
