//! Answers that are made again by the dearest plan, when there is nothing else to do.

use super::task::{Audit, LaneId, Model, infer, run_batch};
use satisfice_core::{
    Cores, InferRequest, InferResponse, Job, NamedTensor, Part, Tensor, TensorData,
};
use std::{collections::VecDeque, ops::Range, sync::Arc};

/// Answers that wait to be audited.
const SAMPLES_MAX: usize = 32;

/// Bytes of their requests, as they came over the wire.
const BYTES_MAX: usize = 64 << 20;

/// Relative difference up to which two numbers agree.
const TOLERANCE: f64 = 0.01;

/// One answer with what is needed to make it again.
pub(super) struct Sample {
    what: What,
    outputs: Vec<NamedTensor>,
    bytes: usize,
}

enum What {
    Whole {
        plan: String,
        promised: f64,
        /// Names the dearest plan.
        request: InferRequest,
    },
    Inputs(InputsSample),
}

/// A job of a batching engine.
pub(super) struct InputsSample {
    pub job: Arc<Job>,
    /// The strategy that is compared with, and its largest batch.
    pub dearest: usize,
    pub batch_max: usize,
    /// What answered which inputs: plan, what it promised, positions.
    pub answered: Vec<(String, f64, Range<usize>)>,
}

/// What an audit found: for each plan what was promised, and input by input whether it agreed.
pub(super) type Finding = Vec<(String, f64, Vec<bool>)>;

impl Sample {
    pub(super) fn whole(
        plan: String,
        audit: &Audit,
        request: &InferRequest,
        response: &InferResponse,
        bytes: usize,
    ) -> Self {
        let mut request = request.clone();
        // Its answer was in time; the audit's may take as long as it takes.
        request.deadline = None;
        request.cores = Cores::lent(None);
        let dearest = audit.dearest.as_str().into();
        request.parameters.insert("plan".to_owned(), dearest);
        Self {
            what: What::Whole {
                plan,
                promised: audit.promised,
                request,
            },
            outputs: response.outputs.clone(),
            bytes,
        }
    }

    pub(super) fn inputs(sample: InputsSample, response: &InferResponse, bytes: usize) -> Self {
        Self {
            what: What::Inputs(sample),
            outputs: response.outputs.clone(),
            bytes,
        }
    }

    /// The cores that it is made again on.
    pub(super) fn cores(&self) -> Cores {
        match &self.what {
            What::Whole { request, .. } => request.cores.clone(),
            What::Inputs(_) => Cores::lent(None),
        }
    }

    /// Makes the answer again; nothing where that fails.
    pub(super) fn run(self, model: &Model) -> Option<Finding> {
        match self.what {
            What::Whole {
                plan,
                promised,
                request,
            } => {
                let again = infer(model, &request).ok()?;
                let agreed = agreement(&self.outputs, 0, &again.outputs)?;
                Some(vec![(plan, promised, agreed)])
            }
            What::Inputs(sample) => sample.run(&self.outputs, model),
        }
    }
}

impl InputsSample {
    fn run(self, outputs: &[NamedTensor], model: &Model) -> Option<Finding> {
        let inputs = self.job.inputs;
        let mut agreed = Vec::with_capacity(inputs);
        for from in (0..inputs).step_by(self.batch_max.max(1)) {
            let part = Part {
                job: &self.job,
                inputs: from..inputs.min(from + self.batch_max.max(1)),
            };
            let again = run_batch(model, self.dearest, std::slice::from_ref(&part)).ok()?;
            agreed.extend(agreement(
                outputs,
                from,
                again.parts.first()?.as_ref().ok()?,
            )?);
        }
        let finding = |(plan, promised, inputs): (String, f64, Range<usize>)| {
            Some((plan, promised, agreed.get(inputs)?.to_vec()))
        };
        self.answered.into_iter().map(finding).collect()
    }
}

/// Samples that wait.
#[derive(Default)]
pub(super) struct Samples {
    waiting: VecDeque<(LaneId, Sample)>,
    bytes: usize,
}

impl Samples {
    /// Keeps a sample if there is room.
    pub(super) fn keep(&mut self, lane: LaneId, sample: Sample) {
        if self.waiting.len() < SAMPLES_MAX && sample.bytes <= BYTES_MAX - self.bytes {
            self.bytes += sample.bytes;
            self.waiting.push_back((lane, sample));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn take(&mut self) -> Option<(LaneId, Sample)> {
        let (lane, sample) = self.waiting.pop_front()?;
        self.bytes -= sample.bytes;
        Some((lane, sample))
    }

    /// Lets go of the samples of a model that is no longer served.
    pub(super) fn forget(&mut self, lane: LaneId) {
        self.waiting.retain(|(of, _)| *of != lane);
        self.bytes = self.waiting.iter().map(|(_, sample)| sample.bytes).sum();
    }
}

/// Row by row of `again`, whether it agrees with the row of `before` that is `from` further on; nothing
/// where they cannot be compared.
fn agreement(before: &[NamedTensor], from: usize, again: &[NamedTensor]) -> Option<Vec<bool>> {
    let rows = *again.first()?.tensor.shape().first()?;
    let mut agreed = vec![true; rows];
    for output in before {
        let other = again.iter().find(|other| other.name == output.name)?;
        let (a, b) = (Rows::of(&output.tensor)?, Rows::of(&other.tensor)?);
        if a.width != b.width || b.count != rows || from + rows > a.count {
            return None;
        }
        for (row, agreed) in agreed.iter_mut().enumerate() {
            *agreed &= a.agrees(from + row, &b, row)?;
        }
    }
    Some(agreed)
}

/// A tensor cut along its first dimension.
struct Rows<'a> {
    data: &'a TensorData,
    count: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    fn of(tensor: &'a Tensor) -> Option<Self> {
        let rows = *tensor.shape().first()?;
        let data = tensor.data();
        Some(Self {
            data,
            count: rows,
            width: data.len().checked_div(rows)?,
        })
    }

    /// Rows of several numbers with a fraction are scores: they agree when the same one is largest.
    /// Single ones agree up to a tolerance, everything else when it is equal.
    fn agrees(&self, row: usize, other: &Self, other_row: usize) -> Option<bool> {
        let (at, other_at) = (row * self.width, other_row * self.width);
        let each = 0..self.width;
        if let (Some(_), Some(_)) = (self.number(at), other.number(other_at)) {
            let number = |i| Some((self.number(at + i)?, other.number(other_at + i)?));
            let pairs: Vec<(f64, f64)> = each.map(number).collect::<Option<_>>()?;
            return Some(match pairs[..] {
                [(a, b)] => (a - b).abs() <= TOLERANCE * b.abs(),
                _ => {
                    largest(pairs.iter().map(|pair| pair.0))
                        == largest(pairs.iter().map(|pair| pair.1))
                }
            });
        }
        let mut equal = each.map(|i| equal(self.data, at + i, other.data, other_at + i));
        Some(equal.all(|equal| equal))
    }

    fn number(&self, at: usize) -> Option<f64> {
        match self.data {
            TensorData::Fp16(v) => v.get(at).map(|v| v.to_f64()),
            TensorData::Bf16(v) => v.get(at).map(|v| v.to_f64()),
            TensorData::Fp32(v) => v.get(at).map(|&v| v.into()),
            TensorData::Fp64(v) => v.get(at).copied(),
            _ => None,
        }
    }
}

fn largest(values: impl Iterator<Item = f64>) -> Option<usize> {
    values
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(at, _)| at)
}

fn equal(a: &TensorData, at: usize, b: &TensorData, other_at: usize) -> bool {
    macro_rules! by_kind {
        ($($kind:ident),*) => {
            match (a, b) {
                $((TensorData::$kind(a), TensorData::$kind(b)) => a.get(at) == b.get(other_at),)*
                _ => false,
            }
        };
    }
    by_kind!(
        Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(shape: &[usize], data: TensorData) -> Vec<NamedTensor> {
        vec![NamedTensor {
            name: "y".to_owned(),
            tensor: Tensor::new(shape.to_vec(), data).unwrap(),
        }]
    }

    #[test]
    fn rows_agree_by_their_largest_score() {
        let scores =
            |values: &[f32]| output(&[values.len() / 2, 2], TensorData::Fp32(values.into()));
        let before = scores(&[0.9, 0.1, 0.2, 0.8, 0.6, 0.4]);
        let again = scores(&[0.7, 0.3, 0.6, 0.4]);
        assert_eq!(agreement(&before, 0, &again), Some(vec![true, false]));
        assert_eq!(agreement(&before, 1, &again), Some(vec![false, true]));
        assert_eq!(agreement(&before, 2, &again), None);
        assert_eq!(
            agreement(&before, 0, &output(&[1], TensorData::Int8(vec![1]))),
            None
        );
    }

    #[test]
    fn other_rows_agree_by_their_values() {
        let numbers = |values: &[f64]| output(&[values.len()], TensorData::Fp64(values.into()));
        let agreed = agreement(
            &numbers(&[1.0, 2.0, 0.0, f64::NAN]),
            0,
            &numbers(&[1.005, 2.5, 0.0, 1.0]),
        );
        assert_eq!(agreed, Some(vec![true, false, true, false]));
        let labels =
            |labels: &[&str]| output(&[labels.len()], TensorData::Bytes(labels.iter().collect()));
        let agreed = agreement(&labels(&["a", "b"]), 0, &labels(&["a", "c"]));
        assert_eq!(agreed, Some(vec![true, false]));
    }
}
