//! Log and trace settings to and from messages.

use super::proto::{
    LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse,
    log_settings_request, log_settings_response, trace_setting_response,
};
use crate::observe::LogSettings;
use log_settings_request::setting_value::ParameterChoice as Asked;
use log_settings_response::setting_value::ParameterChoice as Said;
use serde_json::{Map, Value};

/// The changes that a request asks for.
pub(super) fn log_changes(request: LogSettingsRequest) -> Map<String, Value> {
    let change = |(name, setting): (String, log_settings_request::SettingValue)| {
        let value = match setting.parameter_choice {
            None => Value::Null,
            Some(Asked::BoolParam(value)) => value.into(),
            Some(Asked::Uint32Param(value)) => value.into(),
            Some(Asked::StringParam(value)) => value.into(),
        };
        (name, value)
    };
    request.settings.into_iter().map(change).collect()
}

/// The settings in force.
pub(super) fn log_settings(settings: LogSettings) -> LogSettingsResponse {
    let entries = [
        ("log_file", Said::StringParam(settings.log_file.to_owned())),
        ("log_info", Said::BoolParam(settings.log_info)),
        ("log_warning", Said::BoolParam(settings.log_warning)),
        ("log_error", Said::BoolParam(settings.log_error)),
        (
            "log_verbose_level",
            Said::Uint32Param(settings.log_verbose_level),
        ),
        (
            "log_format",
            Said::StringParam(settings.log_format.to_owned()),
        ),
    ];
    let entry = |(name, choice): (&str, Said)| {
        let parameter_choice = Some(choice);
        let value = log_settings_response::SettingValue { parameter_choice };
        (name.to_owned(), value)
    };
    LogSettingsResponse {
        settings: entries.into_iter().map(entry).collect(),
    }
}

/// The changes that a request asks for: a setting without values is to be as for all models.
pub(super) fn trace_changes(request: &TraceSettingRequest) -> Map<String, Value> {
    let settings = request.settings.iter();
    settings
        .map(|(name, setting)| {
            let value = match setting.value.as_slice() {
                [] => Value::Null,
                [value] => value.as_str().into(),
                values => values.iter().map(String::as_str).collect(),
            };
            (name.clone(), value)
        })
        .collect()
}

/// The settings in force.
pub(super) fn trace_settings(settings: Map<String, Value>) -> TraceSettingResponse {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |(name, value): (String, Value)| {
        let value = match &value {
            Value::Array(values) => values.iter().map(text).collect(),
            value => vec![text(value)],
        };
        (name, trace_setting_response::SettingValue { value })
    };
    TraceSettingResponse {
        settings: settings.into_iter().map(entry).collect(),
    }
}
