use crate::{
    Check, GraphStore, StoreError,
    live::{LogReport, verify_log},
};
use serde::Serialize;
use std::path::Path;

/// What a verification has looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Tensor files.
    pub files: usize,
    /// Tensors in them.
    pub tensors: usize,
    /// Bytes of the files.
    pub bytes: u64,
    /// The log of a living graph, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogReport>,
}

/// Recomputes every checksum of the store in the directory `path`, of its log too, and checks its structure.
///
/// # Errors
/// The first thing that is wrong, with its file and tensor.
pub fn verify(path: &Path) -> Result<VerifyReport, StoreError> {
    let store = GraphStore::open_files(path, Check::Checksums)?;
    let log = verify_log(path, &store.fingerprint())?;
    let files = &store.manifest().files;
    Ok(VerifyReport {
        files: files.len(),
        tensors: files.iter().map(|file| file.tensors.len()).sum(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        log,
    })
}
