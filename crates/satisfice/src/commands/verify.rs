use super::Output;
use crate::{cli::Verify, report};
use anyhow::{Context, Result, bail};
use satisfice_graph::{GraphEngine, ModelDir};
use satisfice_store::{Check, GraphStore, VerifyReport, verify};
use std::sync::Arc;

pub(crate) fn run(args: &Verify, output: Output) -> Result<()> {
    let path = &args.path;
    if path.join("model.toml").is_file() {
        let model_dir = ModelDir::open(path, None)?;
        let report = verify(&model_dir.store_path()).context("the model's graph")?;
        let store = GraphStore::open(&model_dir.store_path(), Check::Structure)?;
        GraphEngine::open(&model_dir, Arc::new(store), Check::Checksums)?;
        return output.print(&report, || {
            format!(
                "{}version {}: the weights fit the architecture, the embeddings are whole\n",
                text(&report),
                model_dir.version()
            )
        });
    }
    if !path.join("manifest.toml").is_file() {
        bail!(
            "{}: neither a store (manifest.toml) nor a model directory (model.toml)",
            path.display()
        );
    }
    let report = verify(path)?;
    output.print(&report, || text(&report))
}

fn text(report: &VerifyReport) -> String {
    let files = format!(
        "graph: {} files, {} tensors, {}: every checksum is right\n",
        report.files,
        report.tensors,
        report::bytes(report.bytes)
    );
    let log = report.log.map_or_else(String::new, |log| {
        format!(
            "log: {} writes to version {}, {}: whole\n",
            log.writes,
            log.version,
            report::bytes(log.bytes)
        )
    });
    files + &log
}
