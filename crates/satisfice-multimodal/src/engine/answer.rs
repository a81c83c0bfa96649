//! From the values of networks to the tensors and parameters of answers.

use crate::{
    MultimodalError,
    confidence::argmax,
    config::{CLASS_OUTPUTS, ModelConfig},
    layout::Answers,
};
use satisfice_core::{
    ByteStrings, Job, NamedTensor, Parameters, Part, PartOutputs, Strategy, Tensor, TensorData,
    parameters::STRATEGIES,
};
use std::slice;

/// The outputs that a request names, or the model's own; `values` are `[inputs, classes]`.
pub(super) fn outputs(config: &ModelConfig, names: &[String], values: &[f32]) -> Vec<NamedTensor> {
    let width = config.output.classes.len();
    let inputs = values.len() / width;
    let names = match names {
        [] => slice::from_ref(&config.output.name),
        names => names,
    };
    let classes: Vec<usize> = values.chunks_exact(width).map(argmax).collect();
    let [class, class_name] = CLASS_OUTPUTS;
    let output = |name: &String| {
        let (shape, data) = if name == class {
            let classes = classes.iter().map(|&class| class as i64).collect();
            (vec![inputs], TensorData::Int64(classes))
        } else if name == class_name {
            let names = classes.iter().map(|&class| &config.output.classes[class]);
            (
                vec![inputs],
                TensorData::Bytes(names.collect::<ByteStrings>()),
            )
        } else {
            (vec![inputs, width], TensorData::Fp32(values.to_vec()))
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
    config: &ModelConfig,
    strategy: &str,
    parts: &[Part<'_>],
    answers: &Answers,
) -> Vec<PartOutputs> {
    let width = config.output.classes.len();
    let mut from = 0;
    parts
        .iter()
        .map(|part| {
            let rows = from..from + part.inputs.len();
            from = rows.end;
            let is_broken = |&broken: &bool| broken;
            if let Some(row) = answers.broken[rows.clone()].iter().position(is_broken) {
                return Err(broken(part.inputs.start + row, strategy).into());
            }
            let values = &answers.values[rows.start * width..rows.end * width];
            Ok(outputs(config, &part.job.request.outputs, values))
        })
        .collect()
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
