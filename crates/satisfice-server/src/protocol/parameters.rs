//! Parameters that say how a message is to be read and answered, whatever the model.

use super::message::{PARAMETERS_MAX, invalid};
use satisfice_core::{
    Error, Parameter, Parameters,
    parameters::{
        self, BINARY_DATA, BINARY_DATA_OUTPUT, BINARY_DATA_SIZE, CLASSIFICATION,
        EMPTY_FINAL_RESPONSE, INPUT, INPUT_CONTENT_TYPE, OUTPUT, ParameterSpec, Place, Use, Values,
        WIRE_REQUEST,
    },
};

/// A map of parameters as it came: values that are none of a parameter's are kept apart until it is known
/// whether they matter.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: Parameters,
    /// Names of parameters that are arrays or objects, with that word.
    nested: Vec<(String, &'static str)>,
}

impl Given {
    /// One more parameter; false where there are too many.
    pub(super) fn add(&mut self, name: String, value: GivenValue) -> bool {
        match value {
            GivenValue::Flat(value) => drop(self.values.insert(name, value)),
            GivenValue::Nested(what) => self.nested.push((name, what)),
            GivenValue::Absent => {}
        }
        self.values.len() + self.nested.len() <= PARAMETERS_MAX
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.nested.iter().any(|(nested, _)| nested == name)
    }

    /// The values that are a parameter's, whatever else there is.
    pub(super) fn values(self) -> Parameters {
        self.values
    }

    /// The parameters of a place.
    ///
    /// # Errors
    /// For one that is an array or an object, unless nothing depends on it.
    pub(crate) fn flat(self, place: &[ParameterSpec]) -> Result<Parameters, Error> {
        let ignored = |name: &str| {
            let spec = place.iter().find(|spec| spec.name == name);
            spec.is_some_and(|spec| spec.usage == Use::Ignored && spec.values == Values::Anything)
        };
        match self.nested.iter().find(|(name, _)| !ignored(name)) {
            None => Ok(self.values),
            Some((name, what)) => Err(nested(name, what)),
        }
    }
}

/// A value of a map of parameters.
pub(super) enum GivenValue {
    Flat(Parameter),
    Nested(&'static str),
    Absent,
}

fn nested(name: &str, what: &str) -> Error {
    if let Some(spec) = parameters::all().find(|spec| spec.name == name) {
        return spec.wrong(what);
    }
    let name = crate::clip::clip(name);
    let message =
        format!("parameter `{name}` is {what}, but parameters are strings, numbers or booleans");
    invalid("wrong_parameter", message).with_hint("send what is in it as parameters of their own")
}

/// What a request asks of whoever answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Outputs are binary that do not say otherwise.
    pub binary: bool,
    /// Answers in a stream say that they are the last.
    pub final_response: bool,
}

impl Wanted {
    /// Takes out of a request's parameters what is for no model.
    pub(crate) fn take(parameters: &mut Parameters) -> Result<Self, Error> {
        let wanted = Self {
            binary: BINARY_DATA_OUTPUT.take_flag(parameters)?.unwrap_or(false),
            final_response: EMPTY_FINAL_RESPONSE.take_flag(parameters)?.unwrap_or(false),
        };
        if !parameters.is_empty() {
            for spec in &WIRE_REQUEST {
                spec.take(parameters)?;
            }
        }
        Ok(wanted)
    }
}

/// What an input says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InputSays {
    /// Bytes of its binary data.
    pub binary_size: Option<usize>,
    /// Its elements are base64.
    pub base64: bool,
}

impl InputSays {
    pub(crate) fn read(mut parameters: Parameters) -> Result<Self, Error> {
        parameters::check(&mut parameters, &INPUT.iter(), Place::Input)?;
        let binary_size = BINARY_DATA_SIZE.take_whole(&mut parameters)?;
        let content_type = INPUT_CONTENT_TYPE.text(&parameters)?;
        Ok(Self {
            binary_size: binary_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
            base64: content_type == Some("base64"),
        })
    }

    /// What an output of an answer says, which may be any server's.
    pub(super) fn of_output(mut parameters: Parameters) -> Result<Self, Error> {
        let binary_size = BINARY_DATA_SIZE.take_whole(&mut parameters)?;
        Ok(Self {
            binary_size: binary_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
            base64: false,
        })
    }
}

/// What is asked of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutputAsked {
    /// Whether it is to be binary.
    pub binary: Option<bool>,
    /// How many classes are wanted, if it is to be classes.
    pub classes: Option<usize>,
}

impl OutputAsked {
    pub(crate) fn read(mut parameters: Parameters) -> Result<Self, Error> {
        parameters::check(&mut parameters, &OUTPUT.iter(), Place::Output)?;
        let classes = CLASSIFICATION.take_whole(&mut parameters)?;
        Ok(Self {
            binary: BINARY_DATA.take_flag(&mut parameters)?,
            classes: classes
                .filter(|&classes| classes > 0)
                .map(|classes| usize::try_from(classes).unwrap_or(usize::MAX)),
        })
    }
}
