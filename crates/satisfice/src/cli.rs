//! What a person may type.

mod bench;

pub(crate) use bench::*;

use clap::{Args, Parser, Subcommand, ValueEnum};
use satisfice_cluster::Method;
use satisfice_graph::{Plan, Policy};
use satisfice_server::VersionPolicy;
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
///   5. `satisfice profile`     measures what each plan may promise, so that requests can ask for a minimum
///   6. `satisfice serve`       answers new nodes over HTTP and gRPC
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
    Partition(Partition),
    Cluster(Cluster),
    Evaluate(Evaluate),
    Profile(Profile),
    Serve(Serve),
    /// Check or show the configuration of a server.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make tokens for clients of a server.
    #[command(subcommand)]
    Token(TokenCommand),
    Query(Query),
    Demo(Demo),
    Bench(Bench),
    Generate(Generate),
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
    pub model_version: Option<u32>,
    /// How embeddings are kept; with f16 and int8, `exact` reads unchanged nodes rounded.
    #[arg(long, value_enum, default_value = "f32", alias = "precision")]
    pub store_as: PrecisionArg,
    /// Do not keep each node's sum over its neighbours, nor its own term of layer 1: less memory, but recomputation then reads
    /// every neighbour instead of what changed.
    #[arg(long)]
    pub no_sums: bool,
}

/// Cut a model with its graph and embeddings into parts, one for each worker of a cluster.
///
/// Every edge goes to its source's part, features and embeddings to their node's. A part is a directory
/// that its machine needs alone:
///   satisfice partition models/papers --parts 2 --out parts
///   scp -r parts/part-001 10.0.0.2:papers
/// What to write in cluster.toml then, and how to start the nodes, is in docs/cluster.md.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Partition {
    /// A model directory (with model.toml) whose embeddings are there.
    pub model: PathBuf,
    /// Version of the model; the highest one when absent.
    #[arg(long)]
    pub model_version: Option<u32>,
    /// Number of parts.
    #[arg(long)]
    pub parts: usize,
    /// How nodes are spread: `hash`, `random` (parts equal to a node), or `ldg`: a greedy pass that keeps
    /// neighbours together where it can.
    #[arg(long, default_value = "hash")]
    pub method: Method,
    /// Seed of the method.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Leave the embeddings out: the cluster computes them itself by `satisfice precompute --cluster`.
    #[arg(long)]
    pub without_embeddings: bool,
    /// Directory to make.
    #[arg(long)]
    pub out: PathBuf,
}

/// Look at a cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    pub command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Ask every node how it is: its group, batches, bytes, and for whom it had to wait.
    ///
    /// Fails when a node does not answer or its group is not whole.
    Status {
        /// The cluster's file.
        cluster: PathBuf,
    },
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

/// Measure what each way to answer may promise and costs on this machine, and keep it with the model.
///
/// With a profile, a request may carry `min_fidelity` (share of answers equal to the dearest plan's) or
/// `min_accuracy` (share of right answers) instead of a plan, and gets the quickest way whose 95 %
/// lower bound meets it.
///
/// Of a graph model (docs/graph-calibration.md), every held-out query is answered once at each batch
/// size by every plan. The profile is made of all of them; how promises hold is checked by
/// calibrating on a quarter and looking at the others.
///   satisfice profile models/my-gnn --queries heldout.safetensors
///
/// Of a multi-modal model (docs/multimodal-models.md), every subset of its modalities is measured on
/// calibration inputs, and cascades that ask more modalities only where fewer are not sure. Without
/// labels in the file, agreement with all modalities is measured instead of accuracy.
///   satisfice profile models/emoji --data calibration.safetensors --report report
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Profile {
    /// A model directory (with model.toml); of a graph model, with its embeddings.
    pub model: PathBuf,
    /// Held-out queries of a graph model (`.safetensors`, docs/formats.md); with labels, accuracy is
    /// promised too.
    #[arg(long, required_unless_present = "data", conflicts_with = "data")]
    pub queries: Option<PathBuf>,
    /// Calibration inputs of a multi-modal model (`.safetensors`, docs/multimodal-models.md).
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Version of the model; the highest one when absent.
    #[arg(long)]
    pub model_version: Option<u32>,
    /// Take less time: fewer queries, batch sizes and repeats, wider bounds.
    #[arg(long)]
    pub quick: bool,
    #[command(flatten)]
    pub graph: ProfileGraph,
    #[command(flatten)]
    pub multimodal: ProfileMultimodal,
}

/// What only profiles of graph models have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Graph models")]
pub(crate) struct ProfileGraph {
    /// Plans to offer, separated by commas; `exact` is always offered.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pe,refresh,recompute:5%,recompute:5%:reach,recompute:10%,recompute:10%:reach,recompute:25%,recompute:25%:reach,recompute:50%,recompute:50%:reach,recompute:100%"
    )]
    pub plans: Vec<Plan>,
    /// Queries in a batch, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "16,64,256,1024", value_parser = batch_size)]
    pub batches: Vec<usize>,
    /// Use only N queries.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Batches of each size whose time is taken, five times each.
    #[arg(long, default_value_t = 48)]
    pub timed: usize,
    /// Compare embeddings kept as f32, f16 and int8 too, and recommend the smallest whose `exact`
    /// answers differ in no more than this share. They are computed for the comparison only.
    #[arg(long, value_name = "LOSS", num_args = 0..=1, default_missing_value = "0.005", value_parser = share)]
    pub compare_storage: Option<f64>,
    /// Print what was measured, but leave the profile that is there.
    #[arg(long)]
    pub dry_run: bool,
}

/// What only profiles of multi-modal models have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Multi-modal models")]
pub(crate) struct ProfileMultimodal {
    /// Other inputs, to compare what the profile promises with.
    #[arg(long)]
    pub held_out: Option<PathBuf>,
    /// Where the table (profile.md) and the picture (profile.svg) go; beside the profile when absent.
    #[arg(long)]
    pub report: Option<PathBuf>,
}

/// Plans and batch sizes to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Grid {
    /// Plans, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pe,refresh,recompute:10%,recompute:25%,recompute:50%,recompute:100%,exact"
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

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().unwrap_or(f64::NAN);
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err(format!("`{text}` is not a share from 0 to 1")),
    }
}

fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a batch holds one query at least".to_owned()),
        Ok(size) => Ok(size),
    }
}

/// Answer new nodes over HTTP and gRPC (Open Inference Protocol).
///
/// Without a file it serves on loopback, to everybody there:
///   satisfice serve --models models
/// A file sets everything else: TLS, tokens, limits, logs, traces (docs/satisfice.example.toml).
///   satisfice serve --config satisfice.toml
/// Environment variables are over the file (`SATISFICE_HTTP__LISTEN` is `listen` in `[http]`), flags over
/// both; `satisfice config show` tells what came from where. SIGHUP reads the configuration anew, SIGTERM
/// lets running requests end.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// Configuration (TOML); the file that `SATISFICE_CONFIG` names when absent.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Model repository: a directory of model directories (`repository.path`).
    #[arg(long, conflicts_with = "cluster")]
    pub models: Option<PathBuf>,
    /// Serve as a node of a cluster: its file, the same on every node (docs/cluster.md). Every node
    /// takes any request.
    #[arg(long, requires = "node")]
    pub cluster: Option<PathBuf>,
    /// Which of the cluster's nodes this one is, from 0.
    #[arg(long, requires = "cluster")]
    pub node: Option<usize>,
    /// Name under which a cluster's model is served; the group's name when absent.
    #[arg(long, requires = "cluster")]
    pub model_name: Option<String>,
    /// Address to listen on for HTTP; 127.0.0.1:8000 when set nowhere (`http.listen`).
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Address to listen on for gRPC; 127.0.0.1:8001 when set nowhere, or a free port when HTTP is
    /// to have one (port 0) (`grpc.listen`).
    #[arg(long)]
    pub grpc_listen: Option<SocketAddr>,
    /// Address to listen on for what changes the server (`admin.listen`).
    #[arg(long)]
    pub admin_listen: Option<SocketAddr>,
    /// Address to listen on for metrics (`metrics.listen`).
    #[arg(long)]
    pub metrics_listen: Option<SocketAddr>,
    /// Start without recomputing the checksums of stores and embeddings
    /// (`repository.skip_checksums`).
    #[arg(long)]
    pub skip_checksums: bool,
    /// Whether clients may load and unload models by name while the server runs
    /// (`repository.control`).
    #[arg(long, value_enum)]
    pub model_control: Option<ModelControl>,
    /// Seconds between two looks at the repository with `--model-control poll`
    /// (`repository.poll_interval_s`).
    #[arg(long)]
    pub poll_interval: Option<u64>,
    /// Versions of each model that are served: `latest`, `latest:N`, `all`, or numbers separated by
    /// commas. Requests that name no version get the highest (`model_defaults.versions`).
    #[arg(long)]
    pub versions: Option<VersionPolicy>,
    /// Have every model answer zeros before it is served. A model with a `warmup.json`, the body of a
    /// request, always answers that (`repository.warm_up`).
    #[arg(long)]
    pub warm_up: bool,
    /// Requests or batches that are executed at once, over all models; the number of cores when set
    /// nowhere, and at least 2 (`schedule.executors`).
    #[arg(long)]
    pub executors: Option<usize>,
    /// Microseconds that an input waits at most for others to fill its batch, while nothing else waits
    /// (`model_defaults.admission.batch_delay_us`).
    #[arg(long)]
    pub batch_delay_us: Option<u64>,
    /// Share of the answers by a cheaper plan that are made again by the dearest in idle time, to see
    /// whether promises hold (`model_defaults.admission.audit_share`).
    #[arg(long, value_parser = share)]
    pub audit_share: Option<f64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(ConfigCheck),
    Show(ConfigShow),
}

/// Check a configuration and the files that it names.
///
/// Unknown keys and wrong values are named with line and column.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    /// Configuration (TOML).
    pub file: PathBuf,
}

/// Show what is in force and where each value came from; secrets are redacted.
#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    /// Configuration (TOML); the file that `SATISFICE_CONFIG` names when absent.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    New(TokenNew),
}

/// Print a new token on standard error, and its entry for the file that `auth.file` names on
/// standard output:
///   satisfice token new --name search-team --models 'gcn*,sage2' >> tokens.toml
///
/// The file holds only the token's SHA-256: who reads it cannot ask in the client's name.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TokenNew {
    /// Who it is for; appears in logs.
    #[arg(long)]
    pub name: String,
    /// Models it is for, names or patterns such as `gcn*`, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub models: Vec<String>,
    /// It is for changing the server: load, unload, log and trace settings.
    #[arg(long)]
    pub admin: bool,
    /// It is for reading metrics.
    #[arg(long)]
    pub metrics: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelControl {
    /// What is in the repository at the start is served, for good.
    None,
    /// What is in the repository at the start is served until a client says otherwise.
    Explicit,
    /// The repository is looked at again and again: what is new or has changed is loaded, what has
    /// gone is unloaded. A model that cannot be loaded is served as it was.
    Poll,
}

/// Send held-out queries to a running server and print its answers.
///
///   satisfice query --model gcn2 --queries queries.safetensors --plan exact
///   satisfice query --model gcn2 --queries queries.safetensors --min-fidelity 0.98 --deadline-ms 20
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
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
    /// Plan: `pe`, `recompute:<budget>` or `exact`; the server's choice when absent.
    #[arg(long)]
    pub plan: Option<Plan>,
    #[command(flatten)]
    pub contract: Contract,
    /// Token of `satisfice token new`, where the server asks for one.
    #[arg(long, env = "SATISFICE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// What the answer has to keep (docs/scheduling.md).
#[derive(Debug, Args)]
#[command(next_help_heading = "Contract")]
pub(crate) struct Contract {
    /// Milliseconds after which the answer is of no more use.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    pub deadline_ms: Option<i64>,
    /// Share of right answers that has to be promised, 0 to 1.
    #[arg(long, value_parser = share, conflicts_with = "min_fidelity")]
    pub min_accuracy: Option<f64>,
    /// Share of answers equal to the dearest plan's that has to be promised, 0 to 1.
    #[arg(long, value_parser = share)]
    pub min_fidelity: Option<f64>,
    /// 1 goes first, higher numbers later.
    #[arg(long)]
    pub priority: Option<u32>,
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

/// Serve trained models on real data, ask them, and show what each way to answer costs and is worth.
///
/// Two graph models on Debian's packages and their dependencies: which section does a package belong
/// to? And a model of three modalities, pictures, speech and text, on emoji: what kind is it?
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Show one part only.
    #[arg(long, value_enum)]
    pub part: Option<DemoPart>,
    /// The graph bundle; when absent, `examples/debian` here or beside the binary's workspace.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// The multi-modal bundle; when absent, `examples/emoji` likewise.
    #[arg(long)]
    pub multimodal_bundle: Option<PathBuf>,
    /// Where stores and embeddings are made.
    #[arg(long, default_value = "satisfice-demo")]
    pub dir: PathBuf,
    /// Address to listen on; another port is taken when it is in use.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Stop after the tables instead of serving on.
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub grid: Grid,
}

/// A part of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoPart {
    /// New nodes of a large graph.
    Graph,
    /// Pictures, speech and text.
    Multimodal,
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
