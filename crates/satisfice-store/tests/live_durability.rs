//! Living graphs on a real disk: opened again, killed, opened twice, and read without their log.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod support;

use proptest::prelude::*;
use satisfice_store::{
    Check, FeatureDType, GraphStore, ImportOptions, NoProgress, NodeIdKind, Source, StoreError,
    import,
    live::{Ack, LiveGraph, NodeId, Operation, Snapshot, SourceOffset, Write, compact, copy_store},
    verify,
};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use support::{
    Workshop,
    living::{Kind, Model, dump, features, kinds, owned, writes},
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

/// What a snapshot says of each node, without positions.
fn by_id(snapshot: &Snapshot) -> BTreeMap<NodeId, String> {
    let ids = |list: &[u32]| {
        let mut ids: Vec<NodeId> = list.iter().map(|&v| owned(snapshot.id_of(v))).collect();
        ids.sort();
        ids
    };
    let live = (0..snapshot.nodes() as u32).filter(|&v| !snapshot.is_deleted(v));
    live.map(|v| {
        let bits: Vec<u32> = features(snapshot, v).iter().map(|x| x.to_bits()).collect();
        let (to, from) = (
            ids(snapshot.in_neighbors(v)),
            ids(snapshot.out_neighbors(v)),
        );
        (
            owned(snapshot.id_of(v)),
            format!("{to:?} {from:?} {} {bits:?}", snapshot.label(v)),
        )
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_compacted_graph_is_the_same_graph_in_files_alone(
        (kind, writes) in kinds().prop_flat_map(|kind| (Just(kind), writes(kind)))
    ) {
        let workshop = Workshop::new();
        let path = kind.import(&workshop);
        let mut model = Model::sample(kind);
        let graph = open(&path);
        let mut last = 0;
        for (n, operations) in writes.iter().enumerate() {
            let named = Write { request_id: Some(n.to_string()), ..write(operations.clone()) };
            if let Ok(applied) = graph.apply(named, Ack::Durable) {
                last = applied.version;
            }
            model.apply(operations);
        }
        let before = graph.snapshot();
        drop(graph);
        let compacted = compact(&path, &NoProgress);
        if before.live_nodes() == 0 {
            let is_refused = matches!(compacted, Err(StoreError::NodeCount { .. }));
            prop_assert!(is_refused);
            return Ok(());
        }
        let summary = compacted.unwrap();
        prop_assert_eq!((summary.writes, summary.version), (last, last));
        prop_assert_eq!(summary.reclaimed, before.nodes() - before.live_nodes());
        let store = GraphStore::open(&path, Check::Checksums).unwrap();
        prop_assert_eq!(store.nodes(), before.live_nodes());
        prop_assert_eq!(store.edges(), before.edges());
        let loops: u32 = store.self_loops().map(|(_, count)| count).sum();
        prop_assert_eq!(store.manifest().self_loops, u64::from(loops));
        let graph = open(&path);
        let after = graph.snapshot();
        prop_assert!(after.is_base());
        prop_assert_eq!(after.version(), last);
        model.check(&after);
        prop_assert_eq!(by_id(&after), by_id(&before));
        // What was done is still known, and what follows is done.
        for (n, operations) in writes.iter().enumerate() {
            let named = Write { request_id: Some(n.to_string()), ..write(operations.clone()) };
            if let Ok(applied) = graph.apply(named, Ack::Durable) {
                prop_assert!(applied.repeated || applied.version > last);
            }
        }
        let names = support::files_of(&path);
        prop_assert!(names.iter().all(|name| !name.ends_with(".partial")), "{:?}", names);
        prop_assert_eq!(names.len(), store.manifest().files.len() + 2);
    }
}

#[test]
fn a_copy_of_a_graph_that_is_being_written_is_the_graph_at_one_version() {
    let workshop = Workshop::new();
    let path = STRINGS.import(&workshop);
    let graph = open(&path);
    let put = |n: u64| {
        let id = NodeId::Text(format!("new {n}"));
        let node = Operation::PutNode {
            id: id.clone(),
            x: Some([n as f32; 3].into()),
            label: None,
        };
        write(vec![
            node,
            Operation::PutEdge {
                source: STRINGS.id(6),
                target: id,
            },
        ])
    };
    thread::scope(|scope| {
        let graph = &graph;
        let writer = scope.spawn(move || {
            for n in 1..=300 {
                graph.apply(put(n), Ack::Durable).unwrap();
            }
        });
        for copy in 0.. {
            let at_least = graph.snapshot().version();
            let to = workshop.path(&format!("copy {copy}"));
            let summary = copy_store(&path, &to).unwrap();
            assert!(summary.version >= at_least);
            let copied = open(&to).snapshot();
            assert_eq!(copied.version(), summary.version);
            assert_eq!(copied.in_degree(6) as u64, summary.version);
            assert_eq!(copied.live_nodes() as u64, 7 + summary.version);
            if writer.is_finished() {
                break;
            }
        }
    });
    let to = workshop.path("last");
    assert_eq!(copy_store(&path, &to).unwrap().version, 300);
    assert_eq!(dump(&open(&to).snapshot()), dump(&graph.snapshot()));
    let refused = copy_store(&path, &to).unwrap_err();
    assert!(matches!(refused, StoreError::Exists { .. }), "{refused}");
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
    // Nor is it replaced while it is written: what is acknowledged would go with it.
    let options = ImportOptions {
        overwrite: true,
        ..support::PLAIN
    };
    let source = Source::Export(workshop.path("graph.safetensors"));
    let refused = import(&source, &options, &path, &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is writing it"), "{refused}");
    let refused = compact(&path, &NoProgress).unwrap_err().to_string();
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

#[test]
fn a_graph_that_is_imported_anew_begins_without_writes() {
    let workshop = Workshop::new();
    let path = STRINGS.import(&workshop);
    let delete = write(vec![Operation::DeleteNode { id: STRINGS.id(0) }]);
    open(&path).apply(delete, Ack::Durable).unwrap();
    let options = ImportOptions {
        overwrite: true,
        undirected: true,
        ..support::PLAIN
    };
    let source = Source::Export(workshop.path("graph.safetensors"));
    import(&source, &options, &path, &NoProgress).unwrap();
    assert_eq!(
        GraphStore::open(&path, Check::Checksums).unwrap().nodes(),
        7
    );
    assert_eq!(open(&path).snapshot().version(), 0);
}
