//! Answers as protobuf has them.

use super::{
    contents, parameters,
    proto::{ModelInferResponse, model_infer_response::InferOutputTensor},
};
use crate::{
    clip::clip,
    protocol::{Answer, AnswerFormat, binary, message::invalid},
};
use bytes::Bytes;
use satisfice_core::{Error, NamedTensor, parameters::FINAL_RESPONSE};

/// Writes an answer; raw when `format` says so, or when an output has no typed form.
pub(super) fn encode(
    mut answer: Answer,
    format: &AnswerFormat,
) -> Result<ModelInferResponse, Error> {
    if format.final_response {
        let parameters = &mut answer.response.parameters;
        parameters.insert(FINAL_RESPONSE.to_owned(), true.into());
    }
    let outputs = answer.response.outputs;
    let typed = |output: &NamedTensor| contents::is_typed(output.tensor.datatype());
    let raw = format.binary || !outputs.iter().all(typed);
    let output = |NamedTensor { name, tensor }: &NamedTensor| InferOutputTensor {
        name: name.clone(),
        datatype: tensor.datatype().name().to_owned(),
        shape: tensor.shape().iter().map(|&d| d as i64).collect(),
        contents: (!raw).then(|| contents::encode(tensor.data())),
        ..InferOutputTensor::default()
    };
    Ok(ModelInferResponse {
        model_name: answer.model,
        model_version: answer.version.unwrap_or_default(),
        id: answer.id.unwrap_or_default(),
        parameters: parameters::encode(answer.response.parameters),
        outputs: outputs.iter().map(output).collect(),
        raw_output_contents: match raw {
            true => outputs
                .into_iter()
                .map(raw_contents)
                .collect::<Result<_, _>>()?,
            false => Vec::new(),
        },
    })
}

fn raw_contents(output: NamedTensor) -> Result<Bytes, Error> {
    if binary::size(output.tensor.data()).is_none() {
        let name = clip(&output.name);
        let message = format!("output `{name}`: an element is over 4 GiB");
        return Err(invalid("element_too_long", message));
    }
    Ok(binary::into_bytes(output.tensor.into_data()))
}
