//! From a store and its log to the graph.

use super::{
    Limits, Snapshot, Write,
    disk::Disk,
    draft::Draft,
    log::{Log, Logged},
    memory::{Done, Memory},
    prepare::Schema,
    resolve::resolve,
};
use crate::{Check, GraphStore, StoreError, node_ids::NODES_MAX};
use std::{mem, path::Path, sync::Arc};
use xxhash_rust::xxh3::xxh3_64;

/// Operations after which a replay makes a snapshot, which bounds what it holds beside it.
const OPERATIONS: usize = 1 << 20;

/// A graph as its log says.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) log: Log,
    pub(super) memory: Memory,
    /// The version that the store's files hold.
    pub(super) beginning: u64,
}

/// Opens the store in the directory `path`, and does again what its log says.
pub(super) fn recover(
    path: &Path,
    check: Check,
    limits: Limits,
    disk: &dyn Disk,
) -> Result<Recovered, StoreError> {
    let store = GraphStore::open_files(path, check)?;
    if store.edge_weights().is_some() {
        return Err(StoreError::Unsupported {
            path: path.to_owned(),
            message: "its edges have weights, and a graph with weights takes no writes".to_owned(),
            hint:
                "open it without writes, or import it again without the weights (--ignore-column)"
                    .to_owned(),
        });
    }
    let fingerprint = store.fingerprint();
    let mut replay = Replay {
        limits: Limits {
            operations_max: usize::MAX,
            nodes_max: NODES_MAX,
            ..limits
        },
        schema: Schema::of_rounded(&store),
        draft: Draft::new(Arc::new(Snapshot::of(store))),
        memory: Memory::default(),
        operations: 0,
    };
    let take = |writes: &[Logged<'_>], version| replay.group(writes, version);
    let (log, beginning) = Log::open(disk, path, &fingerprint, take)?;
    if replay.draft.version() < beginning.version {
        replay.draft.begin_at(beginning.version);
    }
    let mut memory = beginning.memory;
    memory.extend(replay.memory, limits.request_ids_max);
    Ok(Recovered {
        snapshot: finish(replay.draft),
        log,
        memory,
        beginning: beginning.version,
    })
}

struct Replay {
    limits: Limits,
    schema: Schema,
    draft: Draft,
    memory: Memory,
    operations: usize,
}

impl Replay {
    fn group(&mut self, writes: &[Logged<'_>], version: u64) -> Result<(), String> {
        self.draft.begin_at(version - writes.len() as u64);
        for (write, encoded) in writes {
            self.write(write, encoded)?;
        }
        if self.operations >= OPERATIONS {
            self.operations = 0;
            let next = Draft::new(self.draft.before());
            self.draft = Draft::new(finish(mem::replace(&mut self.draft, next)));
        }
        Ok(())
    }

    fn write(&mut self, write: &Write, encoded: &[u8]) -> Result<(), String> {
        let told = |error: super::LiveError| error.to_string();
        let write = self
            .schema
            .prepare(write.clone(), &self.limits)
            .map_err(told)?;
        let effects = resolve(&write.operations, &self.draft, &self.limits).map_err(told)?;
        let done = Done {
            operations: xxh3_64(encoded),
            applied: self.draft.apply(effects),
        };
        self.memory
            .remember(&write, done, self.limits.request_ids_max);
        self.operations += write.operations.len();
        Ok(())
    }
}

fn finish(draft: Draft) -> Arc<Snapshot> {
    let finished = draft.finish();
    finished.make_known();
    Arc::new(finished.snapshot)
}
