use satisfice_core::{
    DataType, Engine, Error, InferRequest, InferResponse, ModelMetadata, NamedTensor, Parameter,
    Parameters, TensorSpec,
    parameters::{ParameterSpec, Reader, Values},
};
use std::time::Duration;

/// Longest time that a request may ask for.
const WORK_MS_MAX: i64 = 10_000;

/// A model that answers with its input: nothing but the server is measured.
///
/// The request parameter `work_ms` has it take so many milliseconds.
#[derive(Debug)]
pub struct Identity(ModelMetadata);

impl Identity {
    /// The model; input `x` and output `x` are FP32 of any shape.
    pub fn new() -> Self {
        let spec = TensorSpec {
            name: "x".to_owned(),
            datatype: DataType::Fp32,
            shape: vec![-1],
            labels: None,
        };
        Self(ModelMetadata {
            platform: "satisfice_identity".to_owned(),
            inputs: vec![spec.clone()],
            outputs: vec![spec],
        })
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// How long to take, in milliseconds.
const WORK_MS: ParameterSpec = ParameterSpec::new("work_ms", Reader::Other, Values::Whole(0));

impl Engine for Identity {
    fn metadata(&self) -> &ModelMetadata {
        &self.0
    }

    fn parameters(&self) -> &'static [ParameterSpec] {
        &[WORK_MS]
    }

    fn infer(&self, request: &InferRequest) -> Result<InferResponse, Error> {
        if let Some(&Parameter::Int(ms)) = request.parameters.get(WORK_MS.name) {
            let ms = ms.clamp(0, WORK_MS_MAX) as u64;
            std::thread::sleep(Duration::from_millis(ms));
        }
        let outputs: Vec<NamedTensor> = request.inputs.clone();
        Ok(InferResponse {
            outputs,
            parameters: Parameters::new(),
        })
    }
}
