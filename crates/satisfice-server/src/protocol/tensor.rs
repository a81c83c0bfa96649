//! The tensors of a message, wherever their elements are.

use super::message::{
    Bounded, DIMENSIONS_READ_MAX, TENSORS_READ_MAX, TensorMessage, TensorMessages, invalid,
    refuse_singular, write,
};
use super::parameters::InputSays;
use super::{Encoded, TensorLimits, base64, binary, data};
use crate::clip::clip;
use bytes::{Buf, Bytes, buf::Take};
use satisfice_core::{
    DataType, Error, ErrorKind, NamedTensor, Tensor, TensorData, parameters::INPUT,
};
use serde::Serialize;
use std::fmt;

/// Which tensors a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Input,
    Output,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// A message cut into its JSON document and the binary tensors, if it may have any.
pub(super) fn split<B: Buf>(
    mut body: B,
    json_length: Option<usize>,
) -> Result<(Bytes, Option<B>), Error> {
    let total = body.remaining();
    match json_length {
        None => Ok((body.copy_to_bytes(total), None)),
        Some(length) if length <= total => Ok((body.copy_to_bytes(length), Some(body))),
        Some(length) => Err(invalid(
            "wrong_json_length",
            format!("the JSON is to have {length} bytes, but the whole message has {total}"),
        )),
    }
}

/// Reads tensors; `tail` holds the binary ones, all of it and nothing else.
pub(super) fn decode_all(
    role: Role,
    messages: TensorMessages<'_>,
    mut tail: Option<impl Buf>,
    limits: TensorLimits,
) -> Result<Vec<NamedTensor>, Error> {
    check_count(role, messages.total, limits)?;
    let mut tensors: Vec<NamedTensor> = Vec::with_capacity(messages.items.len());
    let names = messages.items.iter().map(|message| message.name.as_str());
    check_unique(role, names)?;
    for mut message in messages.items {
        let says = says(role, &mut message)
            .map_err(|error| error.within(format_args!("{role} `{}`", clip(&message.name))))?;
        let tensor = decode(role, &message, says, tail.as_mut(), limits)?;
        tensors.push(NamedTensor {
            name: message.name,
            tensor,
        });
    }
    match tail {
        Some(rest) if rest.has_remaining() => Err(invalid(
            "bytes_left_over",
            format!("{} bytes are left after the last tensor", rest.remaining()),
        )),
        _ => Ok(tensors),
    }
}

/// Refuses more tensors than the limit.
pub(crate) fn check_count(role: Role, count: usize, limits: TensorLimits) -> Result<(), Error> {
    let max = limits.tensors_max.min(TENSORS_READ_MAX);
    if count <= max {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TooLarge,
        "too_many_tensors",
        format!("the message has {count} {role}s, but at most {max} are allowed"),
    ))
}

/// Refuses two tensors of one name.
pub(crate) fn check_unique<'a>(
    role: Role,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(invalid(
            "duplicate_name",
            format!("{role} `{}` occurs twice", clip(pair[0])),
        )),
    }
}

/// The datatype of that name.
pub(crate) fn datatype(name: &str, context: &impl Fn(String) -> String) -> Result<DataType, Error> {
    DataType::from_name(name).ok_or_else(|| {
        let known = DataType::ALL.map(DataType::name).join(", ");
        invalid(
            "unknown_datatype",
            context(format!("unknown datatype `{}`", clip(name))),
        )
        .with_hint(format!("datatypes are {known}"))
    })
}

/// What a tensor's parameters say. Those of an answer may be of another server.
fn says(role: Role, message: &mut TensorMessage<'_>) -> Result<InputSays, Error> {
    let given = std::mem::take(&mut message.parameters).0;
    match role {
        Role::Input => InputSays::read(given.flat(&INPUT)?),
        Role::Output => InputSays::of_output(given.values()),
    }
}

fn decode(
    role: Role,
    message: &TensorMessage<'_>,
    says: InputSays,
    tail: Option<&mut impl Buf>,
    limits: TensorLimits,
) -> Result<Tensor, Error> {
    let context = |text: String| format!("{role} `{}`: {text}", clip(&message.name));
    refuse_singular(message.parameter, "parameter")?;
    let datatype = datatype(&message.datatype, &context)?;
    let Bounded { items, total } = &message.shape;
    let (shape, elements) = shape(items, *total, &context, limits)?;
    if says.base64 {
        check_base64(datatype, &context)?;
    }
    let values = match (&message.data, says.binary_size) {
        (Some(_), Some(_)) => Err(invalid(
            "ambiguous_data",
            context("has both `data` and `binary_data_size`".to_owned()),
        )),
        (None, None) => Err(invalid(
            "data_missing",
            context("has neither `data` nor the parameter `binary_data_size`".to_owned()),
        )),
        (Some(_), None) if matches!(datatype, DataType::Fp16 | DataType::Bf16) => Err(
            needs_binary(context(format!("{datatype} has no form in JSON"))),
        ),
        (Some(text), None) => data::decode(text.get(), datatype, &shape, elements, says.base64)
            .map_err(|message| wrong_data(datatype, context(message))),
        (None, Some(size)) => {
            let raw = take(tail, size)
                .map_err(|message| invalid("wrong_binary_data", context(message)))?;
            binary::decode(raw, datatype, elements)
                .and_then(|data| {
                    if says.base64 {
                        of_base64(data)
                    } else {
                        Ok(data)
                    }
                })
                .map_err(|message| invalid("wrong_binary_data", context(message)))
        }
    }?;
    Tensor::new(shape, values)
        .map_err(|mismatch| invalid("wrong_data", context(mismatch.to_string())))
}

/// Elements that are not what the datatype has.
fn wrong_data(datatype: DataType, message: String) -> Error {
    let of_element = datatype == DataType::Bytes && message.contains(": element ");
    let error = invalid("wrong_data", message);
    match of_element {
        true => error.with_hint(base64::WAY_OUT),
        false => error,
    }
}

/// Refuses base64 of what is no bytes.
pub(crate) fn check_base64(
    datatype: DataType,
    context: &impl Fn(String) -> String,
) -> Result<(), Error> {
    if datatype == DataType::Bytes {
        return Ok(());
    }
    let message = format!("`content_type` is `base64`, but the datatype is {datatype}");
    Err(invalid("wrong_parameter", context(message))
        .with_hint("base64 is for BYTES; numbers are sent as numbers, or as binary data"))
}

/// The bytes that the elements stand for, where they are strings.
pub(crate) fn of_base64(data: TensorData) -> Result<TensorData, String> {
    match data {
        TensorData::Bytes(texts) => base64::elements(&texts).map(TensorData::Bytes),
        data => Ok(data),
    }
}

/// The shape and the product of its dimensions, which is within the limits. `rank` is the number of
/// `dimensions`, or more if they were not all kept.
pub(crate) fn shape(
    dimensions: &[i64],
    rank: usize,
    context: &impl Fn(String) -> String,
    limits: TensorLimits,
) -> Result<(Vec<usize>, usize), Error> {
    let rank_max = limits.rank_max.min(DIMENSIONS_READ_MAX);
    if rank > rank_max {
        return Err(Error::new(
            ErrorKind::TooLarge,
            "too_many_dimensions",
            context(format!(
                "shape has {rank} dimensions, but at most {rank_max} are allowed"
            )),
        ));
    }
    let shape: Vec<usize> = dimensions
        .iter()
        .map(|&length| usize::try_from(length))
        .collect::<Result<_, _>>()
        .map_err(|_| {
            invalid(
                "negative_shape",
                context(format!("shape {dimensions:?} has a negative dimension")),
            )
            .with_hint("a request states the true length of every dimension")
        })?;
    let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
    match elements {
        Some(elements) if elements <= limits.elements_max => Ok((shape, elements)),
        _ => Err(Error::new(
            ErrorKind::TooLarge,
            "too_many_elements",
            context(format!(
                "shape {shape:?} holds more than the {} elements that are allowed",
                limits.elements_max
            )),
        )),
    }
}

fn take<B: Buf>(tail: Option<B>, size: usize) -> Result<Take<B>, String> {
    match tail {
        None => Err(format!(
            "has `binary_data_size`, but the header `{}` does not say where the JSON ends",
            super::JSON_LENGTH_HEADER
        )),
        Some(rest) if size <= rest.remaining() => Ok(rest.take(size)),
        Some(rest) => Err(format!(
            "`binary_data_size` is {size}, but only {} bytes are left",
            rest.remaining()
        )),
    }
}

fn needs_binary(message: String) -> Error {
    invalid("needs_binary", message)
        .with_hint("send it, or ask for it, as binary data (the binary_tensor_data extension)")
}

/// Room for an answer without its elements, and for an element with its comma, in bytes: what does not
/// grow while it is written is not copied.
const JSON_ROOM: usize = 512;
const NUMBER_ROOM: usize = 12;

/// A tensor as it is written.
#[derive(Serialize)]
pub(super) struct TensorOut<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<data::JsonData<'a>>,
    #[serde(skip)]
    binary: Option<&'a Tensor>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

impl<'a> TensorOut<'a> {
    /// The tensor as JSON, or as a description of the binary data that follows.
    pub(super) fn new(role: Role, named: &'a NamedTensor, as_binary: bool) -> Result<Self, Error> {
        let tensor = &named.tensor;
        let context = |text: &str| format!("{role} `{}`: {text}", clip(&named.name));
        let out = Self {
            name: &named.name,
            datatype: tensor.datatype().name(),
            shape: tensor.shape(),
            parameters: None,
            data: None,
            binary: None,
        };
        if as_binary {
            let binary_data_size = binary::size(tensor.data())
                .ok_or_else(|| invalid("element_too_long", context("an element is over 4 GiB")))?;
            Ok(Self {
                parameters: Some(BinarySize { binary_data_size }),
                binary: Some(tensor),
                ..out
            })
        } else if let Some(obstacle) = data::obstacle(role, tensor.data()) {
            Err(needs_binary(context(obstacle)))
        } else {
            Ok(Self {
                data: Some(data::JsonData(tensor.data())),
                ..out
            })
        }
    }

    /// Bytes of the binary data that follows, if it does.
    pub(super) fn binary_size(&self) -> Option<usize> {
        Some(self.parameters.as_ref()?.binary_data_size)
    }
}

/// Writes `document`, which describes `tensors`.
pub(super) fn encode_document<M: Serialize>(
    document: &M,
    tensors: &[TensorOut<'_>],
) -> Result<Vec<u8>, Error> {
    let numbers = tensors.iter().filter_map(|tensor| tensor.data.as_ref());
    let numbers: usize = numbers.map(|data| data.0.len()).sum();
    let mut json = Vec::with_capacity(JSON_ROOM + NUMBER_ROOM * numbers);
    write(document, &mut json)?;
    Ok(json)
}

/// Writes `document`, then the binary ones of its tensors.
pub(super) fn encode_message<M: Serialize>(
    document: &M,
    tensors: &[TensorOut<'_>],
) -> Result<Encoded, Error> {
    let mut body = encode_document(document, tensors)?;
    let json_length = body.len();
    let sizes = tensors.iter().filter_map(TensorOut::binary_size);
    body.reserve_exact(sizes.sum());
    let mut any = false;
    for tensor in tensors.iter().filter_map(|tensor| tensor.binary) {
        binary::encode(tensor.data(), &mut body);
        any = true;
    }
    Ok(Encoded {
        body,
        json_length: any.then_some(json_length),
    })
}
