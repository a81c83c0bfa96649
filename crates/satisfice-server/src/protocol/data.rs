//! Tensor elements in JSON: from the text of `data` straight into a vector of the right type.

use crate::clip::clip;
use lexical_core::FromLexical;
use satisfice_core::{ByteStrings, DataType, TensorData};
use serde::{Serialize, Serializer};

/// Elements of `datatype` from `text`, which is valid JSON. `elements` is the product of `shape`.
///
/// The message of the error lacks only the tensor's name.
pub(super) fn decode(
    text: &str,
    datatype: DataType,
    shape: &[usize],
    elements: usize,
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
        DataType::Bytes => scan.strings().map(TensorData::Bytes),
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
        DataType::Bytes => "a string",
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

/// Appends the string that is all of `token`.
fn push_string(token: &str, strings: &mut ByteStrings) -> Option<()> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        true => strings.push(serde_json::from_str::<String>(token).ok()?.as_bytes()),
        false => strings.push(inner.as_bytes()),
    }
    Some(())
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

    fn strings(&self) -> Result<ByteStrings, String> {
        let mut strings = ByteStrings::with_capacity(self.room());
        self.each(|text, _| {
            let token = &text[..element_length(text)];
            match push_string(token, &mut strings) {
                Some(()) => Run {
                    elements: 1,
                    length: token.len(),
                    broken: false,
                },
                None => Run {
                    broken: true,
                    ..Run::default()
                },
            }
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

/// Writes elements as one flat JSON array; only for data without an [`obstacle`].
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
            TensorData::Bytes(v) => serializer.collect_seq(v.iter().map(String::from_utf8_lossy)),
            TensorData::Fp16(_) | TensorData::Bf16(_) => {
                Err(serde::ser::Error::custom("no form in JSON"))
            }
        }
    }
}

/// Why these elements cannot be JSON, if they cannot.
pub(super) fn obstacle(data: &TensorData) -> Option<&'static str> {
    const NOT_FINITE: &str = "an element is NaN or infinite, which JSON does not have";
    match data {
        TensorData::Fp16(_) => Some("FP16 has no form in JSON"),
        TensorData::Bf16(_) => Some("BF16 has no form in JSON"),
        TensorData::Fp32(v) => (!v.iter().all(|v| v.is_finite())).then_some(NOT_FINITE),
        TensorData::Fp64(v) => (!v.iter().all(|v| v.is_finite())).then_some(NOT_FINITE),
        TensorData::Bytes(v) => v
            .iter()
            .any(|string| std::str::from_utf8(string).is_err())
            .then_some("a BYTES element is not UTF-8, which JSON strings are"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(text: &str, shape: &[usize]) -> Result<TensorData, String> {
        decode(text, DataType::Int64, shape, shape.iter().product())
    }

    #[test]
    fn flat_and_nested_are_the_same() {
        let expected = TensorData::Int64(vec![1, 2, 3, 4]);
        for text in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [1 ,\n2],\t[3,4 ] ]"] {
            assert_eq!(int(text, &[2, 2]), Ok(expected.clone()), "{text}");
        }
        assert_eq!(int("[[[1],[2]],[[3],[4]]]", &[2, 2, 1]), Ok(expected));
        assert_eq!(int("[7]", &[]), Ok(TensorData::Int64(vec![7])));
    }

    #[test]
    fn nothing_has_several_forms() {
        for (text, shape) in [
            ("[]", &[0, 3][..]),
            ("[]", &[3, 0]),
            ("[[],[],[]]", &[3, 0]),
            ("[]", &[0]),
        ] {
            assert_eq!(int(text, shape), Ok(TensorData::Int64(vec![])), "{text}");
        }
        assert!(int("[[]]", &[3, 0]).is_err());
        assert!(int("[]", &[]).is_err());
    }

    #[test]
    fn errors_name_the_element_wherever_it_is() {
        for (text, index) in [
            ("[true,2,3,4]", 0),
            ("[1,2.5,3,4]", 1),
            ("[1, 2,\n3, null]", 3),
            ("[[1,2],[3,1e9]]", 3),
            ("[[1, 2], [\"\", 4]]", 2),
        ] {
            let error = int(text, &[2, 2]).unwrap_err();
            assert!(
                error.starts_with(&format!("element {index} is ")),
                "{error}"
            );
        }
        let error = decode(r#"["a", "b", 3]"#, DataType::Bytes, &[3], 3).unwrap_err();
        assert!(error.starts_with("element 2 is 3, "), "{error}");
    }

    #[test]
    fn other_nesting_is_refused() {
        for text in [
            "[[1,2,3,4]]",
            "[[1,2],3,4]",
            "[1,[2,3],4]",
            "[[1],[2,3,4]]",
            "[[1,2],[3]]",
            "[[1,2],[3,4],[]]",
            "[[[1,2],[3,4]]]",
            "[1,2,3]",
            "[1,2,3,4,5]",
            "[]",
            "1",
            "{}",
            "\"1\"",
            "[{\"a\":1},2,3,4]",
        ] {
            assert!(int(text, &[2, 2]).is_err(), "{text}");
        }
    }

    #[test]
    fn elements_are_checked() {
        let error = decode("[1,300]", DataType::Uint8, &[2], 2).unwrap_err();
        assert!(error.contains("element 1 is 300"), "{error}");
        for (datatype, good, bad) in [
            (DataType::Uint8, "255", "256"),
            (DataType::Uint64, "18446744073709551615", "-1"),
            (DataType::Int8, "-128", "-129"),
            (
                DataType::Int64,
                "-9223372036854775808",
                "9223372036854775808",
            ),
            (DataType::Int32, "3", "3.0"),
            (DataType::Int32, "3", "3e0"),
            (DataType::Int32, "3", "null"),
            (DataType::Int32, "3", "\"3\""),
            (DataType::Bool, "1", "2"),
            (DataType::Bool, "true", "\"true\""),
            (DataType::Fp32, "3.4e38", "3.5e38"),
            (DataType::Fp64, "-1", "1e999"),
            (DataType::Fp32, "1E-3", "true"),
            (DataType::Bytes, "\"a,]\\\" b\"", "1"),
            (DataType::Bytes, "\"\\u00e9\"", "\"\\ud800\""),
        ] {
            let one = |element: &str| decode(&format!("[{element}]"), datatype, &[1], 1);
            assert!(one(good).is_ok(), "{datatype} {good}");
            assert!(one(bad).is_err(), "{datatype} {bad}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut texts: Vec<String> = [
            "0",
            "-0",
            "-0.0",
            "1e-50",
            "1.17549435e-38",
            "1.1754942807573643e-38",
            "16777217",
            "1.00000005960464477539",
            "3.4028235677973366e38",
            "2.2250738585072011e-308",
            "5e-324",
            "9007199254740993",
            "0.1",
            "1E+2",
            "123456789012345678901234567890",
        ]
        .map(str::to_owned)
        .into();
        for _ in 0..20_000 {
            let (bits, digits) = (next(), next());
            texts.push(format!("{:e}", f64::from_bits(bits)));
            texts.push(format!("{:?}", f32::from_bits(bits as u32)));
            texts.push(format!(
                "{}.{:017}e{}",
                digits % 10,
                digits / 10,
                bits as i8 / 3
            ));
            // Half-way between two 32-bit floats, and a little more.
            let half = f64::from_bits(f64::from(f32::from_bits(bits as u32)).to_bits() | 1 << 28);
            texts.push(format!("{half:.30}"));
            texts.push(format!("{half:.30}1"));
        }
        texts.retain(|text| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok());
        assert!(texts.len() > 90_000, "{}", texts.len());
        for text in texts {
            let (single, double): (f32, f64) = (text.parse().unwrap(), text.parse().unwrap());
            let (found, length) = number::<f32>(&text).unwrap();
            assert_eq!(
                (found.to_bits(), length),
                (single.to_bits(), text.len()),
                "{text}"
            );
            let (found, length) = number::<f64>(&text).unwrap();
            assert_eq!(
                (found.to_bits(), length),
                (double.to_bits(), text.len()),
                "{text}"
            );
        }
    }

    #[test]
    fn strings_are_unescaped() {
        let text = r#"["a\"]", "", "\\", "é\n"]"#;
        let expected: ByteStrings = ["a\"]", "", "\\", "é\n"].into_iter().collect();
        assert_eq!(
            decode(text, DataType::Bytes, &[4], 4),
            Ok(TensorData::Bytes(expected))
        );
    }
}
