//! The trace extension: which requests are traced, as Triton's clients ask and say it.

use crate::clip::clip;
use satisfice_core::{Error, ErrorKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Which requests are traced: of every model, unless it has settings of its own.
#[derive(Debug)]
pub(super) struct TraceSettings {
    /// Whether there is a collector to send traces to.
    possible: bool,
    global: Settings,
    models: BTreeMap<String, Model>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    on: bool,
    /// One request in so many; 0 for only those that clients sample.
    rate: u32,
    /// Requests still to be traced; without end when negative.
    count: i64,
}

/// What is set for one model, and the requests that it has had.
#[derive(Debug, Default, Clone)]
struct Model {
    on: Option<bool>,
    rate: Option<u32>,
    count: Option<i64>,
    seen: u64,
}

impl TraceSettings {
    /// One request in `rate`, if it is possible to trace at all.
    pub(super) fn new(possible: bool, rate: u32) -> Self {
        Self {
            possible,
            global: Settings {
                on: possible,
                rate,
                count: -1,
            },
            models: BTreeMap::new(),
        }
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        self.global.rate = rate;
    }

    /// Whether a request is traced. Requests that are about no model are when the client has
    /// sampled them. `model` is one that is served.
    pub(super) fn sample(&mut self, model: Option<&str>, by_client: bool) -> bool {
        let mut none = Model {
            rate: Some(0),
            ..Model::default()
        };
        let model = match model {
            Some(model) => self.models.entry(model.to_owned()).or_default(),
            None => &mut none,
        };
        let rate = u64::from(model.rate.unwrap_or(self.global.rate));
        let turn = rate > 0 && model.seen.is_multiple_of(rate);
        model.seen += 1;
        let count = model.count.as_mut().unwrap_or(&mut self.global.count);
        let chosen = model.on.unwrap_or(self.global.on) && *count != 0 && (turn || by_client);
        if chosen && *count > 0 {
            *count -= 1;
        }
        chosen
    }

    /// Changes settings; a model's `null` is what is set for all.
    pub(super) fn change(
        &mut self,
        model: Option<&str>,
        changes: &Map<String, Value>,
    ) -> Result<(), Error> {
        let mut changed = Model::default();
        for (name, value) in changes {
            match name.as_str() {
                "trace_level" => {
                    changed.on = read(name, value, level, "[\"OFF\"] or [\"TIMESTAMPS\"]")?;
                }
                "trace_rate" => {
                    changed.rate = read(name, value, number, "a whole number, 0 or more")?;
                }
                "trace_count" => {
                    changed.count = read(name, value, number, "a whole number, -1 or more")?;
                }
                "trace_mode" if value == "opentelemetry" || value.is_null() => {}
                "log_frequency" if *value == "0" || *value == 0 || value.is_null() => {}
                "trace_file" if *value == "" || value.is_null() => {}
                "trace_mode" | "log_frequency" | "trace_file" => {
                    let message = format!("trace setting `{name}` cannot be changed");
                    let error = Error::new(ErrorKind::Unsupported, "fixed_setting", message);
                    return Err(error.with_hint("traces are sent to an OpenTelemetry collector"));
                }
                _ => {
                    let message = format!("there is no trace setting `{}`", clip(name));
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        "unknown_setting",
                        message,
                    ));
                }
            }
        }
        if changed.on == Some(true) && !self.possible {
            let message = "this server has no collector to send traces to";
            let error = Error::new(ErrorKind::Unsupported, "no_collector", message);
            return Err(error.with_hint("configure `trace.endpoint`"));
        }
        match model {
            None => {
                let Settings { on, rate, count } = &mut self.global;
                *on = changed.on.unwrap_or(*on);
                *rate = changed.rate.unwrap_or(*rate);
                *count = changed.count.unwrap_or(*count);
            }
            Some(model) => {
                let own = self.models.entry(model.to_owned()).or_default();
                let has = |name| changes.contains_key(name);
                if has("trace_level") {
                    own.on = changed.on;
                }
                if has("trace_rate") {
                    (own.rate, own.seen) = (changed.rate, 0);
                }
                if has("trace_count") {
                    own.count = changed.count;
                }
            }
        }
        Ok(())
    }

    /// The settings in force on the wire, of a model if one is given. Numbers are strings there.
    pub(super) fn show(&self, model: Option<&str>) -> Map<String, Value> {
        let own = model.and_then(|model| self.models.get(model));
        let own = own.cloned().unwrap_or_default();
        let level = match own.on.unwrap_or(self.global.on) {
            true => "TIMESTAMPS",
            false => "OFF",
        };
        let settings = json!({
            "trace_level": [level],
            "trace_rate": own.rate.unwrap_or(self.global.rate).to_string(),
            "trace_count": own.count.unwrap_or(self.global.count).to_string(),
            "log_frequency": "0",
            "trace_file": "",
            "trace_mode": "opentelemetry",
        });
        match settings {
            Value::Object(settings) => settings,
            _ => unreachable!("invariant: the literal above is an object"),
        }
    }
}

/// A value, or nothing for `null`.
fn read<T>(
    name: &str,
    value: &Value,
    parse: fn(&Value) -> Option<T>,
    wanted: &str,
) -> Result<Option<T>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    parse(value).map(Some).ok_or_else(|| {
        let message = format!("trace setting `{name}` is not {wanted}");
        Error::new(ErrorKind::InvalidInput, "wrong_setting", message)
    })
}

/// A level, alone or as the only one of a list.
fn level(value: &Value) -> Option<bool> {
    let level = match value {
        Value::Array(levels) if levels.len() == 1 => &levels[0],
        other => other,
    };
    match level.as_str()? {
        "OFF" => Some(false),
        "TIMESTAMPS" => Some(true),
        _ => None,
    }
}

/// A number, as one or as a string.
fn number<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    let number = match value {
        Value::Array(values) if values.len() == 1 => return number(&values[0]),
        Value::String(text) => text.parse().ok()?,
        other => other.as_i64()?,
    };
    T::try_from(number).ok().filter(|_| number >= -1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(
        settings: &mut TraceSettings,
        model: Option<&str>,
        changes: &Value,
    ) -> Result<(), Error> {
        settings.change(model, changes.as_object().unwrap())
    }

    fn sampled(settings: &mut TraceSettings, model: &str, requests: usize) -> usize {
        let of = |settings: &mut TraceSettings| settings.sample(Some(model), false);
        (0..requests).filter(|_| of(settings)).count()
    }

    #[test]
    fn one_in_so_many_of_each_model() {
        let mut settings = TraceSettings::new(true, 10);
        assert_eq!(sampled(&mut settings, "a", 100), 10);
        assert_eq!(sampled(&mut settings, "b", 9), 1);
        change(&mut settings, Some("a"), &json!({"trace_rate": "2"})).unwrap();
        assert_eq!(sampled(&mut settings, "a", 100), 50);
        assert_eq!(settings.show(Some("a"))["trace_rate"], "2");
        assert_eq!(settings.show(None)["trace_rate"], "10");
        change(&mut settings, Some("a"), &json!({"trace_rate": null})).unwrap();
        assert_eq!(sampled(&mut settings, "a", 100), 10);
    }

    #[test]
    fn what_clients_sample_is_traced_unless_traces_are_off() {
        let mut settings = TraceSettings::new(true, 0);
        assert_eq!(sampled(&mut settings, "a", 10), 0);
        assert!(settings.sample(Some("a"), true) && settings.sample(None, true));
        assert!(!settings.sample(None, false));
        change(&mut settings, None, &json!({"trace_level": ["OFF"]})).unwrap();
        assert!(!settings.sample(Some("a"), true));
        change(
            &mut settings,
            Some("a"),
            &json!({"trace_level": "TIMESTAMPS"}),
        )
        .unwrap();
        assert!(settings.sample(Some("a"), true) && !settings.sample(Some("b"), true));
    }

    #[test]
    fn counts_run_out() {
        let mut settings = TraceSettings::new(true, 1);
        change(&mut settings, None, &json!({"trace_count": "3"})).unwrap();
        assert_eq!(
            sampled(&mut settings, "a", 2) + sampled(&mut settings, "b", 5),
            3
        );
        assert_eq!(settings.show(None)["trace_count"], "0");
    }

    #[test]
    fn wrong_settings_change_nothing() {
        let mut settings = TraceSettings::new(true, 7);
        let before = settings.show(None);
        for (changes, code) in [
            (
                json!({"trace_rate": "8", "trace_level": ["LOUD"]}),
                "wrong_setting",
            ),
            (json!({"trace_rate": "-1"}), "wrong_setting"),
            (json!({"trace_rate": 1.5}), "wrong_setting"),
            (json!({"trace_count": -2}), "wrong_setting"),
            (json!({"trace_file": "/tmp/x"}), "fixed_setting"),
            (json!({"trace_mode": "triton"}), "fixed_setting"),
            (json!({"rate": 1}), "unknown_setting"),
        ] {
            let error = change(&mut settings, None, &changes).unwrap_err();
            assert_eq!(error.code(), code, "{changes}");
        }
        assert_eq!(settings.show(None), before);
        let mut off = TraceSettings::new(false, 1000);
        let error = change(&mut off, None, &json!({"trace_level": ["TIMESTAMPS"]})).unwrap_err();
        assert_eq!(error.code(), "no_collector");
        assert_eq!(off.show(None)["trace_level"], json!(["OFF"]));
    }
}
