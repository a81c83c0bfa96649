//! The engine as a server uses it: several requests at once, and embeddings kept in other ways.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use satisfice_core::{Cores, Engine, InferRequest, NamedTensor, Tensor, TensorData};
use satisfice_graph::{
    Attachment, GnnModel, GraphError, GraphFacts, ModelDir, Plan, Precision, PrecomputeOptions,
    QueryBatch, RequestFormat,
};
use satisfice_store::Queries;
use std::{collections::BTreeSet, ops::Range, thread};
use support::Ready;

const PLANS: [Plan; 4] = [
    Plan::Precomputed,
    Plan::Refresh,
    Plan::Recompute {
        budget: 0.25,
        policy: satisfice_graph::Policy::Reach,
    },
    Plan::Exact,
];

fn batch(ready: &Ready, queries: &Queries, rows: Range<usize>) -> QueryBatch {
    let slice = queries.batch(rows);
    ready.engine.attach(Attachment::from(&slice)).unwrap()
}

fn answers(ready: &Ready, batch: &QueryBatch) -> Vec<Vec<f32>> {
    let answer = |&plan| ready.engine.answer(batch, plan).unwrap().outputs;
    PLANS.iter().map(answer).collect()
}

fn queries() -> Queries {
    Queries::open(&support::bundle().join("queries.safetensors")).unwrap()
}

#[test]
fn requests_at_once_are_answered_as_one_after_the_other() {
    let (ready, queries) = (
        support::debian("gcn2", PrecomputeOptions::default()),
        queries(),
    );
    let batches: Vec<QueryBatch> = (0..8)
        .map(|i| batch(&ready, &queries, i * 100..i * 100 + 20 + i))
        .collect();
    let alone: Vec<_> = batches.iter().map(|batch| answers(&ready, batch)).collect();
    thread::scope(|scope| {
        let running: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> Vec<_> { batches.iter().map(|b| answers(&ready, b)).collect() })
            })
            .collect();
        for at_once in running {
            assert!(at_once.join().unwrap() == alone, "the same to the bit");
        }
    });
}

#[test]
fn what_nobody_waits_for_is_given_up_and_leaves_nothing_behind() {
    let (ready, queries) = (
        support::debian("gcn2", PrecomputeOptions::default()),
        queries(),
    );
    let batch = batch(&ready, &queries, 0..50);
    let wanted = answers(&ready, &batch);
    let nobody = Cores::lent(None);
    nobody.stop();
    for plan in PLANS {
        let error = ready.engine.answer_on(&batch, plan, &nobody);
        assert!(matches!(error, Err(GraphError::Canceled)), "{plan}");
    }
    assert!(answers(&ready, &batch) == wanted, "the same to the bit");
}

#[test]
fn sums_change_the_rows_read_and_not_the_answers() {
    let queries = queries();
    for model in ["gcn2", "sage2"] {
        let with = support::debian(model, PrecomputeOptions::default());
        let without = PrecomputeOptions {
            sums: false,
            ..PrecomputeOptions::default()
        };
        let without = support::debian(model, without);
        for plan in PLANS {
            let batch = batch(&with, &queries, 0..64);
            let answer = |ready: &Ready| ready.engine.answer(&batch, plan).unwrap();
            let (with, without) = (answer(&with), answer(&without));
            assert!(support::difference(&with.outputs, &without.outputs) < 1e-4);
            assert_eq!(with.recomputed, without.recomputed);
            // A row is read for every edge, but once for all queries, at each of two layers.
            let into_queries: usize = (0..64).map(|q| batch.stored_into_query(q).len()).sum();
            let shared = 2 * (into_queries - batch.readers().len()) as u64;
            assert!(shared > 0);
            assert_eq!(without.rows + shared, without.edges, "{model} {plan}");
            if plan == Plan::Exact {
                assert!(
                    with.rows * 5 < without.rows,
                    "{model}: {} {}",
                    with.rows,
                    without.rows
                );
            }
        }
    }
}

#[test]
fn narrow_rows_are_close_and_summed_as_they_are_kept() {
    let queries = queries();
    for (model, precision, tolerance) in [
        ("gcn2", Precision::F16, 1e-2),
        ("gcn2", Precision::Int8, 0.2),
        ("sage2", Precision::F16, 2e-2),
        ("sage2", Precision::Int8, 0.4),
    ] {
        let keep = |precision, sums| support::debian(model, PrecomputeOptions { precision, sums });
        let full = keep(Precision::F32, true);
        let (narrow, without_sums) = (keep(precision, true), keep(precision, false));
        let answers = |ready: &Ready| answers(ready, &batch(ready, &queries, 0..256));
        let (full, narrow) = (answers(&full), answers(&narrow));
        for (full, narrow) in full.iter().zip(&narrow) {
            let difference = support::difference(full, narrow);
            assert!(
                difference < tolerance,
                "{model} {precision:?}: {difference}"
            );
        }
        assert!(full[0] != narrow[0], "stored values are rounded");
        // The differences that bring a sum up to date are those of the rounded rows that it holds:
        // what is left is the rounding of layer 1's own terms.
        for (with, without) in narrow.iter().zip(answers(&without_sums)) {
            let difference = support::difference(with, &without);
            assert!(
                difference < tolerance / 2.0,
                "{model} {precision:?}: {difference}"
            );
        }
    }
}

#[test]
fn a_footprint_counts_every_row_once() {
    let queries = queries();
    let kept = |sums| PrecomputeOptions {
        sums,
        ..PrecomputeOptions::default()
    };
    for sums in [true, false] {
        let ready = support::debian("gcn2", kept(sums));
        let dir = ModelDir::open(ready.dir.path(), None).unwrap();
        let model = GnnModel::load(dir.config(), &dir.weights_path()).unwrap();
        let [messages, hidden, sent, classes] = [
            model.message_width(1),
            model.level_width(1),
            model.message_width(2),
            model.outputs(),
        ]
        .map(|width| width as u64 * 4);
        let batch = batch(&ready, &queries, 0..64);
        let of_queries = 64 * (hidden + classes);
        let readers: BTreeSet<u32> = batch.readers().iter().map(|&(node, _)| node).collect();
        for plan in PLANS {
            let found = ready.engine.footprint(&batch, plan).unwrap();
            let fresh = ready.engine.answer(&batch, plan).unwrap().recomputed;
            let topology = ready.engine.store().topology();
            let sources = |node: &u32| topology.in_neighbors(*node).iter().copied();
            // The queries' sources, and the recomputed nodes: a layer of GCN reads its own message too.
            let mut first: BTreeSet<u32> = readers.iter().chain(&fresh).copied().collect();
            let mut reduced = 0;
            match (plan, sums) {
                (Plan::Precomputed, _) => {}
                (Plan::Refresh, true) => {
                    let has_sources = |node: &&u32| sources(node).any(|source| source != **node);
                    reduced = fresh.iter().filter(has_sources).count() as u64 * messages;
                }
                // Which sums are brought up to date depends on what changes around each.
                (_, true) => continue,
                (_, false) => first.extend(fresh.iter().flat_map(sources)),
            }
            let second = readers.iter().filter(|node| !fresh.contains(node)).count() as u64;
            let computed = fresh.len() as u64 * hidden;
            let wanted = first.len() as u64 * messages + reduced + second * sent;
            assert_eq!(found, wanted + computed + of_queries, "{plan} {sums}");
        }
    }
}

#[test]
fn the_edge_at_fault_is_named_wherever_it_is() {
    let queries = queries();
    let ready = support::debian("gcn2", PrecomputeOptions::default());
    let request = |change: &dyn Fn(&mut Vec<i64>)| {
        let mut request = support::request(&queries, 0..1024, &[]);
        let TensorData::Int64(edges) = request.inputs[1].tensor.data() else {
            unreachable!()
        };
        let (mut edges, shape) = (edges.clone(), request.inputs[1].tensor.shape().to_vec());
        change(&mut edges);
        request.inputs[1].tensor = Tensor::new(shape, TensorData::Int64(edges)).unwrap();
        request
    };
    let code = |request: &InferRequest| {
        let error = ready.engine.infer(request).unwrap_err();
        (error.code().to_owned(), error.to_string())
    };
    let nodes = ready.store.nodes() as i64;
    let count = queries.batch(0..1024).edge_node.len();
    assert!(count > 6_000, "more than are taken at once");
    for at in [0, 4_095, 4_096, count - 1] {
        for id in [-1, nodes, i64::MAX] {
            let (code, message) = code(&request(&|edges| edges[count + at] = id));
            assert_eq!(code, "unknown_node", "{message}");
            assert!(message.contains(&format!("edge {at} ")), "{message}");
        }
        for query in [-1, 1024, 1 << 32] {
            let (code, message) = code(&request(&|edges| edges[at] = query));
            assert_eq!(code, "edge_out_of_range", "{message}");
            assert!(message.contains(&format!("edge {at}")), "{message}");
        }
    }
    for directions in [0, count - 1, count + 1] {
        let mut request = request(&|_| {});
        let codes = TensorData::Uint8(vec![0; directions]);
        request.inputs.push(NamedTensor {
            name: "edge_direction".to_owned(),
            tensor: Tensor::new(vec![directions], codes).unwrap(),
        });
        assert_eq!(code(&request).0, "wrong_shape", "{directions} for {count}");
    }
}

#[test]
fn stored_nodes_are_answered_in_order_alone_and_after_new_ones() {
    let queries = queries();
    let ready = support::debian("gcn2", PrecomputeOptions::default());
    let stored = |ids: Vec<i64>| NamedTensor {
        name: "stored_ids".to_owned(),
        tensor: Tensor::new(vec![ids.len()], TensorData::Int64(ids)).unwrap(),
    };
    let ask = |request: &mut InferRequest, plan: &str| {
        request.outputs = Vec::new();
        let plan = ("plan".to_owned(), plan.into());
        request.parameters.extend([plan]);
        let response = ready.engine.infer(request).unwrap();
        let tensor = &response.outputs[0].tensor;
        let TensorData::Fp32(values) = tensor.data() else {
            unreachable!()
        };
        (tensor.shape().to_vec(), values.clone())
    };
    let by_position = ("node_ids".to_owned(), "position".into());
    let alone = |ids: Vec<i64>| InferRequest {
        inputs: vec![stored(ids)],
        parameters: [by_position.clone()].into_iter().collect(),
        ..InferRequest::default()
    };
    let (shape, values) = ask(&mut alone(vec![7, 2, 7, 30]), "pe");
    let width = shape[1];
    assert_eq!(shape, [4, width]);
    assert_eq!(values[..width], values[2 * width..3 * width]);
    for plan in ["pe", "refresh", "recompute:25%", "exact"] {
        for (at, id) in [7, 2, 7, 30].into_iter().enumerate() {
            let (_, one) = ask(&mut alone(vec![id]), plan);
            let difference = support::difference(&one, &values[at * width..][..width]);
            assert!(difference < 1e-5, "{plan}: {difference}");
        }
    }
    // Of a node to which new ones are attached, the exact answer is another.
    let batch = queries.batch(0..16);
    let near = i64::from(batch.edge_node[0]);
    let mut request = support::request(&queries, 0..16, &[]);
    let (_, without) = ask(&mut request, "exact");
    request.inputs.push(stored(vec![near]));
    let (shape, with) = ask(&mut request, "exact");
    assert_eq!(shape, [17, width]);
    assert!(support::difference(&without, &with[..16 * width]) < 1e-5);
    let (_, before) = ask(&mut alone(vec![near]), "exact");
    assert!(support::difference(&before, &with[16 * width..]) > 1e-4);
    let code = |request: &InferRequest| ready.engine.infer(request).unwrap_err().code().to_owned();
    let nodes = ready.store.nodes() as i64;
    assert_eq!(code(&alone(vec![0, nodes])), "unknown_node");
    assert_eq!(code(&alone(Vec::new())), "missing_input");
    // As a cluster reads it, which has no way to answer it.
    let dir = ModelDir::open(ready.dir.path(), None).unwrap();
    let model = GnnModel::load(dir.config(), &dir.weights_path()).unwrap();
    let format = RequestFormat::new(&dir, &model, GraphFacts::of(&ready.store)).unwrap();
    let refused = format
        .decode(&alone(vec![1]), ready.store.ids())
        .unwrap_err();
    assert_eq!(refused.code(), "stored_ids_in_cluster");
    let mut promised = alone(vec![1]);
    promised
        .parameters
        .extend([("min_fidelity".to_owned(), 0.5.into())]);
    assert_eq!(code(&promised), "stored_ids_not_promised");
}
