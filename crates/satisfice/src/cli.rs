//! What a person may type.

use clap::{Args, Parser, Subcommand, ValueEnum};
use satisfice_graph::{Plan, Policy};
use std::{net::SocketAddr, ops::Range, path::PathBuf};

/// Serve a trained graph neural network on new nodes of a large graph, at the least cost that meets
/// the need.
///
/// The way from a trained model to answers:
///   1. export the model and graph from Python (`satisfice.export_pyg`, `export_dgl`), or bring a
///      graph as CSV, Parquet or NumPy files
///   2. `satisfice import`      makes a graph store of it
///   3. `satisfice precompute`  computes the embeddings of every stored node, once
///   4. `satisfice evaluate`    shows what each plan costs and how close it comes
///   5. `satisfice serve`       answers new nodes over HTTP and gRPC
///
/// `satisfice demo` does all of that on a real graph.
#[derive(Debug, Parser)]
#[command(version, about, verbatim_doc_comment, propagate_version = true)]
pub(crate) struct Cli {
    /// Print one JSON document on standard output instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Import(Import),
    Verify(Verify),
    Precompute(Precompute),
    Evaluate(Evaluate),
    Serve(Serve),
    Query(Query),
    Demo(Demo),
    Generate(Generate),
    Bench(Bench),
}

impl Command {
    /// What is logged unless `RUST_LOG` says otherwise.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Self::Serve(_) => "warn,satisfice_server=info",
            _ => "warn",
        }
    }
}

/// Make a graph store of a graph.
///
/// From the Python exporter or from NumPy arrays as OGB has them:
///   satisfice import --from models/my-gnn/graph.safetensors --out models/my-gnn/graph
///   satisfice import --from arxiv.npz --out stores/arxiv --undirected
/// From tables:
///   satisfice import --edges edges.csv --nodes nodes.parquet --out stores/shop
///
/// Duplicate edges and self-loops are kept, because PyTorch Geometric keeps them: each counts.
/// `--undirected` does what PyG's `to_undirected` does (add reverses, merge duplicates),
/// `--merge-duplicates` what `coalesce` does.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Import {
    /// A graph export (`.safetensors`), `.npz` file, or a directory with either's arrays.
    #[arg(long, conflicts_with_all = ["edges", "nodes"], required_unless_present = "edges")]
    pub from: Option<PathBuf>,
    /// Edge list, CSV or Parquet: columns `source` and `target`, or the first two.
    #[arg(long, requires = "nodes")]
    pub edges: Option<PathBuf>,
    /// Node table, CSV or Parquet: an id column, features, and a `label` column if there is one.
    #[arg(long, requires = "edges")]
    pub nodes: Option<PathBuf>,
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
    /// Precision of the features; as they come when absent.
    #[arg(long, value_enum)]
    pub feature_precision: Option<PrecisionArg>,
    /// Replace a store that is there.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    F32,
    F16,
}

/// Check every byte of a graph store or of a model with its graph.
///
/// A damaged file is named with the tensor that is damaged.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A store directory (with manifest.toml) or a model directory (with model.toml).
    pub path: PathBuf,
}

/// Compute the embeddings of every stored node, layer by layer.
///
/// Interrupted runs go on where they stopped: finished layers are not computed again.
#[derive(Debug, Args)]
pub(crate) struct Precompute {
    /// A model directory (with model.toml).
    pub model: PathBuf,
    /// Version of the model; the highest one when absent.
    #[arg(long)]
    pub model_version: Option<u32>,
    /// Precision in which embeddings are kept; with f16, `exact` reads unchanged nodes rounded.
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionArg,
    /// Do not keep each node's sum over its neighbours: less memory, but recomputation then reads
    /// every neighbour instead of what changed.
    #[arg(long)]
    pub no_sums: bool,
}

/// Show what each plan costs and how close it comes, on held-out queries.
///
/// Per plan and batch size: accuracy (where the queries have labels), agreement of the predicted
/// class with `exact`, relative output error against `exact`, latency, edges read.
#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// A model directory (with model.toml) whose embeddings are there.
    pub model: PathBuf,
    /// Held-out queries (`.safetensors`, docs/formats.md).
    #[arg(long)]
    pub queries: PathBuf,
    /// Version of the model; the highest one when absent.
    #[arg(long)]
    pub model_version: Option<u32>,
    #[command(flatten)]
    pub grid: Grid,
}

/// Plans and batch sizes to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Grid {
    /// Plans, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pe,recompute:10%,recompute:25%,recompute:50%,recompute:100%,exact"
    )]
    pub plans: Vec<Plan>,
    /// Measure every `recompute` plan by each of these policies, separated by commas: `ratio`,
    /// `reach`, `importance`, `degree`, `random`, `oracle`, or `all`.
    #[arg(long, value_delimiter = ',', value_parser = policies)]
    pub policies: Vec<Policies>,
    /// Queries in a batch, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1024", value_parser = batch_size)]
    pub batches: Vec<usize>,
    /// Use only the first N queries.
    #[arg(long)]
    pub limit: Option<usize>,
}

/// One policy or all of them.
pub(crate) type Policies = &'static [Policy];

fn policies(text: &str) -> Result<Policies, String> {
    if text == "all" {
        return Ok(&Policy::ALL);
    }
    let found = Policy::ALL.iter().position(|policy| policy.name() == text);
    let at = found.ok_or_else(|| format!("`{text}` is not a policy"))?;
    Ok(&Policy::ALL[at..=at])
}

impl Grid {
    /// The plans to measure, each `recompute` by each policy.
    pub(crate) fn plans(&self) -> Vec<Plan> {
        let policies = self.policies.concat();
        let of_plan = |plan: &Plan| match *plan {
            Plan::Recompute { budget, .. } if !policies.is_empty() => policies
                .iter()
                .map(|&policy| Plan::Recompute { budget, policy })
                .collect(),
            other => vec![other],
        };
        self.plans.iter().flat_map(of_plan).collect()
    }
}

fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a batch holds one query at least".to_owned()),
        Ok(size) => Ok(size),
    }
}

/// Answer new nodes over HTTP and gRPC (Open Inference Protocol).
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Model repository: a directory of model directories.
    #[arg(long)]
    pub models: PathBuf,
    /// Address to listen on for HTTP.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Address to listen on for gRPC; 127.0.0.1:8001 when absent, or a free port when `--listen`
    /// asks for one with port 0.
    #[arg(long)]
    pub grpc_listen: Option<SocketAddr>,
    /// Start without recomputing the checksums of stores and embeddings.
    #[arg(long)]
    pub skip_checksums: bool,
    /// Whether clients may load and unload models by name while the server runs.
    #[arg(long, value_enum, default_value = "none")]
    pub model_control: ModelControl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelControl {
    /// What is in the repository at the start is served, for good.
    None,
    /// What is in the repository at the start is served until a client says otherwise.
    Explicit,
}

/// Send held-out queries to a running server and print its answers.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Name of the model.
    #[arg(long)]
    pub model: String,
    /// Queries (`.safetensors`, docs/formats.md).
    #[arg(long)]
    pub queries: PathBuf,
    /// Which queries to send, as one batch: `FROM..TO`.
    #[arg(long, default_value = "0..4", value_parser = rows)]
    pub rows: Range<usize>,
    /// Plan: `pe`, `recompute:<budget>` or `exact`; the model's own when absent.
    #[arg(long)]
    pub plan: Option<Plan>,
}

fn rows(text: &str) -> Result<Range<usize>, String> {
    let wrong = || format!("`{text}` is not a range such as 0..4");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let range = from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?;
    if range.is_empty() {
        Err(wrong())
    } else {
        Ok(range)
    }
}

/// Serve two trained models on a real graph, send held-out nodes, and show cost and closeness.
///
/// The graph is Debian's: packages, their dependencies, and the section that a package belongs to.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The bundle; when absent, `examples/debian` here or beside the binary's workspace.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Where stores and embeddings are made.
    #[arg(long, default_value = "satisfice-demo")]
    pub dir: PathBuf,
    /// Address to listen on; another port is taken when it is in use.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Stop after the table instead of serving on.
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub grid: Grid,
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
    pub feature_precision: PrecisionArg,
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

/// Measure what the project claims, on this machine.
///
/// Every row is measured in this run; nothing that was begun is left out of a percentile.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Graph(Box<BenchGraph>),
    Kernels(BenchKernels),
}

/// Latency against accuracy of every plan, and of other frameworks on the same queries.
///
///   satisfice bench graph data/reddit/models/gcn2 --queries data/reddit/queries.safetensors \
///       --against bench/peers --out results/reddit-gcn2
///   satisfice bench graph --quick
///
/// Plans are measured in this process, and once more over HTTP, on a server started for it, whose
/// peak memory is measured too. Peers answer the same queries with the same weights on as many
/// threads. DIR gets `bench.json`, `bench.md` and one plot a batch size.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchGraph {
    /// A model directory whose embeddings are there; with `--quick`, Debian's GCN if absent.
    #[arg(required_unless_present = "quick", requires = "queries")]
    pub model: Option<PathBuf>,
    /// Held-out queries (`.safetensors`, docs/formats.md).
    #[arg(long, requires = "model")]
    pub queries: Option<PathBuf>,
    /// Directory of peers: its program `run` is called with `pyg` and with `dgl`.
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// Peers to measure, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "pyg,dgl")]
    pub peers: Vec<String>,
    /// Plans, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pe,recompute:2%,recompute:10%,recompute:25%,recompute:50%,recompute:100%,exact"
    )]
    pub plans: Vec<Plan>,
    /// Queries in a batch, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256,1024,2048", value_parser = batch_size)]
    pub batches: Vec<usize>,
    /// Queries at each batch size at most.
    #[arg(long, default_value_t = 4096)]
    pub limit: usize,
    /// A peer begins no new batch of a row after this time; it answers three at least.
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// Threads for every competitor; as many as there are cores when absent.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Where results are written.
    #[arg(long, default_value = "satisfice-bench/graph")]
    pub out: PathBuf,
    /// Less of the same: few plans, batches and queries.
    #[arg(long)]
    pub quick: bool,
}

/// How near the kernels come to what the memory and the processor can do.
///
/// A read of a long array is the limit for gathers of random rows; the matrix product alone, on an
/// operand that is in cache, the one for dense updates.
#[derive(Debug, Args)]
pub(crate) struct BenchKernels {
    /// Less of the same: a smaller table, which must still be well beyond the cache.
    #[arg(long)]
    pub quick: bool,
}
