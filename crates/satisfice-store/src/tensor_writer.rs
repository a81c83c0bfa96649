use crate::{
    FileRecord, StoreError,
    checksum::{Checksum, checksum},
    error::At,
};
use safetensors::{Dtype, tensor::TensorInfo};
use satisfice_kernels::NewFile;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Name, type and shape of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor called `name`.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: Vec<usize>) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape,
        }
    }

    /// Bytes of the tensor; `None` where no memory holds as many.
    fn len_bytes(&self) -> Option<usize> {
        let elements = self
            .shape
            .iter()
            .try_fold(1_usize, |n, &d| n.checked_mul(d))?;
        Some(elements.checked_mul(self.dtype.bitsize())? / 8)
    }
}

/// Writes a safetensors file piece by piece: memory stays small whatever the file's size.
///
/// The file takes its name when it is whole and on disk; a writer that is dropped before
/// [`finish`](Self::finish) leaves nothing.
#[derive(Debug)]
pub struct TensorWriter {
    path: PathBuf,
    out: Blocks,
    specs: Vec<TensorSpec>,
    /// Bytes that the current tensor still lacks.
    missing: usize,
    checksum: Checksum,
    record: FileRecord,
}

impl TensorWriter {
    /// Begins a file at `path` with these tensors, in this order.
    ///
    /// # Errors
    /// The file cannot be written, or a tensor would not be aligned: tensors of wider elements come
    /// first.
    pub fn create(path: &Path, tensors: &[TensorSpec]) -> Result<Self, StoreError> {
        Self::create_with_metadata(path, tensors, &BTreeMap::new())
    }

    /// As [`create`](Self::create), with entries of the header's `__metadata__`.
    pub fn create_with_metadata(
        path: &Path,
        tensors: &[TensorSpec],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, StoreError> {
        let (header, bytes) = header(path, tensors, metadata)?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file = NewFile::create(path).at(path, "create it")?;
        let mut writer = Self {
            path: path.to_owned(),
            out: Blocks::new(file),
            specs: tensors.iter().rev().cloned().collect(),
            missing: 0,
            checksum: Checksum::default(),
            record: FileRecord {
                name,
                bytes: (header.len() + bytes) as u64,
                header: checksum(&header),
                tensors: BTreeMap::new(),
            },
        };
        writer.out.write_all(&header).at(path, "write it")?;
        writer.missing = writer.next_len();
        writer.skip_whole();
        Ok(writer)
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes of the current tensor: the first that is not whole.
    ///
    /// # Errors
    /// The file cannot be written, or the tensor would get more bytes than its shape has.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > self.missing {
            return Err(self.declaration(format!(
                "{} bytes more, but it lacks {}",
                bytes.len(),
                self.missing
            )));
        }
        self.out.write_all(bytes).at(&self.path, "write it")?;
        self.checksum.update(bytes);
        self.missing -= bytes.len();
        self.skip_whole();
        Ok(())
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// The file cannot be written, a tensor is not whole, or a mapped file was lost that it may be made of.
    pub fn finish(self) -> Result<FileRecord, StoreError> {
        if !self.specs.is_empty() {
            return Err(self.declaration(format!("it lacks {} bytes", self.missing)));
        }
        self.out.finish().at(&self.path, "write it")?;
        Ok(self.record)
    }

    fn next_len(&self) -> usize {
        self.specs
            .last()
            .and_then(TensorSpec::len_bytes)
            .unwrap_or(0)
    }

    /// Records tensors that are whole.
    fn skip_whole(&mut self) {
        while self.missing == 0 {
            let Some(spec) = self.specs.pop() else {
                return;
            };
            self.record.tensors.insert(spec.name, self.checksum.take());
            self.missing = self.next_len();
        }
    }

    fn declaration(&self, message: String) -> StoreError {
        StoreError::Declaration {
            path: self.path.clone(),
            tensor: self
                .specs
                .last()
                .map_or_else(|| "none left".to_owned(), |s| s.name.clone()),
            message,
        }
    }
}

/// A file written in whole blocks: the kernel then keeps it in huge pages where it has them, so that random rows of it
/// miss the address cache less often.
#[derive(Debug)]
struct Blocks {
    file: NewFile,
    /// What is not written yet, less than a block.
    rest: Vec<u8>,
}

/// Bytes of a block: of a huge page of most processors.
const BLOCK_BYTES: usize = 2 << 20;

impl Blocks {
    fn new(file: NewFile) -> Self {
        Self {
            file,
            rest: Vec::with_capacity(BLOCK_BYTES),
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.rest.len() + bytes.len() >= BLOCK_BYTES {
            let (now, later) = bytes.split_at(BLOCK_BYTES - self.rest.len());
            self.rest.extend_from_slice(now);
            self.file.write_all(&self.rest)?;
            self.rest.clear();
            bytes = later;
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what is left, brings the file to the disk and gives it its name.
    fn finish(mut self) -> io::Result<()> {
        self.file.write_all(&self.rest)?;
        self.file.finish()
    }
}

/// The length prefix and JSON header, and the number of bytes that follow.
fn header(
    path: &Path,
    tensors: &[TensorSpec],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, usize), StoreError> {
    let wrong = |tensor: &str, message: &str| StoreError::Declaration {
        path: path.to_owned(),
        tensor: tensor.to_owned(),
        message: message.to_owned(),
    };
    let mut end = 0_usize;
    let mut entries = Vec::with_capacity(tensors.len());
    for spec in tensors {
        let start = end;
        if !(start * 8).is_multiple_of(spec.dtype.bitsize()) {
            return Err(wrong(
                &spec.name,
                "it would not be aligned; declare wider elements first",
            ));
        }
        if entries.iter().any(|(name, _)| *name == spec.name) {
            return Err(wrong(&spec.name, "it is declared twice"));
        }
        end = spec
            .len_bytes()
            .and_then(|len| start.checked_add(len))
            .filter(|&end| end < usize::MAX / 16)
            .ok_or_else(|| wrong(&spec.name, "it is larger than a file can be"))?;
        let info = TensorInfo {
            dtype: spec.dtype,
            shape: spec.shape.clone(),
            data_offsets: (start, end),
        };
        entries.push((spec.name.as_str(), info));
    }
    let mut json = serde_json::to_vec(&Header { metadata, entries })
        .map_err(|e| wrong("header", &e.to_string()))?;
    json.resize(json.len().next_multiple_of(size_of::<u64>()), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok((header, end))
}

/// The JSON header, its entries in the order of the file, so that its bytes are always the same.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: Vec<(&'a str, TensorInfo)>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        for (name, info) in &self.entries {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}
