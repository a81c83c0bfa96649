//! What plans cost and promise.

use super::{batch_size, share};
use clap::Args;
use satisfice_graph::{Plan, Policy};
use std::path::PathBuf;

/// Show the plans of a model that a server serves, with their predicted times and promises.
///
///   satisfice plans --model gcn2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Plans {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Name of the model.
    #[arg(long)]
    pub model: String,
    /// Token of `satisfice token new`, where the server asks for one.
    #[arg(long, env = "SATISFICE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
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
    pub model_version: Option<u64>,
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
    pub model_version: Option<u64>,
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
    /// Compare embeddings kept as f32, f16 and int8 too, and recommend the smallest with which no plan's
    /// answers differ in more than this share. They are computed for the comparison only.
    #[arg(long, value_name = "LOSS", num_args = 0..=1, default_missing_value = "0.005", value_parser = share)]
    pub compare_storage: Option<f64>,
    /// Compare them first, keep the model's embeddings as is recommended, and profile those.
    #[arg(
        long,
        value_name = "LOSS",
        num_args = 0..=1,
        default_missing_value = "0.005",
        value_parser = share,
        conflicts_with_all = ["compare_storage", "dry_run"]
    )]
    pub choose_storage: Option<f64>,
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
    /// Measure networks of other precisions also where they are not quicker than those they stand for.
    #[arg(long)]
    pub all_variants: bool,
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
