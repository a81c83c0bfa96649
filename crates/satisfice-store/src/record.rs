use crate::{StoreError, checksum::checksum, tensor_file::TensorFile};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// What a manifest says of one safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Name of the file in the manifest's directory.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// xxh3-64 of the length prefix and JSON header, 16 hexadecimal digits.
    pub header: String,
    /// xxh3-64 of each tensor's bytes, by name.
    pub tensors: BTreeMap<String, String>,
}

impl FileRecord {
    /// Opens the file in `dir` and recomputes every checksum, on all cores.
    ///
    /// # Errors
    /// The file is not there, has another length, or a checksum differs; the error names the tensor.
    pub fn verify(&self, dir: &Path) -> Result<(), StoreError> {
        self.check(&self.open(dir)?)
    }

    /// Opens the file in `dir` and compares its length.
    pub(crate) fn open(&self, dir: &Path) -> Result<TensorFile, StoreError> {
        let path = dir.join(&self.name);
        let bytes = TensorFile::map(&path)?;
        if bytes.len() as u64 != self.bytes {
            return Err(StoreError::Size {
                path,
                expected: self.bytes,
                found: bytes.len() as u64,
            });
        }
        TensorFile::from_map(&path, bytes)
    }

    /// Compares every checksum of `file`, on all cores.
    pub(crate) fn check(&self, file: &TensorFile) -> Result<(), StoreError> {
        let wrong = |part: &str, expected: &str, found: String| StoreError::Checksum {
            path: file.path().to_owned(),
            part: part.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let header = checksum(file.header_bytes());
        if header != self.header {
            return Err(wrong("header", &self.header, header));
        }
        if let Some(name) = file.names().find(|name| !self.tensors.contains_key(*name)) {
            return Err(wrong(name, "nothing", checksum(file.bytes(name)?)));
        }
        self.tensors.par_iter().try_for_each(|(name, expected)| {
            let found = checksum(file.bytes(name)?);
            if found == *expected {
                Ok(())
            } else {
                Err(wrong(name, expected, found))
            }
        })
    }
}
