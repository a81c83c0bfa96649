use crate::{Manifest, StoreError};
use safetensors::Dtype;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where a graph comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A graph export: one safetensors file, or a directory with `graph.safetensors`.
    Export(PathBuf),
    /// NumPy arrays as OGB has them: one `.npz` file, or a directory of `.npy` files. `edge_index`
    /// `[2, edges]`, `node_feat` or `x` `[nodes, features]`, optional `node_label` or `y` `[nodes]`
    /// or `[nodes, 1]`, optional `edge_weight` `[edges]` or `[edges, 1]`, optional `num_nodes`.
    Arrays(PathBuf),
    /// Tables.
    Tables(Tables),
}

/// A graph as two tables, CSV (`.csv`, `.tsv`) or Parquet (`.parquet`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Edges, one a row: the columns `source` and `target`, or else the first two, and a column of weights
    /// (`weight_column`) if there is one. Any other column is refused unless [`ImportOptions::ignored_columns`]
    /// names it.
    pub edges: PathBuf,
    /// Nodes, one a row: a column of ids (`id_column`); a column `label` or `y`, if there is
    /// one; every other column of numbers is a feature. In Parquet, a list column `x` or `features`
    /// holds them all.
    pub nodes: PathBuf,
    /// The column of ids. When absent, the one called `id`, `node_id` or `node`; or else the first, where it
    /// cannot be a feature: it holds text, is called like an id (`paper_id`), or is the only column.
    pub id_column: Option<String>,
    /// The edge table's column of weights; `3` is the third of a table without a header. When absent, the one called
    /// `weight` or `edge_weight`.
    pub weight_column: Option<String>,
    /// Features as `.npy` `[nodes, features]`, instead of columns of the node table.
    pub features: Option<PathBuf>,
    /// Labels as `.npy` `[nodes]`, instead of a column of the node table.
    pub labels: Option<PathBuf>,
}

impl Source {
    /// What `path` is: a `.safetensors` or `.npz` file, or a directory with `graph.safetensors` or
    /// with `.npy` files.
    ///
    /// # Errors
    /// It is none of them.
    pub fn detect(path: &Path) -> Result<Self, StoreError> {
        let extension = path.extension().unwrap_or_default();
        if path.is_dir() {
            if path.join("graph.safetensors").is_file() {
                return Ok(Self::Export(path.to_owned()));
            }
            if path.join("edge_index.npy").is_file() {
                return Ok(Self::Arrays(path.to_owned()));
            }
        } else if extension == "safetensors" {
            return Ok(Self::Export(path.to_owned()));
        } else if extension == "npz" {
            return Ok(Self::Arrays(path.to_owned()));
        }
        Err(StoreError::Unsupported {
            path: path.to_owned(),
            message: "no graph that can be imported".to_owned(),
            hint: "name a .safetensors export, a .npz file, or a directory with graph.safetensors \
                   or edge_index.npy; tables are named by --edges and --nodes"
                .to_owned(),
        })
    }
}

/// What is done to a graph on its way into a store.
///
/// By default nothing: duplicate edges and self-loops are kept, because `PyTorch` Geometric keeps
/// them, and each of them counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct ImportOptions {
    /// Add the reverse of every edge and merge duplicates, as `to_undirected` of `PyTorch` Geometric. Weights of merged
    /// edges are added up, a self-loop's with itself.
    pub undirected: bool,
    /// Keep one of the edges from the same source to the same target, as `coalesce` of `PyTorch` Geometric;
    /// its weight is the sum of theirs.
    pub merge_duplicates: bool,
    /// Leave out edges from a node to itself.
    pub remove_self_loops: bool,
    /// Type in which features are kept; as they come when absent, f64 as f32.
    pub feature_dtype: Option<FeatureDType>,
    /// Columns of tables, arrays or tensors that are left out, whatever their names' case.
    pub ignored_columns: Vec<String>,
    /// Replace a store that is there.
    pub overwrite: bool,
}

/// Type in which features are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeatureDType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, half the memory.
    F16,
    /// 8-bit integers with a scale a row, a quarter of the memory.
    Int8,
}

impl FeatureDType {
    /// The shape of a tensor of `nodes` rows of `width` values.
    pub(crate) fn shape(self, nodes: usize, width: usize) -> Vec<usize> {
        match self {
            Self::F32 | Self::F16 => vec![nodes, width],
            Self::Int8 => vec![nodes, size_of::<f32>() + width],
        }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Int8 => Dtype::I8,
        }
    }
}

/// What an import has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportSummary {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of directed edges in the store.
    pub edges: usize,
    /// Number of edges in the source.
    pub edges_read: u64,
    /// Values per node.
    pub features: usize,
    /// Bytes of the store's files.
    pub bytes: u64,
    /// Edges beyond the first from the same source to the same target; with `undirected`, after the
    /// reverses were added.
    pub duplicates: u64,
    /// Whether those were merged, or kept so that each counts.
    pub duplicates_merged: bool,
    /// Whether every edge has a weight.
    pub weighted: bool,
    /// Edges in the store from a node to itself.
    pub self_loops: u64,
    /// Nodes without any edge.
    pub isolated: usize,
    /// Columns, arrays or tensors of the source that were left out.
    pub skipped_columns: Vec<String>,
}

impl ImportSummary {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        Self {
            nodes: manifest.nodes,
            edges: manifest.edges,
            edges_read: 0,
            features: manifest.features,
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            duplicates: 0,
            duplicates_merged: manifest.duplicates == crate::Duplicates::Merged,
            weighted: manifest.weighted,
            self_loops: manifest.self_loops,
            isolated: 0,
            skipped_columns: Vec::new(),
        }
    }
}
