use crate::{
    Batching, Cores, DataType, Error, Offer, Parameters, Tensor, WritableGraph,
    parameters::ParameterSpec,
};
use std::{sync::Arc, time::Instant};

/// A tensor with its name in the model's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Name in the model's signature.
    pub name: String,
    /// The tensor.
    pub tensor: Tensor,
}

/// One request to an engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferRequest {
    /// Inputs, each name once.
    pub inputs: Vec<NamedTensor>,
    /// Names of the outputs wanted; empty means the engine's default outputs.
    pub outputs: Vec<String>,
    /// Parameters of the request, such as `plan`.
    pub parameters: Parameters,
    /// When nobody waits for the answer any more, if the request says so. An engine that waits for
    /// something, such as other machines, does not wait longer.
    pub deadline: Option<Instant>,
    /// The cores that the answer may be computed on; by default all. They may become more, fewer or none while it
    /// is, and the work be told to stop: an engine that takes long does its work through them.
    pub cores: Cores,
}

impl InferRequest {
    /// The input of that name, if the request has it.
    pub fn input(&self, name: &str) -> Option<&Tensor> {
        self.inputs
            .iter()
            .find(|input| input.name == name)
            .map(|input| &input.tensor)
    }
}

/// An engine's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferResponse {
    /// Outputs in the order asked for.
    pub outputs: Vec<NamedTensor>,
    /// What was done: plan, counts, times.
    pub parameters: Parameters,
}

/// Name, type and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the signature.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Length of each dimension; -1 stands for any length.
    pub shape: Vec<i64>,
    /// What the positions along the last dimension stand for, such as names of classes.
    pub labels: Option<Vec<String>>,
}

/// Signature of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMetadata {
    /// Kind of model and engine, such as `"satisfice_gnn"`.
    pub platform: String,
    /// Inputs that a request may carry.
    pub inputs: Vec<TensorSpec>,
    /// Outputs that a request may ask for.
    pub outputs: Vec<TensorSpec>,
}

/// A number that an engine shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineMetric {
    /// Name, such as `"satisfice_cluster_batches_total"`; names that end in `_total` only grow.
    pub name: &'static str,
    /// What it says, in one line.
    pub help: &'static str,
    /// A label and its value, where there are several of the name.
    pub label: Option<(&'static str, String)>,
    /// The number.
    pub value: u64,
}

/// Whether a request would be answered now. The later ones are the worse ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readiness {
    /// It would.
    #[default]
    Ready,
    /// It would, but something is missing or slow that answers do without for now: an operator should
    /// look.
    Degraded,
    /// It would wait, or be refused: something that answers need, such as other machines, is not there.
    Forming,
    /// It would be refused until an operator has looked: something that answers need is lost, such as a file, or
    /// the model could not be loaded.
    Failed,
    /// Requests are still answered, but should be sent elsewhere: the end is near.
    Draining,
}

impl Readiness {
    /// Whether requests are welcome.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }

    /// `"ready"`, `"degraded"`, `"forming"`, `"failed"` or `"draining"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Forming => "forming",
            Self::Failed => "failed",
            Self::Draining => "draining",
        }
    }
}

/// Something that answers inference requests for one version of one model.
///
/// Calls block and use the cores they are given; the server runs them off its async threads and hands out
/// the cores. Two calls at once do not disturb each other.
pub trait Engine: Send + Sync {
    /// Signature of the model; the same for the engine's whole life.
    fn metadata(&self) -> &ModelMetadata;

    /// Answers one request.
    ///
    /// # Errors
    /// A typed [`Error`]; nothing of the request outlives it.
    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error>;

    /// The ways to answer `request` with their predicted times, for who has to choose under a
    /// deadline or a minimum. Empty where there is one way, or nothing was measured.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn offers(&self, request: &InferRequest) -> Result<Vec<Offer>, Error> {
        let _ = request;
        Ok(Vec::new())
    }

    /// What a request's parameters may be besides the contract's
    /// ([`CONTRACT`](crate::parameters::CONTRACT)), which every model's requests have. A server refuses any
    /// other.
    fn parameters(&self) -> &'static [ParameterSpec] {
        &[]
    }

    /// The smallest request that it answers, for who wants to see one, or to be the first to ask.
    fn example(&self) -> Option<InferRequest> {
        None
    }

    /// Whether an execution does its work through the request's [`Cores`]: it spreads over as many as it is granted, and
    /// gives way where it is granted none. Any other takes one core until it is done.
    fn shares_cores(&self) -> bool {
        false
    }

    /// Whether a request would be answered now.
    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    /// Numbers of the engine's own for whoever watches it; those of requests are counted elsewhere.
    fn metrics(&self) -> Vec<EngineMetric> {
        Vec::new()
    }

    /// The graph that it answers from, if that may be written to. Engines that answer from the same one give
    /// graphs of the same name.
    fn graph(&self) -> Option<Arc<dyn WritableGraph>> {
        None
    }

    /// The engine as one whose requests can be cut into inputs and batched, if it is one.
    fn batching(&self) -> Option<&dyn Batching> {
        None
    }
}
