//! A light graph and a heavy one, with the same weights.

use crate::{
    cli::BenchSharing,
    commands::{
        Output,
        bundle::{copy_model, find_bundle},
        demo,
    },
    http_client::graph_request,
    progress::Bars,
};
use anyhow::{Context, Result};
use satisfice_core::InferRequest;
use satisfice_graph::{
    GnnModel, GraphEngine, ModelDir, Plan, PrecomputeOptions, ProfileOptions, precompute, profile,
};
use satisfice_load::closed::HttpRequest;
use satisfice_server::protocol::client::Format;
use satisfice_store::{Check, GraphStore, Queries, SyntheticSpec, generate};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

const LIGHT: &str = "gcn2";
/// The name of the heavy model.
pub(super) const HEAVY: &str = "dense";

/// Queries in the batches that the heavy model is profiled with, in all of them, and batches that are timed of each size.
const PROFILED: [usize; 2] = [16, 256];
const PROFILED_QUERIES: usize = 1024;
const PROFILED_TIMED: usize = 4;

/// The models with their queries.
pub(super) struct Subjects {
    /// The repository.
    pub models: PathBuf,
    light: Queries,
    heavy: Queries,
    pub dense_nodes: usize,
    pub dense_edges: usize,
}

impl Subjects {
    /// Makes what is not there of an earlier run.
    pub(super) fn prepare(args: &BenchSharing, output: Output) -> Result<Self> {
        let bundle = find_bundle(
            args.bundle.as_deref(),
            "examples/debian",
            "graph.safetensors",
        )?;
        let scale = args.scale.unwrap_or(if args.quick { 0.05 } else { 0.25 });
        let dir = args.out.join(format!("{scale}"));
        let (models, dense) = (dir.join("models"), dir.join("dense-graph"));
        if !models.join(LIGHT).is_dir() {
            demo::graph::prepare(&bundle, &dir, &models, output)?;
        }
        if !models.join(HEAVY).is_dir() {
            make_dense(&bundle, &dense, &models.join(HEAVY), scale)?;
        }
        let store = GraphStore::open(&dense.join("graph"), Check::Structure)?;
        Ok(Self {
            light: Queries::open(&bundle.join("queries.safetensors"))?,
            heavy: Queries::open(&dense.join("queries.safetensors"))?,
            dense_nodes: store.nodes(),
            dense_edges: store.edges(),
            models,
        })
    }

    /// A request for the light model.
    pub(super) fn light(&self, queries: usize) -> Result<HttpRequest> {
        let request = request(&self.light, queries, Some(Plan::Exact))?;
        Ok(HttpRequest::infer(LIGHT, &request, Format::Binary)?)
    }

    /// A request for the heavy model, by the plan named or by the server's choice.
    pub(super) fn heavy(
        &self,
        queries: usize,
        plan: Option<Plan>,
        deadline_ms: Option<f64>,
    ) -> Result<HttpRequest> {
        let mut request = self.heavy_request(queries, plan)?;
        if let Some(deadline) = deadline_ms {
            let parameters = &mut request.parameters;
            parameters.insert("deadline_ms".to_owned(), deadline.into());
        }
        Ok(HttpRequest::infer(HEAVY, &request, Format::Binary)?)
    }

    pub(super) fn heavy_request(&self, queries: usize, plan: Option<Plan>) -> Result<InferRequest> {
        request(&self.heavy, queries, plan)
    }
}

fn request(queries: &Queries, count: usize, plan: Option<Plan>) -> Result<InferRequest> {
    let batch = queries.batch(0..count.min(queries.len()));
    graph_request(&batch, plan, None, &[])
}

/// A dense graph for the weights of Debian's model.
fn make_dense(bundle: &Path, graph: &Path, model: &Path, scale: f64) -> Result<()> {
    let from = bundle.join("models").join(LIGHT);
    let weights = ModelDir::open(&from, None)?;
    let light = GnnModel::load(weights.config(), &weights.weights_path())?;
    let spec = SyntheticSpec {
        features: light.features(),
        classes: light.outputs(),
        ..SyntheticSpec::reddit_like()
    };
    let overwrite = graph.is_dir();
    generate(&spec.scaled(scale), graph, overwrite, &Bars::default())?;
    let unfinished = model.with_extension("unfinished");
    copy_model(&from, &unfinished)?;
    let sidecar = unfinished.join("model.toml");
    let text = fs::read_to_string(&sidecar).with_context(|| format!("{}", sidecar.display()))?;
    let text = text.replace("\"../graph\"", "\"../../dense-graph/graph\"");
    fs::write(&sidecar, text).with_context(|| format!("{}", sidecar.display()))?;
    let model_dir = ModelDir::open(&unfinished, None)?;
    let store = GraphStore::open(&graph.join("graph"), Check::Structure)?;
    let options = PrecomputeOptions::default();
    precompute(&model_dir, &light, &store, options, &Bars::default())?;
    let engine = GraphEngine::open(&model_dir, Arc::new(store), Check::Structure)?;
    // Weights of another graph are right by chance.
    let queries = Queries::open(&graph.join("queries.safetensors"))?.without_labels();
    let options = ProfileOptions {
        plans: vec![Plan::Precomputed, Plan::Refresh, Plan::Exact],
        batches: PROFILED.to_vec(),
        limit: PROFILED_QUERIES,
        timed: PROFILED_TIMED,
    };
    let report = profile(&engine, &model_dir, &queries, &options, &Bars::default())?;
    report.profile.write(&model_dir.profile_path())?;
    fs::rename(&unfinished, model).with_context(|| format!("{}", model.display()))
}
