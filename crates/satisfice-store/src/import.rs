mod adjacency;
mod array;
mod arrays;
mod csv_table;
mod edge_list;
mod edge_order;
mod edge_table;
mod export;
mod features;
mod ids;
mod ignored;
mod labels;
mod node_table;
mod npy;
mod options;
mod parquet_column;
mod parquet_table;
mod staging;
mod store_writer;
mod table;

pub(crate) use adjacency::{Adjacency, SelfLoops};
pub use options::{FeatureDType, ImportOptions, ImportSummary, Source, Tables};
pub(crate) use staging::Staging;
pub(crate) use store_writer::{write_labels, write_topology};

use crate::{Progress, StoreError};
use adjacency::EdgeOptions;
use array::Array;
use edge_list::EdgeList;
use ids::OwnedIds;
use ignored::Ignored;
use std::path::{Path, PathBuf};

/// A graph as a source gives it.
#[derive(Debug)]
struct GraphInput {
    /// The file at fault when the graph as a whole is wrong.
    path: PathBuf,
    nodes: usize,
    /// Integers `[2, edges]`.
    edges: Array,
    /// Numbers `[edges]`, where edges have weights.
    weights: Option<Array>,
    /// `[nodes, features]`
    features: Array,
    labels: Option<Vec<i32>>,
    classes: Option<Vec<String>>,
    ids: OwnedIds,
    /// Whether the source says that it is undirected.
    undirected: bool,
    skipped_columns: Vec<String>,
}

/// Makes a graph store of a source in the directory `out`.
///
/// Duplicate edges and self-loops are kept unless `options` say otherwise, because `PyTorch`
/// Geometric keeps them: each counts. An undirected source is one that says so itself, and is
/// checked; or one of which `options.undirected` makes one. Where edges have weights, those that are merged add theirs up.
///
/// The same source gives the same bytes. Blocks, and uses all cores; holds the topology in memory,
/// ids and labels, and a piece of the features. Temporary files go beside `out`.
///
/// # Errors
/// Whatever is wrong with the source, with its file and place; then nothing is left at `out`, and
/// what was there still is.
pub fn import(
    source: &Source,
    options: &ImportOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<ImportSummary, StoreError> {
    let staging = Staging::new(out, options.overwrite)?;
    let ignored = Ignored(&options.ignored_columns);
    let input = match source {
        Source::Export(path) => export::read(path, ignored)?,
        Source::Arrays(path) => arrays::read(path, ignored, &staging)?,
        Source::Tables(tables) => node_table::read_graph(tables, ignored, &staging, progress)?,
    };
    ignored.check(&input.path, &input.skipped_columns)?;
    let edges = EdgeList::new(input.edges.clone(), input.weights.clone(), input.nodes)?;
    let adjacency = Adjacency::build(
        &edges,
        input.nodes,
        EdgeOptions {
            reverses: options.undirected,
            merge: options.undirected || options.merge_duplicates,
            remove_self_loops: options.remove_self_loops,
        },
        progress,
    )?;
    if input.undirected && !options.undirected {
        check_undirected(&input.path, &adjacency, options.merge_duplicates)?;
    }
    let summary = store_writer::write(
        &staging.store(),
        &input,
        &edges,
        &adjacency,
        options,
        progress,
    )?;
    staging.commit()?;
    Ok(summary)
}

/// Holds a source to its word.
fn check_undirected(path: &Path, adjacency: &Adjacency, merged: bool) -> Result<(), StoreError> {
    let duplicate = if merged {
        None
    } else {
        adjacency.find_duplicate()
    };
    let (edge, problem) = if let Some(edge) = duplicate {
        (edge, "stands twice")
    } else if let Some(edge) = adjacency.find_one_way() {
        (edge, "has no reverse")
    } else if let Some(edge) = adjacency.find_uneven() {
        (edge, "has another weight than its reverse")
    } else {
        return Ok(());
    };
    let (source, target) = edge;
    Err(StoreError::Malformed {
        path: path.to_owned(),
        message: format!(
            "it says that it is undirected, but the edge from node {source} to node {target} {problem}; import it as undirected (--undirected), \
             or export it without that claim"
        ),
    })
}
