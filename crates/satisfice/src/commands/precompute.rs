use super::Output;
use crate::{
    cli::{PrecisionArg, Precompute},
    progress::Bars,
    report,
};
use anyhow::{Result, bail};
use satisfice_cluster::{ClusterConfig, ClusterNode, PartPrecision, quiet_engine_panics};
use satisfice_graph::{GnnModel, ModelDir, Precision, PrecomputeOptions, precompute};
use satisfice_store::{Check, GraphStore};
use std::path::Path;

pub(crate) fn run(args: &Precompute, output: Output) -> Result<()> {
    let precision = match args.store_as {
        PrecisionArg::F32 => Precision::F32,
        PrecisionArg::F16 => Precision::F16,
        PrecisionArg::Int8 => Precision::Int8,
    };
    let model_dir = match (&args.model, &args.cluster, args.node) {
        (_, Some(cluster), Some(node)) => return on_cluster(cluster, node, precision, output),
        (Some(model), ..) => ModelDir::open(model, args.model_version)?,
        _ => bail!("name a model directory, or `--cluster` and `--node`"),
    };
    let store = GraphStore::open(&model_dir.store_path(), Check::Checksums)?;
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
    let options = PrecomputeOptions {
        precision,
        sums: !args.no_sums,
    };
    let summary = precompute(&model_dir, &model, &store, options, &Bars::default())?;
    output.print(&summary, || {
        format!(
            "{}: computed {:?}, kept from an earlier run {:?}, {}\n",
            model_dir.embeddings_path().display(),
            summary.computed,
            summary.kept,
            report::bytes(summary.bytes)
        )
    })
}

/// Longest wait for a peer that computes a chunk, in milliseconds.
const CHUNK_MS_MAX: u64 = 600_000;

fn on_cluster(path: &Path, node: usize, precision: Precision, output: Output) -> Result<()> {
    quiet_engine_panics();
    let mut config = ClusterConfig::read(path)?;
    config.round_max_ms = config.round_max_ms.max(CHUNK_MS_MAX);
    let node = ClusterNode::start(&config, node, Check::Checksums)?;
    let precision = match precision {
        Precision::F32 => PartPrecision::F32,
        Precision::F16 => PartPrecision::F16,
        Precision::Int8 => bail!("the tables of a cluster are kept as `f32` or `f16`"),
    };
    output.say("waiting for the other nodes; start this command on each")?;
    let computed = node.precompute(precision)?;
    node.check_tables()?;
    output.print(&computed, || match computed.is_empty() {
        true => "all tables are there\n".to_owned(),
        false => format!("computed {}\n", computed.join(", ")),
    })
}
