//! A copy of a store, of one too that is being written.

use super::log::{LogReport, copy_log};
use crate::{Check, GraphStore, Manifest, StoreError, error::At, import::Staging};
use satisfice_kernels::NewFile;
use serde::Serialize;
use std::path::Path;

/// How often a copy begins again because the store was compacted meanwhile.
const ATTEMPTS: usize = 3;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CopySummary {
    /// The graph's version: every write that was answered before the copy began is in it.
    pub version: u64,
    /// Bytes of the store's files.
    pub bytes: u64,
    /// The log, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogReport>,
}

/// Copies the store in the directory `from`, with its log, to the directory `to`, which must not be there.
///
/// The store may be served and written meanwhile: its files do not change, and of its log what is whole is copied.
///
/// # Errors
/// There is something at `to`; the store is damaged, which every checksum of the copy would show; the disk is full.
pub fn copy_store(from: &Path, to: &Path) -> Result<CopySummary, StoreError> {
    let mut attempt = 1;
    loop {
        let manifest = Manifest::read(from)?;
        match copy_as(&manifest, from, to) {
            Err(_) if attempt < ATTEMPTS && Manifest::read(from)? != manifest => attempt += 1,
            copied => return copied,
        }
    }
}

fn copy_as(manifest: &Manifest, from: &Path, to: &Path) -> Result<CopySummary, StoreError> {
    let staging = Staging::new(to, false)?;
    let store = staging.store();
    for file in &manifest.files {
        let path = from.join(&file.name);
        NewFile::copy(&path, &store.join(&file.name)).at(&path, "copy it")?;
    }
    manifest.write(&store)?;
    GraphStore::open_files(&store, Check::Checksums)?;
    // The log comes last, so that it holds what was answered before.
    let log = copy_log(from, &store, &manifest.fingerprint())?;
    staging.commit()?;
    Ok(CopySummary {
        version: log.map_or(0, |log| log.version),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        log,
    })
}
