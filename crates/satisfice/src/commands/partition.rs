use super::Output;
use crate::{cli::Partition, progress::Bars, report};
use anyhow::Result;
use satisfice_cluster::{PartitionOptions, PartitionSummary, partition};
use satisfice_graph::{GnnModel, ModelDir};
use satisfice_store::{Check, GraphStore};
use std::fmt::Write;

pub(crate) fn run(args: &Partition, output: Output) -> Result<()> {
    let model_dir = ModelDir::open(&args.model, args.model_version)?;
    let store = GraphStore::open(&model_dir.store_path(), Check::Checksums)?;
    let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
    let options = PartitionOptions {
        parts: args.parts,
        method: args.method,
        seed: args.seed,
        embeddings: !args.without_embeddings,
    };
    let to = (options, args.out.as_path());
    let summary = partition(&model_dir, &model, &store, to, &Bars::default())?;
    output.print(&summary, || text(&summary))
}

fn text(summary: &PartitionSummary) -> String {
    let mut text = String::new();
    for part in &summary.parts {
        let (nodes, edges) = (part.nodes, part.edges);
        let bytes = report::bytes(part.bytes);
        let _ = writeln!(
            text,
            "{}: {nodes} nodes, {edges} edges, {bytes}",
            part.dir.display()
        );
    }
    let share = 100.0 * summary.cut_share;
    let _ = writeln!(
        text,
        "{}: {share:.1} % of {} edges go from part to part; the largest part has {:.3} times the mean edges",
        summary.method, summary.edges, summary.edge_imbalance
    );
    text
}
