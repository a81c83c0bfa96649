//! From the values of networks to the tensors and parameters of answers.

use crate::{
    MultimodalError,
    confidence::argmax,
    config::{CLASS_OUTPUTS, ModelConfig},
    layout::{Answers, Given},
};
use satisfice_core::{
    ByteStrings, Job, NamedTensor, Parameters, Part, PartOutputs, Strategy, Tensor, TensorData,
    parameters::STRATEGIES,
};
use std::slice;

/// Makes the outputs of answers.
pub(super) struct Answering<'a> {
    pub(super) classes: &'a [String],
    /// The model's own outputs, in the order of their values.
    pub(super) outputs: &'a [Given],
}

impl Answering<'_> {
    /// The outputs that a request names, or the model's first, from the values of each for all inputs.
    pub(super) fn outputs<T: AsRef<[f32]>>(
        &self,
        names: &[String],
        inputs: usize,
        given: &[T],
    ) -> Vec<NamedTensor> {
        let names = match names {
            [] => slice::from_ref(&self.outputs[0].name),
            names => names,
        };
        let classes = || {
            let values = given[0].as_ref();
            values.chunks_exact(self.classes.len()).map(argmax)
        };
        let [class, class_name] = CLASS_OUTPUTS;
        let output = |name: &String| {
            let (shape, data) = if name == class {
                let classes = classes().map(|class| class as i64).collect();
                (vec![inputs], TensorData::Int64(classes))
            } else if name == class_name {
                let names = classes().map(|class| &self.classes[class]);
                let names = names.collect::<ByteStrings>();
                (vec![inputs], TensorData::Bytes(names))
            } else {
                let at = self.outputs.iter().position(|output| output.name == *name);
                let at = at.unwrap_or(0);
                let shape = std::iter::once(inputs).chain(self.outputs[at].shape.iter().copied());
                let values = given[at].as_ref().to_vec();
                (shape.collect(), TensorData::Fp32(values))
            };
            NamedTensor {
                name: name.clone(),
                tensor: Tensor::new(shape, data).expect("invariant: one row for each input"),
            }
        };
        names.iter().map(output).collect()
    }

    /// The outputs of each part of a batch; a part with an input that broke a network has an error.
    pub(super) fn parts(
        &self,
        strategy: &str,
        parts: &[Part<'_>],
        answers: &Answers,
    ) -> Vec<PartOutputs> {
        let mut from = 0;
        let part = |part: &Part<'_>| {
            let rows = from..from + part.inputs.len();
            from = rows.end;
            let is_broken = |&broken: &bool| broken;
            if let Some(row) = answers.broken[rows.clone()].iter().position(is_broken) {
                return Err(broken(part.inputs.start + row, strategy).into());
            }
            let of = |(output, values): (&Given, &Vec<f32>)| {
                let width: usize = output.shape.iter().product();
                values[rows.start * width..rows.end * width].to_vec()
            };
            let given: Vec<Vec<f32>> = self.outputs.iter().zip(&answers.given).map(of).collect();
            Ok(self.outputs(&part.job.request.outputs, rows.len(), &given))
        };
        parts.iter().map(part).collect()
    }
}

/// What an answer says of itself.
pub(super) fn parameters(
    config: &ModelConfig,
    strategy: &Strategy,
    job: &Job,
    runs: &[usize],
) -> Parameters {
    let ran = config
        .modalities
        .iter()
        .zip(runs)
        .filter(|&(_, &runs)| runs > 0);
    let ran: Vec<String> = ran.map(|(m, runs)| format!("{}={runs}", m.name)).collect();
    let mut parameters = Parameters::from([
        ("plan".to_owned(), strategy.name.as_str().into()),
        (
            STRATEGIES.to_owned(),
            format!("{}={}", strategy.name, job.inputs).into(),
        ),
        ("modalities".to_owned(), ran.join(",").into()),
    ]);
    for quality in &strategy.quality {
        let measure = quality.measure.name();
        parameters.insert(format!("expected_{measure}"), quality.expected.into());
        parameters.insert(format!("{measure}_lower_bound"), quality.lower.into());
    }
    parameters
}

pub(super) fn broken(input: usize, strategy: &str) -> MultimodalError {
    MultimodalError::Execution {
        code: "not_finite",
        message: format!(
            "the networks of `{strategy}` gave NaN or infinite numbers for input {input}"
        ),
    }
}
