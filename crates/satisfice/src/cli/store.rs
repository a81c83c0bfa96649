//! Graph stores and embeddings: made, checked, drawn.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Make a graph store of a graph.
///
/// From the Python exporter or from NumPy arrays as OGB has them:
///   satisfice import --from models/my-gnn/graph.safetensors --out models/my-gnn/graph
///   satisfice import --from arxiv.npz --out stores/arxiv --undirected
/// From tables:
///   satisfice import --edges edges.csv --nodes nodes.parquet --out stores/shop
///
/// Edges may have weights: a column `weight` or `edge_weight`, an array or tensor `edge_weight`.
///
/// Duplicate edges and self-loops are kept, because PyTorch Geometric keeps them: each counts.
/// `--undirected` does what PyG's `to_undirected` does (add reverses, merge duplicates),
/// `--merge-duplicates` what `coalesce` does; both add up the weights of merged edges.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Import {
    /// A graph export (`.safetensors`), `.npz` file, or a directory with either's arrays.
    #[arg(long, conflicts_with_all = ["edges", "nodes"], required_unless_present = "edges")]
    pub from: Option<PathBuf>,
    /// Edge list, CSV or Parquet: columns `source` and `target`, or the first two, and perhaps `weight`.
    #[arg(long, requires = "nodes")]
    pub edges: Option<PathBuf>,
    /// Node table, CSV or Parquet: a column `id`, features, and a `label` column if there is one.
    #[arg(long, requires = "edges")]
    pub nodes: Option<PathBuf>,
    /// The node table's column of ids, where none is called `id`.
    #[arg(long, value_name = "NAME", requires = "nodes")]
    pub id_column: Option<String>,
    /// The edge table's column of weights, where none is called `weight` or `edge_weight`.
    #[arg(long, value_name = "NAME", requires = "edges")]
    pub weight_column: Option<String>,
    /// A column, array or tensor that is left out, such as an edge weight that the model does not read; may be given
    /// several times.
    #[arg(long, value_name = "NAME")]
    pub ignore_column: Vec<String>,
    /// Features as `.npy` `[nodes, features]` instead of columns of the node table.
    #[arg(long, requires = "nodes")]
    pub features: Option<PathBuf>,
    /// Labels as `.npy` `[nodes]` instead of a column of the node table.
    #[arg(long, requires = "nodes")]
    pub labels: Option<PathBuf>,
    /// Directory to make.
    #[arg(long)]
    pub out: PathBuf,
    /// Add the reverse of every edge and merge duplicates.
    #[arg(long)]
    pub undirected: bool,
    /// Let an edge that stands twice count once.
    #[arg(long)]
    pub merge_duplicates: bool,
    /// Leave out edges from a node to itself.
    #[arg(long)]
    pub remove_self_loops: bool,
    /// How the features are kept; as they come when absent.
    #[arg(long, value_enum, alias = "feature-precision")]
    pub store_as: Option<PrecisionArg>,
    /// Replace a store that is there.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// 32-bit floats.
    F32,
    /// 16-bit floats: half the memory.
    F16,
    /// 8-bit integers with a scale a row: a quarter of the memory.
    Int8,
}

/// Check every byte of a graph store or of a model with its graph.
///
/// A damaged file is named with the tensor that is damaged.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A store directory (with manifest.toml) or a model directory (with model.toml).
    pub path: PathBuf,
}

/// Fold what was written to a graph into its store's files, and empty its log.
///
/// The graph must not be served with `--live` meanwhile; whoever reads the old files keeps them. Positions of deleted nodes
/// are given up, so that embeddings and profiles of the graph are to be made anew: `satisfice precompute`. Where
/// it is stopped before its end, the graph is as it was.
#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// The store directory.
    pub store: PathBuf,
}

/// Copy a graph store with its log, of a server too that is running and taking writes.
///
/// The copy has every write that was answered before the command was given, and checks as a store of its own.
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// The store directory.
    pub store: PathBuf,
    /// Directory to make.
    pub out: PathBuf,
}

/// Say what is in an ONNX file, and guess a `model.toml` for it.
///
/// The network is run once as the guess says. What is guessed is marked: shapes of free axes, names of classes and
/// modalities, preprocessing.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// An ONNX file; a tokenizer.json beside it is taken for its texts.
    pub network: PathBuf,
    /// Print the `model.toml` alone.
    #[arg(long)]
    pub toml: bool,
    /// Length of a free axis, by the name that the file gives it; several may be said.
    #[arg(long, value_name = "AXIS=LENGTH", value_parser = axis_length)]
    pub length: Vec<(String, usize)>,
}

/// `"samples=16000"`.
fn axis_length(text: &str) -> Result<(String, usize), String> {
    let (name, length) = text.rsplit_once('=').ok_or("AXIS=LENGTH")?;
    let length = length
        .parse()
        .map_err(|_| format!("`{length}` is no length"))?;
    Ok((name.to_owned(), length))
}

/// Make a model directory of one that Hugging Face's Optimum exported.
///
/// Reads `config.json`, `model.onnx` (or `onnx/model.onnx`), `tokenizer.json`, `tokenizer_config.json` and
/// `preprocessor_config.json`; a `model_quantized.onnx` beside the network becomes its variant in 8 bits. Says
/// what the files do not, and loads the model once.
///   satisfice import-hf ~/exported/distilbert-sst2 --out models/sentiment
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ImportHf {
    /// The directory that Optimum wrote.
    pub dir: PathBuf,
    /// The model directory to make; it must not be there.
    #[arg(long)]
    pub out: PathBuf,
    /// Tokens of a text: shorter ones are filled up, longer ones cut.
    #[arg(long)]
    pub tokens: Option<usize>,
}

/// Compute the embeddings of every stored node, layer by layer.
///
/// Interrupted runs go on where they stopped: finished layers are not computed again.
///
/// With `--cluster`, the nodes of a cluster compute those of their parts together: run it on every node,
/// after `satisfice partition --without-embeddings`.
#[derive(Debug, Args)]
pub(crate) struct Precompute {
    /// A model directory (with model.toml).
    #[arg(required_unless_present = "cluster", conflicts_with = "cluster")]
    pub model: Option<PathBuf>,
    /// The cluster's file, the same on every node (docs/cluster.md).
    #[arg(long, requires = "node")]
    pub cluster: Option<PathBuf>,
    /// Which of the cluster's nodes this one is, from 0.
    #[arg(long, requires = "cluster")]
    pub node: Option<usize>,
    /// Version of the model; the highest one when absent.
    #[arg(long)]
    pub model_version: Option<u64>,
    /// How embeddings are kept; with f16 and int8, `exact` reads unchanged nodes rounded.
    #[arg(long, value_enum, default_value = "f32", alias = "precision")]
    pub store_as: PrecisionArg,
    /// Do not keep each node's sum over its neighbours, nor its own term of layer 1: less memory, but recomputation then reads
    /// every neighbour instead of what changed.
    #[arg(long)]
    pub no_sums: bool,
}

/// Make a large synthetic graph with held-out queries.
///
///   satisfice generate reddit-like --out data/reddit
///   satisfice generate products-like --scale 0.1 --seed 7 --out data/products
///
/// A degree-corrected community graph: every node has a class, edges stay in the class with some
/// probability, features are a noisy class centroid. The presets have the size, width, classes and
/// split of well-known public graphs, not their content. A quarter of the test nodes is taken out with
/// all edges and written as queries. DIR gets `graph/` (a store), `queries.safetensors` and
/// `split.safetensors` (docs/formats.md).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Generate {
    /// Which graph it shall be like.
    #[arg(value_enum)]
    pub preset: Preset,
    /// Directory to write to.
    #[arg(long)]
    pub out: PathBuf,
    /// Make the graph this many times as large, with as many edges a node.
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    pub scale: f64,
    /// Nodes, held-out ones included, before scaling; the preset's when absent.
    #[arg(long)]
    pub nodes: Option<usize>,
    /// Directed edges drawn, before scaling; a few are drawn twice and merged.
    #[arg(long)]
    pub edges: Option<u64>,
    /// Values per node.
    #[arg(long)]
    pub features: Option<usize>,
    /// Number of classes.
    #[arg(long)]
    pub classes: Option<usize>,
    /// Probability that an edge stays in its class.
    #[arg(long)]
    pub homophily: Option<f64>,
    /// Standard deviation of the class centroids, where that of the noise is 1.
    #[arg(long)]
    pub signal: Option<f64>,
    /// Held-out nodes that are written as queries at most; all are taken out.
    #[arg(long)]
    pub queries: Option<usize>,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Precision of the features.
    #[arg(long, value_enum, default_value = "f16")]
    pub store_as: PrecisionArg,
    /// Replace a graph that is there.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// 232,965 nodes, 115 million directed edges, 602 features, 41 classes.
    RedditLike,
    /// 2,449,029 nodes, 124 million directed edges, 100 features, 47 classes.
    ProductsLike,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if scale > 0.0 && scale <= 100.0 => Ok(scale),
        _ => Err("a scale is above 0, and 100 at most".to_owned()),
    }
}
