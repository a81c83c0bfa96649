//! Requests as the server reads them.

use super::TensorLimits;
use super::message::{
    OutputMessages, ParametersMessage, TensorMessages, invalid, parse, refuse_singular,
};
use super::tensor::{Role, check_count, decode_all, split};
use crate::clip::clip;
use bytes::Buf;
use satisfice_core::{Error, ErrorKind, InferRequest, Parameter, Parameters};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// A request and what is to be done with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedRequest {
    /// The client's own name for the request, to be echoed.
    pub id: Option<String>,
    /// What the engine is asked.
    pub request: InferRequest,
    /// How the outputs are to be sent.
    pub format: AnswerFormat,
}

/// Which outputs travel as binary data and which as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerFormat {
    /// Outputs not named in `outputs` are binary (the request parameter `binary_data_output`).
    pub binary: bool,
    /// Whether an output is binary, by name (the output parameter `binary_data`).
    pub outputs: BTreeMap<String, bool>,
    /// How many of its best classes are wanted of an output instead of its values, by name (the
    /// output parameter `classification`); at least 1.
    pub classes: BTreeMap<String, usize>,
}

impl AnswerFormat {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        self.outputs.get(output).copied().unwrap_or(self.binary)
    }

    /// An output that is asked for, with its parameters.
    pub(crate) fn add(&mut self, name: &str, mut parameters: Parameters) -> Result<(), Error> {
        let context = |text: &str| format!("output `{}`: {text}", clip(name));
        if parameters.contains_key("shared_memory_region") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "unsupported_output",
                context("`shared_memory_region` is not supported"),
            ));
        }
        match parameters.remove("classification") {
            None => {}
            Some(Parameter::Int(classes @ 1..)) => {
                self.classes.insert(name.to_owned(), classes as usize);
            }
            Some(_) => {
                let text = context("`classification` is not a whole number over 0");
                return Err(invalid("wrong_parameter", text));
            }
        }
        let binary = flag(&mut parameters, "binary_data")?.unwrap_or(self.binary);
        if self.outputs.insert(name.to_owned(), binary).is_some() {
            return Err(invalid("duplicate_name", context("is asked for twice")));
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct RequestMessage<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: ParametersMessage,
    #[serde(borrow)]
    inputs: TensorMessages<'a>,
    outputs: Option<OutputMessages>,
    parameter: Option<IgnoredAny>,
    input: Option<IgnoredAny>,
    output: Option<IgnoredAny>,
}

/// Reads a request. `json_length` is the length of the JSON document in bytes when binary tensors
/// may follow it.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] naming the input and element that is wrong, [`ErrorKind::TooLarge`]
/// over a limit, [`ErrorKind::Unsupported`] for shared memory.
pub fn decode_request(
    body: impl Buf,
    json_length: Option<usize>,
    limits: TensorLimits,
) -> Result<DecodedRequest, Error> {
    let (json, tail) = split(body, json_length)?;
    let message: RequestMessage<'_> = parse(&json)?;
    refuse_singular(message.parameter, "parameter")?;
    refuse_singular(message.input, "input")?;
    refuse_singular(message.output, "output")?;
    let mut parameters = message.parameters.0;
    let mut format = AnswerFormat {
        binary: flag(&mut parameters, "binary_data_output")?.unwrap_or(false),
        ..AnswerFormat::default()
    };
    let outputs = match message.outputs {
        Some(outputs) => outputs_asked(outputs, &mut format, limits)?,
        None => Vec::new(),
    };
    Ok(DecodedRequest {
        id: message.id,
        request: InferRequest {
            inputs: decode_all(Role::Input, message.inputs, tail, limits)?,
            outputs,
            parameters,
            ..InferRequest::default()
        },
        format,
    })
}

fn outputs_asked(
    outputs: OutputMessages,
    format: &mut AnswerFormat,
    limits: TensorLimits,
) -> Result<Vec<String>, Error> {
    check_count(Role::Output, outputs.total, limits)?;
    let mut names = Vec::with_capacity(outputs.items.len());
    for output in outputs.items {
        refuse_singular(output.parameter, "parameter")?;
        format.add(&output.name, output.parameters.0)?;
        names.push(output.name);
    }
    Ok(names)
}

/// Takes a boolean out of `parameters`.
pub(crate) fn flag(parameters: &mut Parameters, name: &str) -> Result<Option<bool>, Error> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(Parameter::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(invalid(
            "wrong_parameter",
            format!("parameter `{name}` is not true or false"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use satisfice_core::TensorData;

    fn decode(json: &str) -> Result<DecodedRequest, Error> {
        decode_request(json.as_bytes(), None, TensorLimits::default())
    }

    #[test]
    fn keys_come_in_any_order() {
        let request = decode(
            r#"{"outputs":null,"inputs":[{"data":[[1,2]],"shape":[1,2],"more":{"a":[[]]},
                "datatype":"INT8","name":"x"}],"id":"7","parameters":{"n":1,"f":0.5,"s":"t","b":true}}"#,
        )
        .unwrap();
        assert_eq!(request.id.as_deref(), Some("7"));
        assert_eq!(request.request.parameters.len(), 4);
        let x = request.request.input("x").unwrap();
        assert_eq!(x.data(), &TensorData::Int8(vec![1, 2]));
    }

    #[test]
    fn what_would_be_misread_is_refused() {
        for (json, code) in [
            (r#"{"inputs":[],"output":[]}"#, "misspelled_key"),
            (r#"{"inputs":[],"parameter":{}}"#, "misspelled_key"),
            (r#"{"inputs":[],"inputs":[]}"#, "invalid_message"),
            (
                r#"{"inputs":[],"parameters":{"a":1,"a":2}}"#,
                "invalid_message",
            ),
            (r#"{"inputs":[],"parameters":{"a":[]}}"#, "invalid_message"),
            (
                r#"{"inputs":[],"parameters":{"a":9223372036854775808}}"#,
                "invalid_message",
            ),
            (
                r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#,
                "duplicate_name",
            ),
            (
                r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#,
                "wrong_parameter",
            ),
            (
                r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":0}}]}"#,
                "wrong_parameter",
            ),
            (r#"{"inputs":[]}x"#, "invalid_json"),
            (r"{}", "invalid_message"),
            ("", "invalid_json"),
        ] {
            assert_eq!(decode(json).unwrap_err().code(), code, "{json}");
        }
    }

    #[test]
    fn what_is_not_offered_is_said() {
        for json in [
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}]}"#,
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","parameters":{"shared_memory_region":"r"}}]}"#,
        ] {
            assert_eq!(decode(json).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn counts_are_bounded() {
        let limits = TensorLimits {
            tensors_max: 2,
            elements_max: 4,
            rank_max: 2,
        };
        let decode = |json: String| decode_request(json.as_bytes(), None, limits).unwrap_err();
        let input = |name: usize, shape: &str| {
            format!(r#"{{"name":"{name}","shape":{shape},"datatype":"INT8","data":[]}}"#)
        };
        let many: Vec<_> = (0..3).map(|i| input(i, "[0]")).collect();
        for (inputs, code) in [
            (many.join(","), "too_many_tensors"),
            (input(0, "[0,0,0]"), "too_many_dimensions"),
            (input(0, "[5]"), "too_many_elements"),
            (input(0, "[4294967296,4294967296,0]"), "too_many_dimensions"),
            (input(0, "[9223372036854775807,3]"), "too_many_elements"),
        ] {
            let error = decode(format!(r#"{{"inputs":[{inputs}]}}"#));
            assert_eq!((error.kind(), error.code()), (ErrorKind::TooLarge, code));
        }
    }
}
