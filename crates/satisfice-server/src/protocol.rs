//! Messages of the Open Inference Protocol v2 to and from bytes, without any transport.
//!
//! A message is a JSON document, or a JSON document followed by the little-endian elements of some
//! of its tensors (the `binary_tensor_data` extension). In the second case the length of the
//! document travels beside the message, over HTTP in the header [`JSON_LENGTH_HEADER`].
//!
//! What the codec accepts in `data`:
//!
//! - flat row-major arrays, or arrays nested exactly as `shape` says;
//! - `BOOL`: `true`, `false`, `1`, `0`;
//! - integers: whole numbers within the type's range, without fraction or exponent;
//! - `FP32`, `FP64`: any number that is finite in the type;
//! - `BYTES`: strings, or `{"b64": "..."}` for bytes that are no text; strings of base64 where the tensor's parameter
//!   `content_type` says so;
//! - `FP16`, `BF16`: only as binary data.
//!
//! Keys that the protocol does not name are ignored, except `input`, `output` and `parameter`,
//! which are surely meant to be `inputs`, `outputs` and `parameters`. A `null` is an absent value.

mod answer;
pub(crate) mod base64;
pub(crate) mod binary;
pub(crate) mod classification;
pub mod client;
pub(crate) mod config;
mod data;
pub(crate) mod graphs;
pub(crate) mod message;
mod metadata;
pub(crate) mod parameters;
mod pieces;
pub(crate) mod plans;
pub(crate) mod raw;
pub(crate) mod request;
pub(crate) mod statistics;
pub(crate) mod tensor;

pub use answer::{Answer, encode_answer};
pub(crate) use data::as_json as data_as_json;
pub use metadata::{ModelDescription, ServerDescription, encode_metadata};
pub use pieces::Pieces;
pub use request::{AnswerFormat, DecodedRequest, decode_request};

/// The HTTP header that carries [`Encoded::json_length`].
pub const JSON_LENGTH_HEADER: &str = "inference-header-content-length";

/// A message as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<B = Vec<u8>> {
    /// The JSON document, then the binary tensors in order.
    pub body: B,
    /// Length of the JSON document in bytes; `None` when there is nothing but JSON.
    pub json_length: Option<usize>,
}

/// What one message may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TensorLimits {
    /// Tensors per message, and outputs asked for; by default 256, never over 4,096.
    pub tensors_max: usize,
    /// Elements per tensor; by default 67,108,864 (2^26).
    pub elements_max: usize,
    /// Dimensions per tensor, and so the depth of nested `data`; by default 16, never over 64.
    pub rank_max: usize,
}

impl Default for TensorLimits {
    fn default() -> Self {
        Self {
            tensors_max: 256,
            elements_max: 1 << 26,
            rank_max: 16,
        }
    }
}
