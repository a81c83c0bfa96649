//! What a layer's targets bring of their own, and what their sources are reduced to.

use super::{
    layer::{AHEAD, LayerInput, NodeScales, Sources, Target},
    stored::Stored,
};
use crate::model::{Layer, OwnRows, Reduction};
use satisfice_kernels::{Rows, gather_sum, scatter_stride};
use std::ops::Range;

/// Rows of some targets themselves, as far as a layer reads them.
#[derive(Debug)]
pub(crate) struct TargetRows {
    /// What the convolution reads, `[targets, width]`, or empty.
    values: Vec<f32>,
    /// The level below, where it is not the same.
    below: Option<Vec<f32>>,
    messages: Vec<f32>,
    initial: Vec<f32>,
    in_degrees: Vec<u32>,
    source_scales: Vec<f32>,
    target_scales: Vec<f32>,
}

impl TargetRows {
    /// Counts their in-edges.
    pub(crate) fn read(layer: &Layer, input: &LayerInput<'_>, range: Range<usize>) -> Self {
        let needs = layer.needs();
        let rows = |needed: bool, read: &dyn Fn(Range<usize>) -> Vec<f32>| match needed {
            true => read(range.clone()),
            false => Vec::new(),
        };
        let targets = || range.clone().map(|at| input.targets.get(at));
        let in_degrees: Vec<u32> = targets()
            .map(|target| input.in_degree(target, false) as u32)
            .collect();
        let edges = in_degrees.iter().map(|&degree| u64::from(degree)).sum();
        input.counts.add(edges, 0);
        let scales = |scales: &Option<NodeScales<'_>>| match scales {
            Some(scales) => targets().map(|target| scales.of(target)).collect(),
            None => Vec::new(),
        };
        let same = layer.reads_below();
        let values = rows(needs.values || (same && needs.below), &|range| {
            input.own_rows(range)
        });
        Self {
            values: match same || values.is_empty() {
                true => values,
                false => layer.read(values),
            },
            below: (!same).then(|| rows(needs.below, &|range| input.rows_below(range))),
            messages: rows(needs.messages, &|range| input.own_messages(range)),
            initial: rows(needs.initial, &|range| input.initial_rows(range)),
            in_degrees,
            source_scales: scales(&input.source_scales),
            target_scales: scales(&input.target_scales),
        }
    }

    pub(crate) fn view(&self) -> OwnRows<'_> {
        OwnRows {
            values: &self.values,
            below: self.below.as_deref().unwrap_or(&self.values),
            messages: &self.messages,
            initial: &self.initial,
            in_degrees: &self.in_degrees,
            source_scales: &self.source_scales,
            target_scales: &self.target_scales,
        }
    }
}

/// Reduces the messages of some targets' sources, `[targets, reduction width]`. `terms` are what the
/// targets bring to it, and `sources` is space to work in. Counts the rows read.
pub(crate) fn reduce(
    layer: &Layer,
    input: &LayerInput<'_>,
    range: Range<usize>,
    terms: &[f32],
    sources: &mut Sources,
) -> Vec<f32> {
    let conv = &*layer.conv;
    let reduction = conv.reduction();
    let width = reduction.width(input.messages.stored.width());
    let mut partials = vec![0.0; range.len() * width];
    let mut rows = 0;
    // Kept rows are far apart, and few rows are read between them.
    let kept_row = |index: usize| {
        if let (Target::Stored(node), Some(kept)) = (input.targets.get(index), input.kept) {
            kept.prefetch(node);
        }
    };
    range.clone().take(AHEAD).for_each(kept_row);
    for (at, (partial, index)) in partials
        .chunks_exact_mut(width)
        .zip(range.clone())
        .enumerate()
    {
        let reducer = Reducer {
            layer,
            input,
            reduction,
            term: &terms[at * conv.term_width()..][..conv.term_width()],
        };
        if index + AHEAD < input.targets.len() {
            kept_row(index + AHEAD);
        }
        reduction.clear(partial);
        rows += reducer.reduce(input.targets.get(index), sources, partial);
    }
    input.counts.add(0, rows as u64);
    partials
}

/// Reduces the sources of one target; each way returns the rows that it read.
struct Reducer<'a> {
    layer: &'a Layer,
    input: &'a LayerInput<'a>,
    reduction: Reduction,
    term: &'a [f32],
}

impl Reducer<'_> {
    fn reduce(&self, target: Target, sources: &mut Sources, partial: &mut [f32]) -> usize {
        match target {
            Target::Stored(node) if self.input.refresh => self.refresh(node, sources, partial),
            Target::Stored(node) => self
                .update(node, sources, partial)
                .unwrap_or_else(|| self.gather(target, sources, partial)),
            Target::Query(query) => match &self.input.query_sums {
                Some(sums) => self.add_queries(query, sums, sources, partial),
                None => self.gather(target, sources, partial),
            },
        }
    }

    /// From the sum over a query's stored sources, and the queries among its sources.
    fn add_queries(
        &self,
        query: u32,
        sums: &[f32],
        sources: &mut Sources,
        partial: &mut [f32],
    ) -> usize {
        let stride = scatter_stride(partial.len());
        partial.copy_from_slice(&sums[query as usize * stride..][..partial.len()]);
        let without_self = self.reduction.without_self();
        self.input.query_sources(query, without_self, sources);
        self.add(sources, partial);
        sources.len()
    }

    /// From all sources as they are now.
    fn gather(&self, target: Target, sources: &mut Sources, partial: &mut [f32]) -> usize {
        let without_self = self.reduction.without_self();
        self.input.sources(target, without_self, sources);
        self.add(sources, partial);
        sources.len()
    }

    /// From what is kept, and what changed of it: of a sum, the rows that are not to count any more
    /// are subtracted as they were counted, and the rows that count now are added; into other
    /// reductions new sources are joined. Nothing where there is nothing kept, or no less to read, or
    /// a reduction from which nothing can be taken. Source: the identity
    /// `Σ c' x' = Σ c x + Σ over what changed of (c' x' - c x)`.
    fn update(&self, node: u32, sources: &mut Sources, partial: &mut [f32]) -> Option<usize> {
        let (input, without_self) = (self.input, self.reduction.without_self());
        let kept = input.kept?;
        input.changed_sources(node, without_self, sources);
        let rows = 1 + sources.len() + sources.withdrawn.len();
        let joins = match self.reduction {
            Reduction::Sum { .. } => true,
            Reduction::Max => sources.withdrawn.is_empty(),
            // What the target itself brings is in every coefficient.
            Reduction::Softmax { .. } | Reduction::Joint { .. } => {
                sources.withdrawn.is_empty() && input.messages.slot(Target::Stored(node)).is_none()
            }
        };
        if !joins || rows > input.in_degree(Target::Stored(node), without_self) {
            return None;
        }
        let rows = self.start_as_kept(kept, node, partial);
        self.withdraw(sources, partial);
        self.add(sources, partial);
        Some(rows + sources.len() + sources.withdrawn.len())
    }

    /// From what the stored sources were reduced to without the batch, and the batch's edges.
    fn refresh(&self, node: u32, sources: &mut Sources, partial: &mut [f32]) -> usize {
        let rows = match self.input.kept {
            Some(kept) => self.start_as_kept(kept, node, partial),
            None => self.reduce_as_stored(node, sources, partial),
        };
        sources.clear();
        sources
            .at_hand
            .extend(self.input.batch.query_into_stored(node));
        self.add(sources, partial);
        rows + sources.len()
    }

    /// What is kept of a node that has stored sources; of others nothing is.
    fn start_as_kept(&self, kept: Stored<'_>, node: u32, partial: &mut [f32]) -> usize {
        let without_self = self.reduction.without_self();
        if self.input.stored_in_degree(node, without_self) == 0 {
            return 0;
        }
        kept.read(node, partial);
        1
    }

    /// What would be kept.
    fn reduce_as_stored(&self, node: u32, sources: &mut Sources, partial: &mut [f32]) -> usize {
        let input = self.input;
        input.stored_sources(node, self.reduction.without_self(), sources);
        let read = |rows: Stored<'_>| {
            let mut row = vec![0.0; rows.width()];
            rows.read(node, &mut row);
            row
        };
        let term = if self.term.is_empty() {
            Vec::new()
        } else {
            let values = self.layer.read(read(input.h.stored));
            let messages = read(input.messages.stored);
            self.layer.conv.terms(&values, &messages)
        };
        let (rows, scales) = (input.messages.stored, input.stored_scales);
        rows.each(&sources.stored, scales, |rows, ids, scales| {
            self.layer.conv.add(rows, ids, scales, &term, partial);
        });
        sources.stored.len()
    }

    /// Subtracts the rows that do not count any more, each times the factor with which it counted.
    fn withdraw(&self, sources: &mut Sources, sum: &mut [f32]) {
        if sources.withdrawn.is_empty() {
            return;
        }
        sources.row.clear();
        sources.row.resize(sum.len(), 0.0);
        let (rows, scales) = (self.input.messages.stored, self.input.stored_scales);
        let Sources { withdrawn, row, .. } = &mut *sources;
        rows.each(withdrawn, scales, |rows, ids, scales| {
            gather_sum(rows, ids, scales, row);
        });
        sum.iter_mut().zip(&sources.row).for_each(|(v, x)| *v -= x);
    }

    /// Adds the rows listed, each times its factor.
    fn add(&self, sources: &Sources, partial: &mut [f32]) {
        let (messages, scales) = (&self.input.messages, self.input.source_scales.as_ref());
        let mut add = |rows: Rows<'_>, ids: &[u32], scales: Option<&[f32]>| {
            if !ids.is_empty() {
                self.layer.conv.add(rows, ids, scales, self.term, partial);
            }
        };
        let of_stored = scales.map(|scales| scales.stored);
        messages.stored.each(&sources.stored, of_stored, &mut add);
        let of_at_hand = scales.map(|scales| &scales.at_hand[..]);
        add(messages.at_hand, &sources.at_hand, of_at_hand);
    }
}
