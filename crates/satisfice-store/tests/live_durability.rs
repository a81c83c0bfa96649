//! Living graphs on a real disk: opened again, killed, opened twice, and read without their log.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use proptest::prelude::*;
use satisfice_store::{
    Check, FeatureDType, GraphStore, NodeIdKind, StoreError,
    live::{Ack, LiveGraph, NodeId, Operation, SourceOffset, Write},
    verify,
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use support::{
    Workshop,
    living::{Kind, Model, dump, kinds, writes},
};

const STRINGS: Kind = Kind {
    ids: NodeIdKind::String,
    undirected: true,
    dtype: FeatureDType::F32,
};

fn open(path: &Path) -> std::sync::Arc<LiveGraph> {
    LiveGraph::open(path, Check::Structure).unwrap()
}

fn write(operations: Vec<Operation>) -> Write {
    Write {
        operations,
        ..Write::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_graph_that_is_opened_again_is_the_same_bit_for_bit(
        (kind, writes) in kinds().prop_flat_map(|kind| (Just(kind), writes(kind)))
    ) {
        let workshop = Workshop::new();
        let path = kind.import(&workshop);
        let mut model = Model::sample(kind);
        let mut before = dump(&open(&path).snapshot());
        for operations in writes.chunks(5) {
            let graph = open(&path);
            prop_assert_eq!(&dump(&graph.snapshot()), &before);
            for operations in operations {
                let applied = graph.apply(write(operations.clone()), Ack::Durable);
                prop_assert_eq!(applied.is_ok(), model.apply(operations).is_some());
            }
            before = dump(&graph.snapshot());
        }
        let graph = open(&path);
        prop_assert_eq!(&dump(&graph.snapshot()), &before);
        model.check(&graph.snapshot());
    }
}

#[test]
fn what_was_done_is_remembered_and_one_process_has_the_graph() {
    let workshop = Workshop::new();
    let path = STRINGS.import(&workshop);
    let named = Write {
        request_id: Some("one".to_owned()),
        ..write(vec![Operation::DeleteNode { id: STRINGS.id(0) }])
    };
    let from_stream = Write {
        offset: Some(SourceOffset {
            source: "stream".to_owned(),
            offset: 7,
        }),
        ..write(vec![Operation::DeleteNode { id: STRINGS.id(1) }])
    };
    let graph = open(&path);
    let first = graph.apply(named.clone(), Ack::Durable).unwrap();
    let second = graph.apply(from_stream.clone(), Ack::Durable).unwrap();
    let refused = LiveGraph::open(&path, Check::Structure)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is writing it"), "{refused}");
    drop(graph);
    let graph = open(&path);
    for (write, before) in [(named, first), (from_stream, second)] {
        let again = graph.apply(write, Ack::Durable).unwrap();
        assert!(again.repeated);
        assert_eq!(again.edges_deleted, before.edges_deleted);
        assert_eq!(again.version, before.version);
    }
    assert_eq!(graph.snapshot().version(), 2);
}

#[test]
fn files_without_their_log_are_not_read() {
    let workshop = Workshop::new();
    let path = STRINGS.import(&workshop);
    drop(open(&path));
    GraphStore::open(&path, Check::Structure).unwrap();
    assert_eq!(verify(&path).unwrap().log.unwrap().writes, 0);
    let delete = write(vec![Operation::DeleteNode { id: STRINGS.id(0) }]);
    open(&path).apply(delete, Ack::Durable).unwrap();
    let log = verify(&path).unwrap().log.unwrap();
    assert_eq!((log.writes, log.version), (1, 1));
    let refused = GraphStore::open(&path, Check::Structure).unwrap_err();
    assert!(matches!(refused, StoreError::Written { .. }), "{refused}");
    assert!(
        refused.to_string().contains("satisfice compact"),
        "{refused}"
    );
    // The log of another store's files is nobody's to ignore.
    let other = Workshop::new();
    let kind = Kind {
        undirected: false,
        ..STRINGS
    };
    let other = kind.import(&other);
    fs::create_dir(other.join("live")).unwrap();
    for entry in fs::read_dir(path.join("live")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), other.join("live").join(entry.file_name())).unwrap();
    }
    for refused in [
        GraphStore::open(&other, Check::Structure).unwrap_err(),
        LiveGraph::open(&other, Check::Structure).unwrap_err(),
    ] {
        assert!(matches!(refused, StoreError::Log { .. }), "{refused}");
    }
}

const CHILD: &str = "SATISFICE_TEST_LIVING_GRAPH";

/// What the test below starts and kills.
#[test]
#[ignore = "started by another test"]
fn writer_that_is_killed() {
    let Ok(path) = env::var(CHILD) else { return };
    let graph = open(Path::new(&path));
    thread::scope(|scope| {
        for writer in 0..3 {
            let graph = &graph;
            scope.spawn(move || {
                let first = graph.snapshot().version();
                for n in 0.. {
                    let key = format!("{first} {writer} {n}");
                    let id = NodeId::Text(key.clone());
                    let node = Operation::PutNode {
                        id: id.clone(),
                        x: Some([1.0; 3].into()),
                        label: None,
                    };
                    let edge = Operation::PutEdge {
                        source: STRINGS.id(6),
                        target: id,
                    };
                    let applied = graph.apply(write(vec![node, edge]), Ack::Durable).unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged,{},{key}", applied.version).unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
}

#[test]
fn kill_minus_nine_loses_nothing_acknowledged() {
    let workshop = Workshop::new();
    let path = STRINGS.import(&workshop);
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    for kill in 0..32_u64 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "writer_that_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            let acknowledged = lines.filter_map(|line| {
                let (_, told) = line.split_once("acknowledged,")?;
                let (version, key) = told.split_once(',')?;
                Some((version.parse().ok()?, key.to_owned()))
            });
            acknowledged.collect::<Vec<(u64, String)>>()
        });
        thread::sleep(Duration::from_millis(40 + kill * 7 % 90));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
        let snapshot = open(&path).snapshot();
        for (version, key) in &acknowledged {
            assert!(*version <= snapshot.version());
            let node = snapshot
                .position_of_text(key)
                .unwrap_or_else(|| panic!("{key} is lost"));
            let hub = snapshot.position_of(&STRINGS.id(6)).unwrap();
            assert_eq!(snapshot.in_neighbors(node), [hub]);
        }
        assert_eq!(snapshot.live_nodes() as u64, 7 + snapshot.version());
        assert_eq!(snapshot.in_degree(6) as u64, snapshot.version());
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}
