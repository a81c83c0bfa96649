//! `NumPy`'s `.npy` files: a magic string, a Python dictionary as text, and the elements.
//!
//! # Source
//! `NumPy` Enhancement Proposal 1, versions 1.0, 2.0 and 3.0.

use super::array::{Array, Scalar};
use crate::{StoreError, TensorFile};
use std::{path::Path, sync::Arc};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header read; `NumPy`'s own are some hundred bytes long.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// What a `.npy` header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    scalar: Scalar,
    fortran: bool,
    shape: Vec<usize>,
    /// Where the elements begin.
    start: usize,
}

/// Opens a `.npy` file.
pub(crate) fn open(path: &Path, name: &str) -> Result<Array, StoreError> {
    open_as(path, path, name)
}

/// Opens the `.npy` file `file`, which errors call `path`.
pub(crate) fn open_as(file: &Path, path: &Path, name: &str) -> Result<Array, StoreError> {
    let map = TensorFile::map(file)?;
    let header = parse(&map).map_err(|problem| problem.at(path, name))?;
    let elements = header
        .shape
        .iter()
        .try_fold(1_usize, |n, &d| n.checked_mul(d));
    let bytes = elements.and_then(|n| n.checked_mul(header.scalar.size_bytes()));
    if bytes != Some(map.len() - header.start) {
        let message = format!(
            "{} bytes of elements do not fill the shape {:?}: the file is cut off or damaged",
            map.len() - header.start,
            header.shape
        );
        return Err(Problem::Damaged(message).at(path, name));
    }
    Ok(Array {
        path: path.to_owned(),
        name: name.to_owned(),
        range: header.start..map.len(),
        map: Arc::new(map),
        scalar: header.scalar,
        shape: header.shape,
        fortran: header.fortran,
    })
}

/// Why a header cannot be used.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Damaged(String),
    Unsupported(String, &'static str),
}

impl Problem {
    fn at(self, path: &Path, name: &str) -> StoreError {
        match self {
            Self::Damaged(message) => StoreError::Malformed {
                path: path.to_owned(),
                message: format!("`{name}`: {message}"),
            },
            Self::Unsupported(message, hint) => StoreError::Unsupported {
                path: path.to_owned(),
                message: format!("`{name}`: {message}"),
                hint: hint.to_owned(),
            },
        }
    }
}

fn damaged<T>(message: &str) -> Result<T, Problem> {
    Err(Problem::Damaged(message.to_owned()))
}

fn parse(bytes: &[u8]) -> Result<Header, Problem> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return damaged("no .npy file");
    };
    let (prefix, length) = match *rest {
        [1, _, a, b, ..] => (4, usize::from(u16::from_le_bytes([a, b]))),
        [2 | 3, _, a, b, c, d, ..] => (6, u32::from_le_bytes([a, b, c, d]) as usize),
        [version, _, ..] if version > 3 => {
            return Err(Problem::Unsupported(
                format!(".npy version {version}"),
                "versions 1 to 3 are read: save the array with numpy.save",
            ));
        }
        _ => return damaged("the .npy header is cut off"),
    };
    if length > HEADER_BYTES_MAX {
        return damaged("the .npy header is longer than 1 MiB");
    }
    let Some(text) = rest.get(prefix..prefix + length) else {
        return damaged("the .npy header is cut off");
    };
    let (descr, fortran, shape) = Parser(text).dictionary()?;
    Ok(Header {
        scalar: scalar(&descr)?,
        fortran,
        shape,
        start: MAGIC.len() + prefix + length,
    })
}

fn scalar(descr: &str) -> Result<Scalar, Problem> {
    const HINT: &str = "save it as integers or floats: numpy.save(path, array.astype(...))";
    let unsupported = |what: &str, hint| Err(Problem::Unsupported(what.to_owned(), hint));
    let (order, kind) = descr.split_at_checked(1).unwrap_or(("", ""));
    if order == ">" {
        return unsupported(
            "big-endian elements",
            "save it with array.astype('<f4') or the like",
        );
    }
    if !matches!(order, "<" | "|" | "=") {
        return unsupported(&format!("elements of type {descr:?}"), HINT);
    }
    Ok(match kind {
        "i1" => Scalar::I8,
        "i2" => Scalar::I16,
        "i4" => Scalar::I32,
        "i8" => Scalar::I64,
        "u1" | "b1" => Scalar::U8,
        "u2" => Scalar::U16,
        "u4" => Scalar::U32,
        "u8" => Scalar::U64,
        "f2" => Scalar::F16,
        "f4" => Scalar::F32,
        "f8" => Scalar::F64,
        _ if kind.starts_with('O') => {
            return unsupported(
                "an array of Python objects (pickled); unpickling runs code, so it is never read",
                HINT,
            );
        }
        _ => return unsupported(&format!("elements of type {descr:?}"), HINT),
    })
}

/// Reads the Python dictionary of a header.
struct Parser<'a>(&'a [u8]);

impl Parser<'_> {
    /// `descr`, `fortran_order` and `shape`.
    fn dictionary(mut self) -> Result<(String, bool, Vec<usize>), Problem> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.take(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key.as_str() {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return damaged("the .npy header has an unknown key"),
            }
            if !self.take(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) if self.skip_space().is_empty() => {
                Ok((descr, fortran, shape))
            }
            _ => damaged("the .npy header lacks descr, fortran_order or shape"),
        }
    }

    fn skip_space(&mut self) -> &[u8] {
        self.0 = self.0.trim_ascii_start();
        self.0
    }

    fn take(&mut self, byte: u8) -> bool {
        let rest = self.skip_space().strip_prefix(&[byte]).map(<[u8]>::len);
        if let Some(rest) = rest {
            self.0 = &self.0[self.0.len() - rest..];
        }
        rest.is_some()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Problem> {
        if self.take(byte) {
            Ok(())
        } else {
            damaged("the .npy header is no dictionary")
        }
    }

    /// The bytes up to the first that is not `wanted`.
    fn while_some(&mut self, wanted: impl Fn(u8) -> bool) -> &[u8] {
        self.skip_space();
        let end = self
            .0
            .iter()
            .position(|&b| !wanted(b))
            .unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn string(&mut self) -> Result<String, Problem> {
        let quote = if self.take(b'\'') { b'\'' } else { b'"' };
        if quote == b'"' {
            self.expect(quote)?;
        }
        let text = String::from_utf8_lossy(self.while_some(|b| b != quote)).into_owned();
        self.expect(quote)?;
        Ok(text)
    }

    fn descr(&mut self) -> Result<String, Problem> {
        if self.skip_space().starts_with(b"[") {
            return Err(Problem::Unsupported(
                "an array of records".to_owned(),
                "save one field of it as an array of its own",
            ));
        }
        self.string()
    }

    fn boolean(&mut self) -> Result<bool, Problem> {
        match self.while_some(|b| b.is_ascii_alphabetic()) {
            b"True" => Ok(true),
            b"False" => Ok(false),
            _ => damaged("the .npy header's fortran_order is neither True nor False"),
        }
    }

    fn tuple(&mut self) -> Result<Vec<usize>, Problem> {
        let mut lengths = Vec::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            let digits = self.while_some(|b| b.is_ascii_digit());
            let length = std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok());
            let Some(length) = length else {
                return damaged("the .npy header's shape is no tuple of lengths");
            };
            lengths.push(length);
            // Python 2 wrote long integers with an L.
            self.take(b'L');
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(text: &str) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0]].concat();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_of_all_versions_are_read() {
        let text = "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 40), }  \n";
        let wanted = |start| Header {
            scalar: Scalar::F32,
            fortran: true,
            shape: vec![3, 40],
            start,
        };
        assert_eq!(parse(&header(text)), Ok(wanted(10 + text.len())));
        for version in [2, 3] {
            let mut bytes = [MAGIC, &[version, 0]].concat();
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
            assert_eq!(parse(&bytes), Ok(wanted(12 + text.len())));
        }
    }

    #[test]
    fn scalars_and_vectors_have_their_shapes() {
        for (shape, wanted) in [("()", vec![]), ("(7,)", vec![7]), ("(7L,)", vec![7])] {
            let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}");
            assert_eq!(parse(&header(&text)).unwrap().shape, wanted);
        }
    }

    #[test]
    fn pickles_records_and_foreign_byte_orders_are_refused() {
        for descr in ["'|O'", "'>f4'", "'<U8'", "'<c8'", "[('a', '<f4')]", "''"] {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}");
            let problem = parse(&header(&text)).unwrap_err();
            assert!(
                matches!(problem, Problem::Unsupported(..)),
                "{descr}: {problem:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[MAGIC, &[1, 0], &bytes].concat());
        }

        #[test]
        fn random_dictionaries_never_panic(
            text in "\\{?('descr'|'shape'|'fortran_order'|'|\\(|\\)|\\[|:|,|True|<f4| |[0-9]{1,30}|\\})*"
        ) {
            let _ = parse(&header(&text));
        }
    }
}
