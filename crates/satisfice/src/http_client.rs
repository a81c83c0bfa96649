//! A client of a server's models, over HTTP.

use anyhow::{Context, Result, anyhow, bail};
use satisfice_core::{
    ByteStrings, InferRequest, InferResponse, NamedTensor, Parameter, Tensor, TensorData,
};
use satisfice_graph::Plan;
use satisfice_server::protocol::{
    JSON_LENGTH_HEADER, ModelDescription, TensorLimits,
    client::{Format, decode_answer, decode_metadata, decode_refusal, encode_request},
};
use satisfice_store::{GraphStore, NodeId, QuerySlice};

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// A connection to one server, kept open between requests.
pub(crate) struct HttpClient {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
}

/// The output of a graph model, and the parameters of the answer.
pub(crate) struct GraphAnswer {
    /// `[queries, width]`.
    pub outputs: Vec<f32>,
    /// In-edges of everything computed, over all layers.
    pub edges: u64,
    /// Rows read for them.
    pub rows: u64,
    pub response: InferResponse,
}

impl HttpClient {
    pub(crate) fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.new_agent(),
            url: url.trim_end_matches('/').to_owned(),
            authorization: None,
        }
    }

    /// With the token that the server asks for.
    pub(crate) fn with_token(mut self, token: Option<&str>) -> Self {
        self.authorization = token.map(|token| format!("Bearer {token}"));
        self
    }

    /// Sends a request to a graph model, whose first output is FP32.
    pub(crate) fn infer_graph(&self, model: &str, request: &InferRequest) -> Result<GraphAnswer> {
        let response = self.infer(model, request)?;
        let Some(TensorData::Fp32(values)) = response.outputs.first().map(|o| o.tensor.data())
        else {
            bail!("the first output of model `{model}` is not FP32");
        };
        let count = |name: &str| match response.parameters.get(name) {
            Some(Parameter::Int(count)) => *count as u64,
            _ => 0,
        };
        Ok(GraphAnswer {
            outputs: values.clone(),
            edges: count("edges"),
            rows: count("rows"),
            response,
        })
    }

    /// The model's inputs and outputs.
    pub(crate) fn describe(&self, model: &str) -> Result<ModelDescription> {
        let body = self.get(&format!("/v2/models/{model}"))?;
        Ok(decode_metadata(&body)?)
    }

    /// What the server has at `path`.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.url);
        let answer = self.authorized(self.agent.get(&url)).call();
        let mut answer = answer.with_context(|| unreachable(&url))?;
        let status = answer.status();
        let body = answer.body_mut().read_to_vec()?;
        match status.is_success() {
            true => Ok(body),
            false => Err(refused(&url, status.as_u16(), &body)),
        }
    }

    /// Sends a request with binary tensors.
    pub(crate) fn infer(&self, model: &str, request: &InferRequest) -> Result<InferResponse> {
        let url = format!("{}/v2/models/{model}/infer", self.url);
        let encoded = encode_request(request, None, Format::Binary)?;
        let mut post = self.authorized(self.agent.post(&url));
        if let Some(length) = encoded.json_length {
            post = post.header(JSON_LENGTH_HEADER, length.to_string());
        }
        let mut answer = post
            .send(&encoded.body[..])
            .with_context(|| unreachable(&url))?;
        let json_length = answer
            .headers()
            .get(JSON_LENGTH_HEADER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let status = answer.status();
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()?;
        if status.is_success() {
            return Ok(decode_answer(&body[..], json_length, TensorLimits::default())?.response);
        }
        Err(refused(&url, status.as_u16(), &body))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }
}

fn unreachable(url: &str) -> String {
    format!("{url}: is the server running? (`satisfice serve`)")
}

/// What a server said instead of an answer.
fn refused(url: &str, status: u16, body: &[u8]) -> anyhow::Error {
    match decode_refusal(body) {
        Some(refusal) => match refusal.hint {
            Some(hint) => anyhow!("{url}: {status}: {} (hint: {hint})", refusal.message),
            None => anyhow!("{url}: {status}: {}", refusal.message),
        },
        None => anyhow!("{url}: {status}"),
    }
}

/// A request for the answer of a graph model to a batch of new nodes. Stored nodes are named by their ids
/// in `store`, or by position without one.
pub(crate) fn graph_request(
    batch: &QuerySlice,
    plan: Option<Plan>,
    store: Option<&GraphStore>,
    outputs: &[&str],
) -> Result<InferRequest> {
    let queries = batch.queries();
    let edges = batch.edge_query.len();
    let tensor = |name: &str, shape: Vec<usize>, data| -> Result<NamedTensor> {
        Ok(NamedTensor {
            name: name.to_owned(),
            tensor: Tensor::new(shape, data)?,
        })
    };
    let width = batch.x.len() / queries;
    let mut inputs = vec![
        tensor("x", vec![queries, width], TensorData::Fp32(batch.x.clone()))?,
        tensor("edge_index", vec![2, edges], edge_index(batch, store))?,
    ];
    if let Some(directions) = &batch.edge_direction {
        let data = TensorData::Uint8(directions.clone());
        inputs.push(tensor("edge_direction", vec![edges], data)?);
    }
    if !batch.query_edges.is_empty() {
        let sources = batch
            .query_edges
            .iter()
            .map(|&(source, _)| i64::from(source));
        let targets = batch
            .query_edges
            .iter()
            .map(|&(_, target)| i64::from(target));
        let data = TensorData::Int64(sources.chain(targets).collect());
        inputs.push(tensor(
            "query_edge_index",
            vec![2, batch.query_edges.len()],
            data,
        )?);
    }
    let plan = plan.map(|plan| ("plan".to_owned(), plan.to_string().into()));
    // Without the store, queries know their neighbours by position only.
    let by_position = store
        .is_none()
        .then(|| ("node_ids".to_owned(), "position".into()));
    Ok(InferRequest {
        inputs,
        outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
        parameters: plan.into_iter().chain(by_position).collect(),
        ..InferRequest::default()
    })
}

fn edge_index(batch: &QuerySlice, store: Option<&GraphStore>) -> TensorData {
    let Some(store) = store else {
        return integers(batch, i64::from);
    };
    match store.ids().id_of(0) {
        NodeId::Int(_) => integers(batch, |node| match store.ids().id_of(node) {
            NodeId::Int(id) => id,
            NodeId::Str(_) => i64::from(node),
        }),
        NodeId::Str(_) => {
            let mut strings = ByteStrings::with_capacity(2 * batch.edge_query.len());
            for query in &batch.edge_query {
                strings.push(query.to_string().as_bytes());
            }
            for &node in &batch.edge_node {
                match store.ids().id_of(node) {
                    NodeId::Str(id) => strings.push(id.as_bytes()),
                    NodeId::Int(id) => strings.push(id.to_string().as_bytes()),
                }
            }
            TensorData::Bytes(strings)
        }
    }
}

fn integers(batch: &QuerySlice, id: impl Fn(u32) -> i64) -> TensorData {
    let queries = batch.edge_query.iter().map(|&query| i64::from(query));
    let nodes = batch.edge_node.iter().map(|&node| id(node));
    TensorData::Int64(queries.chain(nodes).collect())
}
