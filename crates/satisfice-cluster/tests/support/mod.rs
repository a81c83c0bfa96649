//! What the tests share: models with their graphs, cut into parts, and batches to ask them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses a part of it; a test may panic"
)]

use safetensors::SafeTensors;
use satisfice_cluster::{Method, Part, PartitionOptions, part_dir, partition};
use satisfice_graph::{
    Attachment, Direction, GnnModel, GraphEngine, ModelDir, Plan, Policy, PrecomputeOptions,
    QueryBatch, precompute,
};
use satisfice_store::{Check, GraphStore, ImportOptions, NoProgress, Source, import};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

pub const PLANS: [Plan; 6] = [
    Plan::Precomputed,
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

pub fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../satisfice-graph/tests/fixtures");
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.toml").exists())
        .collect();
    cases.sort();
    assert!(cases.len() > 50, "the fixtures are there");
    cases
}

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
        let dir = TempDir::new().unwrap();
        let at = dir.path().join("model");
        fs::create_dir_all(at.join("1")).unwrap();
        let text = fs::read_to_string(model.join("model.toml")).unwrap();
        fs::write(at.join("model.toml"), text.replace("\"../", "\"")).unwrap();
        let weights = "1/weights.safetensors";
        fs::copy(model.join(weights), at.join(weights)).unwrap();
        let model_dir = ModelDir::open(&at, None).unwrap();
        let out = model_dir.store_path();
        let source = Source::Export(graph.to_owned());
        import(&source, &ImportOptions::default(), &out, &NoProgress).unwrap();
        let store = Arc::new(GraphStore::open(&out, Check::Checksums).unwrap());
        let model = GnnModel::load(model_dir.config(), &model_dir.weights_path()).unwrap();
        let options = PrecomputeOptions::default();
        precompute(&model_dir, &model, &store, options, &NoProgress).unwrap();
        let engine = GraphEngine::open(&model_dir, store.clone(), Check::Checksums).unwrap();
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

/// A fixture and its batch.
pub fn fixture(dir: &Path) -> (Ready, QueryBatch) {
    let ready = Ready::new(dir, &dir.join("graph.safetensors"));
    let batch = ready.engine.attach(attachment(dir)).unwrap();
    (ready, batch)
}

/// The queries of a fixture's case file.
pub fn attachment(dir: &Path) -> Attachment {
    let bytes = fs::read(dir.join("case.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |name: &str| tensors.tensor(name).ok().map(|view| view.data().to_vec());
    let ints = |name: &str| -> Vec<u32> {
        let raw = raw(name).unwrap_or_default();
        let (words, _) = raw.as_chunks();
        words
            .iter()
            .map(|b| i64::from_le_bytes(*b) as u32)
            .collect()
    };
    let x = raw("x").unwrap();
    let x = x.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    let (edges, between) = (ints("edge_index"), ints("query_edge_index"));
    let directions = raw("edge_direction");
    let (count, count_between) = (edges.len() / 2, between.len() / 2);
    Attachment {
        x: x.collect(),
        queries: tensors.tensor("x").unwrap().shape()[0],
        edges: (0..count)
            .map(|edge| {
                let code = directions.as_ref().map_or(0, |codes| codes[edge]);
                let direction = Direction::from_code(code).unwrap();
                (edges[edge], edges[count + edge], direction)
            })
            .collect(),
        query_edges: (0..count_between)
            .map(|edge| (between[edge], between[count_between + edge]))
            .collect(),
    }
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
