//! The JSON documents as they stand on the wire.

use super::parameters::{Given, GivenValue};
use crate::clip::clip;
use satisfice_core::{Error, ErrorKind, Parameter, Parameters};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, marker::PhantomData};

/// Entries of one `parameters` map.
pub(crate) const PARAMETERS_MAX: usize = 256;
/// Tensors that are read at all, whatever the configured limit.
pub(super) const TENSORS_READ_MAX: usize = 4096;
/// Dimensions that are read at all, whatever the configured limit.
pub(super) const DIMENSIONS_READ_MAX: usize = 64;

/// A tensor in a request or an answer.
#[derive(serde::Deserialize)]
pub(super) struct TensorMessage<'a> {
    pub name: String,
    pub shape: Bounded<i64, DIMENSIONS_READ_MAX>,
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    #[serde(default)]
    pub parameters: ParametersMessage,
    /// Checked to be JSON, but read only when shape and datatype are known.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    pub parameter: Option<IgnoredAny>,
}

/// The tensors of one message.
pub(super) type TensorMessages<'a> = Bounded<TensorMessage<'a>, TENSORS_READ_MAX>;

/// An output that a request asks for.
#[derive(serde::Deserialize)]
pub(super) struct OutputMessage {
    pub name: String,
    #[serde(default)]
    pub parameters: ParametersMessage,
    pub parameter: Option<IgnoredAny>,
}

/// The outputs that one request asks for.
pub(super) type OutputMessages = Bounded<OutputMessage, TENSORS_READ_MAX>;

/// The first `MAX` items of an array, and how many there were.
#[derive(Debug)]
pub(super) struct Bounded<T, const MAX: usize> {
    pub items: Vec<T>,
    pub total: usize,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX {
            match array.next_element()? {
                Some(item) => items.push(item),
                None => break,
            }
        }
        let mut total = items.len();
        while array.next_element::<IgnoredAny>()?.is_some() {
            total += 1;
        }
        Ok(Bounded { items, total })
    }
}

/// A `parameters` map; `null` is an empty one.
#[derive(Debug, Default)]
pub(crate) struct ParametersMessage(pub Given);

impl<'de> Deserialize<'de> for ParametersMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParametersVisitor)
    }
}

struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = ParametersMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(ParametersMessage::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut given = Given::default();
        while let Some((name, value)) = map.next_entry::<String, GivenValue>()? {
            if given.has(&name) {
                let shown = clip(&name);
                return Err(de::Error::custom(format_args!(
                    "parameter `{shown}` occurs twice"
                )));
            }
            if !given.add(name, value) {
                return Err(de::Error::custom(format_args!(
                    "more than {PARAMETERS_MAX} parameters"
                )));
            }
        }
        Ok(ParametersMessage(given))
    }
}

impl<'de> Deserialize<'de> for GivenValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = GivenValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a parameter: a string, a number or a boolean")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<GivenValue, E> {
        Ok(GivenValue::Flat(Parameter::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<GivenValue, E> {
        Ok(GivenValue::Flat(Parameter::Int(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<GivenValue, E> {
        Ok(GivenValue::Flat(whole(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<GivenValue, E> {
        Ok(GivenValue::Flat(Parameter::Float(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<GivenValue, E> {
        Ok(GivenValue::Flat(Parameter::String(value.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<GivenValue, E> {
        Ok(GivenValue::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GivenValue, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(GivenValue::Nested("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<GivenValue, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(GivenValue::Nested("an array"))
    }
}

/// A whole number as a parameter; what is too large for one is a number.
pub(crate) fn whole(value: u64) -> Parameter {
    i64::try_from(value).map_or(Parameter::Float(value as f64), Parameter::Int)
}

/// Writes a `parameters` map. A number that is not finite, which JSON does not have, is written as
/// the string `NaN`, `inf` or `-inf`.
pub(super) struct ParametersOut<'a>(pub &'a Parameters);

impl ParametersOut<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ParametersOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            match value {
                Parameter::Bool(value) => map.serialize_entry(name, value)?,
                Parameter::Int(value) => map.serialize_entry(name, value)?,
                Parameter::Float(value) if value.is_finite() => map.serialize_entry(name, value)?,
                Parameter::Float(value) => map.serialize_entry(name, &value.to_string())?,
                Parameter::String(value) => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// Reads a JSON document.
pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(json).map_err(|error| {
        invalid(
            "invalid_json",
            format!("the JSON is not UTF-8 at byte {}", error.valid_up_to()),
        )
    })?;
    serde_json::from_str(text).map_err(|error| {
        let code = match error.classify() {
            serde_json::error::Category::Data => "invalid_message",
            _ => "invalid_json",
        };
        let mut message = error.to_string();
        message.truncate(message.floor_char_boundary(300));
        let refusal = invalid(code, message);
        match code == "invalid_json" && is_no_number(text, error.line(), error.column()) {
            true => refusal.with_hint(
                "JSON has no NaN and no infinity: send such a tensor as binary data (the binary_tensor_data extension)",
            ),
            false => refusal,
        }
    })
}

/// Whether a NaN or an infinity, as some programs write them, is where the reader stopped.
fn is_no_number(text: &str, line: usize, column: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let written = |back: usize| {
        let rest = line.get(column.checked_sub(1 + back)?..)?;
        let word = rest.trim_start_matches('-').get(..3)?;
        Some(word.eq_ignore_ascii_case("nan") || word.eq_ignore_ascii_case("inf"))
    };
    (0..3).any(|back| written(back) == Some(true))
}

/// Writes a JSON document.
pub(super) fn write<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    serde_json::to_writer(out, message)
        .map_err(|error| Error::new(ErrorKind::Internal, "encoding_failed", error.to_string()))
}

/// An error in the message itself.
pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, code, message)
}

/// Refuses a singular key that was surely meant to be the plural one.
pub(super) fn refuse_singular(key: Option<IgnoredAny>, singular: &str) -> Result<(), Error> {
    match key {
        None => Ok(()),
        Some(_) => Err(
            invalid("misspelled_key", format!("unknown key `{singular}`"))
                .with_hint(format!("the protocol calls it `{singular}s`")),
        ),
    }
}
