//! The cores that work is lent.
//!
//! Whoever hands out cores gives each piece of work a [`Cores`] of its own, and says by [`Cores::grant`] how many it has:
//! more, fewer or none while it is under way. The work goes through its blocks by [`Cores::each`]. Between two blocks it
//! takes what it was granted since, sleeps while that is nothing, and ends where it was told to. What it computes
//! depends on none of that, because blocks do not depend on cores.
//!
//! The thread that works on something always takes part itself; others help it, of the process's one pool, as many as
//! it may have. A helper that has to leave does so after its block, and a thread that has to wait sleeps
//! where it is: nothing is computed twice.
//!
//! ```
//! use satisfice_cores::Cores;
//!
//! let mut squares = vec![0; 1000];
//! let cores = Cores::default();
//! let blocks = squares.chunks_mut(64).enumerate();
//! let square = |(): &mut (), (block, out): (usize, &mut [usize])| {
//!     for (at, out) in out.iter_mut().enumerate() {
//!         *out = (block * 64 + at).pow(2);
//!     }
//!     None
//! };
//! cores.each(blocks, || (), square).unwrap();
//! assert_eq!(squares[999], 998_001);
//! ```

mod lease;
mod spread;

use lease::Lease;
use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// Steps of a serial loop from one [`Cores::pass`] to the next, about: some microseconds of work.
pub const STEPS: usize = 4096;

/// Nobody waits for the work any more: it was told to stop, or its deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody waits for the work any more")
    }
}

impl std::error::Error for Stopped {}

/// What a piece of work has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its own thread in loops that may spread over cores.
    pub own: Duration,
    /// Helpers in the same loops, all together.
    pub helped: Duration,
    /// Asleep, because it was granted no core.
    pub asleep: Duration,
}

/// The cores that one piece of work is lent; clones are the same ones. By default all that there are, for as long as it
/// takes.
#[derive(Debug, Clone, Default)]
pub struct Cores(Option<Arc<Lease>>);

/// All are equal: where something is computed is no part of what is asked.
impl PartialEq for Cores {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Cores {
    /// One core, to begin with. The work stops at its first boundary after the deadline.
    pub fn lent(deadline: Option<Instant>) -> Self {
        Self(Some(Arc::new(Lease::new(1, deadline))))
    }

    /// Cores that `granted` says the number of, at every boundary, from the number of boundaries before: what
    /// somebody could do who hands out cores, in an order that tests choose.
    pub fn rehearsed(granted: impl Fn(u64) -> usize + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Lease::rehearsed(Box::new(granted)))))
    }

    fn lease(&self) -> &Lease {
        self.0.as_deref().unwrap_or(Lease::all())
    }

    /// Grants so many cores from now on: the work takes more at its next boundary, and gives up what is too many there.
    pub fn grant(&self, cores: usize) {
        if let Some(lease) = &self.0 {
            lease.grant(cores);
        }
    }

    /// Lets the work end at its next boundary: nobody waits for it any more.
    pub fn stop(&self) {
        if let Some(lease) = &self.0 {
            lease.stop();
        }
    }

    /// Whether it was told to.
    pub fn is_stopped(&self) -> bool {
        self.lease().is_stopped()
    }

    /// Cores granted now: what to cut work by, never a number of it.
    pub fn width(&self) -> usize {
        self.lease().width()
    }

    /// Says how many bytes the work keeps from others while it sleeps.
    pub fn hold(&self, bytes: usize) {
        if let Some(lease) = &self.0 {
            lease.hold(bytes);
        }
    }

    /// Bytes that the work holds, as far as it has said so.
    pub fn held(&self) -> usize {
        self.lease().held()
    }

    /// What the work has used of the cores so far.
    pub fn usage(&self) -> Usage {
        self.lease().usage()
    }

    /// A boundary in serial work: sleeps while there is no core.
    ///
    /// # Errors
    /// [`Stopped`] when nobody waits for the work any more.
    pub fn pass(&self) -> Result<(), Stopped> {
        self.lease().pass().map(drop)
    }

    /// Does `work` with every item, on all cores granted, in no order; each thread with a `space` of its own. There is a
    /// boundary before every item, so an item should take about a millisecond. What `work` gives back is taken up again
    /// later: an item that is long is done in pieces that way.
    ///
    /// `work` must not wait for anything, and must not begin such a loop itself.
    ///
    /// # Errors
    /// [`Stopped`] when nobody waits for the work any more; some items are not done then.
    pub fn each<T: Send, S>(
        &self,
        items: impl ExactSizeIterator<Item = T> + Send,
        space: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, T) -> Option<T> + Sync,
    ) -> Result<(), Stopped> {
        spread::each(self.lease(), items, space, work)
    }

    /// What `of` makes of every place below `count`, in order, in blocks of `block` places.
    ///
    /// # Errors
    /// [`Stopped`] when nobody waits for it any more.
    pub fn map<T: Send>(
        &self,
        count: usize,
        block: usize,
        of: impl Fn(usize) -> T + Sync,
    ) -> Result<Vec<T>, Stopped> {
        let made = self.map_ranges(count, block, |range| range.map(&of).collect::<Vec<T>>())?;
        let mut all = Vec::with_capacity(count);
        made.into_iter().for_each(|some| all.extend(some));
        Ok(all)
    }

    /// What `of` makes of the places below `count`, `block` at a time, in order.
    ///
    /// # Errors
    /// [`Stopped`] when nobody waits for it any more.
    fn map_ranges<T: Send>(
        &self,
        count: usize,
        block: usize,
        of: impl Fn(Range<usize>) -> T + Sync,
    ) -> Result<Vec<T>, Stopped> {
        let block = block.max(1);
        let mut made: Vec<Option<T>> = Vec::new();
        made.resize_with(count.div_ceil(block), || None);
        let of_block = |(): &mut (), (at, place): (usize, &mut Option<T>)| {
            *place = Some(of(at * block..count.min((at + 1) * block)));
            None
        };
        self.each(made.iter_mut().enumerate(), || (), of_block)?;
        Ok(made.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests;
