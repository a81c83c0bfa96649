//! What a worker reads in a layer: the sources of a target that it holds, and what it makes of them.

use super::{NONE, layer::BLOCK};
use crate::{job::Job, part::PartView};
use rayon::prelude::*;
use satisfice_graph::SplitLayer;
use satisfice_kernels::Rows;
use std::collections::HashMap;

/// A node whose value a layer computes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Query(u32),
    Stored(u32),
}

/// The targets of one owner: its queries, then its fresh nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Targets<'a> {
    pub first_query: u32,
    pub queries: usize,
    pub stored: &'a [u32],
}

impl Targets<'_> {
    pub(super) fn len(&self) -> usize {
        self.queries + self.stored.len()
    }

    pub(super) fn get(&self, at: usize) -> Target {
        match at.checked_sub(self.queries) {
            None => Target::Query(self.first_query + at as u32),
            Some(at) => Target::Stored(self.stored[at]),
        }
    }
}

/// The sources that the worker holds of one target.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Rows of the part.
    pub stored: Vec<u32>,
    /// Rows at hand.
    pub at_hand: Vec<u32>,
}

/// What a worker reads in a layer.
pub(super) struct Reads<'a> {
    pub split: SplitLayer<'a>,
    pub view: PartView<'a>,
    pub job: &'a Job,
    pub messages: Rows<'a>,
    pub messages_at_hand: Rows<'a>,
    pub scales: Option<&'a [f32]>,
    pub scales_at_hand: Option<Vec<f32>>,
    pub slots: &'a [u32],
}

impl Reads<'_> {
    pub(super) fn sources(&self, target: Target, sources: &mut Sources) {
        sources.stored.clear();
        sources.at_hand.clear();
        let without_self = self.split.without_self();
        let mut stored = |row: u32| match self.slots[row as usize] {
            NONE => sources.stored.push(row),
            slot => sources.at_hand.push(slot),
        };
        let (own_row, own_place, queries) = match target {
            Target::Query(query) => {
                let pairs = self.job.stored_into_query.of(query);
                pairs.iter().for_each(|&(_, row)| stored(row));
                let place = query.wrapping_sub(self.job.owned.start as u32);
                (NONE, place, self.job.query_into_query.of(query))
            }
            Target::Stored(node) => {
                let own_row = match without_self {
                    true => self.view.row(node).unwrap_or(NONE),
                    false => NONE,
                };
                let rows = self.view.sources(node).iter().copied();
                rows.filter(|&row| row != own_row).for_each(&mut stored);
                (own_row, NONE, self.job.query_into_stored.of(node))
            }
        };
        debug_assert!(own_row == NONE || without_self);
        let places = queries.iter().map(|&(_, place)| place);
        sources
            .at_hand
            .extend(places.filter(|&place| !(without_self && place == own_place)));
    }

    /// In-edges of a target that the worker holds, those to itself among them.
    pub(super) fn edges(&self, target: Target) -> u64 {
        let job = self.job;
        let edges = match target {
            Target::Query(query) => {
                job.stored_into_query.of(query).len() + job.query_into_query.of(query).len()
            }
            Target::Stored(node) => {
                self.view.sources(node).len() + job.query_into_stored.of(node).len()
            }
        };
        edges as u64
    }

    pub(super) fn reduce(&self, sources: &Sources, term: &[f32], partial: &mut [f32]) {
        self.split.clear(partial);
        let split = &self.split;
        split.add(self.messages, &sources.stored, self.scales, term, partial);
        let scales = self.scales_at_hand.as_deref();
        split.add(
            self.messages_at_hand,
            &sources.at_hand,
            scales,
            term,
            partial,
        );
    }

    /// Partial results for the targets of an owner that the worker has a source of: which, and rows.
    pub(super) fn partials(&self, targets: Targets<'_>, terms: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let (width, term_width) = (self.split.partial_width(), self.split.term_width());
        let blocks: Vec<(Vec<u32>, Vec<f32>)> = (0..targets.len().div_ceil(BLOCK))
            .into_par_iter()
            .map_init(Sources::default, |sources, block| {
                let (mut present, mut rows) = (Vec::new(), Vec::new());
                for at in block * BLOCK..targets.len().min((block + 1) * BLOCK) {
                    self.sources(targets.get(at), sources);
                    if sources.stored.is_empty() && sources.at_hand.is_empty() {
                        continue;
                    }
                    present.push(at as u32);
                    let start = rows.len();
                    rows.resize(start + width, 0.0);
                    let term = &terms[at * term_width..][..term_width];
                    self.reduce(sources, term, &mut rows[start..]);
                }
                (present, rows)
            })
            .collect();
        let (mut present, mut rows) = (Vec::new(), Vec::new());
        for (block_present, block_rows) in blocks {
            present.extend(block_present);
            rows.extend(block_rows);
        }
        (present, rows)
    }

    /// The sources of an owner's targets, each row once: sources by target, their factors, and the rows.
    pub(super) fn source_rows(&self, targets: Targets<'_>) -> SourceRows {
        let width = self.split.message_width();
        let mut rows = SourceRows::default();
        let mut places: HashMap<(bool, u32), u32> = HashMap::new();
        let mut sources = Sources::default();
        let mut row = vec![0.0; width];
        for at in 0..targets.len() {
            self.sources(targets.get(at), &mut sources);
            let stored = sources.stored.iter().map(|&id| (true, id));
            let at_hand = sources.at_hand.iter().map(|&id| (false, id));
            let before = rows.ids.len();
            for (is_stored, id) in stored.chain(at_hand) {
                let next = places.len() as u32;
                let place = *places.entry((is_stored, id)).or_insert(next);
                if place == next {
                    let (table, scales) = match is_stored {
                        true => (self.messages, self.scales),
                        false => (self.messages_at_hand, self.scales_at_hand.as_deref()),
                    };
                    table.read(id as usize, &mut row);
                    rows.rows.extend_from_slice(&row);
                    rows.scales.extend(scales.map(|scales| scales[id as usize]));
                }
                rows.ids.push(place);
            }
            rows.counts.push((rows.ids.len() - before) as u32);
        }
        rows.len = places.len();
        rows
    }
}

/// Rows of sources for one owner.
#[derive(Debug, Default)]
pub(super) struct SourceRows {
    /// Sources of each target.
    pub counts: Vec<u32>,
    /// Places among the rows, target by target.
    pub ids: Vec<u32>,
    /// Factors of the rows, where the layer has some.
    pub scales: Vec<f32>,
    pub rows: Vec<f32>,
    pub len: usize,
}
