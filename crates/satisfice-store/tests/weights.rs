//! Weights of edges, from every source, against a naive sum.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use proptest::prelude::*;
use satisfice_store::{
    Check, DType, GraphStore, ImportOptions, Queries, Source, StoreError, Tables, live::LiveGraph,
    verify,
};
use std::{collections::BTreeMap, fs, path::PathBuf};
use support::{
    EXPORT, Graph, PLAIN, Tensor, Workshop, arrays, bytes_of, edges, export_tensors, files, npy,
    npz,
    parquet_file::{self, Cells},
    queries_file, refused, safetensors,
};
use zip::CompressionMethod;

const WEIGHTS: [f32; 4] = [0.1, 10.0, 0.5, 4.0];

/// A ring of four nodes.
fn ring() -> Graph {
    Graph {
        x: (0..4).map(|v| vec![v as f32, 0.5]).collect(),
        edges: vec![(0, 1), (1, 2), (2, 3), (3, 0)],
        y: vec![0; 4],
    }
}

fn tables(workshop: &Workshop, edges: PathBuf, weight_column: Option<&str>) -> Source {
    let nodes = "id,f1,f2\n0,0,0.5\n1,1,0.5\n2,2,0.5\n3,3,0.5\n";
    Source::Tables(Tables {
        nodes: workshop.write("nodes.csv", nodes),
        edges,
        weight_column: weight_column.map(str::to_owned),
        ..Tables::default()
    })
}

fn weight_tensor(weights: &[f32]) -> Tensor {
    let shape = vec![weights.len()];
    ("edge_weight", DType::F32, shape, bytes_of(weights))
}

fn export(workshop: &Workshop, graph: &Graph, weights: &[f32], undirected: &str) -> Source {
    let mut tensors = export_tensors(graph);
    tensors.push(weight_tensor(weights));
    let path = workshop.path("g.safetensors");
    safetensors(&path, &tensors, &[EXPORT, ("undirected", undirected)]);
    Source::Export(path)
}

fn arrays_with(workshop: &Workshop, name: &str, weights: Vec<u8>) -> Source {
    let mut arrays = arrays(&ring());
    arrays.push(("edge_weight", weights));
    let path = workshop.path(name);
    npz(&path, &arrays, CompressionMethod::Deflated);
    Source::Arrays(path)
}

/// (source, target, weight) of every edge, by target and source.
fn weighted(store: &GraphStore) -> Vec<(u32, u32, f32)> {
    let weights = store.edge_weights().unwrap();
    let edges = edges(store);
    assert_eq!(edges.len(), weights.len());
    let each = edges.into_iter().zip(weights);
    each.map(|((source, target), &weight)| (source, target, weight))
        .collect()
}

#[test]
fn every_source_gives_its_weights() {
    let workshop = Workshop::new();
    let named = "source,target,weight\n0,1,0.1\n1,2,10\n2,3,0.5\n3,0,4\n";
    let parquet = workshop.path("e.parquet");
    let columns = [
        ("Edge_Weight", Cells::Double(vec![0.1, 10.0, 0.5, 4.0])),
        ("dst", Cells::Int64(vec![1, 2, 3, 0])),
        ("src", Cells::Int64(vec![0, 1, 2, 3])),
    ];
    parquet_file::write(&parquet, &columns, 4, 3);
    let [e1, e2, e3] = [
        workshop.write("e1.csv", named),
        workshop.write("e2.tsv", named.replace(',', "\t").replace("weight", "km")),
        workshop.write("e3.csv", named.split_once('\n').unwrap().1),
    ];
    let doubles = WEIGHTS.map(f64::from);
    let sources = [
        tables(&workshop, e1, None),
        tables(&workshop, e2, Some("KM")),
        tables(&workshop, e3, Some("3")),
        tables(&workshop, parquet, None),
        arrays_with(
            &workshop,
            "a.npz",
            npy("<f4", false, &[4], &bytes_of(&WEIGHTS)),
        ),
        arrays_with(
            &workshop,
            "b.npz",
            npy("<f8", true, &[4, 1], &bytes_of(&doubles)),
        ),
        export(&workshop, &ring(), &WEIGHTS, "false"),
    ];
    for source in sources {
        let (out, summary) = workshop.import(&source, &PLAIN).unwrap();
        assert!(summary.weighted && summary.skipped_columns.is_empty());
        let store = GraphStore::open(&out, Check::Checksums).unwrap();
        let wanted = [(3, 0, 4.0), (0, 1, 0.1), (1, 2, 10.0), (2, 3, 0.5)];
        assert_eq!(weighted(&store), wanted, "{source:?}");
    }
}

#[test]
fn weights_may_be_left_out_by_name() {
    let workshop = Workshop::new();
    let table = workshop.write("e.csv", "source,target,weight\n0,1,0.1\n");
    let array = npy("<f4", false, &[4], &bytes_of(&WEIGHTS));
    let sources = [
        ("weight", tables(&workshop, table, None)),
        ("edge_weight", arrays_with(&workshop, "a.npz", array)),
        ("edge_weight", export(&workshop, &ring(), &WEIGHTS, "false")),
    ];
    for (name, source) in sources {
        let options = ImportOptions {
            ignored_columns: vec![name.to_owned()],
            ..PLAIN
        };
        let (out, summary) = workshop.import(&source, &options).unwrap();
        assert_eq!(summary.skipped_columns, [name]);
        assert!(!summary.weighted);
        let store = GraphStore::open(&out, Check::Checksums).unwrap();
        assert_eq!(store.edge_weights(), None);
        let manifest = String::from_utf8(files(&out)["manifest.toml"].clone()).unwrap();
        assert!(!manifest.contains("weight"), "{manifest}");
    }
}

#[test]
fn weights_that_are_no_weights_are_refused_with_their_place() {
    let workshop = Workshop::new();
    let cells = [
        ("", "line 3: column `weight`"),
        ("nan", "line 3: column `weight`: \"nan\" is not a finite"),
        ("1e39", "is not a finite f32"),
        ("heavy", "\"heavy\" is not a finite f32"),
    ];
    for (cell, wanted) in cells {
        let text = format!("source,target,weight\n0,1,0.1\n1,2,{cell}\n");
        let source = tables(&workshop, workshop.write("e.csv", text), None);
        refused(&workshop, &source, &PLAIN, wanted);
    }
    let table = workshop.write("e.csv", "source,target,weight\n0,1,0.1\n");
    let misspelt = tables(&workshop, table, Some("wieght"));
    refused(&workshop, &misspelt, &PLAIN, "no column is called `wieght`");
    let two = workshop.write("e2.csv", "source,target,weight,edge_weight\n0,1,1,1\n");
    let wanted = "column `edge_weight` would be lost";
    refused(&workshop, &tables(&workshop, two, None), &PLAIN, wanted);
    let array = |shape: &[usize], weights: &[f64]| npy("<f8", false, shape, &bytes_of(weights));
    let wrong = [
        (array(&[3], &[1.0; 3]), "there are 4 edges"),
        (array(&[2, 2], &[1.0; 4]), "there are 4 edges"),
        (
            array(&[4], &[1.0, 1.0, f64::INFINITY, 1.0]),
            "weight of edge 2",
        ),
        (array(&[4], &[1.0, 1e300, 1.0, 1.0]), "weight of edge 1"),
    ];
    for (weights, wanted) in wrong {
        let source = arrays_with(&workshop, "a.npz", weights);
        let message = refused(&workshop, &source, &PLAIN, wanted);
        assert!(message.contains("`edge_weight`"), "{message}");
    }
}

#[test]
fn an_undirected_graph_has_one_weight_in_both_directions() {
    let workshop = Workshop::new();
    let graph = Graph {
        edges: vec![(0, 1), (1, 0), (2, 2)],
        ..ring()
    };
    let source = export(&workshop, &graph, &[0.5, 0.25, 1.0], "true");
    let wanted = "the edge from node 1 to node 0 has another weight than its reverse";
    refused(&workshop, &source, &PLAIN, wanted);
    let source = export(&workshop, &graph, &[0.5, 0.5, 1.0], "true");
    let (out, _) = workshop.import(&source, &PLAIN).unwrap();
    let store = GraphStore::open(&out, Check::Checksums).unwrap();
    assert_eq!(weighted(&store), [(1, 0, 0.5), (0, 1, 0.5), (2, 2, 1.0)]);
}

#[test]
fn merged_weights_that_overflow_are_refused() {
    let workshop = Workshop::new();
    let graph = Graph {
        edges: vec![(0, 1), (0, 1)],
        ..ring()
    };
    let source = export(&workshop, &graph, &[3e38, 3e38], "false");
    let options = ImportOptions {
        merge_duplicates: true,
        ..PLAIN
    };
    refused(&workshop, &source, &options, "from node 0 to node 1 add up");
    assert!(workshop.import(&source, &PLAIN).is_ok());
}

#[test]
fn damaged_weights_are_found() {
    let workshop = Workshop::new();
    let source = export(&workshop, &ring(), &WEIGHTS, "false");
    let (out, _) = workshop.import(&source, &PLAIN).unwrap();
    verify(&out).unwrap();
    let path = out.join("topology.safetensors");
    let whole = fs::read(&path).unwrap();
    let needle = bytes_of(&[4.0_f32, 0.1, 10.0, 0.5]);
    let at = whole.windows(16).position(|bytes| bytes == needle).unwrap();
    let mut damaged = whole.clone();
    damaged[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &damaged).unwrap();
    let error = GraphStore::open(&out, Check::Structure).unwrap_err();
    assert!(error.to_string().contains("weight of edge 0"), "{error}");
    let error = verify(&out).unwrap_err().to_string();
    assert!(error.contains("weights"), "{error}");
}

#[test]
fn what_cannot_take_weights_refuses_them() {
    let workshop = Workshop::new();
    let source = export(&workshop, &ring(), &WEIGHTS, "false");
    let (out, _) = workshop.import(&source, &PLAIN).unwrap();
    let error = LiveGraph::open(&out, Check::Structure).unwrap_err();
    assert!(matches!(error, StoreError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("weights"), "{error}");
    GraphStore::open(&out, Check::Checksums).unwrap();

    let path = workshop.path("q.safetensors");
    queries_file(&path);
    Queries::open(&path).unwrap();
    for name in ["edge_weight", "query_edge_weight"] {
        let tensors = vec![
            ("x", DType::F32, vec![1, 2], bytes_of(&[0.5_f32, 1.0])),
            ("edge_index", DType::I64, vec![2, 1], bytes_of(&[0_i64, 0])),
            (name, DType::F32, vec![1], bytes_of(&[1.0_f32])),
        ];
        safetensors(&path, &tensors, &[("format", "satisfice-queries-1")]);
        let error = Queries::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
}

fn graph() -> impl Strategy<Value = (Graph, Vec<f32>)> {
    (1_usize..9).prop_flat_map(|nodes| {
        let node = 0..nodes as u32;
        let edge = (node.clone(), node, -8.0_f32..8.0);
        proptest::collection::vec(edge, 0..40).prop_map(move |edges| {
            let graph = Graph {
                x: vec![vec![0.5]; nodes],
                edges: edges.iter().map(|e| (e.0, e.1)).collect(),
                y: vec![0; nodes],
            };
            (graph, edges.iter().map(|e| e.2).collect())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn weights_follow_their_edges(
        (graph, weights) in graph(),
        undirected: bool,
        merge_duplicates: bool,
        remove_self_loops: bool,
    ) {
        let workshop = Workshop::new();
        let source = export(&workshop, &graph, &weights, "false");
        let options = ImportOptions { undirected, merge_duplicates, remove_self_loops, ..PLAIN };
        let (out, _) = workshop.import(&source, &options).unwrap();
        let store = GraphStore::open(&out, Check::Checksums).unwrap();
        // What `to_undirected` does: all edges, then all of them the other way round, a loop too.
        let mut wanted: BTreeMap<(u32, u32), Vec<f32>> = BTreeMap::new();
        let there = graph.edges.iter().copied().zip(&weights);
        let back = graph.edges.iter().map(|&(s, t)| (t, s)).zip(&weights);
        for ((source, target), &weight) in there.chain(back.filter(|_| undirected)) {
            if source != target || !remove_self_loops {
                wanted.entry((target, source)).or_default().push(weight);
            }
        }
        let mut found: BTreeMap<(u32, u32), Vec<f32>> = BTreeMap::new();
        for (source, target, weight) in weighted(&store) {
            found.entry((target, source)).or_default().push(weight);
        }
        if !undirected && !merge_duplicates {
            // Those of parallel edges keep the order in which they came.
            prop_assert_eq!(found, wanted);
        } else {
            prop_assert!(found.keys().eq(wanted.keys()));
            for (edge, weights) in &found {
                let sum: f64 = wanted[edge].iter().map(|&w| f64::from(w)).sum();
                prop_assert_eq!(weights.len(), 1);
                prop_assert!((f64::from(weights[0]) - sum).abs() <= 1e-5, "{:?}", edge);
                if undirected {
                    prop_assert_eq!(weights, &found[&(edge.1, edge.0)]);
                }
            }
        }
    }
}

#[test]
fn rows_of_many_edges_keep_their_weights() {
    let nodes = 50_000_u32;
    let hub = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) % nodes, 7));
    let tail = (0..200_000_u32).map(|i| (i % nodes, i.wrapping_mul(40_503) % nodes));
    let graph = Graph {
        x: vec![vec![1.0]; nodes as usize],
        edges: hub.chain(tail).collect(),
        y: vec![0; nodes as usize],
    };
    let weights: Vec<f32> = (0..graph.edges.len()).map(|at| at as f32).collect();
    let workshop = Workshop::new();
    let source = export(&workshop, &graph, &weights, "false");
    let (out, _) = workshop.import(&source, &PLAIN).unwrap();
    let store = GraphStore::open(&out, Check::Checksums).unwrap();
    let mut wanted: Vec<(u32, u32, u32)> = (0..)
        .zip(&graph.edges)
        .map(|(at, &(source, target))| (target, source, at))
        .collect();
    wanted.sort_unstable();
    let found = weighted(&store).into_iter();
    let found: Vec<_> = found.map(|(s, t, weight)| (t, s, weight as u32)).collect();
    assert!(found == wanted);
}
