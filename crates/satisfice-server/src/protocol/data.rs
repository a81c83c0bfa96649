//! Tensor elements in JSON: from the text of `data` straight into a vector of the right type.

use super::{base64, tensor::Role};
use crate::clip::clip;
use lexical_core::FromLexical;
use satisfice_core::{ByteStrings, DataType, TensorData};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;

/// Elements of `datatype` from `text`, which is valid JSON. `elements` is the product of `shape`; the strings of
/// `BYTES` are `base64` or are the bytes themselves.
///
/// The message of the error lacks only the tensor's name.
pub(super) fn decode(
    text: &str,
    datatype: DataType,
    shape: &[usize],
    elements: usize,
    base64: bool,
) -> Result<TensorData, String> {
    let scan = Scan {
        text,
        shape,
        elements,
        datatype,
    };
    match datatype {
        DataType::Bool => scan.values(boolean).map(TensorData::Bool),
        DataType::Uint8 => scan.values(number).map(TensorData::Uint8),
        DataType::Uint16 => scan.values(number).map(TensorData::Uint16),
        DataType::Uint32 => scan.values(number).map(TensorData::Uint32),
        DataType::Uint64 => scan.values(number).map(TensorData::Uint64),
        DataType::Int8 => scan.values(number).map(TensorData::Int8),
        DataType::Int16 => scan.values(number).map(TensorData::Int16),
        DataType::Int32 => scan.values(number).map(TensorData::Int32),
        DataType::Int64 => scan.values(number).map(TensorData::Int64),
        DataType::Fp32 => scan
            .values(|text| number(text).filter(|(v, _): &(f32, _)| v.is_finite()))
            .map(TensorData::Fp32),
        DataType::Fp64 => scan
            .values(|text| number(text).filter(|(v, _): &(f64, _)| v.is_finite()))
            .map(TensorData::Fp64),
        DataType::Bytes => scan.strings(base64).map(TensorData::Bytes),
        DataType::Fp16 | DataType::Bf16 => Err(format!("{datatype} has no form in JSON")),
    }
}

/// What an element of `datatype` may be.
fn expected(datatype: DataType) -> &'static str {
    match datatype {
        DataType::Bool => "true, false, 1 or 0",
        DataType::Uint8 => "a whole number from 0 to 255",
        DataType::Uint16 => "a whole number from 0 to 65535",
        DataType::Uint32 => "a whole number from 0 to 4294967295",
        DataType::Uint64 => "a whole number from 0 to 18446744073709551615",
        DataType::Int8 => "a whole number from -128 to 127",
        DataType::Int16 => "a whole number from -32768 to 32767",
        DataType::Int32 => "a whole number from -2147483648 to 2147483647",
        DataType::Int64 => "a whole number from -9223372036854775808 to 9223372036854775807",
        DataType::Fp32 => "a number within the range of 32-bit floats",
        DataType::Fp64 => "a number within the range of 64-bit floats",
        DataType::Bytes => "a string, or {\"b64\": \"...\"} with the base64 of bytes",
        DataType::Fp16 | DataType::Bf16 => "binary data",
    }
}

/// The boolean that `text` begins with, and its length.
fn boolean(text: &str) -> Option<(bool, usize)> {
    let length = element_length(text);
    match &text[..length] {
        "true" | "1" => Some((true, length)),
        "false" | "0" => Some((false, length)),
        _ => None,
    }
}

/// The number that `text` begins with, and its length, found in one go. JSON's numbers are a part of those
/// read here; what else could be read is not JSON.
fn number<T: FromLexical>(text: &str) -> Option<(T, usize)> {
    let (value, length) = lexical_core::parse_partial(text.as_bytes()).ok()?;
    let whole = text
        .as_bytes()
        .get(length)
        .copied()
        .is_none_or(ends_element);
    whole.then_some((value, length))
}

/// Where a number begins in `text`, if only a comma, and a space at most, are before it.
fn next_number(text: &[u8]) -> Option<usize> {
    match text {
        [b',', b'-' | b'0'..=b'9', ..] => Some(1),
        [b',', b' ', b'-' | b'0'..=b'9', ..] => Some(2),
        _ => None,
    }
}

/// The string that is all of `token`.
fn string(token: &str) -> Option<Cow<'_, str>> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        true => serde_json::from_str(token).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inner)),
    }
}

/// Bytes that are no text, as TensorFlow Serving writes them.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Binary<'a> {
    #[serde(borrow)]
    b64: Cow<'a, str>,
}

/// Appends the bytes that `text` begins with; their length in it.
fn push_bytes(text: &str, as_base64: bool, strings: &mut ByteStrings) -> Option<usize> {
    if text.starts_with('{') && !as_base64 {
        let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Binary<'_>>();
        let object = objects.next()?.ok()?;
        strings.push(&base64::decode(object.b64.as_bytes())?);
        return Some(objects.byte_offset());
    }
    let token = &text[..element_length(text)];
    let string = string(token)?;
    match as_base64 {
        true => strings.push(&base64::decode(string.as_bytes())?),
        false => strings.push(string.as_bytes()),
    }
    Some(token.len())
}

fn ends_element(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b' ' | b'\n' | b'\r' | b'\t')
}

/// Length of the element that `text` begins with; of an object, of its first character.
fn element_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'"') => string_length(bytes),
        Some(b'{') => 1,
        _ => text.bytes().position(ends_element).unwrap_or(bytes.len()),
    }
}

/// Elements of one array, one after the other.
#[derive(Default)]
struct Run {
    elements: usize,
    /// Of their text, up to the end of the last one, or up to one that is broken.
    length: usize,
    /// Whether what follows is none that could be read.
    broken: bool,
}

struct Scan<'a> {
    text: &'a str,
    shape: &'a [usize],
    elements: usize,
    datatype: DataType,
}

impl<'a> Scan<'a> {
    fn values<T>(&self, read: impl Fn(&str) -> Option<(T, usize)>) -> Result<Vec<T>, String> {
        let mut values = Vec::with_capacity(self.room());
        self.each(|text, most| {
            let mut run = Run::default();
            loop {
                let Some((value, length)) = read(&text[run.length..]) else {
                    return Run {
                        broken: true,
                        ..run
                    };
                };
                values.push(value);
                run.elements += 1;
                run.length += length;
                match next_number(&text.as_bytes()[run.length..]) {
                    Some(gap) if run.elements < most => run.length += gap,
                    _ => return run,
                }
            }
        })?;
        Ok(values)
    }

    fn strings(&self, as_base64: bool) -> Result<ByteStrings, String> {
        let mut strings = ByteStrings::with_capacity(self.room());
        self.each(|text, _| match push_bytes(text, as_base64, &mut strings) {
            Some(length) => Run {
                elements: 1,
                length,
                broken: false,
            },
            None => Run {
                broken: true,
                ..Run::default()
            },
        })?;
        Ok(strings)
    }

    /// Room for the elements, as far as the text can hold them: each takes a digit and a comma.
    fn room(&self) -> usize {
        self.elements.min(self.text.len() / 2)
    }

    /// Calls `push` with the text from the next element on, until there are none, and checks the nesting
    /// against the shape. `push` takes as many as it likes of those that follow in the same array, up to a
    /// number, and says how many. Objects are not looked into.
    fn each(&self, mut push: impl FnMut(&'a str, usize) -> Run) -> Result<(), String> {
        let mut nesting = Nesting::new(self.shape);
        let (mut count, mut text) = (0, self.text);
        loop {
            let between = |byte| byte != b']' && ends_element(byte);
            let Some(start) = text.bytes().position(|byte| !between(byte)) else {
                break;
            };
            text = &text[start..];
            let length = match text.as_bytes()[0] {
                b'[' => nesting.open().map(|()| 1)?,
                b']' => nesting.close().map(|()| 1)?,
                _ => {
                    nesting.elements(1)?;
                    let left = self.elements - count;
                    if left == 0 {
                        return Err(format!(
                            "data has more than the {count} elements of shape {:?}",
                            self.shape
                        ));
                    }
                    let run = push(text, left);
                    count += run.elements;
                    if run.broken {
                        return Err(self.wrong(count, &text[run.length..]));
                    }
                    nesting.elements(run.elements - 1)?;
                    run.length
                }
            };
            text = &text[length..];
        }
        if count < self.elements {
            return Err(format!(
                "data has {count} elements, but shape {:?} holds {}",
                self.shape, self.elements
            ));
        }
        Ok(())
    }

    fn wrong(&self, index: usize, text: &str) -> String {
        let what = match &text[..element_length(text)] {
            "{" if text.starts_with("{\"b64\"") => "an object whose `b64` is not base64".into(),
            "{" => "an object".into(),
            element => clip(element),
        };
        format!(
            "element {index} is {what}, but {} is {}",
            self.datatype,
            expected(self.datatype)
        )
    }
}

/// Checks that arrays are either one flat array, or nested as a shape says.
struct Nesting<'a> {
    shape: &'a [usize],
    /// Items so far in each open array.
    counts: Vec<usize>,
    layout: Layout,
}

#[derive(PartialEq)]
enum Layout {
    Unknown,
    Flat,
    Nested,
}

impl<'a> Nesting<'a> {
    fn new(shape: &'a [usize]) -> Self {
        Self {
            shape,
            counts: Vec::with_capacity(shape.len().max(1)),
            layout: Layout::Unknown,
        }
    }

    fn open(&mut self) -> Result<(), String> {
        if let Some(count) = self.counts.last_mut() {
            *count += 1;
            if self.layout == Layout::Flat || self.counts.len() >= self.shape.len() {
                return Err(format!("data is nested deeper than shape {:?}", self.shape));
            }
            self.layout = Layout::Nested;
        }
        self.counts.push(0);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let count = self.counts.pop();
        let depth = self.counts.len();
        match (count, self.shape.get(depth)) {
            (Some(count), Some(&length)) if self.layout == Layout::Nested && count != length => {
                Err(format!(
                    "an array of data has {count} items where dimension {depth} of shape {:?} has {length}",
                    self.shape
                ))
            }
            _ => Ok(()),
        }
    }

    fn elements(&mut self, number: usize) -> Result<(), String> {
        let depth = self.counts.len();
        let Some(count) = self.counts.last_mut() else {
            return Err("data is not an array".to_owned());
        };
        *count += number;
        match self.layout {
            Layout::Nested if depth != self.shape.len() => Err(format!(
                "data is partly flat and partly nested, or nested less deep than shape {:?}",
                self.shape
            )),
            Layout::Nested | Layout::Flat => Ok(()),
            Layout::Unknown => {
                self.layout = Layout::Flat;
                Ok(())
            }
        }
    }
}

/// Length of the JSON string at the start of `bytes`, with both quotes.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Writes elements as one flat JSON array; only for data without an
/// [`obstacle`].
pub(super) struct JsonData<'a>(pub &'a TensorData);

impl Serialize for JsonData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            TensorData::Bool(v) => v.serialize(serializer),
            TensorData::Uint8(v) => v.serialize(serializer),
            TensorData::Uint16(v) => v.serialize(serializer),
            TensorData::Uint32(v) => v.serialize(serializer),
            TensorData::Uint64(v) => v.serialize(serializer),
            TensorData::Int8(v) => v.serialize(serializer),
            TensorData::Int16(v) => v.serialize(serializer),
            TensorData::Int32(v) => v.serialize(serializer),
            TensorData::Int64(v) => v.serialize(serializer),
            TensorData::Fp32(v) => v.serialize(serializer),
            TensorData::Fp64(v) => v.serialize(serializer),
            TensorData::Bytes(v) => serializer.collect_seq(v.iter().map(Element)),
            TensorData::Fp16(_) | TensorData::Bf16(_) => {
                Err(serde::ser::Error::custom("no form in JSON"))
            }
        }
    }
}

/// A string, or bytes that are none.
struct Element<'a>(&'a [u8]);

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let b64 = base64::encode(self.0).into();
        Binary { b64 }.serialize(serializer)
    }
}

/// Elements of an input as one flat JSON array; none where they have no form in JSON.
pub(crate) fn as_json(data: &TensorData) -> Option<String> {
    match obstacle(Role::Input, data) {
        None => serde_json::to_string(&JsonData(data)).ok(),
        Some(_) => None,
    }
}

/// Why these elements cannot be JSON, if they cannot. Inputs may be bytes that are no text; of an output
/// clients expect strings.
pub(super) fn obstacle(role: Role, data: &TensorData) -> Option<&'static str> {
    const NOT_FINITE: &str = "an element is NaN or infinite, which JSON does not have";
    match data {
        TensorData::Fp16(_) => Some("FP16 has no form in JSON"),
        TensorData::Bf16(_) => Some("BF16 has no form in JSON"),
        TensorData::Fp32(v) => (!v.iter().all(|v| v.is_finite())).then_some(NOT_FINITE),
        TensorData::Fp64(v) => (!v.iter().all(|v| v.is_finite())).then_some(NOT_FINITE),
        TensorData::Bytes(_) if role == Role::Input => None,
        TensorData::Bytes(v) => v
            .iter()
            .any(|string| std::str::from_utf8(string).is_err())
            .then_some("a BYTES element is not UTF-8, which JSON strings are"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
