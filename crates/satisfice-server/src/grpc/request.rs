//! Requests as protobuf has them.

use super::{
    contents, parameters,
    proto::{ModelInferRequest, model_infer_request::InferInputTensor},
};
use crate::{
    clip::clip,
    protocol::{
        AnswerFormat, DecodedRequest, TensorLimits, binary,
        message::invalid,
        parameters::{InputSays, Wanted},
        tensor::{self, Role, of_base64},
    },
};
use bytes::Bytes;
use satisfice_core::{Error, InferRequest, NamedTensor, Tensor};

/// Reads a request; the answer is to be raw as the request is.
pub(super) fn decode(
    message: ModelInferRequest,
    limits: TensorLimits,
) -> Result<DecodedRequest, Error> {
    let mut parameters = parameters::decode(message.parameters)?;
    let wanted = Wanted::take(&mut parameters)?;
    let mut format = AnswerFormat {
        // Over gRPC the request's own form decides.
        binary: !message.raw_input_contents.is_empty() || message.inputs.is_empty(),
        final_response: wanted.final_response,
        ..AnswerFormat::default()
    };
    tensor::check_count(Role::Output, message.outputs.len(), limits)?;
    let mut outputs = Vec::with_capacity(message.outputs.len());
    for output in message.outputs {
        format.add(&output.name, parameters::decode(output.parameters)?)?;
        outputs.push(output.name);
    }
    Ok(DecodedRequest {
        id: Some(message.id).filter(|id| !id.is_empty()),
        request: InferRequest {
            inputs: inputs(message.inputs, &message.raw_input_contents, limits)?,
            outputs,
            parameters,
            ..InferRequest::default()
        },
        format,
    })
}

pub(super) fn inputs(
    inputs: Vec<InferInputTensor>,
    raw: &[Bytes],
    limits: TensorLimits,
) -> Result<Vec<NamedTensor>, Error> {
    tensor::check_count(Role::Input, inputs.len(), limits)?;
    tensor::check_unique(Role::Input, inputs.iter().map(|input| input.name.as_str()))?;
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(invalid(
            "wrong_raw_contents",
            format!(
                "`raw_input_contents` has {} entries for {} inputs",
                raw.len(),
                inputs.len()
            ),
        ));
    }
    let input = |(index, input)| decode_input(input, raw.get(index), limits);
    inputs.into_iter().enumerate().map(input).collect()
}

fn decode_input(
    input: InferInputTensor,
    raw: Option<&Bytes>,
    limits: TensorLimits,
) -> Result<NamedTensor, Error> {
    let name = input.name;
    let context = |text: String| format!("input `{}`: {text}", clip(&name));
    let says = parameters::decode(input.parameters).and_then(InputSays::read);
    let says = says.map_err(|error| error.within(format_args!("input `{}`", clip(&name))))?;
    let datatype = tensor::datatype(&input.datatype, &context)?;
    let (shape, elements) = tensor::shape(&input.shape, input.shape.len(), &context, limits)?;
    if says.base64 {
        tensor::check_base64(datatype, &context)?;
    }
    let data = match (raw, input.contents) {
        (Some(_), Some(_)) => {
            let message = context("has both `contents` and `raw_input_contents`".to_owned());
            return Err(invalid("ambiguous_data", message));
        }
        (Some(raw), None) => binary::decode(raw.clone(), datatype, elements)
            .map_err(|message| invalid("wrong_binary_data", context(message)))?,
        (None, contents) => contents::decode(contents.unwrap_or_default(), datatype)
            .map_err(|message| invalid("wrong_data", context(message)))?,
    };
    let data = match says.base64 {
        true => of_base64(data).map_err(|message| invalid("wrong_data", context(message)))?,
        false => data,
    };
    let tensor = Tensor::new(shape, data)
        .map_err(|mismatch| invalid("wrong_data", context(mismatch.to_string())))?;
    Ok(NamedTensor { name, tensor })
}
