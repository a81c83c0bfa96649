//! From requests to jobs of ready tensors.

use crate::{
    MultimodalError,
    config::{ModalityConfig, ModelConfig, PreprocessConfig, TensorConfig},
    subset::Subset,
    way::Way,
};
use satisfice_core::{
    DataType, Error, ErrorKind, InferRequest, Job, NamedTensor, Strategy, Tensor, TensorData,
    TensorSpec, parameters::PLAN,
};

/// Strategies that a hint names at most.
const NAMED_MAX: usize = 16;

/// Reads requests for one model.
pub(super) struct Decoder<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) ways: &'a [Way],
    pub(super) strategies: &'a [Strategy],
    pub(super) outputs: &'a [TensorSpec],
}

impl Decoder<'_> {
    /// Checks a request: its names, and types and shapes of its tensors.
    pub(super) fn job(&self, mut request: InferRequest) -> Result<Job, MultimodalError> {
        self.check_names(&request)?;
        let inputs = self.inputs(&request)?;
        let plan = self.plan(&request)?;
        let mut tensors = Vec::new();
        let mut present = Vec::new();
        for (position, modality) in self.config.modalities.iter().enumerate() {
            let brought = tensors_of(modality, &mut request)?;
            if !brought.is_empty() {
                present.push(position);
            }
            tensors.extend(brought);
        }
        let present: Subset = present.into_iter().collect();
        let strategies = self.available(present, plan)?;
        request.inputs = tensors;
        Ok(Job {
            request,
            inputs,
            strategies,
        })
    }

    fn check_names(&self, request: &InferRequest) -> Result<(), MultimodalError> {
        for (i, input) in request.inputs.iter().enumerate() {
            if !self.config.modalities.iter().any(|m| m.brings(&input.name)) {
                let message = format!("no modality of the model reads `{}`", input.name);
                return Err(MultimodalError::request("unknown_input", message));
            }
            if request.inputs[..i]
                .iter()
                .any(|other| other.name == input.name)
            {
                let message = format!("input `{}` stands twice", input.name);
                return Err(MultimodalError::request("duplicate_input", message));
            }
        }
        for (i, name) in request.outputs.iter().enumerate() {
            if !self.outputs.iter().any(|output| output.name == *name) {
                let message = format!("the model has no output `{name}`");
                return Err(MultimodalError::request("unknown_output", message));
            }
            if request.outputs[..i].contains(name) {
                let message = format!("output `{name}` is asked for twice");
                return Err(MultimodalError::request("duplicate_output", message));
            }
        }
        Ok(())
    }

    /// How many inputs the request has: the first dimension of every tensor.
    fn inputs(&self, request: &InferRequest) -> Result<usize, MultimodalError> {
        let Some(first) = request.inputs.first() else {
            return Err(MultimodalError::request(
                "no_inputs",
                "the request brings no modality",
            ));
        };
        let count = |tensor: &Tensor| tensor.shape().first().copied().unwrap_or(0);
        let inputs = count(&first.tensor);
        for input in &request.inputs {
            if count(&input.tensor) != inputs {
                return Err(MultimodalError::request_hint(
                    "wrong_shape",
                    format!(
                        "`{}` has {inputs} inputs, but `{}` has {}",
                        first.name,
                        input.name,
                        count(&input.tensor)
                    ),
                    "the first dimension of every tensor is the number of inputs",
                ));
            }
        }
        let limit = self.config.limits.inputs_max;
        match inputs {
            0 => Err(MultimodalError::request(
                "no_inputs",
                format!("`{}` has no inputs", first.name),
            )),
            _ if inputs > limit => Err(MultimodalError::TooLarge {
                what: "inputs of the request".to_owned(),
                found: inputs as u64,
                limit: limit as u64,
            }),
            _ => Ok(inputs),
        }
    }

    /// Position of the strategy that the request names.
    fn plan(&self, request: &InferRequest) -> Result<Option<usize>, MultimodalError> {
        let Some(plan) = PLAN.text(&request.parameters)? else {
            return Ok(None);
        };
        if let Some(strategy) = self.strategies.iter().position(|s| s.name == plan) {
            return Ok(Some(strategy));
        }
        let plan: String = plan.chars().take(64).collect();
        Err(MultimodalError::request_hint(
            PLAN.code,
            format!("the model has no plan `{plan}`"),
            format!("plans are {}", self.named(0..self.strategies.len())),
        ))
    }

    /// The strategies for which the modalities that are present suffice.
    fn available(
        &self,
        present: Subset,
        plan: Option<usize>,
    ) -> Result<Vec<usize>, MultimodalError> {
        let suffices = |&strategy: &usize| present.includes(self.ways[strategy].needs());
        let available: Vec<usize> = (0..self.ways.len()).filter(suffices).collect();
        let brought = self.config.name(present);
        match plan {
            Some(plan) if available.contains(&plan) => Ok(vec![plan]),
            Some(plan) => Err(MultimodalError::request_hint(
                "missing_modality",
                format!(
                    "plan `{}` reads {}, and the request brings {brought}",
                    self.strategies[plan].name,
                    self.config.name(self.ways[plan].needs())
                ),
                match available.is_empty() {
                    true => "bring more modalities".to_owned(),
                    false => format!("plans for it are {}", self.named(available)),
                },
            )),
            None if available.is_empty() => Err(MultimodalError::request_hint(
                "missing_modality",
                format!("no plan of the model reads only {brought}"),
                format!("plans are {}", self.named(0..self.strategies.len())),
            )),
            None => Ok(available),
        }
    }

    fn named(&self, strategies: impl IntoIterator<Item = usize>) -> String {
        let mut names: Vec<&str> = Vec::new();
        for strategy in strategies {
            if names.len() == NAMED_MAX {
                names.push("...");
                break;
            }
            names.push(&self.strategies[strategy].name);
        }
        names.join(", ")
    }
}

/// What a request brings of a modality, ready or raw; nothing when it does not.
fn tensors_of(
    modality: &ModalityConfig,
    request: &mut InferRequest,
) -> Result<Vec<NamedTensor>, MultimodalError> {
    let mut ready = Vec::new();
    for tensor in &modality.tensors {
        let found = request.inputs.iter().position(|i| i.name == tensor.name);
        let Some(found) = found else { continue };
        let input = request.inputs.swap_remove(found);
        let made = as_shaped(input.tensor, &tensor.shape);
        check_tensor(&made, tensor)?;
        ready.push(NamedTensor {
            tensor: made,
            ..input
        });
    }
    let raw_name = modality.preprocess.as_ref().map(PreprocessConfig::input);
    let is_raw = |input: &NamedTensor| raw_name == Some(input.name.as_str());
    let raw = request.inputs.iter().position(is_raw);
    match raw.map(|raw| request.inputs.swap_remove(raw)) {
        Some(_) if !ready.is_empty() => Err(MultimodalError::request_hint(
            "duplicate_modality",
            format!(
                "modality `{}` comes both raw and as ready tensors",
                modality.name
            ),
            "send one of them",
        )),
        Some(raw) => {
            let tensor = as_shaped(raw.tensor, &[]);
            match tensor.datatype() {
                DataType::Bytes if tensor.shape().len() == 1 => {
                    Ok(vec![NamedTensor { tensor, ..raw }])
                }
                _ => Err(wrong_tensor(&tensor, &raw.name, "BYTES [n] or [n, 1]")),
            }
        }
        None if ready.is_empty() || ready.len() == modality.tensors.len() => Ok(ready),
        None => {
            let is_missing = |tensor: &&TensorConfig| ready.iter().all(|r| r.name != tensor.name);
            let missing = modality.tensors.iter().find(is_missing);
            Err(MultimodalError::request(
                "incomplete_modality",
                format!(
                    "modality `{}` comes without its tensor `{}`",
                    modality.name,
                    missing.map_or("", |tensor| &tensor.name)
                ),
            ))
        }
    }
}

/// The tensor, with inputs of one element as `[n]` or `[n, 1]`, whichever `of_input` is: clients of
/// batching models add a dimension of 1.
fn as_shaped(tensor: Tensor, of_input: &[usize]) -> Tensor {
    let shape = match (tensor.shape(), of_input) {
        (&[inputs, 1], []) => vec![inputs],
        (&[inputs], [1]) => vec![inputs, 1],
        _ => return tensor,
    };
    Tensor::new(shape, tensor.into_data()).expect("invariant: as many elements as before")
}

/// Checks type and shape, and that numbers are numbers.
fn check_tensor(tensor: &Tensor, config: &TensorConfig) -> Result<(), MultimodalError> {
    let fits = tensor
        .shape()
        .split_first()
        .is_some_and(|(_, of_input)| of_input == config.shape);
    if !fits || tensor.datatype() != config.datatype {
        let shape = config.shape.iter().map(ToString::to_string);
        let shape: Vec<String> = std::iter::once("n".to_owned()).chain(shape).collect();
        let wanted = format!("{} [{}]", config.datatype, shape.join(", "));
        return Err(wrong_tensor(tensor, &config.name, &wanted));
    }
    if let TensorData::Fp32(values) = tensor.data()
        && let Some(position) = values.iter().position(|v| !v.is_finite())
    {
        let input = position / config.elements();
        return Err(MultimodalError::request(
            "not_finite",
            format!(
                "`{}` has NaN or an infinite number in input {input}",
                config.name
            ),
        ));
    }
    Ok(())
}

fn wrong_tensor(tensor: &Tensor, name: &str, wanted: &str) -> MultimodalError {
    MultimodalError::request_hint(
        "wrong_shape",
        format!(
            "`{name}` is {} {:?} where {wanted} is needed",
            tensor.datatype(),
            tensor.shape()
        ),
        "the first dimension is the number n of inputs, and the rest are an input's own",
    )
}

/// [`Decoder::job`] leaves no job without a strategy.
pub(super) fn nothing_offered() -> Error {
    Error::new(
        ErrorKind::Internal,
        "no_strategy",
        "no strategy is left for the request",
    )
}

pub(super) fn no_strategy(strategy: usize) -> MultimodalError {
    MultimodalError::Execution {
        code: "no_strategy",
        message: format!("there is no strategy {strategy}"),
    }
}
