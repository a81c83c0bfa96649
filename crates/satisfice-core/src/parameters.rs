//! Every parameter of the protocol's messages, named and typed once.
//!
//! Servers, engines, clients, the command line and the documents read this table, so that a parameter that
//! one of them knows is known to all, and one that nobody reads is refused instead of ignored.

mod answers;
mod requests;
mod writes;

pub use answers::*;
pub use requests::*;
pub use writes::*;

use crate::{Error, ErrorKind, Parameter, Parameters};
use std::fmt;

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// `parameters` of an inference request.
    Request,
    /// `parameters` of one of its inputs.
    Input,
    /// `parameters` of an output that it asks for.
    Output,
    /// `parameters` of a request to load or unload a model.
    Control,
    /// `parameters` of a write to a graph.
    Write,
    /// `parameters` of an answer.
    Answer,
}

impl Place {
    /// What the parameters there are called.
    pub fn what(self) -> &'static str {
        match self {
            Self::Request => "a request",
            Self::Input => "an input",
            Self::Output => "an output that is asked for",
            Self::Control => "a request to load or unload",
            Self::Write => "a write to a graph",
            Self::Answer => "an answer",
        }
    }
}

/// For whom a parameter is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reader {
    /// The server itself, whatever the model.
    Every,
    /// Graph models, in clusters too.
    Graph,
    /// Graph models whose graph may be written to, and writes to it.
    Live,
    /// Graph models that a cluster serves.
    Cluster,
    /// Multi-modal models.
    Multimodal,
    /// How tensors travel.
    Transport,
    /// What other servers' clients send.
    Compatibility,
    /// An engine that is not one of these.
    Other,
}

impl Reader {
    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Every => "every model",
            Self::Graph => "graph models",
            Self::Live => "living graphs (`--live`)",
            Self::Cluster => "clusters",
            Self::Multimodal => "multi-modal models",
            Self::Transport => "how tensors travel",
            Self::Compatibility => "compatibility",
            Self::Other => "other engines",
        }
    }
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// `true` or `false`.
    Flag,
    /// A whole number from this one up.
    Whole(i64),
    /// A number over this one.
    Over(f64),
    /// A number from 0 to 1.
    Share,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// Anything, an object too.
    Anything,
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Whole(i64::MIN) => f.write_str("a whole number"),
            Self::Whole(least) => write!(f, "a whole number, {least} or more"),
            Self::Over(f64::NEG_INFINITY) => f.write_str("a number"),
            Self::Over(least) => write!(f, "a number over {least}"),
            Self::Share => f.write_str("a number from 0 to 1"),
            Self::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                match words.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        write!(f, "{} or {last}", rest.join(", "))
                    }
                    _ => f.write_str(&words.concat()),
                }
            }
            Self::Text => f.write_str("a string"),
            Self::Anything => f.write_str("anything"),
        }
    }
}

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// What it says is done.
    Served,
    /// It says nothing that an answer depends on here.
    Ignored,
    /// What it says is not done: any value is refused but those that say nothing (`false`, 0, an empty
    /// string). With the way out.
    Refused(&'static str),
}

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterSpec {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// For whom it is there.
    pub reader: Reader,
    /// What it may be.
    pub values: Values,
    /// What becomes of it.
    pub usage: Use,
    /// What holds without it, in words.
    pub default: &'static str,
    /// What it says, in a sentence with the unit.
    pub doc: &'static str,
    /// Code of the refusal of a value that it may not be.
    pub code: &'static str,
}

impl ParameterSpec {
    /// A parameter of a request, for the constants of an engine.
    pub const fn new(name: &'static str, reader: Reader, values: Values) -> Self {
        Self {
            name,
            place: Place::Request,
            reader,
            values,
            usage: Use::Served,
            default: "",
            doc: "",
            code: "wrong_parameter",
        }
    }

    const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    const fn says(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    const fn without(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    const fn usage(self, usage: Use) -> Self {
        Self { usage, ..self }
    }

    /// The value as its reader takes it: whole numbers as [`Parameter::Int`], other numbers as
    /// [`Parameter::Float`], flags as [`Parameter::Bool`].
    ///
    /// A value counts as what it is clearly meant to be: `2.0` and `"2"` are the whole number 2, for
    /// there are clients that have one kind of number, and transports that have no fractions. NaN and infinity
    /// are no numbers.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] with the parameter's code, and [`ErrorKind::Unsupported`] for what is
    /// not done.
    pub fn read(&self, value: &Parameter) -> Result<Parameter, Error> {
        if let Use::Refused(way_out) = self.usage {
            return match says_nothing(value) {
                true => Ok(value.clone()),
                false => Err(self.unsupported(way_out)),
            };
        }
        let read = match self.values {
            Values::Flag => flag(value).map(Parameter::Bool),
            Values::Whole(least) => whole(value)
                .filter(|number| *number >= least)
                .map(Parameter::Int),
            Values::Over(least) => number(value)
                .filter(|number| *number > least)
                .map(Parameter::Float),
            Values::Share => number(value)
                .filter(|number| (0.0..=1.0).contains(number))
                .map(Parameter::Float),
            Values::Word(words) => text(value)
                .filter(|word| words.contains(word))
                .map(Parameter::from),
            Values::Text => text(value).map(Parameter::from),
            Values::Anything => Some(value.clone()),
        };
        read.ok_or_else(|| self.wrong(&shown(value)))
    }

    /// A value that the parameter may not be.
    pub fn wrong(&self, found: &str) -> Error {
        let message = format!(
            "parameter `{}` is {found}, but it is {}",
            self.name, self.values
        );
        let error = Error::new(ErrorKind::InvalidInput, self.code, message);
        match self.doc {
            "" => error,
            doc => error.with_hint(format!("`{}`: {doc}", self.name)),
        }
    }

    fn unsupported(&self, way_out: &str) -> Error {
        let message = format!("parameter `{}` is not supported", self.name);
        Error::new(ErrorKind::Unsupported, self.code, message).with_hint(way_out)
    }

    /// Takes the parameter out of the others, [read](Self::read).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn take(&self, parameters: &mut Parameters) -> Result<Option<Parameter>, Error> {
        let value = parameters.remove(self.name);
        value.map(|value| self.read(&value)).transpose()
    }

    /// Takes a number out of the others.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn take_number(&self, parameters: &mut Parameters) -> Result<Option<f64>, Error> {
        Ok(self.take(parameters)?.and_then(|value| number(&value)))
    }

    /// Takes a whole number out of the others.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn take_whole(&self, parameters: &mut Parameters) -> Result<Option<i64>, Error> {
        Ok(self.take(parameters)?.and_then(|value| whole(&value)))
    }

    /// Takes a flag out of the others.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn take_flag(&self, parameters: &mut Parameters) -> Result<Option<bool>, Error> {
        Ok(self.take(parameters)?.and_then(|value| flag(&value)))
    }

    /// The text or word among the parameters.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn text<'a>(&self, parameters: &'a Parameters) -> Result<Option<&'a str>, Error> {
        let Some(value) = parameters.get(self.name) else {
            return Ok(None);
        };
        self.read(value)?;
        Ok(text(value))
    }

    /// The whole number among the parameters.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn whole(&self, parameters: &Parameters) -> Result<Option<i64>, Error> {
        let value = parameters.get(self.name);
        let value = value.map(|value| self.read(value)).transpose()?;
        Ok(value.and_then(|value| whole(&value)))
    }

    /// The number among the parameters.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn number(&self, parameters: &Parameters) -> Result<Option<f64>, Error> {
        let value = parameters.get(self.name);
        let value = value.map(|value| self.read(value)).transpose()?;
        Ok(value.as_ref().and_then(number))
    }
}

/// Checks parameters against those that are `known` at a place, and leaves them as their readers take them.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] with code `unknown_parameter` for one that is not known, with the nearest name;
/// otherwise as [`ParameterSpec::read`].
pub fn check<'a>(
    parameters: &mut Parameters,
    known: &(impl Iterator<Item = &'a ParameterSpec> + Clone),
    place: Place,
) -> Result<(), Error> {
    for (name, value) in parameters {
        let spec = known.clone().find(|spec| spec.name == name);
        *value = spec
            .ok_or_else(|| unknown(name, known, place))?
            .read(value)?;
    }
    Ok(())
}

/// A parameter that is not one of those that are `known` at a place.
fn unknown<'a>(
    name: &str,
    known: &(impl Iterator<Item = &'a ParameterSpec> + Clone),
    place: Place,
) -> Error {
    let message = format!("`{}` is no parameter of {}", clipped(name), place.what());
    let error = Error::new(ErrorKind::InvalidInput, "unknown_parameter", message);
    if let Some(near) = nearest(name, known.clone()) {
        return error.with_hint(format!("did you mean `{}`, {}?", near.name, near.values));
    }
    let elsewhere: Vec<&ParameterSpec> = all().filter(|spec| spec.name == name).collect();
    if let Some(spec) = elsewhere.iter().find(|spec| spec.place == place) {
        let whose = spec.reader.name();
        return error.with_hint(format!(
            "it is for {whose}, and this model does not read it"
        ));
    }
    if let Some(spec) = elsewhere.first() {
        let whose = spec.place.what();
        return error.with_hint(format!("it is a parameter of {whose}"));
    }
    let names: Vec<String> = known
        .clone()
        .map(|spec| format!("`{}`", spec.name))
        .collect();
    error.with_hint(match names.is_empty() {
        true => "there are none".to_owned(),
        false => format!("parameters there are {}", names.join(", ")),
    })
}

/// Names of parameters are no longer than this; what is, is not compared with them.
const NAME_BYTES_MAX: usize = 64;

/// The one of `known` that an unknown name was most likely meant to be.
pub fn nearest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a ParameterSpec>,
) -> Option<&'a ParameterSpec> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_lowercase().replace(['-', ' ', '.'], "_");
    let distance = |spec: &&ParameterSpec| strsim::damerau_levenshtein(&name, spec.name);
    let near = known.min_by_key(distance)?;
    (distance(&near) <= 1 + name.len() / 4).then_some(near)
}

fn says_nothing(value: &Parameter) -> bool {
    match value {
        Parameter::Bool(value) => !value,
        Parameter::Int(value) => *value == 0,
        Parameter::Float(value) => *value == 0.0,
        Parameter::String(value) => value.is_empty(),
    }
}

fn flag(value: &Parameter) -> Option<bool> {
    match value {
        Parameter::Bool(value) => Some(*value),
        Parameter::String(text) => text.parse().ok(),
        Parameter::Int(_) | Parameter::Float(_) => None,
    }
}

/// The largest whole number up to which floats have all of them.
const WHOLE_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

fn whole(value: &Parameter) -> Option<i64> {
    match value {
        Parameter::Int(value) => Some(*value),
        Parameter::Float(value) if value.fract() == 0.0 && value.abs() <= WHOLE_FLOAT_MAX => {
            Some(*value as i64)
        }
        Parameter::String(text) => text.parse().ok(),
        Parameter::Float(_) | Parameter::Bool(_) => None,
    }
}

fn number(value: &Parameter) -> Option<f64> {
    let number = match value {
        Parameter::Int(value) => *value as f64,
        Parameter::Float(value) => *value,
        Parameter::String(text) => text.parse().ok()?,
        Parameter::Bool(_) => return None,
    };
    number.is_finite().then_some(number)
}

fn text(value: &Parameter) -> Option<&str> {
    match value {
        Parameter::String(text) => Some(text),
        _ => None,
    }
}

/// A value as messages quote it.
fn shown(value: &Parameter) -> String {
    match value {
        Parameter::Bool(value) => value.to_string(),
        Parameter::Int(value) => value.to_string(),
        Parameter::Float(value) => value.to_string(),
        Parameter::String(text) => format!("the string `{}`", clipped(text)),
    }
}

/// The beginning of a text, without what would break a line.
fn clipped(text: &str) -> String {
    let mut chars = text.chars();
    let begin = chars.by_ref().take(NAME_BYTES_MAX);
    let mut begin: String = begin
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if chars.next().is_some() {
        begin.push('…');
    }
    begin
}

#[cfg(test)]
mod tests;
