//! What the tests share, those of the crates above too: model directories made ready in a temporary place,
//! requests and comparisons.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses a part of it; a test may panic"
)]

use satisfice_core::{InferRequest, NamedTensor, Tensor, TensorData};
use satisfice_graph::{
    Attachment, Direction, GraphEngine, ModelDir, PrecomputeOptions, precompute,
};
use satisfice_store::{
    Check, GraphStore, ImportOptions, NoProgress, Queries, Source, TensorFile, import,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A model directory with its graph imported and its embeddings computed.
pub struct Ready {
    pub dir: TempDir,
    pub store: Arc<GraphStore>,
    pub engine: GraphEngine,
}

/// Copies `model.toml` and the weights of a model directory, imports `graph` for it and precomputes.
pub fn prepare(model: &Path, graph: &Path) -> Ready {
    prepare_with(model, graph, PrecomputeOptions::default())
}

/// As [`prepare`], with embeddings kept as `options` say.
pub fn prepare_with(model: &Path, graph: &Path, options: PrecomputeOptions) -> Ready {
    let dir = TempDir::new().unwrap();
    copy_model(model, dir.path());
    let model_dir = ModelDir::open(dir.path(), None).unwrap();
    let out = model_dir.store_path();
    import(
        &Source::Export(graph.to_owned()),
        &ImportOptions::default(),
        &out,
        &NoProgress,
    )
    .unwrap();
    let store = Arc::new(GraphStore::open(&out, Check::Checksums).unwrap());
    let weights = satisfice_graph::GnnModel::load(model_dir.config(), &model_dir.weights_path());
    let weights = weights.unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    precompute(&model_dir, &weights, &store, options, &NoProgress).unwrap();
    let engine = GraphEngine::open(&model_dir, store.clone(), Check::Checksums).unwrap();
    Ready { dir, store, engine }
}

pub fn copy_model(model: &Path, to: &Path) {
    // A graph outside the model's directory belongs inside the temporary one here.
    let text = fs::read_to_string(model.join("model.toml")).unwrap();
    fs::write(to.join("model.toml"), text.replace("\"../", "\"")).unwrap();
    fs::create_dir_all(to.join("1")).unwrap();
    fs::copy(
        model.join("1/weights.safetensors"),
        to.join("1/weights.safetensors"),
    )
    .unwrap();
}

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

/// Largest absolute difference.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| {
            if a.is_finite() && b.is_finite() {
                (a - b).abs()
            } else {
                f32::INFINITY
            }
        })
        .fold(0.0, f32::max)
}

pub fn bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/debian")
}

/// The Debian example with one of its models.
pub fn debian(model: &str, options: PrecomputeOptions) -> Ready {
    let model = bundle().join("models").join(model);
    prepare_with(&model, &bundle().join("graph.safetensors"), options)
}

/// The case file's queries as an attachment.
pub fn attachment(
    x: Vec<f32>,
    queries: usize,
    edges: &[i64],
    directions: Option<&[u8]>,
    query_edges: &[i64],
) -> Attachment {
    let count = edges.len() / 2;
    let between = query_edges.len() / 2;
    Attachment {
        x,
        queries,
        edges: (0..count)
            .map(|e| {
                let code = directions.map_or(0, |d| d[e]);
                (
                    edges[e] as u32,
                    edges[count + e] as u32,
                    Direction::from_code(code).unwrap(),
                )
            })
            .collect(),
        query_edges: (0..between)
            .map(|e| (query_edges[e] as u32, query_edges[between + e] as u32))
            .collect(),
    }
}

/// The queries of a fixture's case file.
pub fn case(dir: &Path) -> Attachment {
    let case = TensorFile::open(&dir.join("case.safetensors")).unwrap();
    let ints = |name: &str| match case.has(name) {
        true => case.slice::<i64>(name).unwrap(),
        false => &[],
    };
    let directions = case.has("edge_direction");
    let directions = directions.then(|| case.slice::<u8>("edge_direction").unwrap());
    attachment(
        case.slice::<f32>("x").unwrap().to_vec(),
        case.shape("x").unwrap()[0],
        ints("edge_index"),
        directions,
        ints("query_edge_index"),
    )
}

/// Held-out queries as a request for their classes, with parameters.
pub fn request(
    queries: &Queries,
    rows: std::ops::Range<usize>,
    parameters: &[(&str, f64)],
) -> InferRequest {
    let slice = queries.batch(rows);
    let tensor = |name: &str, shape, data| NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::new(shape, data).unwrap(),
    };
    let width = slice.x.len() / slice.queries();
    let (of, to) = (slice.edge_query.iter(), slice.edge_node.iter());
    let edges: Vec<i64> = of.chain(to).map(|&id| i64::from(id)).collect();
    let mut request = InferRequest {
        inputs: vec![
            tensor("x", vec![slice.queries(), width], TensorData::Fp32(slice.x)),
            tensor(
                "edge_index",
                vec![2, edges.len() / 2],
                TensorData::Int64(edges),
            ),
        ],
        outputs: vec!["class".to_owned()],
        ..InferRequest::default()
    };
    let by_position = ("node_ids".to_owned(), "position".into());
    request.parameters.extend([by_position]);
    for (name, value) in parameters {
        request
            .parameters
            .insert((*name).to_owned(), (*value).into());
    }
    request
}
