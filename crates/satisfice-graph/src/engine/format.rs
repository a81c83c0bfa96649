//! What requests and answers of a graph model look like, wherever the graph is.

use super::request::{self, Decoder, KnownNodes, STORED_IDS};
use crate::{
    BatchShape, EdgeRules, GnnModel, GraphError, ModelDir, NewNodes, Plan, QueryBatch,
    RequestLimits,
};
use satisfice_core::{
    ByteStrings, Cores, DataType, Error, ErrorKind, InferRequest, ModelMetadata, NamedTensor,
    Tensor, TensorData, TensorSpec,
};
use satisfice_store::{Duplicates, GraphStore, NodeIdKind, NodeIds};

/// What requests have to know of a graph besides its nodes' ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphFacts {
    /// Number of nodes.
    pub nodes: usize,
    /// Whether for every edge its reverse is there too.
    pub undirected: bool,
    /// What became of edges that stood twice.
    pub duplicates: Duplicates,
    /// What the nodes' ids are.
    pub ids: NodeIdKind,
    /// Names of the label values.
    pub classes: Option<Vec<String>>,
}

impl GraphFacts {
    /// Of a graph store.
    pub fn of(store: &GraphStore) -> Self {
        let manifest = store.manifest();
        Self {
            nodes: store.nodes(),
            undirected: manifest.undirected,
            duplicates: manifest.duplicates,
            ids: store.ids().kind(),
            classes: manifest.classes.clone(),
        }
    }
}

/// What says what new nodes there are.
const NEW_NODES: [&str; 4] = ["x", "edge_index", "edge_direction", "query_edge_index"];

/// What a request says.
#[derive(Debug)]
pub(super) struct Decoded {
    pub batch: QueryBatch,
    /// The stored nodes asked for, in order.
    pub stored: Vec<u32>,
    /// The plan that it names.
    pub plan: Option<Plan>,
}

impl Decoded {
    /// The answers in the order of the request, `[queries + stored, width]`, from those for the batch.
    pub(super) fn in_order(&self, values: Vec<f32>, width: usize) -> Vec<f32> {
        if self.stored == self.batch.stored() {
            return values;
        }
        let (of_queries, of_stored) = values.split_at(self.batch.queries() * width);
        let mut rows = of_queries.to_vec();
        for node in &self.stored {
            let at = self.batch.stored().partition_point(|other| other < node);
            rows.extend_from_slice(&of_stored[at * width..][..width]);
        }
        rows
    }
}

/// Turns requests for a model into batches, and its answers into tensors.
#[derive(Debug)]
pub struct RequestFormat {
    graph: GraphFacts,
    features: usize,
    width: usize,
    rules: EdgeRules,
    limits: RequestLimits,
    default_plan: Plan,
    output: String,
    metadata: ModelMetadata,
}

impl RequestFormat {
    /// A request that is answered: one new node of zeros, without edges.
    pub fn example(&self) -> Option<InferRequest> {
        let input = |name: &str, shape: Vec<usize>, data| {
            let tensor = Tensor::new(shape, data).ok()?;
            let name = name.to_owned();
            Some(NamedTensor { name, tensor })
        };
        let x = TensorData::Fp32(vec![0.0; self.features]);
        Some(InferRequest {
            inputs: vec![
                input("x", vec![1, self.features], x)?,
                input("edge_index", vec![2, 0], TensorData::Int64(Vec::new()))?,
            ],
            ..InferRequest::default()
        })
    }

    /// Of a model on a graph.
    ///
    /// # Errors
    /// [`GraphError::Config`] for a default plan that is none.
    pub fn new(
        model_dir: &ModelDir,
        model: &GnnModel,
        graph: GraphFacts,
    ) -> Result<Self, GraphError> {
        let config = model_dir.config();
        let default_plan = config
            .default_plan()
            .map_err(|message| GraphError::Config {
                path: model_dir.store_path(),
                message,
            })?;
        Ok(Self {
            rules: EdgeRules {
                undirected: graph.undirected,
                merge_duplicates: graph.duplicates == Duplicates::Merged,
                query_self_loops: config.query_self_loops,
            },
            limits: config.limits,
            default_plan,
            output: config.output.clone(),
            metadata: metadata(model, &graph, &config.output),
            features: model.features(),
            width: model.outputs(),
            graph,
        })
    }

    /// With answers of stored nodes, by `stored_ids`.
    #[must_use]
    pub(super) fn with_stored(mut self) -> Self {
        let inputs = &mut self.metadata.inputs;
        let ids = inputs.iter().find(|spec| spec.name == "edge_index");
        let ids = ids.map(|spec| TensorSpec {
            name: STORED_IDS.to_owned(),
            shape: vec![-1],
            ..spec.clone()
        });
        inputs.extend(ids);
        self
    }

    /// Values per row of the model's answer.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Signature of the model.
    pub fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    /// The plan of requests that name none.
    pub fn default_plan(&self) -> Plan {
        self.default_plan
    }

    /// Names of the classes, where the graph has them and the model leaves one value a class.
    pub fn class_names(&self) -> Option<&[String]> {
        let names = self.graph.classes.as_deref()?;
        (names.len() == self.width).then_some(names)
    }

    /// Checks and orders a batch of new nodes.
    ///
    /// # Errors
    /// As [`QueryBatch::new`].
    pub fn attach<'a>(
        &self,
        batch: impl Into<NewNodes<'a>>,
        cores: &Cores,
    ) -> Result<QueryBatch, GraphError> {
        self.attach_among(self.graph.nodes, batch, cores)
    }

    /// As [`attach`](Self::attach), to the nodes that there are now.
    pub(super) fn attach_to<'a>(
        &self,
        nodes: KnownNodes<'_>,
        batch: impl Into<NewNodes<'a>>,
        cores: &Cores,
    ) -> Result<QueryBatch, GraphError> {
        let batch = batch.into();
        nodes.check(&batch)?;
        self.attach_among(nodes.positions, batch, cores)
    }

    fn attach_among<'a>(
        &self,
        nodes: usize,
        batch: impl Into<NewNodes<'a>>,
        cores: &Cores,
    ) -> Result<QueryBatch, GraphError> {
        let shape = BatchShape {
            nodes,
            features: self.features,
            rules: self.rules,
            limits: self.limits,
        };
        QueryBatch::new(batch, shape, cores)
    }

    /// The batch of a request, and the plan if it names one; `ids` are those of the graph's nodes. The request asks for no
    /// stored nodes.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn decode(
        &self,
        request: &InferRequest,
        ids: NodeIds<'_>,
    ) -> Result<(QueryBatch, Option<Plan>), Error> {
        let nodes = KnownNodes {
            ids,
            positions: self.graph.nodes,
            live: None,
        };
        if request.input(STORED_IDS).is_some() {
            let message = format!("`{STORED_IDS}` is not answered in a cluster");
            return Err(
                Error::new(ErrorKind::Unsupported, "stored_ids_in_cluster", message)
                    .with_hint("send it to a server that holds the whole graph"),
            );
        }
        let Decoded { batch, plan, .. } = self.decode_for(nodes, request)?;
        Ok((batch, plan))
    }

    /// As [`decode`](Self::decode), with the nodes that there are now.
    pub(super) fn decode_for(
        &self,
        nodes: KnownNodes<'_>,
        request: &InferRequest,
    ) -> Result<Decoded, Error> {
        let decoder = Decoder {
            nodes,
            undirected: self.graph.undirected,
            features: self.features,
            limits: self.limits,
        };
        let plan = request::plan(request)?;
        for name in &request.outputs {
            if !self.metadata.outputs.iter().any(|spec| spec.name == *name) {
                return Err(unknown_output(name));
            }
        }
        let stored = decoder.stored(request)?;
        let is_alone =
            !stored.is_empty() && NEW_NODES.iter().all(|name| request.input(name).is_none());
        let batch = if is_alone {
            QueryBatch::empty()
        } else {
            let batch = decoder.new_nodes(request)?;
            self.attach_among(nodes.positions, batch, &request.cores)?
        };
        let batch = batch.with_stored(&stored);
        Ok(Decoded {
            batch,
            stored,
            plan,
        })
    }

    /// The outputs asked for, of the model's values, `[queries, outputs]`.
    ///
    /// # Errors
    /// An output that the model does not have, or one asked for twice.
    pub fn encode(&self, names: &[String], values: Vec<f32>) -> Result<Vec<NamedTensor>, Error> {
        let width = self.width;
        let queries = values.len() / width;
        let classes: Vec<i64> = values.chunks_exact(width).map(argmax).collect();
        let default = std::slice::from_ref(&self.output);
        let names = if names.is_empty() { default } else { names };
        let mut values = Some(values);
        names
            .iter()
            .map(|name| {
                let (shape, data) = match name.as_str() {
                    "class" => (vec![queries], TensorData::Int64(classes.clone())),
                    "class_name" => (vec![queries], self.named(&classes)?),
                    name if name == self.output => {
                        let values = values.take().ok_or_else(|| asked_twice(name))?;
                        (vec![queries, width], TensorData::Fp32(values))
                    }
                    other => return Err(unknown_output(other)),
                };
                let tensor = Tensor::new(shape, data)
                    .map_err(|e| Error::new(ErrorKind::Internal, "output_shape", e.to_string()))?;
                Ok(NamedTensor {
                    name: name.clone(),
                    tensor,
                })
            })
            .collect()
    }

    fn named(&self, classes: &[i64]) -> Result<TensorData, Error> {
        let names = self
            .class_names()
            .ok_or_else(|| unknown_output("class_name"))?;
        let strings: ByteStrings = classes
            .iter()
            .map(|&c| names[c as usize].as_str())
            .collect();
        Ok(TensorData::Bytes(strings))
    }
}

fn unknown_output(name: &str) -> Error {
    let message = format!("the model has no output `{name}`");
    Error::new(ErrorKind::InvalidInput, "unknown_output", message)
}

fn asked_twice(name: &str) -> Error {
    let message = format!("output `{name}` is asked for twice");
    Error::new(ErrorKind::InvalidInput, "duplicate_output", message)
}

/// Position of the first of the largest values.
pub fn argmax(values: &[f32]) -> i64 {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best as i64
}

fn metadata(model: &GnnModel, graph: &GraphFacts, output: &str) -> ModelMetadata {
    let spec = |name: &str, datatype, shape: &[i64]| TensorSpec {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        labels: None,
    };
    let ids = match graph.ids {
        NodeIdKind::String => DataType::Bytes,
        NodeIdKind::Position | NodeIdKind::Int64 => DataType::Int64,
    };
    let mut outputs = vec![
        spec(output, DataType::Fp32, &[-1, model.outputs() as i64]),
        spec("class", DataType::Int64, &[-1]),
    ];
    let classes = graph.classes.as_ref();
    if let Some(classes) = classes.filter(|classes| classes.len() == model.outputs()) {
        outputs[0].labels = Some(classes.clone());
        outputs.push(spec("class_name", DataType::Bytes, &[-1]));
    }
    ModelMetadata {
        platform: "satisfice_gnn".to_owned(),
        inputs: vec![
            spec("x", DataType::Fp32, &[-1, model.features() as i64]),
            spec("edge_index", ids, &[2, -1]),
            spec("edge_direction", DataType::Uint8, &[-1]),
            spec("query_edge_index", DataType::Int64, &[2, -1]),
        ],
        outputs,
    }
}
