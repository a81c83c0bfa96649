//! Requests as the server reads them.

use super::TensorLimits;
use super::message::{
    OutputMessages, ParametersMessage, TensorMessages, invalid, parse, refuse_singular,
};
use super::parameters::{OutputAsked, Wanted};
use super::tensor::{Role, check_count, decode_all, split};
use crate::clip::clip;
use bytes::Buf;
use satisfice_core::{
    Error, InferRequest, Parameters,
    parameters::{OUTPUT, WIRE_REQUEST},
};
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
    /// Whether answers in a stream say that they are the last to their request.
    pub final_response: bool,
    /// How many of its best classes are wanted of an output instead of its values, by name (the
    /// output parameter `classification`); at least 1.
    pub classes: BTreeMap<String, usize>,
}

impl AnswerFormat {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        self.outputs.get(output).copied().unwrap_or(self.binary)
    }

    /// An output that is asked for, with its parameters.
    pub(crate) fn add(&mut self, name: &str, parameters: Parameters) -> Result<(), Error> {
        let place = || format!("output `{}`", clip(name));
        let OutputAsked { binary, classes } =
            OutputAsked::read(parameters).map_err(|error| error.within(place()))?;
        if let Some(classes) = classes {
            self.classes.insert(name.to_owned(), classes);
        }
        let binary = binary.unwrap_or(self.binary);
        if self.outputs.insert(name.to_owned(), binary).is_some() {
            let text = format!("{}: is asked for twice", place());
            return Err(invalid("duplicate_name", text));
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
/// [`ErrorKind::InvalidInput`](satisfice_core::ErrorKind::InvalidInput) naming the input and element that is wrong, [`ErrorKind::TooLarge`](satisfice_core::ErrorKind::TooLarge)
/// over a limit, [`ErrorKind::Unsupported`](satisfice_core::ErrorKind::Unsupported) for shared memory.
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
    let mut parameters = message.parameters.0.flat(&WIRE_REQUEST)?;
    let wanted = Wanted::take(&mut parameters)?;
    let mut format = AnswerFormat {
        binary: wanted.binary,
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
        let parameters = output.parameters.0.flat(&OUTPUT);
        let place = || format!("output `{}`", clip(&output.name));
        let parameters = parameters.map_err(|error| error.within(place()))?;
        format.add(&output.name, parameters)?;
        names.push(output.name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use satisfice_core::{ErrorKind, Parameter, TensorData};

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
            (r#"{"inputs":[],"parameters":{"a":[]}}"#, "wrong_parameter"),
            (
                r#"{"inputs":[],"parameters":{"plan":{"name":"exact"}}}"#,
                "unknown_plan",
            ),
            (r#"{"inputs":[],"parameters":{"a":NaN}}"#, "invalid_json"),
            (
                r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#,
                "duplicate_name",
            ),
            (
                r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#,
                "wrong_parameter",
            ),
            (
                r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":-1}}]}"#,
                "wrong_parameter",
            ),
            (
                r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"binary":true}}]}"#,
                "unknown_parameter",
            ),
            (
                r#"{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1],"parameters":{"unit":"mm"}}]}"#,
                "unknown_parameter",
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
    fn what_other_servers_clients_send_is_no_fault() {
        let request = decode(
            r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1],
                "parameters":{"content_type":"np","headers":null}}],
                "outputs":[{"name":"y","parameters":{"content_type":"str","classification":0}}],
                "parameters":{"content_type":"np","headers":{"ce-id":["1"]},"sequence_id":0,
                "sequence_start":false,"priority":null,"timeout":18446744073709551615}}"#,
        )
        .unwrap();
        assert!(request.format.classes.is_empty());
        let left: Vec<_> = request.request.parameters.into_iter().collect();
        assert_eq!(
            left,
            [("timeout".to_owned(), Parameter::Float(u64::MAX as f64))]
        );
    }

    #[test]
    fn a_nan_gets_the_way_out() {
        for json in [
            r#"{"inputs":[],"parameters":{"deadline_ms": NaN}}"#,
            "{\n\"parameters\":{\"deadline_ms\": -Infinity}}",
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1, nan]}]}"#,
        ] {
            let error = decode(json).unwrap_err();
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains("binary"), "{json}: {error}");
        }
        assert_eq!(decode("{\"inputs\": nothing}").unwrap_err().hint(), None);
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
