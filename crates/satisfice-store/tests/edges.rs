//! What becomes of duplicates, self-loops and reverses, against a dense count of edges.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use proptest::prelude::*;
use satisfice_store::{Check, GraphStore, ImportOptions, Source};
use support::{EXPORT, Graph, Workshop, edges, export_tensors, safetensors};

fn graph() -> impl Strategy<Value = Graph> {
    (1_usize..12).prop_flat_map(|nodes| {
        let node = 0..nodes as u32;
        proptest::collection::vec((node.clone(), node), 0..60).prop_map(move |edges| Graph {
            x: vec![vec![0.5]; nodes],
            edges,
            y: vec![0; nodes],
        })
    })
}

/// How often each edge stands, `[source][target]`, as `PyTorch` Geometric would have it.
fn dense(graph: &Graph, options: &ImportOptions) -> Vec<Vec<u64>> {
    let nodes = graph.nodes();
    let mut counts = vec![vec![0_u64; nodes]; nodes];
    for &(source, target) in &graph.edges {
        if source == target && options.remove_self_loops {
            continue;
        }
        counts[source as usize][target as usize] += 1;
        if options.undirected {
            counts[target as usize][source as usize] += 1;
        }
    }
    if options.undirected || options.merge_duplicates {
        counts
            .iter_mut()
            .flatten()
            .for_each(|count| *count = (*count).min(1));
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn edges_are_those_of_pyg(
        graph in graph(),
        undirected: bool,
        merge_duplicates: bool,
        remove_self_loops: bool,
    ) {
        let workshop = Workshop::new();
        let export = workshop.path("g.safetensors");
        safetensors(&export, &export_tensors(&graph), &[EXPORT]);
        let options = ImportOptions {
            undirected,
            merge_duplicates,
            remove_self_loops,
            ..ImportOptions::default()
        };
        let (out, summary) = workshop.import(&Source::Export(export), &options).unwrap();
        let store = GraphStore::open(&out, Check::Checksums).unwrap();
        let wanted = dense(&graph, &options);
        let nodes = graph.nodes();
        let mut found = vec![vec![0; nodes]; nodes];
        for (source, target) in edges(&store) {
            found[source as usize][target as usize] += 1;
        }
        prop_assert_eq!(&found, &wanted);
        let out_degree: Vec<u64> = store.out_degree().iter().map(|&d| u64::from(d)).collect();
        let sums: Vec<u64> = wanted.iter().map(|row| row.iter().sum()).collect();
        prop_assert_eq!(out_degree, sums);
        let loops: Vec<(u32, u32)> = (0..nodes)
            .map(|v| (v as u32, wanted[v][v] as u32))
            .filter(|&(_, count)| count > 0)
            .collect();
        prop_assert_eq!(store.self_loops().collect::<Vec<_>>(), loops);
        prop_assert_eq!(store.manifest().undirected, undirected);
        prop_assert_eq!(summary.duplicates_merged, undirected || merge_duplicates);
        let isolated = (0..nodes).filter(|&v| {
            (0..nodes).all(|u| wanted[u][v] == 0 && wanted[v][u] == 0)
        });
        prop_assert_eq!(summary.isolated, isolated.count());
        if !undirected {
            let all: u64 = dense(&graph, &ImportOptions { remove_self_loops, ..Default::default() })
                .iter().flatten().map(|&count| count.saturating_sub(1)).sum();
            prop_assert_eq!(summary.duplicates, all);
        }
    }

    #[test]
    fn a_graph_that_says_it_is_undirected_is_held_to_it(graph in graph()) {
        let workshop = Workshop::new();
        let export = workshop.path("g.safetensors");
        safetensors(&export, &export_tensors(&graph), &[EXPORT, ("undirected", "true")]);
        let source = Source::Export(export);
        let counts = dense(&graph, &ImportOptions::default());
        let nodes = graph.nodes();
        let honest = (0..nodes).all(|u| (0..nodes).all(|v| {
            counts[u][v] == counts[v][u] && counts[u][v] <= 1
        }));
        let imported = workshop.import(&source, &ImportOptions::default());
        prop_assert_eq!(imported.is_ok(), honest);
        if let Ok((out, summary)) = imported {
            prop_assert!(summary.duplicates_merged);
            prop_assert!(GraphStore::open(&out, Check::Structure).unwrap().manifest().undirected);
        }
        let options = ImportOptions { undirected: true, ..ImportOptions::default() };
        prop_assert!(workshop.import(&source, &options).is_ok());
    }
}

#[test]
fn a_large_graph_is_sorted_and_merged_across_tasks() {
    // A hub and a long tail: rows of one node and of many are sorted in parallel.
    let nodes = 50_000_u32;
    let hub = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) % nodes, 7));
    let tail = (0..200_000_u32).map(|i| (i % nodes, i.wrapping_mul(40_503) % nodes));
    let graph = Graph {
        x: vec![vec![1.0]; nodes as usize],
        edges: hub.chain(tail).collect(),
        y: vec![0; nodes as usize],
    };
    let workshop = Workshop::new();
    let export = workshop.path("g.safetensors");
    safetensors(&export, &export_tensors(&graph), &[EXPORT]);
    for merge_duplicates in [false, true] {
        let options = ImportOptions {
            merge_duplicates,
            ..ImportOptions::default()
        };
        let (out, _) = workshop
            .import(&Source::Export(export.clone()), &options)
            .unwrap();
        let store = GraphStore::open(&out, Check::Checksums).unwrap();
        let mut wanted: Vec<(u32, u32)> = graph.edges.iter().map(|&(s, t)| (t, s)).collect();
        wanted.sort_unstable();
        if merge_duplicates {
            wanted.dedup();
        }
        let found: Vec<(u32, u32)> = edges(&store).into_iter().map(|(s, t)| (t, s)).collect();
        assert!(found == wanted, "merge_duplicates = {merge_duplicates}");
    }
}
