//! Power lost, disks that fail and are full, and logs that are damaged, at every point of a workload.

use super::{
    Ack, Limits, LiveError, LiveGraph, NodeId, Operation, Snapshot, Write,
    compact::{compact, compact_in_steps},
    simulated_disk::{Faults, SimulatedDisk},
};
use crate::{Check, GraphStore, ImportOptions, NoProgress, Source, StoreError, Tables, import};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// Everything of a snapshot.
type Dump = Vec<String>;

struct Workload {
    _dir: TempDir,
    store: PathBuf,
    /// Writes that are committed together.
    groups: Vec<Vec<Write>>,
    /// The graph by version, after each group.
    states: BTreeMap<u64, Dump>,
    steps: u64,
}

fn dump(snapshot: &Snapshot) -> Dump {
    let node = |v| {
        format!(
            "{} {} {:?} {:?} {:?}",
            snapshot.id_of(v),
            snapshot.is_deleted(v),
            snapshot.in_neighbors(v),
            snapshot.out_neighbors(v),
            snapshot.feature_patch(v),
        )
    };
    (0..snapshot.nodes() as u32).map(node).collect()
}

fn text(id: &str) -> NodeId {
    NodeId::Text(id.to_owned())
}

fn groups() -> Vec<Vec<Write>> {
    let mut writes = (0..30_usize).map(|n| {
        let (id, before) = (text(&format!("n{n}")), text(&format!("n{}", n.max(1) - 1)));
        let mut operations = vec![
            Operation::PutNode {
                id: id.clone(),
                x: Some([n as f32, 0.5].into()),
                label: None,
            },
            Operation::PutEdge {
                source: text("bash"),
                target: id.clone(),
            },
            Operation::PutEdge {
                source: id.clone(),
                target: before.clone(),
            },
        ];
        if n % 5 == 4 {
            operations.push(Operation::DeleteNode { id: before.clone() });
        }
        // Some are longer than a sector.
        for m in 0..(n % 7) * 12 {
            let id = text(&format!("n{n} {m}"));
            operations.push(Operation::PutNode {
                id,
                x: Some([1.0, 2.0].into()),
                label: None,
            });
        }
        Write {
            operations,
            request_id: Some(format!("write {n}")),
            ..Write::default()
        }
    });
    let mut groups = Vec::new();
    while let Some(first) = writes.next() {
        let more = groups.len() % 3;
        groups.push(
            std::iter::once(first)
                .chain(writes.by_ref().take(more))
                .collect(),
        );
    }
    groups
}

impl Workload {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (edges, nodes) = (dir.path().join("edges.csv"), dir.path().join("nodes.csv"));
        fs::write(&edges, "source,target\nbash,libc\nlibc,libc\n").unwrap();
        fs::write(&nodes, "id,x,y2\nbash,0.5,1\nlibc,1.5,2\n").unwrap();
        let tables = Tables {
            edges,
            nodes,
            ..Tables::default()
        };
        let store = dir.path().join("graph");
        import(
            &Source::Tables(tables),
            &ImportOptions::default(),
            &store,
            &NoProgress,
        )
        .unwrap();
        let mut workload = Self {
            _dir: dir,
            store,
            groups: groups(),
            states: BTreeMap::new(),
            steps: 0,
        };
        let disk = SimulatedDisk::default();
        let graph = workload.open(&disk).unwrap();
        let mut states = BTreeMap::from([(0, dump(&graph.snapshot()))]);
        for group in &workload.groups {
            assert!(commit(&graph, group).iter().all(Result::is_ok));
            states.insert(graph.snapshot().version(), dump(&graph.snapshot()));
        }
        workload.states = states;
        workload.steps = disk.steps();
        workload
    }

    fn open(&self, disk: &SimulatedDisk) -> Result<Arc<LiveGraph>, StoreError> {
        let disk = Box::new(disk.clone());
        LiveGraph::open_on(&self.store, Check::Structure, Limits::default(), disk)
    }

    /// Does the workload until something fails; returns the last version that was acknowledged.
    fn run(&self, disk: &SimulatedDisk) -> u64 {
        let Ok(graph) = self.open(disk) else { return 0 };
        let mut acknowledged = 0;
        for group in &self.groups {
            let outcomes = commit(&graph, group);
            for outcome in outcomes {
                match outcome {
                    Ok(applied) => acknowledged = applied.version,
                    Err(LiveError::LogFailed { .. }) => {
                        assert_eq!(dump(&graph.snapshot()), self.states[&acknowledged]);
                        return acknowledged;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        acknowledged
    }

    /// Opens the graph, which must be one of the workload's and have what was acknowledged; does the
    /// whole workload again, as a caller does who does not know what was done.
    fn check(&self, disk: &SimulatedDisk, acknowledged: u64) {
        let graph = self.open(disk).unwrap();
        let snapshot = graph.snapshot();
        assert!(
            snapshot.version() >= acknowledged,
            "{} lacks {acknowledged}",
            snapshot.version()
        );
        assert_eq!(Some(&dump(&snapshot)), self.states.get(&snapshot.version()));
        for group in &self.groups {
            for outcome in commit(&graph, group) {
                let applied = outcome.unwrap();
                assert_eq!(applied.repeated, applied.version <= snapshot.version());
            }
        }
        let (last, state) = self.states.last_key_value().unwrap();
        assert_eq!(
            (graph.snapshot().version(), &dump(&graph.snapshot())),
            (*last, state)
        );
    }
}

/// Commits writes as one group.
fn commit(graph: &LiveGraph, group: &[Write]) -> Vec<Result<super::Applied, LiveError>> {
    graph.apply_together(group.to_vec())
}

#[test]
fn power_loss_at_every_step_loses_nothing_acknowledged_and_shows_nothing_half() {
    let workload = Workload::new();
    assert!(workload.steps > 30);
    for step in 1..=workload.steps + 1 {
        for seed in 0..6 {
            let faults = Faults {
                power_loss: Some(step),
                ..Faults::default()
            };
            let disk = SimulatedDisk::default().restarted(faults, seed * 977 + step);
            let acknowledged = workload.run(&disk);
            // The power may go again while the graph is recovered.
            for again in 1..4 {
                let faults = Faults {
                    power_loss: Some(again),
                    ..Faults::default()
                };
                let second = disk.restarted(faults, seed);
                let _ = workload.open(&second);
                workload.check(&second.restarted(Faults::default(), 0), acknowledged);
            }
        }
    }
}

#[test]
fn a_failure_at_any_step_ends_writing_and_keeps_what_was_acknowledged() {
    let workload = Workload::new();
    for step in 2..=workload.steps {
        let faults = Faults {
            failure: Some(step),
            ..Faults::default()
        };
        let disk = SimulatedDisk::default().restarted(faults, step);
        let acknowledged = workload.run(&disk);
        workload.check(&disk.restarted(Faults::default(), 0), acknowledged);
    }
    let disk = SimulatedDisk::default().restarted(
        Faults {
            failure: Some(6),
            ..Faults::default()
        },
        0,
    );
    let graph = workload.open(&disk).unwrap();
    let failed = workload
        .groups
        .iter()
        .flat_map(|group| commit(&graph, group));
    let failed = failed.filter(Result::is_err).count();
    assert!(failed > 20, "{failed}");
    assert!(!graph.status().is_writable);
    assert_eq!(graph.snapshot().version(), graph.status().version);
}

#[test]
fn a_full_disk_refuses_and_takes_writes_again_when_there_is_room() {
    let workload = Workload::new();
    let mut refused = 0;
    for step in 1..=workload.steps {
        let faults = Faults {
            full: Some(step),
            ..Faults::default()
        };
        let disk = SimulatedDisk::default().restarted(faults, step);
        let graph = workload.open(&disk).unwrap();
        let mut acknowledged = 0;
        for group in &workload.groups {
            let before = dump(&graph.snapshot());
            while commit(&graph, group).iter().any(Result::is_err) {
                refused += 1;
                assert_eq!(dump(&graph.snapshot()), before);
                assert!(graph.status().is_writable);
            }
            acknowledged = graph.snapshot().version();
        }
        assert_eq!(
            Some(&dump(&graph.snapshot())),
            workload.states.get(&acknowledged)
        );
        drop(graph);
        workload.check(&disk.restarted(Faults::default(), 0), acknowledged);
    }
    assert_eq!(refused, workload.groups.len());
}

#[test]
fn a_damaged_byte_is_found_and_never_read_as_another_graph() {
    let workload = Workload::new();
    let disk = SimulatedDisk::default();
    let last = workload.run(&disk);
    let log = disk.log();
    let before_last = *workload.states.range(..last).next_back().unwrap().0;
    let mut cut = 0;
    for at in (0..log.len()).step_by(11) {
        let mut damaged = log.clone();
        damaged[at] ^= 1 << (at % 7);
        let disk = disk.restarted(Faults::default(), 0);
        disk.set_log(&damaged);
        match workload.open(&disk) {
            Err(StoreError::Log { .. }) => {}
            Err(other) => panic!("{other}"),
            // The last group may be what a crash has left; zeros that fill a frame up are not read.
            Ok(graph) => {
                let version = graph.snapshot().version();
                cut += usize::from(version == before_last);
                assert!(
                    version == before_last || version == last,
                    "byte {at}: {version}"
                );
                assert_eq!(dump(&graph.snapshot()), workload.states[&version]);
            }
        }
    }
    assert!(cut > 3, "{cut}");
    for len in (0..log.len()).step_by(29) {
        disk.set_log(&log[..len]);
        match workload.open(&disk.restarted(Faults::default(), 0)) {
            Err(StoreError::Log { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(graph) => {
                let version = graph.snapshot().version();
                assert_eq!(dump(&graph.snapshot()), workload.states[&version]);
            }
        }
    }
}

#[test]
fn a_log_without_room_names_the_way_out() {
    let workload = Workload::new();
    let limits = Limits {
        log_bytes_max: 2000,
        ..Limits::default()
    };
    let disk = Box::new(SimulatedDisk::default());
    let graph = LiveGraph::open_on(&workload.store, Check::Structure, limits, disk).unwrap();
    let outcomes = workload
        .groups
        .iter()
        .flatten()
        .map(|write| graph.apply(write.clone(), Ack::Durable));
    let refused: Vec<LiveError> = outcomes.filter_map(Result::err).collect();
    assert!(
        matches!(refused[0], LiveError::Full { what: "log", .. }),
        "{}",
        refused[0]
    );
    assert!(refused[0].to_string().contains("satisfice compact"));
    assert!(graph.status().log_bytes < 2000 + 4096);
}

#[test]
fn a_compaction_that_stops_anywhere_leaves_the_graph() {
    let workload = Workload::new();
    let graph = LiveGraph::open(&workload.store, Check::Structure).unwrap();
    for group in &workload.groups {
        assert!(commit(&graph, group).iter().all(Result::is_ok));
    }
    let expected = by_id(&graph.snapshot());
    let version = graph.snapshot().version();
    drop(graph);
    // What is on the disk at each step, as a process that is killed there leaves it.
    let mut stopped = Vec::new();
    compact_in_steps(&workload.store, &NoProgress, &mut || {
        let left = tempfile::tempdir().unwrap();
        copy_directory(&workload.store, left.path());
        stopped.push(left);
    })
    .unwrap();
    assert_eq!(stopped.len(), 5);
    for left in &stopped {
        // Where new files were being written, halves of them too.
        fs::write(left.path().join("features-77.safetensors.partial"), "half").unwrap();
        let reopened = LiveGraph::open(left.path(), Check::Checksums).unwrap();
        assert_eq!(reopened.snapshot().version(), version);
        assert_eq!(by_id(&reopened.snapshot()), expected);
        drop(reopened);
        compact(left.path(), &NoProgress).unwrap();
        let store = GraphStore::open(left.path(), Check::Checksums).unwrap();
        let files = fs::read_dir(left.path()).unwrap().count();
        assert_eq!(
            files,
            store.manifest().files.len() + 2,
            "the manifest and `live`"
        );
        assert_eq!(fs::read_dir(left.path().join("live")).unwrap().count(), 1);
        let snapshot = LiveGraph::open(left.path(), Check::Checksums)
            .unwrap()
            .snapshot();
        assert!(snapshot.is_base());
        assert_eq!(
            (snapshot.version(), by_id(&snapshot)),
            (version, expected.clone())
        );
    }
}

fn by_id(snapshot: &Snapshot) -> BTreeMap<String, Vec<String>> {
    let live = (0..snapshot.nodes() as u32).filter(|&v| !snapshot.is_deleted(v));
    live.map(|v| {
        let sources = snapshot.in_neighbors(v).iter();
        let mut ids: Vec<String> = sources.map(|&s| snapshot.id_of(s).to_string()).collect();
        ids.sort();
        (snapshot.id_of(v).to_string(), ids)
    })
    .collect()
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_directory(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}
