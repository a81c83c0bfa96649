//! One version of a graph model, ready to answer.

mod contract;
mod request;

use crate::{
    Answer, Attachment, EdgeRules, GraphError, ModelDir, Plan, Profile, QueryBatch, RequestLimits,
    embeddings::{Embeddings, graph_view},
    model::GnnModel,
    run::{Forecast, Scratch, ScratchPool, Serving},
};
use contract::Minimum;
use request::Decoder;
use satisfice_core::{
    ByteStrings, DataType, Engine, Error, ErrorKind, InferRequest, InferResponse, ModelMetadata,
    NamedTensor, Offer, Parameters, Tensor, TensorData, TensorSpec,
};
use satisfice_store::{Check, Duplicates, GraphStore, NodeIdKind};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A graph model with its graph and embeddings.
///
/// Answers may be asked for from several threads at once.
#[derive(Debug)]
pub struct GraphEngine {
    model: GnnModel,
    store: Arc<GraphStore>,
    embeddings: Embeddings,
    loops: Vec<(u32, u32)>,
    rules: EdgeRules,
    limits: RequestLimits,
    default_plan: Plan,
    output: String,
    scratch: ScratchPool,
    profile: Result<Option<Profile>, GraphError>,
    metadata: ModelMetadata,
}

impl GraphEngine {
    /// Reads a model's weights and embeddings and checks that they belong to `store`. A profile that
    /// does not is left aside: see [`GraphEngine::profile_problem`].
    ///
    /// # Errors
    /// [`GraphError`], with the file or tensor at fault.
    pub fn open(
        model_dir: &ModelDir,
        store: Arc<GraphStore>,
        check: Check,
    ) -> Result<Self, GraphError> {
        let config = model_dir.config();
        let model = GnnModel::load(config, &model_dir.weights_path())?;
        let embeddings = Embeddings::open(model_dir, &model, &store, check)?;
        let default_plan = config
            .default_plan()
            .map_err(|message| GraphError::Config {
                path: model_dir.store_path(),
                message,
            })?;
        let manifest = store.manifest();
        let loops: Vec<(u32, u32)> = store.self_loops().collect();
        Ok(Self {
            embeddings,
            rules: EdgeRules {
                undirected: manifest.undirected,
                merge_duplicates: manifest.duplicates == Duplicates::Merged,
                query_self_loops: config.query_self_loops,
            },
            limits: config.limits,
            default_plan,
            output: config.output.clone(),
            scratch: ScratchPool::new(graph_view(&store, &loops), model.scales()),
            loops,
            profile: Profile::read(model_dir, &store),
            metadata: metadata(&model, &store, &config.output),
            model,
            store,
        })
    }

    /// The graph that the model serves.
    pub fn store(&self) -> &GraphStore {
        &self.store
    }

    /// The plan of requests that name none.
    pub fn default_plan(&self) -> Plan {
        self.default_plan
    }

    /// What the plans promise and cost, where it was measured.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().ok()?.as_ref()
    }

    /// Why the profile that is there is not used, if so: an operator should know.
    pub fn profile_problem(&self) -> Option<&GraphError> {
        self.profile.as_ref().err()
    }

    /// Names of the classes, where the graph has them and the model leaves one value a class.
    pub fn class_names(&self) -> Option<&[String]> {
        let names = self.store.manifest().classes.as_deref()?;
        (names.len() == self.model.outputs()).then_some(names)
    }

    /// Checks and orders a batch of new nodes.
    ///
    /// # Errors
    /// [`GraphError::Request`] and [`GraphError::TooLarge`].
    pub fn attach(&self, attachment: Attachment) -> Result<QueryBatch, GraphError> {
        QueryBatch::new(
            attachment,
            self.store.topology(),
            self.model.features(),
            self.rules,
            self.limits,
        )
    }

    /// Answers a batch by a plan. Deterministic: the same batch, graph, weights and plan give the
    /// same numbers.
    ///
    /// # Errors
    /// [`GraphError::Store`] when an embedding file is not what it was when it was opened.
    pub fn answer(&self, batch: &QueryBatch, plan: Plan) -> Result<Answer, GraphError> {
        self.serving(batch, |serving, scratch| {
            serving.answer(batch, plan, scratch)
        })
    }

    /// What each of `plans` would leave stale and cost.
    pub(crate) fn forecast(
        &self,
        batch: &QueryBatch,
        plans: &[Plan],
    ) -> Result<Vec<Forecast>, GraphError> {
        self.serving(batch, |serving, scratch| {
            serving.forecast(batch, plans, scratch)
        })
    }

    /// Runs `work` with the model, graph and tables, and a space prepared for `batch`.
    fn serving<T>(
        &self,
        batch: &QueryBatch,
        work: impl FnOnce(&Serving<'_>, &mut Scratch) -> T,
    ) -> Result<T, GraphError> {
        let levels = self.embeddings.levels(&self.model, &self.store)?;
        let messages = self.embeddings.messages(&self.model)?;
        let sums = self.embeddings.sums(&self.model)?;
        let serving = Serving {
            model: &self.model,
            graph: graph_view(&self.store, &self.loops),
            levels: &levels,
            messages: &messages,
            sums: &sums,
            own: self.embeddings.own()?,
            scales: self.scratch.scales(),
        };
        Ok(self
            .scratch
            .with(serving.graph, batch, |scratch| work(&serving, scratch)))
    }

    fn decoder(&self) -> Decoder<'_> {
        Decoder {
            store: &self.store,
            features: self.model.features(),
            limits: self.limits,
        }
    }

    fn outputs(&self, names: &[String], answer: Answer) -> Result<Vec<NamedTensor>, Error> {
        let width = self.model.outputs();
        let queries = answer.outputs.len() / width;
        let classes: Vec<i64> = answer.outputs.chunks_exact(width).map(argmax).collect();
        let default = std::slice::from_ref(&self.output);
        let names = if names.is_empty() { default } else { names };
        let mut values = Some(answer.outputs);
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

fn metadata(model: &GnnModel, store: &GraphStore, output: &str) -> ModelMetadata {
    let spec = |name: &str, datatype, shape: &[i64]| TensorSpec {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        labels: None,
    };
    let ids = match store.ids().kind() {
        NodeIdKind::String => DataType::Bytes,
        NodeIdKind::Position | NodeIdKind::Int64 => DataType::Int64,
    };
    let mut outputs = vec![
        spec(output, DataType::Fp32, &[-1, model.outputs() as i64]),
        spec("class", DataType::Int64, &[-1]),
    ];
    let classes = store.manifest().classes.as_ref();
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

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn describe(plan: Plan, batch: &QueryBatch, answer: &Answer, decode: Duration) -> Parameters {
    let times = answer.times;
    Parameters::from([
        ("plan".to_owned(), plan.to_string().into()),
        ("candidates".to_owned(), answer.candidates.into()),
        (
            "recomputed_nodes".to_owned(),
            answer.recomputed.len().into(),
        ),
        ("batch_edges".to_owned(), batch.edges().into()),
        ("edges".to_owned(), (answer.edges as i64).into()),
        ("rows".to_owned(), (answer.rows as i64).into()),
        ("decode_us".to_owned(), micros(decode).into()),
        ("select_us".to_owned(), micros(times.select).into()),
        ("layers_us".to_owned(), micros(times.layers).into()),
        ("head_us".to_owned(), micros(times.head).into()),
    ])
}

impl Engine for GraphEngine {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        let start = Instant::now();
        let plan = request::plan(request)?;
        let minimum = Minimum::of(request)?;
        for name in &request.outputs {
            if !self.metadata.outputs.iter().any(|spec| spec.name == *name) {
                return Err(unknown_output(name));
            }
        }
        let batch = self.attach(self.decoder().attachment(request)?)?;
        let decode = start.elapsed();
        let promise = minimum
            .map(|minimum| self.promise(&batch, minimum, plan))
            .transpose()?;
        let chosen = promise.map(|promise| promise.plan).or(plan);
        let plan = chosen.unwrap_or(self.default_plan);
        let answer = self.answer(&batch, plan)?;
        let mut parameters = describe(plan, &batch, &answer, decode);
        if let Some(promise) = promise {
            promise.describe(&mut parameters);
        }
        Ok(InferResponse {
            outputs: self.outputs(&request.outputs, answer)?,
            parameters,
        })
    }

    fn offers(&self, request: &InferRequest) -> Result<Vec<Offer>, Error> {
        if self.profile().is_none() {
            return Ok(Vec::new());
        }
        let batch = self.attach(self.decoder().attachment(request)?)?;
        Ok(self.offers_of(&batch)?)
    }
}
