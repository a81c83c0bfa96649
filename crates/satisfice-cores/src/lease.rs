//! What one piece of work is granted.

use crate::{Stopped, Usage};
use std::{
    fmt,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Says the cores granted from the number of boundaries before.
type Script = Box<dyn Fn(u64) -> usize + Send + Sync>;

/// The cores of one piece of work: set by whoever hands them out, seen by the work at its boundaries.
pub(crate) struct Lease {
    granted: AtomicUsize,
    stopped: AtomicBool,
    deadline: Option<Instant>,
    held: AtomicUsize,
    /// Nanoseconds.
    own: AtomicU64,
    helped: AtomicU64,
    asleep: AtomicU64,
    /// What a thread sleeps at that has no core.
    bed: Mutex<()>,
    woken: Condvar,
    script: Option<(Script, AtomicU64)>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("granted", &self.granted)
            .field("stopped", &self.stopped)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

static ALL: Lease = Lease::new(usize::MAX, None);

impl Lease {
    /// All cores, of which nothing is taken back.
    pub(crate) fn all() -> &'static Self {
        &ALL
    }

    pub(crate) const fn new(cores: usize, deadline: Option<Instant>) -> Self {
        Self {
            granted: AtomicUsize::new(cores),
            stopped: AtomicBool::new(false),
            deadline,
            held: AtomicUsize::new(0),
            own: AtomicU64::new(0),
            helped: AtomicU64::new(0),
            asleep: AtomicU64::new(0),
            bed: Mutex::new(()),
            woken: Condvar::new(),
            script: None,
        }
    }

    pub(crate) fn rehearsed(script: Script) -> Self {
        Self {
            script: Some((script, AtomicU64::new(0))),
            ..Self::new(1, None)
        }
    }

    /// Nothing is done under the lock that could panic.
    fn bed(&self) -> MutexGuard<'_, ()> {
        self.bed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn grant(&self, cores: usize) {
        if self.granted.swap(cores, Ordering::AcqRel) == 0 && cores > 0 {
            drop(self.bed());
            self.woken.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        drop(self.bed());
        self.woken.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Cores granted, at least one: who asks has one.
    pub(crate) fn width(&self) -> usize {
        match self.granted.load(Ordering::Acquire) {
            usize::MAX => rayon::current_num_threads(),
            cores => cores.max(1),
        }
    }

    pub(crate) fn hold(&self, bytes: usize) {
        self.held.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn usage(&self) -> Usage {
        let of = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Acquire));
        Usage {
            own: of(&self.own),
            helped: of(&self.helped),
            asleep: of(&self.asleep),
        }
    }

    /// Counts what the owner's thread did in a loop from `begun` on, but for what it slept there.
    pub(crate) fn used(&self, begun: Instant, asleep_before: Duration) {
        if std::ptr::eq(self, &raw const ALL) {
            return;
        }
        let asleep = self.usage().asleep.saturating_sub(asleep_before);
        add(&self.own, begun.elapsed().saturating_sub(asleep));
    }

    /// Counts what a helper did from `begun` on.
    pub(crate) fn helped(&self, begun: Instant) {
        if !std::ptr::eq(self, &raw const ALL) {
            add(&self.helped, begun.elapsed());
        }
    }

    /// A boundary of the owner's thread: the cores that it has, at least one. Sleeps while there is none.
    pub(crate) fn pass(&self) -> Result<usize, Stopped> {
        self.rehearse();
        loop {
            let late = || {
                self.deadline
                    .is_some_and(|deadline| deadline <= Instant::now())
            };
            if self.is_stopped() || late() {
                // Helpers leave too, and need not look at the clock for it.
                self.stopped.store(true, Ordering::Release);
                return Err(Stopped);
            }
            match self.granted.load(Ordering::Acquire) {
                0 => self.sleep(),
                _ => return Ok(self.width()),
            }
        }
    }

    /// A boundary of one of `helpers` helpers: how many are left where this one has to leave.
    pub(crate) fn must_leave(&self, helpers: usize) -> Option<usize> {
        self.rehearse();
        let granted = match self.granted.load(Ordering::Acquire) {
            usize::MAX => rayon::current_num_threads(),
            cores => cores,
        };
        (self.is_stopped() || helpers + 1 > granted).then(|| helpers - 1)
    }

    fn rehearse(&self) {
        if let Some((script, boundaries)) = &self.script {
            let cores = script(boundaries.fetch_add(1, Ordering::Relaxed));
            self.grant(cores);
        }
    }

    fn sleep(&self) {
        if self.script.is_some() {
            // Nobody else would wake it.
            self.rehearse();
            return;
        }
        let begun = Instant::now();
        let mut bed = self.bed();
        while self.granted.load(Ordering::Acquire) == 0 && !self.is_stopped() {
            bed = match self.deadline {
                None => self.woken.wait(bed).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let woken = self.woken.wait_timeout(bed, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        add(&self.asleep, begun.elapsed());
    }
}

fn add(nanos: &AtomicU64, time: Duration) {
    nanos.fetch_add(time.as_nanos() as u64, Ordering::AcqRel);
}
