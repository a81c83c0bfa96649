//! The writes of a living graph, folded into its store's files.

use super::{
    Limits, Snapshot,
    disk::{Directory, Disk, sync_directory},
    log::{self, Beginning, LIVE},
    recover::{Recovered, recover},
};
use crate::{
    Check, GraphStore, Manifest, Progress, StoreError,
    error::At,
    live::rewrite::{Rewrite, remove_unlisted},
};
use serde::Serialize;
use std::path::Path;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CompactSummary {
    /// Writes that were folded into the files.
    pub writes: u64,
    /// The graph's version, which stays.
    pub version: u64,
    /// Nodes.
    pub nodes: usize,
    /// Directed edges.
    pub edges: usize,
    /// Positions of deleted nodes that are nobody's any more: nodes behind them have moved up.
    pub reclaimed: usize,
    /// Whether ids were positions and are integers now, so that nodes that moved keep theirs.
    pub ids_made: bool,
}

/// Folds what was written to the graph in the directory `path` into new files of its store, and empties its log.
///
/// Nobody may have the graph open to write. Whoever has the store open to read keeps the old files. New files are
/// made beside the old ones; the new manifest, renamed last, is what makes them the store's: whenever it
/// ends before, the graph is as it was. What else is kept of the store, such as embeddings, is to be made anew.
///
/// # Errors
/// The graph is open elsewhere, has no node left, or is damaged; the disk is full.
pub fn compact(path: &Path, progress: &dyn Progress) -> Result<CompactSummary, StoreError> {
    compact_in_steps(path, progress, &mut || ())
}

/// As [`compact`]; calls `step` at each point at which it may be stopped.
pub(super) fn compact_in_steps(
    path: &Path,
    progress: &dyn Progress,
    step: &mut dyn FnMut(),
) -> Result<CompactSummary, StoreError> {
    let old = Manifest::read(path)?;
    let disk = Directory::take(&path.join(LIVE))?;
    let recovered = recover(path, Check::Checksums, Limits::default(), &disk)?;
    remove_unlisted(path, &old)?;
    let Recovered {
        snapshot,
        memory,
        beginning,
        ..
    } = recovered;
    let summary = summary(&snapshot, beginning);
    if summary.writes == 0 {
        return Ok(summary);
    }
    if snapshot.live_nodes() == 0 {
        return Err(StoreError::NodeCount {
            path: path.to_owned(),
            nodes: 0,
        });
    }
    step();
    let manifest = Rewrite::new(&snapshot).write(path, progress)?;
    step();
    snapshot.base().check_files()?;
    sync_directory(path).at(path, "bring it to the disk")?;
    // Nothing is given up before what takes its place is found to be whole.
    GraphStore::with_manifest(path, manifest.clone(), Check::Checksums)?;
    let log = Beginning {
        store: manifest.fingerprint(),
        predecessor: old.fingerprint(),
        version: snapshot.version(),
        memory,
    };
    let name = log::name(&log.store);
    let log_path = path.join(LIVE).join(&name);
    disk.create(&name, &log.encode())
        .at(&log_path, "create it")?;
    step();
    manifest.write(path)?;
    sync_directory(path).at(path, "bring it to the disk")?;
    step();
    let old_log = log::name(&log.predecessor);
    disk.remove(&old_log)
        .at(&path.join(LIVE).join(&old_log), "remove it")?;
    step();
    remove_unlisted(path, &manifest)?;
    Ok(summary)
}

fn summary(snapshot: &Snapshot, beginning: u64) -> CompactSummary {
    CompactSummary {
        writes: snapshot.version() - beginning,
        version: snapshot.version(),
        nodes: snapshot.live_nodes(),
        edges: snapshot.edges(),
        reclaimed: snapshot.nodes() - snapshot.live_nodes(),
        ids_made: Rewrite::new(snapshot).makes_ids(),
    }
}
