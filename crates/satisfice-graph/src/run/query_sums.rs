//! The sums over the queries' stored sources, for all queries of a batch together: a row that many
//! queries read is read once, and rows are read in the order in which they lie.

use super::layer::{LayerInput, Target};
use crate::model::Reduction;
use rayon::prelude::*;
use satisfice_kernels::{Readers, scatter_stride, scatter_sum};

/// Bytes of the sums that one task adds to: they are to stay in the cache of a core.
const SUMS_BYTES_MAX: usize = 512 << 10;

/// For each query: the sum of its stored sources' messages, each times its factor, `[queries,
/// scatter_stride(message width)]`; nothing for a layer that takes no sum of them. Counts the rows.
///
/// Every sum takes its sources in one order, whatever is summed beside it: how the queries are divided
/// among the cores changes no number.
pub(crate) fn query_sums(reduction: Reduction, input: &LayerInput<'_>) -> Option<Vec<f32>> {
    let Reduction::Sum { .. } = reduction else {
        return None;
    };
    let queries = input.batch.queries();
    let stride = scatter_stride(input.messages.stored.width());
    let row_bytes = stride * size_of::<f32>();
    let block = queries
        .div_ceil(rayon::current_num_threads())
        .min(SUMS_BYTES_MAX / row_bytes)
        .max(1);
    let mut sums = vec![0.0; queries * stride];
    sums.par_chunks_mut(block * stride)
        .enumerate()
        .for_each(|(index, sums)| {
            let first = index * block;
            add_sources(input, (first, first + sums.len() / stride), sums);
        });
    input.counts.add(0, input.batch.readers().len() as u64);
    Some(sums)
}

/// Adds the stored sources of the queries `first` .. `end` to their sums.
fn add_sources(input: &LayerInput<'_>, (first, end): (usize, usize), sums: &mut [f32]) {
    let (first, end) = (first as u32, end as u32);
    let messages = &input.messages;
    let (mut stored, mut at_hand) = (Readers::default(), Readers::default());
    for (node, queries) in input.batch.readers_of_stored() {
        let [from, to] = [first, end].map(|bound| queries.partition_point(|&query| query < bound));
        let mine = queries[from..to].iter().map(|query| query - first);
        match messages.slot(Target::Stored(node)) {
            Some(slot) => at_hand.push(slot, mine),
            None => stored.push(node, mine),
        }
    }
    let scales = input.source_scales.as_ref();
    scatter_sum(messages.stored, &stored, scales.map(|s| s.stored), sums);
    let of_at_hand = scales.map(|scales| &scales.at_hand[..]);
    scatter_sum(messages.at_hand, &at_hand, of_at_hand, sums);
}
