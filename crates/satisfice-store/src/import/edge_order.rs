//! Edges of one target in the order of their sources, with their weights.

use rayon::prelude::*;

/// Entries that one task sorts.
const SORT_TASK: usize = 1 << 16;

/// Sorts each row by source, on all cores: halves the rows until there are few entries. Weights follow their edges;
/// those of one source stay in their order.
pub(super) fn sort_rows(indptr: &[u64], indices: &mut [u32], weights: Option<&mut [f32]>) {
    let rows = indptr.len() - 1;
    if rows == 1 {
        return match weights {
            Some(weights) => sort_weighted(indices, weights),
            None => indices.par_sort_unstable(),
        };
    }
    if indices.len() <= SORT_TASK {
        return sort_each(indptr, indices, weights);
    }
    let middle = rows / 2;
    let at = (indptr[middle] - indptr[0]) as usize;
    let (left, right) = indices.split_at_mut(at);
    let (left_weights, right_weights) = match weights.map(|weights| weights.split_at_mut(at)) {
        Some((left, right)) => (Some(left), Some(right)),
        None => (None, None),
    };
    rayon::join(
        || sort_rows(&indptr[..=middle], left, left_weights),
        || sort_rows(&indptr[middle..], right, right_weights),
    );
}

fn sort_each(indptr: &[u64], mut indices: &mut [u32], mut weights: Option<&mut [f32]>) {
    for row in indptr.windows(2) {
        let degree = (row[1] - row[0]) as usize;
        let (row, rest) = indices.split_at_mut(degree);
        indices = rest;
        match weights.take() {
            Some(values) => {
                let (values, rest) = values.split_at_mut(degree);
                weights = Some(rest);
                sort_weighted(row, values);
            }
            None => row.sort_unstable(),
        }
    }
}

fn sort_weighted(sources: &mut [u32], weights: &mut [f32]) {
    if sources.is_sorted() {
        return;
    }
    let mut edges: Vec<(u32, f32)> = sources
        .iter()
        .copied()
        .zip(weights.iter().copied())
        .collect();
    edges.par_sort_by_key(|edge| edge.0);
    for ((source, weight), edge) in sources.iter_mut().zip(weights).zip(edges) {
        (*source, *weight) = edge;
    }
}

/// The sum of weights, the same in whatever order they come: both directions of an edge have one.
pub(super) fn sum(weights: &mut [f32]) -> f32 {
    weights.sort_unstable_by(f32::total_cmp);
    weights.iter().map(|&weight| f64::from(weight)).sum::<f64>() as f32
}
