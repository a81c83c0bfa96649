//! Parameters as protobuf has them.

use super::proto::{
    InferParameter, ModelRepositoryParameter, infer_parameter::ParameterChoice,
    model_repository_parameter::ParameterChoice as ControlChoice,
};
use crate::{
    clip::clip,
    protocol::message::{PARAMETERS_MAX, invalid, whole},
};
use satisfice_core::{Error, Parameter, Parameters};
use std::collections::HashMap;

/// Reads a map of parameters.
pub(super) fn decode(parameters: HashMap<String, InferParameter>) -> Result<Parameters, Error> {
    if parameters.len() > PARAMETERS_MAX {
        let message = format!("more than {PARAMETERS_MAX} parameters");
        return Err(invalid("invalid_message", message));
    }
    let parameter = |(name, value): (String, InferParameter)| {
        let value = match value.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Some(Parameter::Bool(value)),
            Some(ParameterChoice::Int64Param(value)) => Some(Parameter::Int(value)),
            Some(ParameterChoice::Uint64Param(value)) => Some(whole(value)),
            Some(ParameterChoice::DoubleParam(value)) => Some(Parameter::Float(value)),
            Some(ParameterChoice::StringParam(value)) => Some(Parameter::String(value)),
            None => None,
        };
        let value = value.ok_or_else(|| {
            let name = clip(&name);
            invalid(
                "invalid_message",
                format!("parameter `{name}` has no value"),
            )
        })?;
        Ok((name, value))
    };
    parameters.into_iter().map(parameter).collect()
}

/// Reads the parameters of a load or unload.
pub(super) fn of_control(parameters: HashMap<String, ModelRepositoryParameter>) -> Parameters {
    let parameter = |(name, value): (String, ModelRepositoryParameter)| {
        let value = match value.parameter_choice? {
            ControlChoice::BoolParam(value) => Parameter::Bool(value),
            ControlChoice::Int64Param(value) => Parameter::Int(value),
            ControlChoice::StringParam(value) => Parameter::String(value),
            ControlChoice::BytesParam(value) => {
                Parameter::String(String::from_utf8_lossy(&value).into_owned())
            }
        };
        Some((name, value))
    };
    parameters.into_iter().filter_map(parameter).collect()
}

/// Writes a map of parameters.
pub(super) fn encode(parameters: Parameters) -> HashMap<String, InferParameter> {
    let parameter = |(name, value)| {
        let choice = match value {
            Parameter::Bool(value) => ParameterChoice::BoolParam(value),
            Parameter::Int(value) => ParameterChoice::Int64Param(value),
            Parameter::Float(value) => ParameterChoice::DoubleParam(value),
            Parameter::String(value) => ParameterChoice::StringParam(value),
        };
        let parameter_choice = Some(choice);
        (name, InferParameter { parameter_choice })
    };
    parameters.into_iter().map(parameter).collect()
}
