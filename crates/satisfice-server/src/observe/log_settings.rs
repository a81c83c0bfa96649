//! The logging extension: which events are logged, as Triton's clients ask and say it.

use crate::{clip::clip, config::Level};
use satisfice_core::{Error, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value};

/// The settings on the wire. A level includes the graver ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the protocol's names")]
pub(crate) struct LogSettings {
    /// There are no log files.
    pub log_file: &'static str,
    pub log_info: bool,
    pub log_warning: bool,
    pub log_error: bool,
    /// 0, 1 for debug, 2 for trace.
    pub log_verbose_level: u32,
    pub log_format: &'static str,
}

impl LogSettings {
    pub(super) fn new(level: Level) -> Self {
        Self {
            log_file: "",
            log_info: level >= Level::Info,
            log_warning: level >= Level::Warn,
            log_error: true,
            log_verbose_level: match level {
                Level::Trace => 2,
                Level::Debug => 1,
                Level::Info | Level::Warn | Level::Error => 0,
            },
            log_format: "default",
        }
    }

    pub(super) fn level(self) -> Level {
        match (self.log_verbose_level, self.log_info, self.log_warning) {
            (2.., ..) => Level::Trace,
            (1, ..) => Level::Debug,
            (0, true, _) => Level::Info,
            (0, false, true) => Level::Warn,
            (0, false, false) => Level::Error,
        }
    }

    /// These settings with changes, if there are such.
    pub(super) fn changed(mut self, changes: &Map<String, Value>) -> Result<Self, Error> {
        for (name, value) in changes {
            match (name.as_str(), value) {
                ("log_info", Value::Bool(on)) => self.log_info = *on,
                ("log_warning", Value::Bool(on)) => self.log_warning = *on,
                ("log_error", Value::Bool(on)) => self.log_error = *on,
                ("log_verbose_level", Value::Number(level)) => {
                    let level = level.as_u64().ok_or_else(|| wrong(name, "0, 1 or 2"))?;
                    self.log_verbose_level = u32::try_from(level).unwrap_or(u32::MAX).min(2);
                }
                ("log_file", Value::String(file)) if file.is_empty() => {}
                ("log_file", Value::String(_)) => {
                    return Err(unsupported(name).with_hint("the log is on standard error"));
                }
                ("log_format", Value::String(format)) if format == self.log_format => {}
                ("log_format", Value::String(_)) => {
                    return Err(
                        unsupported(name).with_hint("set `log.format` in the configuration")
                    );
                }
                ("log_info" | "log_warning" | "log_error", _) => {
                    return Err(wrong(name, "true or false"));
                }
                ("log_verbose_level", _) => return Err(wrong(name, "0, 1 or 2")),
                ("log_file" | "log_format", _) => return Err(wrong(name, "a string")),
                _ => {
                    let message = format!("there is no log setting `{}`", clip(name));
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        "unknown_setting",
                        message,
                    ));
                }
            }
        }
        match Self::new(self.level()) == self {
            true => Ok(self),
            false => Err(Error::new(
                ErrorKind::InvalidInput,
                "wrong_setting",
                "a level is logged together with all graver ones",
            )
            .with_hint("`log_error` stays on; `log_info` needs `log_warning`, `log_verbose_level` needs `log_info`")),
        }
    }
}

fn wrong(name: &str, wanted: &str) -> Error {
    let message = format!("log setting `{name}` is not {wanted}");
    Error::new(ErrorKind::InvalidInput, "wrong_setting", message)
}

fn unsupported(name: &str) -> Error {
    let message = format!("log setting `{name}` cannot be changed while the server runs");
    Error::new(ErrorKind::Unsupported, "fixed_setting", message)
}

/// Whoever embeds the server has its own log.
pub(super) fn fixed() -> Error {
    let message = "the log of this server is not set here";
    Error::new(ErrorKind::Unsupported, "fixed_setting", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(level: Level, changes: &Value) -> Result<Level, Error> {
        let changes = changes.as_object().unwrap();
        Ok(LogSettings::new(level).changed(changes)?.level())
    }

    #[test]
    fn levels_and_settings_say_the_same() {
        for level in [
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ] {
            assert_eq!(LogSettings::new(level).level(), level);
            assert_eq!(changed(level, &json!({})), Ok(level));
        }
    }

    #[test]
    fn changes() {
        for (from, changes, to) in [
            (Level::Info, json!({"log_verbose_level": 1}), Level::Debug),
            (Level::Info, json!({"log_verbose_level": 9}), Level::Trace),
            (Level::Info, json!({"log_info": false}), Level::Warn),
            (
                Level::Trace,
                json!({"log_verbose_level": 0, "log_info": false, "log_warning": false}),
                Level::Error,
            ),
            (
                Level::Warn,
                json!({"log_info": true, "log_file": "", "log_format": "default"}),
                Level::Info,
            ),
        ] {
            assert_eq!(changed(from, &changes), Ok(to), "{changes}");
        }
        for (changes, code) in [
            (json!({"log_error": false}), "wrong_setting"),
            (json!({"log_warning": false}), "wrong_setting"),
            (json!({"log_info": 1}), "wrong_setting"),
            (json!({"log_verbose_level": -1}), "wrong_setting"),
            (json!({"log_verbose_level": "1"}), "wrong_setting"),
            (json!({"log_file": null}), "wrong_setting"),
            (json!({"log_file": "/etc/passwd"}), "fixed_setting"),
            (json!({"log_format": "ISO8601"}), "fixed_setting"),
            (json!({"verbose": 1}), "unknown_setting"),
        ] {
            assert_eq!(
                changed(Level::Info, &changes).unwrap_err().code(),
                code,
                "{changes}"
            );
        }
    }
}
