use super::{Changes, Snapshot};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

/// Whoever shows a living graph, such as a model.
pub trait Follower: Send + Sync {
    /// Takes the next snapshot, in which `changes` differ from the one before; the first one is taken
    /// with no changes. Calls come in the order of the versions, one at a time.
    fn advance(&self, snapshot: &Arc<Snapshot>, changes: &Changes);
}

/// Those who follow a graph, and how far they are. One thread takes them along: what is committed
/// while it does so it takes together.
#[derive(Debug)]
pub(super) struct Followers {
    state: Mutex<State>,
    moved: Condvar,
    /// Held while followers advance.
    list: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry(Weak<dyn Follower>);

#[derive(Debug)]
struct State {
    /// The last snapshot that all have taken.
    shown: Arc<Snapshot>,
    /// The last one that is committed, and what differs in it from `shown`.
    committed: Arc<Snapshot>,
    changes: Changes,
    /// Whether a follower has failed, which shows nothing more.
    failed: bool,
    closed: bool,
}

impl Followers {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            state: Mutex::new(State {
                shown: snapshot.clone(),
                committed: snapshot,
                changes: Changes::default(),
                failed: false,
                closed: false,
            }),
            moved: Condvar::new(),
            list: Mutex::default(),
        }
    }

    /// The last committed snapshot.
    pub(super) fn committed(&self) -> Arc<Snapshot> {
        self.state().committed.clone()
    }

    pub(super) fn shown_version(&self) -> u64 {
        self.state().shown.version()
    }

    pub(super) fn add(&self, follower: Weak<dyn Follower>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // No round begins while the list is held, so this is what the next round's changes follow.
        let shown = self.state().shown.clone();
        let entry = Entry(follower);
        if entry.advance(&shown, &Changes::default()) {
            list.push(entry);
        } else {
            self.state().failed = true;
        }
    }

    /// Gives followers the next snapshot.
    pub(super) fn publish(&self, snapshot: Arc<Snapshot>, changes: &Changes) {
        let mut state = self.state();
        state.committed = snapshot;
        state.changes.extend(changes);
        drop(state);
        self.moved.notify_all();
    }

    /// Waits until all followers show `version`; `None` waits as long as it takes.
    ///
    /// Returns whether they do.
    pub(super) fn wait_for(&self, version: u64, until: Option<Instant>) -> bool {
        let mut state = self.state();
        loop {
            if state.shown.version() >= version {
                return !state.failed;
            }
            if state.failed || state.closed {
                return false;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    let waited = self.moved.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .moved
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends [`run`](Self::run).
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.moved.notify_all();
    }

    /// Takes the followers along until the graph is closed.
    pub(super) fn run(&self) {
        while self.wait_for_commit() {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            let (snapshot, changes) = {
                let mut state = self.state();
                (state.committed.clone(), std::mem::take(&mut state.changes))
            };
            list.retain(|entry| entry.0.strong_count() > 0);
            let before = list.len();
            list.retain(|entry| entry.advance(&snapshot, &changes));
            let mut state = self.state();
            state.failed |= list.len() < before;
            state.shown = snapshot;
            drop(state);
            self.moved.notify_all();
        }
    }

    fn wait_for_commit(&self) -> bool {
        let mut state = self.state();
        while state.shown.version() == state.committed.version() && !state.closed {
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Returns false when the follower panicked. One that is gone has nothing to show.
    fn advance(&self, snapshot: &Arc<Snapshot>, changes: &Changes) -> bool {
        self.0.upgrade().is_none_or(|follower| {
            catch_unwind(AssertUnwindSafe(|| follower.advance(snapshot, changes))).is_ok()
        })
    }
}
