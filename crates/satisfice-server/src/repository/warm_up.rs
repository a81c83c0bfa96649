//! Requests that a model answers before clients may ask it.

use crate::service::check_parameters;
use satisfice_core::{
    Engine, Error, ErrorKind, InferRequest, ModelMetadata, NamedTensor, Tensor, TensorData,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Elements of a generated input at most.
const ELEMENTS_MAX: usize = 1 << 24;

/// Has an engine answer a request, so that the first client does not wait for what happens once only.
///
/// # Errors
/// For parameters that nobody reads, and what the engine says; a panic is [`ErrorKind::Internal`] with code `engine_panicked`.
pub fn warm_up(engine: &dyn Engine, request: &InferRequest) -> Result<(), Error> {
    check_parameters(engine, &mut request.parameters.clone())?;
    let answer = catch_unwind(AssertUnwindSafe(|| engine.infer(request).map(drop)));
    answer.unwrap_or_else(|_| {
        let message = "the engine failed on the warm-up request";
        Err(Error::new(ErrorKind::Internal, "engine_panicked", message))
    })
}

/// The engine's own [example](Engine::example), or a request of zeros and empty strings in the shapes of the model's inputs.
///
/// # Errors
/// [`ErrorKind::TooLarge`] when an input has more than 2^24 elements.
pub fn example(engine: &dyn Engine) -> Result<InferRequest, Error> {
    engine
        .example()
        .map_or_else(|| zeros(engine.metadata()), Ok)
}

/// A request of zeros and empty strings in the shapes of the model's inputs, with 1 for any length.
/// Not every model takes it.
///
/// # Errors
/// [`ErrorKind::TooLarge`] when an input has more than 2^24 elements.
fn zeros(metadata: &ModelMetadata) -> Result<InferRequest, Error> {
    let input = |spec: &satisfice_core::TensorSpec| {
        let length = |&length: &i64| usize::try_from(length).unwrap_or(1);
        let shape: Vec<usize> = spec.shape.iter().map(length).collect();
        let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        let elements = elements.filter(|&elements| elements <= ELEMENTS_MAX);
        let too_large = || {
            let message = format!("input `{}` is too large to warm up with zeros", spec.name);
            Error::new(ErrorKind::TooLarge, "warm_up_too_large", message)
                .with_hint("write a warm-up request")
        };
        let data = TensorData::zeros(spec.datatype, elements.ok_or_else(too_large)?);
        let tensor = Tensor::new(shape, data).map_err(|_| too_large())?;
        let name = spec.name.clone();
        Ok(NamedTensor { name, tensor })
    };
    Ok(InferRequest {
        inputs: metadata
            .inputs
            .iter()
            .map(input)
            .collect::<Result<_, Error>>()?,
        ..InferRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use satisfice_core::{DataType, TensorSpec};

    fn metadata(datatype: DataType, shape: &[i64]) -> ModelMetadata {
        ModelMetadata {
            platform: String::new(),
            inputs: vec![TensorSpec {
                name: "x".to_owned(),
                datatype,
                shape: shape.to_vec(),
                labels: None,
            }],
            outputs: Vec::new(),
        }
    }

    #[test]
    fn zeros_have_the_models_shapes() {
        for datatype in DataType::ALL {
            let request = zeros(&metadata(datatype, &[-1, 3])).unwrap();
            let tensor = request.input("x").unwrap();
            assert_eq!((tensor.shape(), tensor.datatype()), (&[1, 3][..], datatype));
        }
        assert!(zeros(&metadata(DataType::Bool, &[1 << 40])).is_err());
        assert!(zeros(&metadata(DataType::Bool, &[i64::MAX, i64::MAX])).is_err());
    }
}
