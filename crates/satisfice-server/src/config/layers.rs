//! Defaults, file, environment, flags: each over the one before.

use super::{Config, ConfigError, error::Hint};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// What environment variables that set something begin with; two underscores stand for the dot, as
/// in `SATISFICE_HTTP__LISTEN`. Orchestrators set variables such as `SATISFICE_PORT` of their own,
/// so others with the same beginning are left alone.
const VARIABLE_PREFIX: &str = "SATISFICE_";
const VARIABLE_DOT: &str = "__";

/// Keys whose values are paths: in a file they are relative to it.
const PATHS: [&str; 5] = [
    "tls.certificate",
    "tls.key",
    "tls.client_ca",
    "auth.file",
    "repository.path",
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "from", content = "name")]
pub enum Source {
    /// Nobody has set it.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A configuration in the making.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    table: Table,
    sources: BTreeMap<String, Source>,
}

/// A configuration with the source of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    sources: BTreeMap<String, Source>,
}

impl Layers {
    /// Nothing but defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lays a TOML file over what there is.
    ///
    /// # Errors
    /// [`ConfigError::Read`]; [`ConfigError::File`] with line and column.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        // Typed first: that is where positions are known.
        let typed = toml::from_str::<Config>(&text).and_then(|_| toml::from_str::<Table>(&text));
        let mut table = typed.map_err(|error| in_file(path, &text, &error))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        for key in PATHS {
            if let Some(Value::String(path)) = get_mut(&mut table, key) {
                *path = dir.join(&*path).to_string_lossy().into_owned();
            }
        }
        self.lay(table, &Source::File(path.to_owned()));
        Ok(())
    }

    /// Lays environment variables over what there is.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] naming the variable.
    pub fn environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            let Some(key) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            if !key.contains(VARIABLE_DOT) {
                continue;
            }
            let key = key.to_lowercase().replace(VARIABLE_DOT, ".");
            self.set(&key, &value(&text), &Source::Environment(name))?;
        }
        Ok(())
    }

    /// Sets one key, such as `http.listen`, because of a flag.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] naming the flag.
    pub fn flag(
        &mut self,
        flag: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<(), ConfigError> {
        self.set(key, &value.into(), &Source::Flag(flag.to_owned()))
    }

    fn set(&mut self, key: &str, value: &Value, source: &Source) -> Result<(), ConfigError> {
        let mut table = nested(key, value.clone());
        // A text that looks like a number may be meant as a text.
        if typed(&table).is_err()
            && let Some(text) = as_written(value)
        {
            let as_text = nested(key, Value::String(text));
            if typed(&as_text).is_ok() {
                table = as_text;
            }
        }
        match typed(&table) {
            Ok(_) => {
                self.lay(table, source);
                Ok(())
            }
            Err(error) => Err(ConfigError::Setting {
                setting: source.to_string(),
                message: format!("`{key}`: {}", error.message()),
                hint: Hint::nearest_key(error.message()),
            }),
        }
    }

    fn lay(&mut self, table: Table, source: &Source) {
        for (key, _) in leaves(&table) {
            self.sources.insert(key, source.clone());
        }
        overlay(&mut self.table, table);
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for what makes no sense.
    pub fn finish(mut self) -> Result<Loaded, ConfigError> {
        self.inherit();
        let config = typed(&self.table).map_err(|error| ConfigError::Setting {
            setting: "configuration".to_owned(),
            message: error.message().to_owned(),
            hint: Hint::nearest_key(error.message()),
        })?;
        config.check()?;
        Ok(Loaded {
            config,
            sources: self.sources,
        })
    }

    /// Lets models have what is set for all of them.
    fn inherit(&mut self) {
        let Some(Value::Table(defaults)) = self.table.get("model_defaults").cloned() else {
            return;
        };
        let Some(Value::Table(models)) = self.table.get_mut("models") else {
            return;
        };
        for (name, model) in models {
            let Value::Table(own) = model else { continue };
            let mut merged = defaults.clone();
            overlay(&mut merged, std::mem::take(own));
            *own = merged;
            for (key, _) in leaves(&defaults) {
                let inherited = self.sources.get(&format!("model_defaults.{key}")).cloned();
                if let Some(source) = inherited {
                    let own = format!("models.{name}.{key}");
                    self.sources.entry(own).or_insert(source);
                }
            }
        }
    }
}

impl Loaded {
    /// Every key that has a value, the value as TOML, secrets redacted, and where it came from; in
    /// the order of keys.
    ///
    /// # Panics
    /// Never: what came from TOML can be written as TOML.
    pub fn entries(&self) -> Vec<(String, Value, Source)> {
        let table = Table::try_from(&self.config)
            .expect("invariant: a configuration came from TOML and can be written as TOML");
        let entry = |(key, value): (String, Value)| {
            let source = self.source(&key);
            (key, value, source)
        };
        leaves(&table).into_iter().map(entry).collect()
    }

    /// Where the value of a key came from.
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }
}

fn typed(table: &Table) -> Result<Config, toml::de::Error> {
    table.clone().try_into()
}

fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ConfigError::File {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: error.message().to_owned(),
        hint: Hint::nearest_key(error.message()),
    }
}

/// The TOML value that a text is, or the text itself.
fn value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    let value = parsed.ok().filter(|table| table.len() == 1);
    let value = value.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn as_written(value: &Value) -> Option<String> {
    match value {
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A table that holds nothing but `value` at a dotted key.
fn nested(key: &str, value: Value) -> Table {
    match key.split_once('.') {
        None => Table::from_iter([(key.to_owned(), value)]),
        Some((first, rest)) => {
            let inner = Value::Table(nested(rest, value));
            Table::from_iter([(first.to_owned(), inner)])
        }
    }
}

fn get_mut<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((first, rest)) => match table.get_mut(first)? {
            Value::Table(inner) => get_mut(inner, rest),
            _ => None,
        },
    }
}

/// Dotted keys of everything that is no table, with the values.
fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                let below = leaves(inner).into_iter();
                found.extend(below.map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => found.push((key.clone(), value.clone())),
        }
    }
    found
}

fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}
