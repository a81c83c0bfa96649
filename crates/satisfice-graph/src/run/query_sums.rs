//! The sums over the queries' stored sources, for all queries of a batch together: a row that many
//! queries read is read once, and rows are read in the order in which they lie.

use super::layer::{LayerInput, Target};
use crate::model::Reduction;
use satisfice_core::Stopped;
use satisfice_kernels::{Readers, Rows, scatter_stride, scatter_sum};
use std::ops::Range;

/// Bytes of the sums that one piece adds to: they are to stay in the cache of a core.
const SUMS_BYTES_MAX: usize = 512 << 10;

/// Edges looked at until there is a boundary.
const STEPS_MAX: usize = 1 << 14;

/// For each query: the sum of its stored sources' messages, each times its factor, `[queries,
/// scatter_stride(message width)]`; nothing for a layer that takes no sum of them. Counts the rows.
///
/// Every sum takes its sources in one order, whatever is summed beside it: how the queries are divided
/// among the cores changes no number.
pub(crate) fn query_sums(
    reduction: Reduction,
    input: &LayerInput<'_>,
) -> Result<Option<Vec<f32>>, Stopped> {
    let Reduction::Sum { .. } = reduction else {
        return Ok(None);
    };
    let queries = input.batch.queries();
    let stride = scatter_stride(input.messages.stored.width());
    let row_bytes = stride * size_of::<f32>();
    let block = queries
        .div_ceil(input.cores.width())
        .min(SUMS_BYTES_MAX / row_bytes)
        .max(1);
    let mut sums = vec![0.0; queries * stride];
    if input.batch.readers().is_empty() {
        return Ok(Some(sums));
    }
    let pieces = sums.chunks_mut(block * stride).enumerate();
    let pieces = pieces.map(|(index, sums)| {
        let first = index * block;
        Piece {
            first: first as u32,
            end: (first + sums.len() / stride) as u32,
            sums,
            next: 0,
            kind: Kind::Stored,
            any_at_hand: false,
        }
    });
    input.cores.each(
        pieces,
        || (),
        |(), mut piece| piece.add_some(input).then_some(piece),
    )?;
    input.counts.add(0, input.batch.readers().len() as u64);
    Ok(Some(sums))
}

/// The sums of the queries `first` .. `end`, and how far they have come.
struct Piece<'a> {
    first: u32,
    end: u32,
    sums: &'a mut [f32],
    /// Place of the next stored source.
    next: usize,
    kind: Kind,
    any_at_hand: bool,
}

/// Where rows are: all that are stored are added before all at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stored,
    AtHand,
}

impl Piece<'_> {
    /// Adds some more sources; whether there may be others.
    fn add_some(&mut self, input: &LayerInput<'_>) -> bool {
        let (batch, messages) = (input.batch, &input.messages);
        let places = batch.readers();
        let all = batch.queries_of_readers();
        let mut readers = Readers::new(all, self.first);
        let first = batch.range_of_reader(self.next).start;
        let last = batch.readers_until(first + STEPS_MAX).max(self.next + 1);
        let edges = first..batch.range_of_reader(last - 1).end;
        let before = Below::new(&all[edges.clone()], self.first);
        let to_last = self.end as usize == batch.queries();
        let upto = (!to_last).then(|| Below::new(&all[edges], self.end));
        for (place, &(node, _)) in (self.next..).zip(&places[self.next..last]) {
            let Range { start, end } = batch.range_of_reader(place);
            let list = start - first..end - first;
            let to = upto
                .as_ref()
                .map_or(end, |upto| start + upto.count(list.clone()));
            let mine = start + before.count(list)..to;
            let slot = messages.slot(Target::Stored(node));
            self.any_at_hand |= slot.is_some();
            match (self.kind, slot) {
                (Kind::Stored, None) => match messages.stored.renewed(node) {
                    None => readers.push(node, mine),
                    Some(row) => self.add_renewed(input, (node, row), &all[mine]),
                },
                (Kind::AtHand, Some(slot)) => readers.push(slot, mine),
                _ => {}
            }
        }
        self.next = last;
        let scales = input.source_scales.as_ref();
        let (rows, scales) = match self.kind {
            Kind::Stored => (
                messages.stored.at_rest(),
                scales.map(|scales| scales.stored),
            ),
            Kind::AtHand => (messages.at_hand, scales.map(|scales| &scales.at_hand[..])),
        };
        scatter_sum(rows, &readers, scales, self.sums);
        if self.next < places.len() {
            return true;
        }
        let again = self.kind == Kind::Stored && self.any_at_hand;
        (self.kind, self.next) = (Kind::AtHand, 0);
        again
    }

    /// Adds a renewed row to the sums of the queries that read it.
    fn add_renewed(&mut self, input: &LayerInput<'_>, (node, row): (u32, &[f32]), queries: &[u32]) {
        let mut readers = Readers::new(queries, self.first);
        readers.push(0, 0..queries.len());
        let scales = input.source_scales.as_ref();
        let scale = scales.map(|scales| [scales.stored[node as usize]]);
        let scale = scale.as_ref().map(|scale| &scale[..]);
        scatter_sum(Rows::f32(row, row.len()), &readers, scale, self.sums);
    }
}

/// How many of some queries, end to end, lie below a bound. Which do nobody can guess, so that looking for the first that
/// does not would take longer, list by list, than to count them all once.
struct Below {
    /// Up to each place, from none on; nothing where no query can lie below.
    counts: Vec<u32>,
}

impl Below {
    fn new(queries: &[u32], bound: u32) -> Self {
        let len = if bound == 0 { 0 } else { queries.len() + 1 };
        let mut counts = vec![0; len];
        let mut count = 0;
        for (upto, &query) in counts.iter_mut().skip(1).zip(queries) {
            count += u32::from(query < bound);
            *upto = count;
        }
        Self { counts }
    }

    /// Those of one list.
    fn count(&self, list: Range<usize>) -> usize {
        match self.counts.get(list.end) {
            Some(upto) => (upto - self.counts[list.start]) as usize,
            None => 0,
        }
    }
}
