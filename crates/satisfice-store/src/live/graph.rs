use super::{
    Ack, Applied, Follower, Limits, LiveError, Snapshot, Write,
    commit::Committer,
    disk::{Directory, Disk},
    follow::Followers,
    log::{LIVE, LogState},
    prepare::Schema,
    queue::{Answer, Event, Pending, Queue},
    recover::recover,
};
use crate::{Check, StoreError, manifest::MANIFEST};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
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
    log: Arc<LogState>,
    /// Holds the lock of the directory.
    _disk: Mutex<Box<dyn Disk>>,
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
    /// Bytes of the log.
    pub log_bytes: u64,
    /// False once the log could not be brought to the disk: then no write is taken.
    pub is_writable: bool,
}

impl LiveGraph {
    /// Opens the store in the directory `path` with all that was written to it, for this process alone.
    ///
    /// # Errors
    /// As [`GraphStore::open`](crate::GraphStore::open); another process has it open; its log is damaged.
    pub fn open(path: &Path, check: Check) -> Result<Arc<Self>, StoreError> {
        Self::open_with(path, check, Limits::default())
    }

    /// As [`open`](Self::open), with other limits.
    pub fn open_with(path: &Path, check: Check, limits: Limits) -> Result<Arc<Self>, StoreError> {
        if !path.join(MANIFEST).is_file() {
            return Err(StoreError::NotAStore {
                path: path.to_owned(),
            });
        }
        let disk = Directory::take(&path.join(LIVE))?;
        Self::open_on(path, check, limits, Box::new(disk))
    }

    /// As [`open_with`](Self::open_with), with the log on `disk`.
    pub(super) fn open_on(
        path: &Path,
        check: Check,
        limits: Limits,
        disk: Box<dyn Disk>,
    ) -> Result<Arc<Self>, StoreError> {
        let recovered = recover(path, check, limits, &*disk)?;
        let snapshot = recovered.snapshot;
        let schema = Schema::new(snapshot.base());
        let log = recovered.log.state();
        let committer = Committer::new(limits, recovered.log, recovered.memory);
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
            committer: Mutex::new(committer),
            log,
            followers,
            thread: Some(thread),
            _disk: Mutex::new(disk),
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
        if pending.encoded.len() > self.limits.write_bytes_max {
            return Err(LiveError::TooLarge {
                what: "bytes",
                found: pending.encoded.len(),
                max: self.limits.write_bytes_max,
            });
        }
        let answer = pending.answer();
        self.queue.push(pending, &self.limits)?;
        let applied = self.outcome(&answer)?;
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
            log_bytes: self.log.bytes.load(Ordering::Relaxed),
            is_writable: self.log.failure.get().is_none(),
        }
    }

    /// Does writes as one group.
    #[cfg(test)]
    pub(super) fn apply_together(&self, writes: Vec<Write>) -> Vec<Result<Applied, LiveError>> {
        let mut answers = Vec::new();
        for write in writes {
            let pending = Pending::new(self.schema.prepare(write, &self.limits).unwrap());
            answers.push(pending.answer());
            self.queue.push(pending, &self.limits).unwrap();
        }
        answers.iter().map(|answer| self.outcome(answer)).collect()
    }

    /// Waits for a write's outcome; commits a group, for others too, when it is its turn.
    fn outcome(&self, answer: &Answer) -> Result<Applied, LiveError> {
        loop {
            match answer.wait() {
                Event::Answered(outcome) => return outcome,
                Event::Turn => {
                    let group = self.queue.take_group();
                    let mut committer = self
                        .committer
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    committer.commit(group, &self.followers);
                    drop(committer);
                    self.queue.hand_over();
                }
            }
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
