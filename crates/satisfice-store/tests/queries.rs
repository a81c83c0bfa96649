//! Batches of held-out queries against a naive slice.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use half::f16;
use proptest::prelude::*;
use satisfice_store::{DType, Queries, QuerySlice, StoreError};
use std::ops::Range;
use support::{Tensor, Workshop, bytes_of, queries_file, safetensors};

const FORMAT: (&str, &str) = ("format", "satisfice-queries-1");

/// What a queries file holds.
#[derive(Debug, Clone)]
struct Case {
    x: Vec<f32>,
    y: Option<Vec<i64>>,
    edges: Vec<(u32, u32, u8)>,
    directed: bool,
    between: Option<Vec<(u32, u32)>>,
}

const WIDTH: usize = 3;

impl Case {
    fn queries(&self) -> usize {
        self.x.len() / WIDTH
    }

    fn tensors(&self) -> Vec<Tensor> {
        let count = self.queries();
        let pairs = |a: Vec<i64>, b: Vec<i64>| bytes_of(&[a, b].concat());
        let mut tensors = vec![
            ("x", DType::F32, vec![count, WIDTH], bytes_of(&self.x)),
            (
                "edge_index",
                DType::I64,
                vec![2, self.edges.len()],
                pairs(
                    self.edges.iter().map(|e| e.0.into()).collect(),
                    self.edges.iter().map(|e| e.1.into()).collect(),
                ),
            ),
        ];
        if let Some(y) = &self.y {
            tensors.push(("y", DType::I64, vec![count], bytes_of(y)));
        }
        if self.directed {
            let codes = self.edges.iter().map(|e| e.2).collect();
            tensors.push(("edge_direction", DType::U8, vec![self.edges.len()], codes));
        }
        if let Some(between) = &self.between {
            let bytes = pairs(
                between.iter().map(|e| e.0.into()).collect(),
                between.iter().map(|e| e.1.into()).collect(),
            );
            tensors.push((
                "query_edge_index",
                DType::I64,
                vec![2, between.len()],
                bytes,
            ));
        }
        tensors
    }

    fn check(&self, range: Range<usize>, found: &QuerySlice) {
        let inside = |q: u32| range.contains(&(q as usize));
        let first = range.start as u32;
        let mut edges: Vec<_> = self.edges.iter().filter(|e| inside(e.0)).collect();
        edges.sort_by_key(|e| e.0);
        let mut between: Vec<_> = self.between.iter().flatten().copied().collect();
        between.sort_by_key(|e| e.0);
        between.retain(|e| inside(e.0) && inside(e.1));
        assert_eq!(found.queries(), range.len());
        assert_eq!(found.x, self.x[range.start * WIDTH..range.end * WIDTH]);
        assert_eq!(
            found.labels,
            self.y.as_ref().map(|y| y[range.clone()].to_vec())
        );
        assert_eq!(
            found.edge_query,
            edges.iter().map(|e| e.0 - first).collect::<Vec<_>>()
        );
        assert_eq!(
            found.edge_node,
            edges.iter().map(|e| e.1).collect::<Vec<_>>()
        );
        let codes = self
            .directed
            .then(|| edges.iter().map(|e| e.2).collect::<Vec<_>>());
        assert_eq!(found.edge_direction, codes);
        let between: Vec<_> = between.iter().map(|e| (e.0 - first, e.1 - first)).collect();
        assert_eq!(found.query_edges, between);
    }
}

fn case() -> impl Strategy<Value = Case> {
    (0_usize..9, any::<bool>(), any::<bool>(), any::<bool>()).prop_flat_map(
        |(queries, labels, directed, between)| {
            let some = if queries == 0 { 0 } else { 40 };
            let query = 0..queries.max(1) as u32;
            let edges = (query.clone(), 0_u32..1000, 0_u8..3);
            let pairs = proptest::collection::vec((query.clone(), query), 0..=some);
            (
                proptest::collection::vec(-9.0_f32..9.0, queries * WIDTH),
                proptest::collection::vec(-1_i64..50, queries),
                proptest::collection::vec(edges, 0..=some),
                pairs,
            )
                .prop_map(move |(x, y, edges, pairs)| Case {
                    x,
                    y: labels.then_some(y),
                    edges,
                    directed,
                    between: between.then_some(pairs),
                })
        },
    )
}

proptest! {
    #[test]
    fn batches_are_slices(case in case()) {
        let workshop = Workshop::new();
        let path = workshop.path("q.safetensors");
        safetensors(&path, &case.tensors(), &[FORMAT]);
        let queries = Queries::open(&path).unwrap();
        prop_assert_eq!(queries.len(), case.queries());
        for start in 0..=case.queries() {
            for end in start..=case.queries() {
                case.check(start..end, &queries.batch(start..end));
            }
        }
        case.check(0..case.queries(), &queries.batch(0..usize::MAX));
    }
}

#[test]
fn names_edges_and_features_are_as_written() {
    let workshop = Workshop::new();
    let path = workshop.path("q.safetensors");
    queries_file(&path);
    let queries = Queries::open(&path).unwrap();
    assert_eq!(queries.name(1), Some("bé"));
    assert_eq!(queries.name(2), Some(""));
    assert_eq!(queries.name(4), None);
    assert_eq!(queries.features().width(), 2);
    assert_eq!(queries.labels(), Some(&[1, -1, 0, 2][..]));
    let edges: Vec<_> = queries
        .edges()
        .iter()
        .map(|e| (e.query, e.node, e.direction))
        .collect();
    assert_eq!(
        edges,
        [(0, 1, 1), (0, 1, 1), (2, 6, 0), (2, 0, 2), (3, 5, 0)]
    );
    assert_eq!(queries.query_edges(), [(0, 1), (2, 3), (3, 2)]);
}

#[test]
fn half_precision_and_small_integers_are_read() {
    let workshop = Workshop::new();
    let path = workshop.path("q.safetensors");
    let x = [f16::from_f32(0.5), f16::from_f32(-2.0)];
    let tensors = [
        ("x", DType::F16, vec![2, 1], bytes_of(&x)),
        ("edge_index", DType::I32, vec![2, 1], bytes_of(&[1_i32, 9])),
    ];
    safetensors(&path, &tensors, &[FORMAT]);
    let slice = Queries::open(&path).unwrap().batch(0..2);
    assert_eq!(slice.x, [0.5, -2.0]);
    assert_eq!((slice.edge_query, slice.edge_node), (vec![1], vec![9]));
    assert_eq!((slice.labels, slice.edge_direction), (None, None));
}

#[test]
fn queries_that_contradict_themselves_are_refused() {
    let case = Case {
        x: vec![1.0; 6],
        y: Some(vec![0, 1]),
        edges: vec![(0, 1, 2), (1, 2, 0)],
        directed: true,
        between: Some(vec![(0, 1)]),
    };
    let edge = |q: i64, n: i64| {
        (
            "edge_index",
            DType::I64,
            vec![2, 2],
            bytes_of(&[0, q, 1, n]),
        )
    };
    let names = |offsets: [i64; 3]| {
        [
            ("id_offsets", DType::I64, vec![3], bytes_of(&offsets)),
            ("id_bytes", DType::U8, vec![3], b"a\xffc".to_vec()),
        ]
    };
    let mut cases: Vec<(Vec<Tensor>, &str)> = vec![
        (vec![edge(2, 0)], "[0, 1] is 2, not in 0 .. 2"),
        (vec![edge(-1, 0)], "[0, 1] is -1"),
        (vec![edge(0, -5)], "[1, 1] is -5"),
        (vec![edge(0, 1 << 40)], "[1, 1] is 1099511627776"),
        (
            vec![("edge_index", DType::I64, vec![4], bytes_of(&[0_i64; 4]))],
            "[2, any]",
        ),
        (
            vec![("edge_index", DType::F32, vec![2, 1], bytes_of(&[0_f32; 2]))],
            "holds F32",
        ),
        (
            vec![("edge_direction", DType::U8, vec![2], vec![0, 3])],
            "edge 1",
        ),
        (
            vec![("edge_direction", DType::U8, vec![1], vec![0])],
            "shape [1]",
        ),
        (
            vec![("x", DType::F32, vec![6], bytes_of(&[0_f32; 6]))],
            "`x` has shape [6]",
        ),
        (
            vec![("x", DType::F32, vec![2, 0], vec![])],
            "one column at least",
        ),
        (
            vec![("x", DType::I64, vec![2, 1], bytes_of(&[0_i64; 2]))],
            "holds I64",
        ),
        (
            vec![("y", DType::I64, vec![3], bytes_of(&[0_i64; 3]))],
            "`y` has shape [3]",
        ),
        (
            vec![("y", DType::I64, vec![2], bytes_of(&[0_i64, -2]))],
            "label -2",
        ),
        (
            vec![(
                "query_edge_index",
                DType::I32,
                vec![2, 1],
                bytes_of(&[0_i32, 2]),
            )],
            "query_edge_index",
        ),
    ];
    cases.push((names([0, 1, 3]).to_vec(), "not UTF-8"));
    cases.push((names([0, 2, 1]).to_vec(), "less than the one before"));
    cases.push((names([0, -1, 3]).to_vec(), "less than the one before"));
    cases.push((names([0, 1, 9]).to_vec(), "9, but there are 3 bytes"));
    let mut infinite = vec![1.0_f32; 6];
    infinite[4] = f32::INFINITY;
    cases.push((
        vec![("x", DType::F32, vec![2, 3], bytes_of(&infinite))],
        "node 1 (counted from 0), feature 1",
    ));
    let workshop = Workshop::new();
    let path = workshop.path("q.safetensors");
    for (replaced, wanted) in cases {
        let mut tensors = case.tensors();
        tensors.retain(|t| replaced.iter().all(|r| r.0 != t.0));
        tensors.extend(replaced);
        safetensors(&path, &tensors, &[FORMAT]);
        let error = Queries::open(&path).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(error.contains("q.safetensors"), "{error}");
    }
    safetensors(&path, &case.tensors(), &[("format", "satisfice-graph-1")]);
    assert!(matches!(
        Queries::open(&path),
        Err(StoreError::Unsupported { .. })
    ));
}
