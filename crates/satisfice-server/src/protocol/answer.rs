//! Answers as the server writes them.

use super::message::ParametersOut;
use super::tensor::{Role, TensorOut, encode_document};
use super::{AnswerFormat, Encoded, Pieces, binary};
use satisfice_core::{Error, InferResponse};
use serde::Serialize;

/// An answer with the names that travel with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The model that answered.
    pub model: String,
    /// Its version.
    pub version: Option<String>,
    /// The request's `id`, if it had one.
    pub id: Option<String>,
    /// The engine's answer.
    pub response: InferResponse,
}

#[derive(Serialize)]
struct AnswerOut<'a> {
    model_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "ParametersOut::is_empty")]
    parameters: ParametersOut<'a>,
    outputs: &'a [TensorOut<'a>],
}

/// Binary outputs of up to so many bytes are copied behind what is before them; larger ones are sent from
/// where they lie.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Writes an answer; JSON outputs are flat arrays.
///
/// # Errors
/// `InvalidInput` with code `needs_binary` when an output that is to be JSON cannot be: `FP16`,
/// `BF16`, NaN and infinities, `BYTES` that are not UTF-8.
pub fn encode_answer(answer: Answer, format: &AnswerFormat) -> Result<Encoded<Pieces>, Error> {
    let outputs = answer
        .response
        .outputs
        .iter()
        .map(|output| TensorOut::new(Role::Output, output, format.is_binary(&output.name)))
        .collect::<Result<Vec<_>, _>>()?;
    let document = AnswerOut {
        model_name: &answer.model,
        model_version: answer.version.as_deref(),
        id: answer.id.as_deref(),
        parameters: ParametersOut(&answer.response.parameters),
        outputs: &outputs,
    };
    let mut written = encode_document(&document, &outputs)?;
    let json_length = written.len();
    let sizes: Vec<Option<usize>> = outputs.iter().map(TensorOut::binary_size).collect();
    let mut body = Pieces::default();
    for (output, &size) in answer.response.outputs.into_iter().zip(&sizes) {
        match size {
            None => {}
            Some(..=COPIED_BYTES_MAX) => binary::encode(output.tensor.data(), &mut written),
            Some(_) => {
                body.push(std::mem::take(&mut written));
                body.push(binary::into_bytes(output.tensor.into_data()));
            }
        }
    }
    body.push(written);
    let any = sizes.iter().any(Option::is_some);
    Ok(Encoded {
        body,
        json_length: any.then_some(json_length),
    })
}
