//! The client's end of the protocol: requests to bytes, answers from bytes.
//!
//! ```
//! use satisfice_core::{InferRequest, NamedTensor, Tensor, TensorData};
//! use satisfice_server::protocol::client::{Format, encode_request};
//!
//! let x = Tensor::new(vec![1, 2], TensorData::Fp32(vec![0.5, 1.0])).unwrap();
//! let request = InferRequest {
//!     inputs: vec![NamedTensor { name: "x".to_owned(), tensor: x }],
//!     ..InferRequest::default()
//! };
//! let encoded = encode_request(&request, None, Format::Json).unwrap();
//! assert_eq!(
//!     encoded.body,
//!     br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[0.5,1.0]}]}"#
//! );
//! ```

use super::message::{ParametersMessage, ParametersOut, TensorMessages, parse};
use super::tensor::{Role, TensorOut, decode_all, encode_message, split};
use super::{Answer, Encoded, ModelDescription, TensorLimits, metadata};
use bytes::Buf;
use satisfice_core::{Error, InferRequest, InferResponse, Parameter};
use serde::{Deserialize, Serialize};

/// How the tensors of a request and its answer travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As JSON both ways: readable, slower, and no `FP16`, `BF16` or NaN.
    Json,
    /// As binary data both ways.
    Binary,
}

/// A refusal by the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// What was wrong.
    #[serde(rename = "error")]
    pub message: String,
    /// Stable word for programs.
    pub code: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

#[derive(Serialize)]
struct RequestOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "ParametersOut::is_empty")]
    parameters: ParametersOut<'a>,
    inputs: &'a [TensorOut<'a>],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<OutputOut<'a>>,
}

#[derive(Serialize)]
struct OutputOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinaryData>,
}

#[derive(Serialize)]
struct BinaryData {
    binary_data: bool,
}

/// Writes a request.
///
/// # Errors
/// `InvalidInput` with code `needs_binary` when an input cannot be JSON.
pub fn encode_request(
    request: &InferRequest,
    id: Option<&str>,
    format: Format,
) -> Result<Encoded, Error> {
    let binary = format == Format::Binary;
    let inputs = request
        .inputs
        .iter()
        .map(|input| TensorOut::new(Role::Input, input, binary))
        .collect::<Result<Vec<_>, _>>()?;
    let mut parameters = request.parameters.clone();
    if binary {
        parameters.insert("binary_data_output".to_owned(), Parameter::Bool(true));
    }
    let output = |name| OutputOut {
        name,
        parameters: binary.then_some(BinaryData { binary_data: true }),
    };
    let document = RequestOut {
        id,
        parameters: ParametersOut(&parameters),
        inputs: &inputs,
        outputs: request.outputs.iter().map(|name| output(name)).collect(),
    };
    encode_message(&document, &inputs)
}

#[derive(Deserialize)]
struct AnswerMessage<'a> {
    model_name: String,
    model_version: Option<String>,
    id: Option<String>,
    #[serde(default)]
    parameters: ParametersMessage,
    #[serde(borrow)]
    outputs: TensorMessages<'a>,
}

/// Reads an answer. `json_length` is the value of the answer's
/// [`JSON_LENGTH_HEADER`](super::JSON_LENGTH_HEADER), if it has one.
///
/// # Errors
/// As [`decode_request`](super::decode_request), about the answer.
pub fn decode_answer(
    body: impl Buf,
    json_length: Option<usize>,
    limits: TensorLimits,
) -> Result<Answer, Error> {
    let (json, tail) = split(body, json_length)?;
    let message: AnswerMessage<'_> = parse(&json)?;
    Ok(Answer {
        model: message.model_name,
        version: message.model_version,
        id: message.id,
        response: InferResponse {
            outputs: decode_all(Role::Output, message.outputs, tail, limits)?,
            parameters: message.parameters.0.values(),
        },
    })
}

/// Reads the description of a model.
///
/// # Errors
/// `InvalidInput` when the text is not such a description.
pub fn decode_metadata(body: &[u8]) -> Result<ModelDescription, Error> {
    metadata::decode(body)
}

/// Reads the body of an answer whose status is an error; `None` when a proxy or another server
/// wrote something else.
pub fn decode_refusal(body: &[u8]) -> Option<Refusal> {
    serde_json::from_slice(body).ok()
}
