//! Engines on async threads: how many at once, and what becomes of everybody else when one is not as brief
//! as all before it.
//!
//! An async thread that an engine keeps reads no connection. It may also be the one that waited for the
//! network on behalf of all: the others then sleep, each waiting for another thread to wake it, and the
//! whole server is deaf. So one thread is always left, and when an engine keeps its thread for long, another
//! one is woken, which finds nothing to do and waits for the network from then on.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// Time between two looks while there are turns, and what is long for one.
const LOOK: Duration = Duration::from_millis(10);

/// The turns that engines have on async threads.
pub(crate) struct BriefTurns {
    shared: Arc<Shared>,
    watch: Thread,
}

#[derive(Default)]
struct Shared {
    turns: Mutex<Turns>,
    /// Whether the watch sleeps until it is woken.
    sleeps: AtomicBool,
    closed: AtomicBool,
}

#[derive(Default)]
struct Turns {
    under_way: Vec<(u64, Instant, Handle)>,
    begun: u64,
}

impl BriefTurns {
    /// Starts the thread that sees turns that are long.
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("brief-watch".to_owned());
        let spawned = thread.spawn(move || watched.watch());
        let watch = spawned.expect("invariant: the system has a thread for the watch");
        Self {
            watch: watch.thread().clone(),
            shared,
        }
    }

    /// A turn for an engine on this thread, if another async thread is left for the network.
    pub(crate) fn begin(&self) -> Option<BriefTurn<'_>> {
        let handle = Handle::try_current().ok()?;
        let threads = handle.metrics().num_workers();
        let mut turns = self.shared.lock();
        if turns.under_way.len() + 1 >= threads {
            return None;
        }
        turns.begun += 1;
        let id = turns.begun;
        turns.under_way.push((id, Instant::now(), handle));
        drop(turns);
        if self.shared.sleeps.swap(false, Ordering::AcqRel) {
            self.watch.unpark();
        }
        Some(BriefTurn {
            shared: &self.shared,
            id,
        })
    }
}

impl Drop for BriefTurns {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.watch.unpark();
    }
}

/// One turn, until it is dropped.
pub(crate) struct BriefTurn<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for BriefTurn<'_> {
    fn drop(&mut self) {
        let mut turns = self.shared.lock();
        turns.under_way.retain(|&(id, ..)| id != self.id);
    }
}

impl Shared {
    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a thread for every turn that is long; sleeps while there are no turns.
    fn watch(&self) {
        let mut seen = 0;
        while !self.closed.load(Ordering::Acquire) {
            let turns = self.lock();
            let long = turns.under_way.iter();
            let long = long.filter(|(_, since, _)| since.elapsed() >= LOOK);
            let long: Vec<Handle> = long.map(|(.., handle)| handle.clone()).collect();
            let quiet = turns.under_way.is_empty() && turns.begun == seen;
            seen = turns.begun;
            // A turn that begins from here on sees that the watch sleeps, and wakes it.
            self.sleeps.store(quiet, Ordering::Release);
            drop(turns);
            for handle in long {
                handle.spawn(async {});
            }
            match quiet {
                true => std::thread::park(),
                false => std::thread::sleep(LOOK),
            }
        }
    }
}
