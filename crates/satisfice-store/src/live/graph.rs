use super::{
    Ack, Applied, Follower, Limits, LiveError, Snapshot, Write,
    commit::Committer,
    follow::Followers,
    prepare::Schema,
    queue::{Pending, Queue},
};
use crate::{Check, GraphStore, StoreError};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Instant,
};

/// A graph that takes writes.
///
/// Writes come from any number of threads. Those that wait while the log is brought to the disk share
/// the next time that it is; whose turn it is does that for the others. Reading takes no lock that a
/// write holds for longer than a pointer's exchange.
#[derive(Debug)]
pub struct LiveGraph {
    limits: Limits,
    schema: Schema,
    queue: Queue,
    committer: Mutex<Committer>,
    followers: Arc<Followers>,
    thread: Option<JoinHandle<()>>,
}

/// Where a living graph stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveStatus {
    /// The last committed version.
    pub version: u64,
    /// The last version that every follower shows.
    pub shown_version: u64,
    /// Nodes.
    pub nodes: usize,
    /// Directed edges.
    pub edges: usize,
    /// Bytes of the differences from the store in memory, about.
    pub patch_bytes: u64,
}

impl LiveGraph {
    /// Opens the store in the directory `path`.
    ///
    /// # Errors
    /// As [`GraphStore::open`].
    pub fn open(path: &Path, check: Check) -> Result<Arc<Self>, StoreError> {
        Self::open_with(path, check, Limits::default())
    }

    /// As [`open`](Self::open), with other limits.
    pub fn open_with(path: &Path, check: Check, limits: Limits) -> Result<Arc<Self>, StoreError> {
        let store = GraphStore::open(path, check)?;
        let schema = Schema::new(&store);
        let snapshot = Arc::new(Snapshot::of(store, 0));
        let followers = Arc::new(Followers::new(snapshot));
        let thread = {
            let followers = followers.clone();
            thread::Builder::new()
                .name("graph-followers".to_owned())
                .spawn(move || followers.run())
                .map_err(|source| StoreError::Io {
                    path: path.to_owned(),
                    action: "start a thread for it",
                    source,
                })?
        };
        Ok(Arc::new(Self {
            limits,
            schema,
            queue: Queue::default(),
            committer: Mutex::new(Committer::new(limits)),
            followers,
            thread: Some(thread),
        }))
    }

    /// Does a write, all of it or nothing. Blocks until it is as far as `ack` says; a wait for
    /// followers has no end but theirs ([`wait_for`](Self::wait_for) has one).
    ///
    /// # Errors
    /// Why the write was refused. [`LiveError::LogFailed`] and [`LiveError::FollowerFailed`] say
    /// what is then known of it.
    pub fn apply(&self, write: Write, ack: Ack) -> Result<Applied, LiveError> {
        let pending = Pending::new(self.schema.prepare(write, &self.limits)?);
        let answer = pending.answer();
        let is_turn = self.queue.push(pending, self.limits.waiting_max)?;
        if is_turn {
            self.commit_all();
        }
        let applied = answer.wait()?;
        if ack == Ack::Visible && !self.followers.wait_for(applied.version, None) {
            return Err(LiveError::FollowerFailed {
                version: applied.version,
            });
        }
        Ok(applied)
    }

    /// The graph as it is committed.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.followers.committed()
    }

    /// Makes `follower` follow the graph: it takes the snapshot that others show before this returns,
    /// then the next after each group of commits, until it is dropped.
    pub fn follow(&self, follower: Weak<dyn Follower>) {
        self.followers.add(follower);
    }

    /// Waits until every follower shows `version`, at most until `until`. Returns whether they do.
    pub fn wait_for(&self, version: u64, until: Instant) -> bool {
        self.followers.wait_for(version, Some(until))
    }

    /// Where the graph stands.
    pub fn status(&self) -> LiveStatus {
        let snapshot = self.snapshot();
        LiveStatus {
            version: snapshot.version(),
            shown_version: self.followers.shown_version(),
            nodes: snapshot.live_nodes(),
            edges: snapshot.edges(),
            patch_bytes: snapshot.patch_bytes(),
        }
    }

    /// Commits what waits, group by group, until nothing does.
    fn commit_all(&self) {
        while let Some(group) = self.queue.take_group() {
            let mut committer = self
                .committer
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            committer.commit(group, &self.followers);
        }
    }
}

impl Drop for LiveGraph {
    fn drop(&mut self) {
        self.followers.close();
        if let Some(thread) = self.thread.take()
            // A follower that held the graph may be the last to drop it, on that thread.
            && thread.thread().id() != thread::current().id()
        {
            // It has caught what followers do; there is nothing to tell.
            let _ = thread.join();
        }
    }
}
