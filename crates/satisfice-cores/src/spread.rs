//! One loop over items, on as many cores as its work is granted.

use crate::{Stopped, lease::Lease};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// As [`Cores::each`](crate::Cores::each).
pub(crate) fn each<T: Send, S>(
    lease: &Lease,
    items: impl ExactSizeIterator<Item = T> + Send,
    space: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Option<T> + Sync,
) -> Result<(), Stopped> {
    let (begun, asleep) = (Instant::now(), lease.usage().asleep);
    let several = items.len() > 1;
    let spread = Spread {
        lease,
        pile: Mutex::new(Pile {
            items,
            returned: Vec::new(),
        }),
        space,
        work,
        helpers: AtomicUsize::new(0),
    };
    let done = spread.run();
    // Nobody can help with one item.
    if several {
        lease.used(begun, asleep);
    }
    done
}

/// A loop under way.
struct Spread<'a, I, T, M, F> {
    lease: &'a Lease,
    pile: Mutex<Pile<I, T>>,
    space: M,
    work: F,
    /// Threads that help, or are about to.
    helpers: AtomicUsize,
}

/// What is still to be done.
struct Pile<I, T> {
    items: I,
    returned: Vec<T>,
}

impl<I, T, M, F, S> Spread<'_, I, T, M, F>
where
    I: ExactSizeIterator<Item = T> + Send,
    T: Send,
    M: Fn() -> S + Sync,
    F: Fn(&mut S, T) -> Option<T> + Sync,
{
    fn run(&self) -> Result<(), Stopped> {
        let mut space = (self.space)();
        // What stays on one core needs nobody to wait for.
        loop {
            let cores = self.lease.pass()?;
            let Some((item, left)) = self.take() else {
                return Ok(());
            };
            if cores > 1 && left > 0 {
                self.put_back(item);
                break;
            }
            self.work_on(&mut space, item);
        }
        // A helper that leaves may have put back what its owner thought was done.
        while self.left() > 0 {
            rayon::in_place_scope(|scope| {
                loop {
                    let cores = self.lease.pass()?;
                    let Some((item, left)) = self.take() else {
                        return Ok(());
                    };
                    let wanted = cores.min(left + 1) - 1;
                    for _ in self.helpers.load(Ordering::Acquire)..wanted {
                        self.helpers.fetch_add(1, Ordering::AcqRel);
                        scope.spawn(|_| self.help());
                    }
                    self.work_on(&mut space, item);
                }
            })?;
        }
        Ok(())
    }

    /// The life of a helper.
    fn help(&self) {
        let begun = Instant::now();
        let mut space = None;
        loop {
            let left = |helpers| self.lease.must_leave(helpers);
            let leaves = self
                .helpers
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, left);
            if leaves.is_ok() {
                break;
            }
            let Some((item, _)) = self.take() else {
                self.helpers.fetch_sub(1, Ordering::AcqRel);
                break;
            };
            self.work_on(space.get_or_insert_with(&self.space), item);
        }
        self.lease.helped(begun);
    }

    fn work_on(&self, space: &mut S, item: T) {
        if let Some(rest) = (self.work)(space, item) {
            self.put_back(rest);
        }
    }

    /// An item, and how many are left.
    fn take(&self) -> Option<(T, usize)> {
        self.with_pile(|pile| {
            let item = match pile.returned.pop() {
                Some(item) => item,
                None => pile.items.next()?,
            };
            Some((item, pile.items.len() + pile.returned.len()))
        })
    }

    fn put_back(&self, item: T) {
        self.with_pile(|pile| pile.returned.push(item));
    }

    fn left(&self) -> usize {
        self.with_pile(|pile| pile.items.len() + pile.returned.len())
    }

    /// Items are moved under the lock, not worked on.
    fn with_pile<R>(&self, of: impl FnOnce(&mut Pile<I, T>) -> R) -> R {
        of(&mut self.pile.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
