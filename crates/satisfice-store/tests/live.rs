//! Living graphs against a graph in maps, and writes that must be refused.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use proptest::prelude::*;
use satisfice_store::{
    Check, FeatureDType, NodeIdKind,
    live::{
        Ack, Changes, Follower, Limits, LiveError, LiveGraph, NodeId, Operation, Problem, Snapshot,
        SourceOffset, Write,
    },
};
use std::{
    sync::{Arc, Mutex, Weak},
    thread,
    time::{Duration, Instant},
};
use support::{
    Workshop,
    living::{Kind, Model, features, kinds, writes},
};

const STRINGS: Kind = Kind {
    ids: NodeIdKind::String,
    undirected: false,
    dtype: FeatureDType::F32,
};

fn write(operations: Vec<Operation>) -> Write {
    Write {
        operations,
        ..Write::default()
    }
}

fn open(workshop: &Workshop, kind: Kind) -> Arc<LiveGraph> {
    LiveGraph::open(&kind.import(workshop), Check::Checksums).unwrap()
}

/// What a model keeps of a graph, renewed only where it is told to.
#[derive(Default)]
struct Mirror(Mutex<Vec<Kept>>);

#[derive(Debug, Default, Clone, PartialEq)]
struct Kept {
    x: Vec<f32>,
    sources: Vec<u32>,
    out_degree: u32,
}

impl Mirror {
    fn of(snapshot: &Snapshot) -> Vec<Kept> {
        (0..snapshot.nodes() as u32)
            .map(|v| Kept {
                x: features(snapshot, v),
                sources: snapshot.in_neighbors(v).to_vec(),
                out_degree: snapshot.out_degree(v),
            })
            .collect()
    }
}

impl Follower for Mirror {
    fn advance(&self, snapshot: &Arc<Snapshot>, changes: &Changes) {
        let mut kept = self.0.lock().unwrap();
        if kept.is_empty() {
            *kept = Self::of(snapshot);
        }
        for list in [&changes.features, &changes.in_edges, &changes.out_degree] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
        kept.resize(snapshot.nodes(), Kept::default());
        for &v in &changes.features {
            kept[v as usize].x = features(snapshot, v);
        }
        for &v in &changes.in_edges {
            kept[v as usize].sources = snapshot.in_neighbors(v).to_vec();
        }
        for &v in &changes.out_degree {
            kept[v as usize].out_degree = snapshot.out_degree(v);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_living_graph_is_the_graph_in_maps(
        (kind, writes) in kinds().prop_flat_map(|kind| (Just(kind), writes(kind)))
    ) {
        let workshop = Workshop::new();
        let graph = open(&workshop, kind);
        let mirror = Arc::new(Mirror::default());
        let follower: Weak<dyn Follower> = Arc::downgrade(&(mirror.clone() as Arc<dyn Follower>));
        graph.follow(follower);
        let mut model = Model::sample(kind);
        model.check(&graph.snapshot());
        let mut version = 0;
        let mut kept: Vec<(Arc<Snapshot>, Model)> = Vec::new();
        for operations in writes {
            match (model.apply(&operations), graph.apply(write(operations), Ack::Durable)) {
                (Some(expected), Ok(applied)) => {
                    version += 1;
                    prop_assert_eq!(applied.version, version);
                    prop_assert_eq!(
                        satisfice_store::live::Applied { version, ..expected },
                        applied
                    );
                }
                (None, Err(LiveError::Operation { .. })) => {}
                (expected, found) => panic!("{expected:?}, but {found:?}"),
            }
            model.check(&graph.snapshot());
            kept.push((graph.snapshot(), model.clone()));
        }
        for (snapshot, model) in kept {
            model.check(&snapshot);
        }
        prop_assert!(graph.wait_for(version, Instant::now() + Duration::from_secs(10)));
        prop_assert_eq!(&*mirror.0.lock().unwrap(), &Mirror::of(&graph.snapshot()));
    }
}

#[test]
fn what_cannot_be_done_is_refused_whole_and_by_name() {
    let workshop = Workshop::new();
    let graph = open(&workshop, STRINGS);
    let text = |id: &str| NodeId::Text(id.to_owned());
    let put = |id, x: &[f32], label| Operation::PutNode {
        id,
        x: Some(x.into()),
        label,
    };
    let edge = |source, target| Operation::PutEdge { source, target };
    let good = put(text("new"), &[1.0, 2.0, 3.0], None);
    let nan = f32::NAN;
    let cases: Vec<(Operation, &str)> = vec![
        (
            put(text("a"), &[1.0, nan, 3.0], None),
            "feature 1 (counted from 0) is NaN",
        ),
        (
            put(text("a"), &[1.0, 2.0, f32::NEG_INFINITY], None),
            "is -inf",
        ),
        (
            put(text("a"), &[1.0, 2.0], None),
            "2 features, but nodes have 3",
        ),
        (put(text("a"), &[], None), "0 features, but nodes have 3"),
        (put(text(""), &[1.0, 2.0, 3.0], None), "an id of 0 bytes"),
        (
            put(text(&"x".repeat(70_000)), &[1.0; 3], None),
            "an id of 70000 bytes",
        ),
        (
            put(NodeId::Int(3), &[1.0; 3], None),
            "`3` is an integer, but the graph's ids are strings",
        ),
        (put(text("a"), &[1.0; 3], Some(-2)), "label -2 is no class"),
        (
            Operation::PutNode {
                id: text("a"),
                x: None,
                label: Some(1),
            },
            "needs features",
        ),
        (
            Operation::PutNode {
                id: text("node 1"),
                x: None,
                label: None,
            },
            "neither features nor",
        ),
        (
            Operation::DeleteNode { id: text("a") },
            "there is no node `a`",
        ),
        (edge(text("node 1"), text("a")), "there is no node `a`"),
        (edge(NodeId::Int(1), text("node 1")), "is an integer"),
    ];
    for (bad, wanted) in cases {
        let before = support::living::dump(&graph.snapshot());
        let refused = graph
            .apply(write(vec![good.clone(), bad]), Ack::Durable)
            .unwrap_err();
        let message = refused.to_string();
        assert!(
            message.starts_with("operation 1 (counted from 0; "),
            "{message}"
        );
        assert!(message.contains(wanted), "{wanted}: {message}");
        assert!(message.len() < 400, "{message}");
        assert_eq!(support::living::dump(&graph.snapshot()), before);
    }
    let twice = write(vec![
        good.clone(),
        good,
        Operation::DeleteNode { id: text("new") },
    ]);
    let applied = graph.apply(twice, Ack::Visible).unwrap();
    assert_eq!((applied.nodes_added, applied.nodes_deleted), (1, 1));
}

#[test]
fn positions_are_given_in_turn_and_to_a_limit() {
    let workshop = Workshop::new();
    let kind = Kind {
        ids: NodeIdKind::Position,
        dtype: FeatureDType::F16,
        ..STRINGS
    };
    let limits = Limits {
        nodes_max: 9,
        operations_max: 3,
        ..Limits::default()
    };
    let graph = LiveGraph::open_with(&kind.import(&workshop), Check::Structure, limits).unwrap();
    let put = |id, value| Operation::PutNode {
        id: NodeId::Int(id),
        x: Some([value; 3].into()),
        label: None,
    };
    let problem = |operation| match graph.apply(write(vec![operation]), Ack::Durable) {
        Err(LiveError::Operation { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    for id in [8, -1, i64::MAX, i64::MIN, i64::from(u32::MAX)] {
        assert_eq!(problem(put(id, 1.0)), Problem::Position { id, next: 7 });
    }
    // 65,520 rounds to infinity in 16 bits.
    assert!(matches!(
        problem(put(7, 65_520.0)),
        Problem::NotFinite { column: 0, .. }
    ));
    graph
        .apply(write(vec![put(7, 65_519.0), put(8, 0.1)]), Ack::Durable)
        .unwrap();
    assert_eq!(problem(put(9, 1.0)), Problem::TooManyNodes(9));
    assert_eq!(graph.snapshot().feature_patch(7).unwrap(), [65_504.0; 3]);
    let many = write(vec![put(7, 1.0); 4]);
    let refused = graph.apply(many, Ack::Durable).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "4 operations, but a write has at most 3; split it"
    );
}

#[test]
fn a_write_is_done_once_and_at_its_version() {
    let workshop = Workshop::new();
    let graph = open(&workshop, STRINGS);
    let delete = |node: u32| {
        vec![Operation::DeleteNode {
            id: STRINGS.id(node),
        }]
    };
    let named = |node, request_id: &str| Write {
        request_id: Some(request_id.to_owned()),
        ..write(delete(node))
    };
    let first = graph.apply(named(0, "one"), Ack::Durable).unwrap();
    let again = graph.apply(named(0, "one"), Ack::Durable).unwrap();
    assert!(again.repeated && !first.repeated);
    assert_eq!(
        satisfice_store::live::Applied {
            repeated: false,
            ..again
        },
        first
    );
    let reused = graph.apply(named(1, "one"), Ack::Durable).unwrap_err();
    assert!(matches!(reused, LiveError::RequestIdReused { .. }));
    let at = |node, offset| Write {
        offset: Some(SourceOffset {
            source: "stream".to_owned(),
            offset,
        }),
        ..write(delete(node))
    };
    assert_eq!(graph.apply(at(1, 10), Ack::Durable).unwrap().version, 2);
    for offset in [10, 9, 0] {
        let repeated = graph.apply(at(2, offset), Ack::Durable).unwrap();
        assert!(repeated.repeated && repeated.version == 2);
    }
    assert_eq!(graph.apply(at(2, 11), Ack::Durable).unwrap().version, 3);
    let moved = Write {
        if_version: Some(2),
        ..write(delete(3))
    };
    let refused = graph.apply(moved.clone(), Ack::Durable).unwrap_err();
    assert_eq!(
        refused,
        LiveError::VersionMoved {
            expected: 2,
            found: 3
        }
    );
    let applied = graph
        .apply(
            Write {
                if_version: Some(3),
                ..moved
            },
            Ack::Durable,
        )
        .unwrap();
    assert_eq!(applied.version, 4);
    for name in [String::new(), "x".repeat(257)] {
        let refused = graph.apply(named(4, &name), Ack::Durable).unwrap_err();
        assert!(matches!(refused, LiveError::Name { .. }));
    }
}

#[test]
fn rows_of_bytes_take_what_comes_back_finite() {
    let workshop = Workshop::new();
    let kind = Kind {
        dtype: FeatureDType::Int8,
        ..STRINGS
    };
    let graph = open(&workshop, kind);
    for largest in [
        f32::MAX,
        f32::MAX / 1.5,
        1.0e30,
        3.0,
        f32::MIN_POSITIVE,
        1.0e-42,
        0.0,
    ] {
        let x = [largest, -largest, largest / 3.0];
        let put = Operation::PutNode {
            id: STRINGS.id(1),
            x: Some(x.into()),
            label: None,
        };
        match graph.apply(write(vec![put]), Ack::Durable) {
            Ok(_) => {
                let snapshot = graph.snapshot();
                let kept = features(&snapshot, snapshot.position_of(&STRINGS.id(1)).unwrap());
                for (kept, x) in kept.iter().zip(x) {
                    let off = (kept / 2.0 - x / 2.0).abs();
                    assert!(off <= largest / 500.0 + 1.0e-43, "{kept:e} {x:e}");
                }
            }
            Err(LiveError::Operation {
                problem: Problem::NotFinite { .. },
                ..
            }) => {
                assert!(largest > 1.0e38);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn what_is_bounded_is_refused_beyond_its_bound() {
    let workshop = Workshop::new();
    let limits = Limits {
        sources_max: 2,
        patch_bytes_max: 2000,
        write_bytes_max: 400,
        request_ids_max: 3,
        ..Limits::default()
    };
    let path = STRINGS.import(&workshop);
    let graph = LiveGraph::open_with(&path, Check::Structure, limits).unwrap();
    let put = |node: u32| {
        vec![Operation::PutNode {
            id: STRINGS.id(node),
            x: Some([1.0; 3].into()),
            label: None,
        }]
    };
    let from = |source: &str, offset| Write {
        offset: Some(SourceOffset {
            source: source.to_owned(),
            offset,
        }),
        ..write(put(0))
    };
    graph.apply(from("a", 1), Ack::Durable).unwrap();
    graph.apply(from("b", 1), Ack::Durable).unwrap();
    let refused = graph.apply(from("c", 1), Ack::Durable).unwrap_err();
    assert!(
        matches!(refused, LiveError::Sources { max: 2, .. }),
        "{refused}"
    );
    graph.apply(from("a", 2), Ack::Durable).unwrap();
    let long = write((0..20).flat_map(put).collect());
    let refused = graph.apply(long, Ack::Durable).unwrap_err();
    assert!(
        matches!(refused, LiveError::TooLarge { what: "bytes", .. }),
        "{refused}"
    );
    // The oldest request id is forgotten, and may be used again.
    let named = |n: u32| Write {
        request_id: Some(n.to_string()),
        ..write(put(0))
    };
    for n in 0..4 {
        assert!(!graph.apply(named(n), Ack::Durable).unwrap().repeated);
    }
    assert!(graph.apply(named(3), Ack::Durable).unwrap().repeated);
    assert!(!graph.apply(named(0), Ack::Durable).unwrap().repeated);
    let mut writes = (10..40).map(|node| graph.apply(write(put(node)), Ack::Durable));
    let refused = writes.find_map(Result::err).unwrap();
    assert!(matches!(refused, LiveError::Full { .. }), "{refused}");
    assert!(
        refused.to_string().contains("satisfice compact"),
        "{refused}"
    );
    // What was done before is still told.
    assert!(graph.apply(from("a", 2), Ack::Durable).unwrap().repeated);
}

#[test]
fn writers_at_once_are_one_order() {
    let workshop = Workshop::new();
    let graph = open(&workshop, STRINGS);
    let versions: Vec<u64> = thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let graph = &graph;
                scope.spawn(move || {
                    let put = |n: usize| Operation::PutNode {
                        id: NodeId::Text(format!("{writer} {n}")),
                        x: Some([1.0; 3].into()),
                        label: None,
                    };
                    let apply = |n| graph.apply(write(vec![put(n)]), Ack::Visible).unwrap();
                    (0..50).map(|n| apply(n).version).collect::<Vec<_>>()
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let mut sorted = versions;
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(1..=400));
    assert_eq!(graph.snapshot().live_nodes(), 407);
}

#[test]
fn a_follower_that_fails_is_told_and_one_that_is_gone_is_not_waited_for() {
    struct Fails;
    impl Follower for Fails {
        fn advance(&self, snapshot: &Arc<Snapshot>, _: &Changes) {
            assert!(snapshot.version() == 0, "a follower fails");
        }
    }
    let workshop = Workshop::new();
    let graph = open(&workshop, STRINGS);
    let delete = |node: u32| {
        write(vec![Operation::DeleteNode {
            id: STRINGS.id(node),
        }])
    };
    let gone: Arc<dyn Follower> = Arc::new(Fails);
    graph.follow(Arc::downgrade(&gone));
    drop(gone);
    graph.apply(delete(0), Ack::Visible).unwrap();
    let follower: Arc<dyn Follower> = Arc::new(Mirror::default());
    graph.follow(Arc::downgrade(&follower));
    graph.apply(delete(1), Ack::Visible).unwrap();
    let fails: Arc<dyn Follower> = Arc::new(Fails);
    graph.follow(Arc::downgrade(&fails));
    let refused = graph.apply(delete(2), Ack::Visible).unwrap_err();
    assert_eq!(refused, LiveError::FollowerFailed { version: 3 });
    assert_eq!(graph.snapshot().version(), 3);
}
