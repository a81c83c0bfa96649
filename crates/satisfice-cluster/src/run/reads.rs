//! What a worker reads in a layer: the sources of a target that it holds, and what it makes of them.

use super::{NONE, RESCALED, layer::BLOCK};
use crate::{job::Job, part::PartView};
use rayon::prelude::*;
use satisfice_graph::SplitLayer;
use satisfice_kernels::Rows;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

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

/// What is read of the sources that the worker holds of one target.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Rows of the part.
    pub stored: Vec<u32>,
    /// Rows at hand.
    pub at_hand: Vec<u32>,
    /// Rows of the part that a kept sum counts and that are not to count as they did.
    pub withdrawn: Vec<u32>,
}

impl Sources {
    fn clear(&mut self) {
        self.stored.clear();
        self.at_hand.clear();
        self.withdrawn.clear();
    }

    fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.at_hand.is_empty() && self.withdrawn.is_empty()
    }

    fn len(&self) -> usize {
        self.stored.len() + self.at_hand.len() + self.withdrawn.len()
    }
}

/// What a worker reads in a layer.
pub(super) struct Reads<'a> {
    pub split: SplitLayer<'a>,
    pub view: PartView<'a>,
    pub job: &'a Job,
    /// Whether stored targets start from what is kept of their sources: only what changed is read.
    pub keeps: bool,
    /// Whether changes of stored sources count, and there may be some in the part.
    pub changes: bool,
    pub messages: Rows<'a>,
    pub messages_at_hand: Rows<'a>,
    pub scales: Option<&'a [f32]>,
    /// The factors with which kept sums count their sources.
    pub stored_scales: Option<&'a [f32]>,
    pub scales_at_hand: Option<Vec<f32>>,
    pub slots: &'a [u32],
    pub rows_read: &'a AtomicU64,
}

impl Reads<'_> {
    /// Lists what the worker reads of a target's sources: those that it holds or, where the target brings a
    /// kept sum up to date, what changed of them.
    pub(super) fn sources(&self, target: Target, sources: &mut Sources) {
        sources.clear();
        let without_self = self.split.without_self();
        let mut stored = |row: u32| match self.slots[row as usize] {
            NONE | RESCALED => sources.stored.push(row),
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
                let rows = rows.filter(|&row| row != own_row);
                match self.keeps {
                    false => rows.for_each(&mut stored),
                    true if !self.changes => {}
                    true => {
                        let changed = |&row: &u32| self.slots[row as usize] != NONE;
                        sources.withdrawn.extend(rows.filter(changed));
                        let withdrawn = sources.withdrawn.iter().copied();
                        withdrawn.for_each(&mut stored);
                    }
                }
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

    fn reduce(&self, sources: &Sources, term: &[f32], partial: &mut [f32]) {
        self.split.clear(partial);
        let split = &self.split;
        if !sources.withdrawn.is_empty() {
            let scales = self.stored_scales;
            split.add(self.messages, &sources.withdrawn, scales, term, partial);
            partial.iter_mut().for_each(|v| *v = -*v);
        }
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
                let (mut present, mut rows, mut read) = (Vec::new(), Vec::new(), 0);
                for at in block * BLOCK..targets.len().min((block + 1) * BLOCK) {
                    self.sources(targets.get(at), sources);
                    if sources.is_empty() {
                        continue;
                    }
                    read += sources.len() as u64;
                    present.push(at as u32);
                    let start = rows.len();
                    rows.resize(start + width, 0.0);
                    let term = &terms[at * term_width..][..term_width];
                    self.reduce(sources, term, &mut rows[start..]);
                }
                self.rows_read.fetch_add(read, Ordering::Relaxed);
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
    /// What a kept sum is not to count any more has the negative of the factor with which it counts.
    pub(super) fn source_rows(&self, targets: Targets<'_>) -> SourceRows {
        let width = self.split.message_width();
        let mut rows = SourceRows::default();
        let mut places: HashMap<(Kind, u32), u32> = HashMap::new();
        let mut sources = Sources::default();
        let mut row = vec![0.0; width];
        for at in 0..targets.len() {
            self.sources(targets.get(at), &mut sources);
            let withdrawn = sources.withdrawn.iter().map(|&id| (Kind::Withdrawn, id));
            let stored = sources.stored.iter().map(|&id| (Kind::Stored, id));
            let at_hand = sources.at_hand.iter().map(|&id| (Kind::AtHand, id));
            let before = rows.ids.len();
            for (kind, id) in withdrawn.chain(stored).chain(at_hand) {
                let next = places.len() as u32;
                let place = *places.entry((kind, id)).or_insert(next);
                if place == next {
                    let (table, factor) = self.row_of(kind, id);
                    table.read(id as usize, &mut row);
                    rows.rows.extend_from_slice(&row);
                    rows.scales.extend(factor);
                }
                rows.ids.push(place);
            }
            rows.counts.push((rows.ids.len() - before) as u32);
            self.rows_read
                .fetch_add(sources.len() as u64, Ordering::Relaxed);
        }
        rows.len = places.len();
        rows
    }

    /// Where a row of a kind is, and its factor where rows go with factors.
    fn row_of(&self, kind: Kind, id: u32) -> (Rows<'_>, Option<f32>) {
        let (table, scales, sign) = match kind {
            Kind::Stored => (self.messages, self.scales, 1.0),
            Kind::AtHand => (self.messages_at_hand, self.scales_at_hand.as_deref(), 1.0),
            Kind::Withdrawn => (self.messages, self.stored_scales, -1.0),
        };
        let factor = match scales {
            Some(scales) => Some(sign * scales[id as usize]),
            None => self.keeps.then_some(sign),
        };
        (table, factor)
    }
}

/// Which rows of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Stored,
    AtHand,
    Withdrawn,
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
