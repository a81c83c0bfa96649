//! A model that follows a living graph answers as one whose graph was imported as it is now, whatever was written.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use satisfice_core::{Engine, InferRequest, NamedTensor, Tensor, TensorData};
use satisfice_graph::{Attachment, Direction, GraphEngine, ModelDir, Plan};
use satisfice_store::{
    Check,
    live::{Ack, LiveGraph, NodeId, Operation, Snapshot, Write},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    thread,
};

const PLANS: [Plan; 4] = [
    Plan::Precomputed,
    Plan::Refresh,
    Plan::Recompute {
        budget: 0.25,
        policy: satisfice_graph::Policy::Reach,
    },
    Plan::Exact,
];

/// Numbers that follow from a seed: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn row(&mut self, width: usize) -> Vec<f32> {
        let value = |random: &mut Self| random.below(2001) as f32 / 1000.0 - 1.0;
        (0..width).map(|_| value(self)).collect()
    }
}

fn living(snapshot: &Snapshot) -> Vec<u32> {
    let nodes = 0..snapshot.nodes() as u32;
    nodes.filter(|&node| !snapshot.is_deleted(node)).collect()
}

fn id(node: u32) -> NodeId {
    NodeId::Int(i64::from(node))
}

/// Some operations on a graph as it is, each of them possible after those before.
fn operations(snapshot: &Snapshot, random: &mut Random) -> Vec<Operation> {
    let width = snapshot.base().feature_width();
    let mut nodes = living(snapshot);
    let mut next = snapshot.nodes() as u32;
    let deleted = (0..next).filter(|&node| snapshot.is_deleted(node));
    let mut free: Vec<u32> = deleted.collect();
    let mut operations = Vec::new();
    let put = |node, x: Vec<f32>| Operation::PutNode {
        id: id(node),
        x: Some(x.into()),
        label: None,
    };
    for _ in 0..=random.below(8) {
        let [source, target] = [(); 2].map(|()| nodes[random.below(nodes.len())]);
        let (source_id, target_id) = (id(source), id(target));
        match random.below(8) {
            0 | 1 => {
                let node = free.pop().unwrap_or(next);
                next = next.max(node + 1);
                operations.push(put(node, random.row(width)));
                nodes.push(node);
                for _ in 0..random.below(4) {
                    let other = nodes[random.below(nodes.len())];
                    let ends = match random.below(2) {
                        0 => (id(node), id(other)),
                        _ => (id(other), id(node)),
                    };
                    operations.push(Operation::PutEdge {
                        source: ends.0,
                        target: ends.1,
                    });
                }
            }
            2 => operations.push(put(source, random.row(width))),
            3 | 4 => operations.push(Operation::PutEdge {
                source: source_id,
                target: target_id,
            }),
            5 | 6 => {
                // One that is there, if the target has any.
                let is_old = (target as usize) < snapshot.nodes();
                let sources = match is_old {
                    true => snapshot.in_neighbors(target),
                    false => &[],
                };
                let there: Vec<u32> = sources
                    .iter()
                    .copied()
                    .filter(|s| nodes.contains(s))
                    .collect();
                if let Some(&source) = there.first() {
                    operations.push(Operation::DeleteEdge {
                        source: id(source),
                        target: target_id,
                    });
                }
            }
            _ => {
                if nodes.len() > 20 {
                    nodes.retain(|&node| node != source);
                    operations.push(Operation::DeleteNode { id: source_id });
                }
            }
        }
    }
    operations
}

fn write(live: &LiveGraph, random: &mut Random) {
    let operations = operations(&live.snapshot(), random);
    let write = Write {
        operations,
        ..Write::default()
    };
    live.apply(write, Ack::Visible).unwrap();
}

/// Writes a graph to a file as an export has it, without the positions of deleted nodes.
fn export(snapshot: &Snapshot, path: &Path) -> HashMap<u32, u32> {
    let nodes = living(snapshot);
    let places: HashMap<u32, u32> = nodes.iter().copied().zip(0..).collect();
    let features = snapshot.base().features();
    let mut x = vec![0.0_f32; nodes.len() * features.width()];
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for (row, &node) in x.chunks_exact_mut(features.width()).zip(&nodes) {
        match snapshot.feature_patch(node) {
            Some(patch) => row.copy_from_slice(patch),
            None => features.read(node as usize, row),
        }
        for source in snapshot.in_neighbors(node) {
            sources.push(places[source] as i32);
            targets.push(places[&node] as i32);
        }
    }
    let edges = sources.len();
    let bytes = |values: &[i32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let x: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let edge_index: Vec<u8> = bytes(&[sources, targets].concat());
    let tensors = [
        (
            "x",
            TensorView::new(Dtype::F32, vec![nodes.len(), features.width()], &x).unwrap(),
        ),
        (
            "edge_index",
            TensorView::new(Dtype::I32, vec![2, edges], &edge_index).unwrap(),
        ),
    ];
    let undirected = snapshot.is_undirected().to_string();
    let metadata = HashMap::from([
        ("format".to_owned(), "satisfice-graph-1".to_owned()),
        ("undirected".to_owned(), undirected),
    ]);
    serialize_to_file(tensors, Some(metadata), path).unwrap();
    places
}

/// New nodes with edges to some stored ones.
fn batch(snapshot: &Snapshot, random: &mut Random) -> Attachment {
    let (nodes, queries) = (living(snapshot), 1 + random.below(4));
    let edge = |random: &mut Random| {
        let direction = match random.below(3) {
            _ if snapshot.is_undirected() => Direction::Both,
            0 => Direction::Both,
            1 => Direction::In,
            _ => Direction::Out,
        };
        let node = nodes[random.below(nodes.len())];
        (random.below(queries) as u32, node, direction)
    };
    Attachment {
        x: random.row(queries * snapshot.base().feature_width()),
        queries,
        edges: (0..random.below(16)).map(|_| edge(random)).collect(),
        query_edges: (0..random.below(3))
            .map(|_| (random.below(queries) as u32, random.below(queries) as u32))
            .collect(),
    }
}

/// The largest difference, as a share of the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(1.0, |largest: f32, v| largest.max(v.abs()));
    support::difference(a, b) / largest
}

/// Compares an engine with one over a graph that is imported as it is now.
fn compare(engine: &GraphEngine, live: &LiveGraph, model: &Path, random: &mut Random) {
    let snapshot = live.snapshot();
    assert_eq!(engine.version(), Some(snapshot.version()));
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("graph.safetensors");
    let places = export(&snapshot, &path);
    let fresh = support::prepare(model, &path);
    assert_eq!(fresh.store.edges(), snapshot.edges());
    for _ in 0..3 {
        let batch = batch(&snapshot, random);
        let mut renamed = batch.clone();
        for edge in &mut renamed.edges {
            edge.1 = places[&edge.1];
        }
        let ours = engine.attach(batch).unwrap();
        let theirs = fresh.engine.attach(renamed).unwrap();
        assert_eq!(ours.edges(), theirs.edges());
        for plan in PLANS {
            let found = engine.answer(&ours, plan).unwrap().outputs;
            let wanted = fresh.engine.answer(&theirs, plan).unwrap().outputs;
            let difference = difference(&found, &wanted);
            assert!(
                difference < 1e-4,
                "{}: {plan} at version {}: {difference}",
                model.display(),
                snapshot.version()
            );
        }
    }
}

fn follow(model_dir: &ModelDir) -> (Arc<LiveGraph>, Arc<GraphEngine>) {
    let live = LiveGraph::open(&model_dir.store_path(), Check::Structure).unwrap();
    let engine = GraphEngine::follow(model_dir, &live, Check::Structure).unwrap();
    (live, engine)
}

/// A fixture's model and graph, to be written to.
fn ready(model: &Path) -> (tempfile::TempDir, ModelDir) {
    let support::Ready { dir, .. } = support::prepare(model, &model.join("graph.safetensors"));
    let model_dir = ModelDir::open(dir.path(), None).unwrap();
    (dir, model_dir)
}

/// Writes to the graphs of some models, and compares.
fn check(models: impl Iterator<Item = PathBuf>, seed: u64) {
    let mut random = Random(seed);
    for model in models {
        let (_dir, model_dir) = ready(&model);
        let (live, engine) = follow(&model_dir);
        for _ in 0..12 {
            write(&live, &mut random);
        }
        compare(&engine, &live, &model, &mut random);
        for _ in 0..4 {
            write(&live, &mut random);
        }
        drop((engine, live));
        // All that the log holds is followed at once.
        let (live, engine) = follow(&model_dir);
        write(&live, &mut random);
        compare(&engine, &live, &model, &mut random);
    }
}

#[test]
fn whatever_is_written_answers_are_as_of_a_graph_imported_anew() {
    check(
        support::fixtures().into_iter().step_by(2),
        0x9E37_79B9_7F4A_7C15,
    );
}

#[test]
fn whatever_is_written_to_the_other_half_too() {
    check(
        support::fixtures().into_iter().skip(1).step_by(2),
        0xD1B5_4A32_D192_ED03,
    );
}

fn directory(name: &str) -> PathBuf {
    let found = support::fixtures()
        .into_iter()
        .find(|path| path.ends_with(name));
    found.unwrap()
}

#[test]
fn answers_name_their_version_and_no_deleted_node() {
    let model = directory("pyg_transformer_undirected");
    let (_dir, model_dir) = ready(&model);
    let (live, engine) = follow(&model_dir);
    let width = live.snapshot().base().feature_width();
    let request = |node: i64| InferRequest {
        inputs: vec![
            NamedTensor {
                name: "x".to_owned(),
                tensor: Tensor::new(vec![1, width], TensorData::Fp32(vec![0.5; width])).unwrap(),
            },
            NamedTensor {
                name: "edge_index".to_owned(),
                tensor: Tensor::new(vec![2, 1], TensorData::Int64(vec![0, node])).unwrap(),
            },
        ],
        ..InferRequest::default()
    };
    let version = |node| engine.infer(&request(node)).unwrap().parameters["version"].clone();
    assert_eq!(version(3), 0_i64.into());
    let nodes = live.snapshot().nodes() as i64;
    let error = engine.infer(&request(nodes)).unwrap_err();
    assert_eq!(error.code(), "unknown_node");
    let apply = |operation| {
        let write = Write {
            operations: vec![operation],
            ..Write::default()
        };
        live.apply(write, Ack::Visible).unwrap();
    };
    apply(Operation::DeleteNode { id: NodeId::Int(3) });
    assert_eq!(
        engine.infer(&request(3)).unwrap_err().code(),
        "unknown_node"
    );
    let deleted = InferRequest {
        inputs: vec![NamedTensor {
            name: "stored_ids".to_owned(),
            tensor: Tensor::new(vec![1], TensorData::Int64(vec![3])).unwrap(),
        }],
        ..InferRequest::default()
    };
    assert_eq!(engine.infer(&deleted).unwrap_err().code(), "unknown_node");
    let attachment = Attachment {
        x: vec![0.5; width],
        queries: 1,
        edges: vec![(0, 3, Direction::Both)],
        query_edges: Vec::new(),
    };
    assert!(engine.attach(attachment).is_err());
    apply(Operation::PutNode {
        id: NodeId::Int(nodes),
        x: Some(vec![1.0; width].into()),
        label: None,
    });
    assert_eq!(version(nodes), 2_i64.into());
    assert_eq!(version(4), 2_i64.into());
}

#[test]
fn requests_beside_writes_are_answered_from_one_version_each() {
    let model = directory("pyg_transformer_undirected");
    let (_dir, model_dir) = ready(&model);
    let (live, engine) = follow(&model_dir);
    let snapshot = live.snapshot();
    let width = snapshot.base().feature_width();
    let node = living(&snapshot)
        .into_iter()
        .max_by_key(|&node| snapshot.in_degree(node));
    let node = node.unwrap();
    let (a, b) = (vec![0.25; width], vec![-0.75; width]);
    let put = |x: &[f32]| {
        // All sources of a node, which change together.
        let sources = snapshot.in_neighbors(node).iter();
        let operations = sources.map(|&node| Operation::PutNode {
            id: id(node),
            x: Some(x.into()),
            label: None,
        });
        let write = Write {
            operations: operations.collect(),
            ..Write::default()
        };
        live.apply(write, Ack::Visible).unwrap();
    };
    let attachment = Attachment {
        x: vec![0.5; width],
        queries: 1,
        edges: vec![(0, node, Direction::Both)],
        query_edges: Vec::new(),
    };
    let batch = engine.attach(attachment).unwrap();
    let answer = |plan| engine.answer(&batch, plan).unwrap().outputs;
    // From then on the same rows are other than at rest.
    put(&a);
    put(&b);
    put(&a);
    let of_a = PLANS.map(answer);
    put(&b);
    let of_b = PLANS.map(answer);
    assert_ne!(of_a, of_b);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !done.load(Ordering::Relaxed) || seen < 20 {
                        for (at, plan) in PLANS.into_iter().enumerate() {
                            let found = answer(plan);
                            assert!(found == of_a[at] || found == of_b[at], "{plan}");
                        }
                        seen += 1;
                    }
                })
            })
            .collect();
        for round in 0..40 {
            put(if round % 2 == 0 { &a } else { &b });
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
