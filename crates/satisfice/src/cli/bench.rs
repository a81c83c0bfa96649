//! What may be measured.

use super::batch_size;
use clap::{Args, Subcommand};
use satisfice_graph::Plan;
use std::{ops::RangeInclusive, path::PathBuf};

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
    Planner(BenchPlanner),
    Cluster(BenchCluster),
    Server(BenchServer),
    Overload(BenchOverload),
    Sharing(BenchSharing),
    Soak(BenchSoak),
    Live(BenchLive),
    Multimodal(BenchMultimodal),
    /// Serve a model that answers with its input, on free ports that are printed.
    #[command(hide = true)]
    ServeIdentity(ServeIdentity),
    /// Serve a model repository on free ports that are printed.
    #[command(hide = true)]
    ServeModels(ServeModels),
    /// Answer every POST with its body, on a free port that is printed.
    #[command(hide = true)]
    ServeEcho,
}

/// What the server itself costs: requests a second and latency with a model that does nothing.
///
/// Over JSON, binary tensors and gRPC, with tensors of 4 bytes and of 1 MiB, at 1 to 256 connections.
/// The limit is a server on the same libraries that answers with the body; a peer is another
/// inference server with the same model:
///   satisfice bench server --against bench/peers/server
/// Clients, limit and servers run on this machine together, each in a process of its own.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchServer {
    /// Directory with a program `run`, which serves a model `identity` and prints its HTTP address,
    /// then its gRPC address.
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// Seconds for every figure; 2 when absent, or half a second with `--quick`.
    #[arg(long, value_parser = within(0.1..=60.0, "a run takes between 0.1 and 60 seconds"))]
    pub seconds: Option<f64>,
    /// The same at fewer connections, in less time.
    #[arg(long)]
    pub quick: bool,
}

/// What is left of the server's work when more is asked of it than it can do.
///
/// A model that takes 5 ms, requests that are due within 100 ms, and up to 512 clients that send
/// again as soon as they are refused.
#[derive(Debug, Args)]
pub(crate) struct BenchOverload {
    /// The same in less time.
    #[arg(long)]
    pub quick: bool,
}

/// What becomes of deadlines, and of a light model, when a model uses all cores.
///
/// Two graph models, each with its own graph: Debian's packages, and a dense graph that is generated, with the same
/// weights. Measured are answers in time by clients; a light model's times beside a heavy one; and both at 0.2 to 5
/// times what the cores can do and back, whether or not earlier requests were answered: as the server chooses plans,
/// with the most expensive plan for all, and with the cheapest. The same is measured with the executions of a model
/// bounded to one. Charts of what is kept are written beside the models.
#[derive(Debug, Args)]
pub(crate) struct BenchSharing {
    /// Directory of the Debian example; when absent, `examples/debian` here or beside the binary's workspace.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Where graphs and models go; what is there of an earlier run is used again.
    #[arg(long, default_value = "satisfice-bench/sharing")]
    pub out: PathBuf,
    /// Size of the dense graph, where 1 is Reddit's 232,965 nodes; 0.25 when absent, 0.05 with `--quick`.
    #[arg(long, value_parser = within(0.01..=1.0, "a size is between 0.01 and 1"))]
    pub scale: Option<f64>,
    /// The same on a smaller graph, in less time.
    #[arg(long)]
    pub quick: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeModels {
    /// The repository.
    #[arg(long)]
    pub models: PathBuf,
    /// Executions of a model at once.
    #[arg(long)]
    pub executing_max: Option<usize>,
}

/// Whether the server stays what it is: good clients and bad ones for a long time.
///
/// Bad ones leave before the answer, send garbage or half a request, read a few bytes at a time,
/// and come in bursts. Every request is accounted for, and the growth of memory measured.
#[derive(Debug, Args)]
pub(crate) struct BenchSoak {
    /// How long; 20 when absent, half a minute with `--quick`.
    #[arg(long, value_parser = within(0.05..=10_000.0, "between 0.05 and 10,000 minutes"))]
    pub minutes: Option<f64>,
    /// The same for a shorter time.
    #[arg(long)]
    pub quick: bool,
}

/// Updates of a living graph beside its answers, and whether both are right afterwards.
///
/// A tenth of the edges is taken out first. Then a third of the updates are additions of edges, a third deletions, a third
/// changed features, in writes of 1 to 1,000. At the end the graph is opened again and compared with edges kept in a set, and
/// answers with those of a model that is precomputed anew; whatever was lost or differs makes the command fail.
///   satisfice bench live --quick --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchLive {
    /// A model directory; Debian's GraphSAGE if absent. It and its graph are copied.
    #[arg(requires = "queries")]
    pub model: Option<PathBuf>,
    /// Held-out queries (`.safetensors`, docs/formats.md).
    #[arg(long, requires = "model")]
    pub queries: Option<PathBuf>,
    /// Directory to work in.
    #[arg(long, default_value = "bench-live")]
    pub out: PathBuf,
    /// The same in less time.
    #[arg(long)]
    pub quick: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeIdentity {
    /// Executions at once.
    #[arg(long)]
    pub executors: Option<usize>,
}

/// How fast and how well plans are chosen (docs/planning.md).
///
/// Times to build tables of mixes and to plan queues of 10 to 10,000 jobs; the greedy choice
/// against the exact one; and seeded traffic on a virtual clock, planned as it arrives, against
/// the optimum of who knew all arrivals beforehand and against servers without a choice.
#[derive(Debug, Args)]
pub(crate) struct BenchPlanner {
    /// The same with fewer repetitions.
    #[arg(long)]
    pub quick: bool,
}

/// Choosing modalities against serving that ignores them: throughput under deadlines, and times in bursts.
///
/// Jobs of 1 to 16 inputs arrive whether or not earlier ones are answered (Poisson, and in bursts of four
/// times the mean), with a deadline and a minimum of accuracy; answers are compared with labels.
/// Measured are: all modalities for every input; Satisfice with minima some points below what all
/// modalities promise; and a client that picks plans itself, once for all or once for each job.
///   satisfice bench multimodal --quick
/// Other servers with the same networks take part as they are, with all modalities; `json+` is for
/// those that take no binary tensors:
///   satisfice bench multimodal --against litserve=http://127.0.0.1:8090 \
///     --against mlserver=json+http://127.0.0.1:8190
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchMultimodal {
    /// Directory with `models`, `calibration.safetensors` and `test.safetensors`; when absent,
    /// `examples/emoji` here or beside the binary's workspace.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Where the profiled model and the charts go.
    #[arg(long, default_value = "satisfice-bench/multimodal")]
    pub out: PathBuf,
    /// Points of accuracy that a job may lose, separated by commas; 0,0.5,1,2,5,10,20 when absent, 5 with
    /// `--quick`.
    #[arg(long, value_delimiter = ',', value_parser = within(0.0..=100.0, "points are between 0 and 100"))]
    pub floors: Vec<f64>,
    /// Forms of the model, of: everything, without cascades, without 8-bit variants, without both; 4 when
    /// absent, 1 with `--quick`.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub forms: Option<u8>,
    /// Leave out the clients that pick plans themselves.
    #[arg(long)]
    pub only_satisfice: bool,
    /// By when a job's answer is needed.
    #[arg(long, default_value_t = 250)]
    pub deadline_ms: u64,
    /// Length of one run; 4 when absent, 0.8 with `--quick`. Longer where that would be less than 300 jobs
    /// (40 with `--quick`).
    #[arg(long, value_parser = within(0.1..=60.0, "a run takes between 0.1 and 60 seconds"))]
    pub seconds: Option<f64>,
    /// Draws the traffic.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Measures everything so often, each time with the next seed; the table then has medians and, in
    /// brackets, the least and the most.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=20))]
    pub repeats: u64,
    /// Keep what `rows.json` of an earlier run in OUT has, where it was measured in the same way, and
    /// measure only what it lacks.
    #[arg(long)]
    pub resume: bool,
    /// Another server, as `NAME=[json+]URL`; may be repeated.
    #[arg(long)]
    pub against: Vec<Peer>,
    /// Name of the model in the other servers.
    #[arg(long, default_value = "emoji")]
    pub peer_model: String,
    /// The same in less time: shorter runs, a coarser search.
    #[arg(long)]
    pub quick: bool,
}

/// A server to compare with.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub name: String,
    pub url: String,
    /// Whether it takes JSON alone.
    pub json: bool,
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, url)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                url: url.strip_prefix("json+").unwrap_or(url).to_owned(),
                json: url.starts_with("json+"),
            }),
            _ => Err(format!("`{text}` is not NAME=[json+]URL")),
        }
    }
}

/// Reads numbers of `range`; others are refused with what is allowed.
fn within(
    range: RangeInclusive<f64>,
    allowed: &'static str,
) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(allowed.to_owned()),
    }
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
/// operand that is in cache, the one for dense updates. The table is four times as large as the cache, or half of the
/// memory that is free.
#[derive(Debug, Args)]
pub(crate) struct BenchKernels {
    /// Less of the same: fewer and shorter repetitions.
    #[arg(long)]
    pub quick: bool,
}

/// What a cluster costs: time over one machine, processor time while it waits, bytes between workers.
///
/// Two processes on loopback answer single queries; then 2, 4 and 8 workers of one process answer
/// batches, exchanging partial results or rows. Network time is not in it.
#[derive(Debug, Args)]
pub(crate) struct BenchCluster {
    /// A model directory (with model.toml) whose embeddings are there.
    pub model: PathBuf,
    /// Held-out queries (`.safetensors`, docs/formats.md).
    #[arg(long)]
    pub queries: PathBuf,
    /// Measure this cluster instead: as its node 0, when the other nodes are served.
    #[arg(long, value_name = "CLUSTER.TOML")]
    pub cluster: Option<PathBuf>,
    /// With `--cluster`: a file in which the kernel counts bytes that a node sent; one for each node.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub link_counter: Vec<PathBuf>,
    /// Plans to measure.
    #[arg(long, value_name = "PLAN", default_values = ["pe", "recompute:25%"])]
    pub plan: Vec<Plan>,
    /// Less of the same.
    #[arg(long)]
    pub quick: bool,
}
