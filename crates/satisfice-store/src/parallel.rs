//! Checks of long slices on all cores.

use rayon::prelude::*;

/// Elements that one task looks at.
const CHUNK: usize = 1 << 16;

/// Position of the first element of `values` that is `wrong`.
pub(crate) fn find_first<T: Sync>(
    values: &[T],
    wrong: impl Fn(&T) -> bool + Sync,
) -> Option<usize> {
    values
        .par_chunks(CHUNK)
        .enumerate()
        .find_map_first(|(chunk, part)| Some(chunk * CHUNK + part.iter().position(&wrong)?))
}

/// The first index below `count` that is `wrong`.
pub(crate) fn find_first_index(
    count: usize,
    wrong: impl Fn(usize) -> bool + Sync,
) -> Option<usize> {
    (0..count.div_ceil(CHUNK))
        .into_par_iter()
        .find_map_first(|chunk| {
            let start = chunk * CHUNK;
            (start..count.min(start + CHUNK)).find(|&i| wrong(i))
        })
}
