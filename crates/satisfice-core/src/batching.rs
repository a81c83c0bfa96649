use crate::{Error, InferRequest, NamedTensor, Quality};
use std::ops::Range;

/// One way to answer inputs, whatever request they came with.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// Name, such as `"image+text"`.
    pub name: String,
    /// What it promises; nothing where nothing was measured.
    pub quality: Vec<Quality>,
    /// Measured time of a batch of `i + 1` inputs, in seconds, the mean where it depends on what they
    /// hold; its length is the largest batch.
    pub seconds: Vec<f64>,
}

/// A checked request: inputs of equal kind along the first dimension of every tensor, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The request; what of it needs decoding may be decoded when a strategy reads it.
    pub request: InferRequest,
    /// Inputs in it, at least 1.
    pub inputs: usize,
    /// Strategies that its tensors suffice for, as ascending positions in [`Batching::strategies`];
    /// never empty.
    pub strategies: Vec<usize>,
}

/// Some inputs of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'a> {
    /// The job.
    pub job: &'a Job,
    /// Which of its inputs.
    pub inputs: Range<usize>,
}

/// The outputs of a part, or why this part alone has none.
pub type PartOutputs = Result<Vec<NamedTensor>, Error>;

/// What came of a batch.
#[derive(Debug)]
pub struct BatchOutputs {
    /// The outputs of each part, in the order of the parts; the first dimension is the part's inputs.
    /// A part may fail alone, as where a model gives NaN for one of its inputs.
    pub parts: Vec<PartOutputs>,
    /// Measured seconds of the work that the batch turned out to be, where inputs decide that, as in a
    /// cascade; none where [`Strategy::seconds`] says it.
    pub work_seconds: Option<f64>,
}

/// An engine whose requests are many independent inputs: a batch may mix inputs of several
/// requests, and an answer does not depend on what else is in its batch.
pub trait Batching: Send + Sync {
    /// Every strategy, in a fixed order.
    fn strategies(&self) -> &[Strategy];

    /// Checks a request, as far as it does not depend on the strategies that will answer it.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn prepare(&self, request: InferRequest) -> Result<Job, Error>;

    /// Executes one batch: at most as many inputs as the strategy has times for.
    ///
    /// # Errors
    /// What went wrong for the whole batch.
    fn run(&self, strategy: usize, parts: &[Part<'_>]) -> Result<BatchOutputs, Error>;
}
