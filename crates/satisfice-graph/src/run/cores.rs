//! Small work on one core, large work on all.

use rayon::prelude::*;
use std::ops::Range;

/// Nodes that one core deals with, at most: for fewer it is done before another has woken.
pub(super) const NODES_MAX: usize = 1 << 13;

/// What `of` makes of each place below `count`, in order; on all cores where it all deals with many `nodes`.
pub(super) fn map<T: Send>(count: usize, nodes: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    match nodes > NODES_MAX {
        true => (0..count).into_par_iter().map(&of).collect(),
        false => (0..count).map(of).collect(),
    }
}

/// What `of` makes of the places below `count`, in parts, in order: one for each core where it all deals with many `nodes`.
pub(super) fn map_parts<T: Send>(
    count: usize,
    nodes: usize,
    of: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let parts = match nodes > NODES_MAX {
        true => rayon::current_num_threads(),
        false => 1,
    };
    let part = count.div_ceil(parts).max(1);
    map(count.div_ceil(part), nodes, |at| {
        of(at * part..count.min((at + 1) * part))
    })
}
