//! Small work on one core, large work on all.

use rayon::prelude::*;

/// Nodes that one core deals with, at most: for fewer it is done before another has woken.
pub(super) const NODES_MAX: usize = 1 << 13;

/// What `of` makes of each place below `count`, in order; on all cores where it all deals with many `nodes`.
pub(super) fn map<T: Send>(count: usize, nodes: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    match nodes > NODES_MAX {
        true => (0..count).into_par_iter().map(&of).collect(),
        false => (0..count).map(of).collect(),
    }
}
