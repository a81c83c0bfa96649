//! What the tests share: models with their graphs, cut into parts, and batches to ask them.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses a part of it; a test may panic"
)]

#[path = "../../../satisfice-graph/tests/support/mod.rs"]
mod graph;

mod address;
mod group;

pub use address::free_address;
pub use graph::{bundle, fixtures, request};
pub use group::{MINUTE, config, eventually, start};

use satisfice_cluster::{Method, Part, PartitionOptions, part_dir, partition};
use satisfice_graph::{
    GnnModel, GraphEngine, ModelDir, Plan, Policy, PrecomputeOptions, QueryBatch,
};
use satisfice_store::{Check, GraphStore, NoProgress};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

pub const PLANS: [Plan; 7] = [
    Plan::Precomputed,
    Plan::Refresh,
    Plan::Recompute {
        budget: 0.25,
        policy: Policy::Ratio,
    },
    Plan::Recompute {
        budget: 0.5,
        policy: Policy::Reach,
    },
    Plan::Recompute {
        budget: 0.5,
        policy: Policy::Oracle,
    },
    Plan::Recompute {
        budget: 1.0,
        policy: Policy::Ratio,
    },
    Plan::Exact,
];

/// A model directory with its graph imported and its embeddings computed, and a batch for it.
pub struct Ready {
    pub dir: TempDir,
    pub model_dir: ModelDir,
    pub model: GnnModel,
    pub store: Arc<GraphStore>,
    pub engine: GraphEngine,
}

impl Ready {
    pub fn new(model: &Path, graph: &Path) -> Self {
        Self::with(model, graph, PrecomputeOptions::default())
    }

    /// As [`Ready::new`], with embeddings kept as `options` say.
    pub fn with(model: &Path, graph: &Path, options: PrecomputeOptions) -> Self {
        let graph::Ready { dir, store, engine } = graph::prepare_with(model, graph, options);
        let model_dir = ModelDir::open(dir.path(), None).unwrap();
        let model = GnnModel::load(model_dir.config(), &model_dir.weights_path()).unwrap();
        Self {
            dir,
            model_dir,
            model,
            store,
            engine,
        }
    }

    /// The directories of `parts` parts of it.
    pub fn cut(&self, parts: usize, method: Method) -> Vec<PathBuf> {
        let out = self.dir.path().join(format!("{parts}-{method}"));
        let options = PartitionOptions {
            parts,
            method,
            seed: 1,
            embeddings: true,
        };
        let (model_dir, model) = (&self.model_dir, &self.model);
        partition(model_dir, model, &self.store, (options, &out), &NoProgress).unwrap();
        (0..parts).map(|part| part_dir(&out, part)).collect()
    }

    pub fn parts(&self, parts: usize, method: Method) -> Vec<Arc<Part>> {
        let dirs = self.cut(parts, method);
        let open = |dir: &PathBuf| Arc::new(Part::open(dir, Check::Checksums).unwrap());
        dirs.iter().map(open).collect()
    }
}

/// The fixture of a name.
pub fn fixture_dir(name: &str) -> PathBuf {
    let wanted = |dir: &PathBuf| dir.file_name().unwrap().to_string_lossy() == name;
    fixtures().into_iter().find(wanted).unwrap()
}

/// A fixture and its batch.
pub fn fixture(dir: &Path) -> (Ready, QueryBatch) {
    fixture_with(dir, PrecomputeOptions::default())
}

/// As [`fixture`], with embeddings kept as `options` say.
pub fn fixture_with(dir: &Path, options: PrecomputeOptions) -> (Ready, QueryBatch) {
    let ready = Ready::with(dir, &dir.join("graph.safetensors"), options);
    let batch = ready.engine.attach(graph::case(dir)).unwrap();
    (ready, batch)
}

/// Largest difference, relative to the largest value of the row or 1.
pub fn difference(found: &[f32], wanted: &[f32], width: usize) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let of_row = |(found, wanted): (&[f32], &[f32])| {
        let scale = wanted.iter().fold(1.0_f32, |top, v| top.max(v.abs()));
        let each = found.iter().zip(wanted);
        each.map(|(a, b)| match a.is_finite() && b.is_finite() {
            true => (a - b).abs() / scale,
            false => f32::INFINITY,
        })
        .fold(0.0, f32::max)
    };
    found
        .chunks_exact(width)
        .zip(wanted.chunks_exact(width))
        .map(of_row)
        .fold(0.0, f32::max)
}
