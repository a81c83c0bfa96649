//! One layer: partial results of what a worker holds, to the owners of the targets, and completed there.

use super::{ByOwner, NONE, Run, Scratch};
use crate::{
    ClusterError,
    job::{Exchange, Job},
    part::PartView,
    slab::{Payload, SlabReader, SlabWriter},
};
use rayon::prelude::*;
use satisfice_graph::{DegreeScale, OwnRows, SplitLayer};
use satisfice_kernels::Rows;
use std::collections::HashMap;

/// Targets that one task reduces or completes together.
const BLOCK: usize = 64;

/// Values computed anew at one level by one worker.
#[derive(Debug)]
pub(crate) struct AtHand {
    /// Of the worker's queries, then of `rows`, `[rows, width]`.
    pub values: Vec<f32>,
    /// Rows of the part, ascending.
    pub rows: Vec<u32>,
}

/// A node whose value a layer computes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Query(u32),
    Stored(u32),
}

/// The targets of one owner: its queries, then its fresh nodes.
#[derive(Debug, Clone, Copy)]
struct Targets<'a> {
    first_query: u32,
    queries: usize,
    stored: &'a [u32],
}

impl Targets<'_> {
    fn len(&self) -> usize {
        self.queries + self.stored.len()
    }

    fn get(&self, at: usize) -> Target {
        match at.checked_sub(self.queries) {
            None => Target::Query(self.first_query + at as u32),
            Some(at) => Target::Stored(self.stored[at]),
        }
    }
}

/// The sources that the worker holds of one target.
#[derive(Debug, Default)]
struct Sources {
    /// Rows of the part.
    stored: Vec<u32>,
    /// Rows at hand.
    at_hand: Vec<u32>,
}

/// What a worker reads in a layer.
struct Reads<'a> {
    split: SplitLayer<'a>,
    view: PartView<'a>,
    job: &'a Job,
    messages: Rows<'a>,
    messages_at_hand: Rows<'a>,
    scales: Option<&'a [f32]>,
    scales_at_hand: Option<Vec<f32>>,
    slots: &'a [u32],
}

impl Reads<'_> {
    fn sources(&self, target: Target, sources: &mut Sources) {
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
    fn edges(&self, target: Target) -> u64 {
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
    fn partials(&self, targets: Targets<'_>, terms: &[f32]) -> (Vec<u32>, Vec<f32>) {
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
    fn source_rows(&self, targets: Targets<'_>) -> SourceRows {
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
struct SourceRows {
    /// Sources of each target.
    counts: Vec<u32>,
    /// Places among the rows, target by target.
    ids: Vec<u32>,
    /// Factors of the rows, where the layer has some.
    scales: Vec<f32>,
    rows: Vec<f32>,
    len: usize,
}

impl Run<'_> {
    /// Values of the worker's queries and fresh nodes after a layer.
    pub(super) async fn layer(
        &self,
        index: usize,
        below: &AtHand,
        fresh: &ByOwner,
    ) -> Result<AtHand, ClusterError> {
        let (post, job) = (self.post, self.job);
        let split = self.desk.part.model().split_layer(index);
        let targets: Vec<Targets<'_>> = (0..post.workers)
            .map(|owner| {
                let queries = job.head.owned(owner, post.workers);
                Targets {
                    first_query: queries.start as u32,
                    queries: queries.len(),
                    stored: &fresh[owner],
                }
            })
            .collect();
        let rows = self.rows_of(&fresh[post.worker])?;
        let made = match split.makes_messages() {
            true => make_messages(
                split,
                &below.values,
                self.desk.part.model().level_width(index),
            ),
            false => Vec::new(),
        };
        let at_hand = match split.makes_messages() {
            true => &made,
            false => &below.values,
        };
        let own = self.own_rows(index, below, at_hand, &rows)?;
        let terms = self.terms(split, &own, &targets).await?;
        let messages = self.messages(index, below, at_hand, (&targets, &terms))?;
        let received = post.all_to_all(messages).await;
        let mine = targets[post.worker];
        let reduced = self.reduce(split, &received, mine, &terms[post.worker])?;
        drop(received);
        Ok(AtHand {
            values: complete(split, &reduced, &own, mine.len()),
            rows,
        })
    }

    /// Rows of the part of nodes that it owns.
    fn rows_of(&self, nodes: &[u32]) -> Result<Vec<u32>, ClusterError> {
        let view = self.desk.part.view()?;
        let row = |&node: &u32| {
            view.row(node).ok_or_else(|| ClusterError::Worker {
                worker: self.post.worker,
                message: format!("it is asked for node {node}, which it does not own"),
            })
        };
        nodes.iter().map(row).collect()
    }

    /// What every target brings to its reduction, by owner; nothing where rows are exchanged, except
    /// the worker's own.
    async fn terms(
        &self,
        split: SplitLayer<'_>,
        own: &Own,
        targets: &[Targets<'_>],
    ) -> Result<Vec<Vec<f32>>, ClusterError> {
        let width = split.term_width();
        let mut terms = vec![Vec::new(); targets.len()];
        if width == 0 {
            return Ok(terms);
        }
        let mine = match own.in_degrees.is_empty() {
            true => Vec::new(),
            false => split.terms(&own.values, own.messages()),
        };
        if self.job.head.exchange == Exchange::Rows {
            terms[self.post.worker] = mine;
            return Ok(terms);
        }
        let mut writer = SlabWriter::default();
        writer.f32s(&mine, self.desk.wire);
        let message = writer.finish();
        self.count_bytes(message.len() * (targets.len() - 1));
        let received = self.post.all_gather(message).await;
        for (worker, message) in received.iter().enumerate() {
            let mut reader = SlabReader::new(message, worker);
            terms[worker] = reader.f32s(targets[worker].len() * width)?.into_owned();
        }
        Ok(terms)
    }

    fn count_bytes(&self, bytes: usize) {
        self.layer_bytes.set(self.layer_bytes.get() + bytes as u64);
    }

    /// The message to each owner.
    fn messages(
        &self,
        index: usize,
        below: &AtHand,
        at_hand: &[f32],
        (targets, terms): (&[Targets<'_>], &[Vec<f32>]),
    ) -> Result<Vec<Vec<u8>>, ClusterError> {
        let part = &self.desk.part;
        let split = part.model().split_layer(index);
        let view = part.view()?;
        let taken = self.desk.scratch.borrow_mut().take();
        let mut scratch = taken.unwrap_or_else(|| Scratch {
            slots: vec![NONE; view.nodes.len()],
            scales: part.scales().to_vec(),
        });
        let queries = self.job.owned.len();
        for (at, &row) in below.rows.iter().enumerate() {
            scratch.slots[row as usize] = (queries + at) as u32;
        }
        self.attach(&view, &mut scratch, true);
        let (source, _) = split.scales();
        let kind = self.kind(source);
        let reads = Reads {
            split,
            view,
            job: self.job,
            messages: part.message_rows(index)?,
            messages_at_hand: Rows::f32(at_hand, split.message_width()),
            scales: kind.map(|kind| &scratch.scales[kind][..]),
            scales_at_hand: kind.map(|kind| {
                let kind_of = part.kinds()[kind];
                let queries = self.job.owned.clone();
                let queries = queries.map(|query| kind_of.of(self.job.degrees[query]));
                let rows = below.rows.iter();
                queries
                    .chain(rows.map(|&row| scratch.scales[kind][row as usize]))
                    .collect()
            }),
            slots: &scratch.slots,
        };
        let mut messages = Vec::with_capacity(targets.len());
        for (owner, targets) in targets.iter().enumerate() {
            let edges: u64 = (0..targets.len())
                .map(|at| reads.edges(targets.get(at)))
                .sum();
            self.edges.set(self.edges.get() + edges);
            let message = self.message(&reads, *targets, &terms[owner], owner);
            if owner != self.post.worker {
                self.count_bytes(message.len());
            }
            messages.push(message);
        }
        drop(reads);
        for &row in &below.rows {
            scratch.slots[row as usize] = NONE;
        }
        self.attach(&view, &mut scratch, false);
        *self.desk.scratch.borrow_mut() = Some(scratch);
        Ok(messages)
    }

    fn message(
        &self,
        reads: &Reads<'_>,
        targets: Targets<'_>,
        terms: &[f32],
        owner: usize,
    ) -> Vec<u8> {
        let mut writer = SlabWriter::default();
        match self.job.head.exchange {
            Exchange::Partials => {
                let (present, rows) = reads.partials(targets, terms);
                let mut bits = vec![0_u32; targets.len().div_ceil(32)];
                for at in present {
                    bits[at as usize / 32] |= 1 << (at % 32);
                }
                writer.u32s(&bits);
                writer.f32s(&rows, self.desk.wire);
            }
            Exchange::Rows => {
                let rows = reads.source_rows(targets);
                if owner != self.post.worker {
                    let moved = self.rows_moved.get() + rows.len as u64;
                    self.rows_moved.set(moved);
                }
                writer.u32s(&rows.counts);
                writer.u32s(&rows.ids);
                writer.f32s(&rows.scales, crate::slab::Wire::F32);
                writer.f32s(&rows.rows, self.desk.wire);
            }
        }
        writer.finish()
    }

    /// Joins what all workers sent for the worker's targets, `[targets, partial width]`.
    fn reduce(
        &self,
        split: SplitLayer<'_>,
        received: &[Payload],
        targets: Targets<'_>,
        terms: &[f32],
    ) -> Result<Vec<f32>, ClusterError> {
        let width = split.partial_width();
        let mut reduced = vec![0.0; targets.len() * width];
        reduced
            .chunks_exact_mut(width)
            .for_each(|row| split.clear(row));
        for (worker, message) in received.iter().enumerate() {
            let mut reader = SlabReader::new(message, worker);
            match self.job.head.exchange {
                Exchange::Partials => join(split, &mut reader, targets.len(), &mut reduced)?,
                Exchange::Rows => add_rows(split, &mut reader, terms, &mut reduced)?,
            }
        }
        Ok(reduced)
    }

    /// Sets the factors of the rows whose degree the batch changes, or sets them back.
    fn attach(&self, view: &PartView<'_>, scratch: &mut Scratch, attached: bool) {
        for (kind, values) in self.desk.part.kinds().iter().zip(&mut scratch.scales) {
            let changed = match kind.follows_out_degree() {
                true => &self.job.readers,
                false => &self.job.touched,
            };
            for &(row, _) in changed {
                let degrees = match attached {
                    true => self.job.attached(view, row),
                    false => view.degrees(row),
                };
                values[row as usize] = kind.of(degrees);
            }
        }
    }

    pub(super) fn kind(&self, scale: Option<DegreeScale>) -> Option<usize> {
        let kinds = self.desk.part.kinds();
        kinds.iter().position(|&kind| Some(kind) == scale)
    }

    /// What the worker knows of its own targets: its queries, then the rows `fresh`.
    fn own_rows(
        &self,
        index: usize,
        below: &AtHand,
        at_hand: &[f32],
        fresh: &[u32],
    ) -> Result<Own, ClusterError> {
        let part = &self.desk.part;
        let split = part.model().split_layer(index);
        let view = part.view()?;
        let queries = self.job.owned.len();
        let pick = |stored: Rows<'_>, values: &[f32], rows: &[u32]| {
            let width = stored.width();
            let mut own = values[..queries * width].to_vec();
            own.resize((queries + fresh.len()) * width, 0.0);
            let out = own[queries * width..].chunks_exact_mut(width);
            for (out, &row) in out.zip(fresh) {
                match rows.binary_search(&row) {
                    Ok(at) => out.copy_from_slice(&values[(queries + at) * width..][..width]),
                    Err(_) => stored.read(row as usize, out),
                }
            }
            own
        };
        let degrees = |scale: Option<DegreeScale>| -> Vec<f32> {
            let Some(scale) = scale else {
                return Vec::new();
            };
            let queries = self.job.owned.clone();
            let of_queries = queries.map(|query| scale.of(self.job.degrees[query]));
            let of_rows = fresh.iter();
            of_queries
                .chain(of_rows.map(|&row| scale.of(self.job.attached(&view, row))))
                .collect()
        };
        let (source, target) = split.scales();
        let in_degrees = self.job.owned.clone();
        let in_degrees = in_degrees.map(|query| self.job.degrees[query].incoming);
        let of_rows = fresh.iter();
        Ok(Own {
            values: pick(part.level(index)?, &below.values, &below.rows),
            messages: match split.makes_messages() {
                true => Some(pick(part.message_rows(index)?, at_hand, &below.rows)),
                false => None,
            },
            initial: match split.reads_initial() {
                true => pick(part.level(0)?, &self.initial, &[]),
                false => Vec::new(),
            },
            in_degrees: in_degrees
                .chain(of_rows.map(|&row| self.job.attached(&view, row).incoming))
                .collect(),
            source_scales: degrees(source),
            target_scales: degrees(target),
        })
    }
}

/// What an owner knows of its targets; the fields are those of [`OwnRows`].
#[derive(Debug)]
struct Own {
    values: Vec<f32>,
    messages: Option<Vec<f32>>,
    initial: Vec<f32>,
    in_degrees: Vec<u32>,
    source_scales: Vec<f32>,
    target_scales: Vec<f32>,
}

impl Own {
    fn messages(&self) -> &[f32] {
        self.messages.as_deref().unwrap_or(&self.values)
    }
}

/// Joins one worker's partial results.
fn join(
    split: SplitLayer<'_>,
    reader: &mut SlabReader<'_>,
    targets: usize,
    reduced: &mut [f32],
) -> Result<(), ClusterError> {
    let width = split.partial_width();
    let bits = reader.u32s()?;
    reader.check(bits.len() == targets.div_ceil(32))?;
    let is_present = |at: usize| bits[at / 32] & (1 << (at % 32)) != 0;
    let present: Vec<usize> = (0..targets).filter(|&at| is_present(at)).collect();
    let rows = reader.f32s(present.len() * width)?;
    for (row, at) in rows.chunks_exact(width).zip(present) {
        split.join(row, &mut reduced[at * width..][..width]);
    }
    Ok(())
}

/// Reduces the rows that one worker sent.
fn add_rows(
    split: SplitLayer<'_>,
    reader: &mut SlabReader<'_>,
    terms: &[f32],
    reduced: &mut [f32],
) -> Result<(), ClusterError> {
    let (width, term_width) = (split.partial_width(), split.term_width());
    let counts = reader.u32s()?;
    let ids = reader.u32s()?;
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    reader.check(counts.len() * width == reduced.len() && total == ids.len() as u64)?;
    let rows = ids.iter().max().map_or(0, |&id| id as usize + 1);
    let with_scales = split.scales().0.is_some();
    let scales = reader.f32s(if with_scales { rows } else { 0 })?;
    let values = reader.f32s(rows * split.message_width())?;
    let table = Rows::f32(&values, split.message_width());
    let scales = with_scales.then_some(&scales[..]);
    let mut rest = &ids[..];
    for (at, (&count, partial)) in counts
        .iter()
        .zip(reduced.chunks_exact_mut(width))
        .enumerate()
    {
        let (ids, after) = rest.split_at(count as usize);
        rest = after;
        split.add(
            table,
            ids,
            scales,
            &terms[at * term_width..][..term_width],
            partial,
        );
    }
    Ok(())
}

fn make_messages(split: SplitLayer<'_>, values: &[f32], width: usize) -> Vec<f32> {
    let blocks: Vec<Vec<f32>> = values
        .par_chunks(BLOCK * width)
        .map(|rows| split.messages(rows.to_vec(), width))
        .collect();
    blocks.concat()
}

/// Values of the worker's targets, `[targets, width]`.
fn complete(split: SplitLayer<'_>, reduced: &[f32], own: &Own, targets: usize) -> Vec<f32> {
    let slice = |values: &[f32], from: usize, to: usize| {
        let width = values.len() / targets;
        from * width..to * width
    };
    let blocks: Vec<Vec<f32>> = (0..targets.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let (from, to) = (block * BLOCK, targets.min((block + 1) * BLOCK));
            let cut = |values: &'_ [f32]| slice(values, from, to);
            let messages = own.messages();
            split.complete(
                reduced[cut(reduced)].to_vec(),
                &OwnRows {
                    values: &own.values[cut(&own.values)],
                    messages: &messages[cut(messages)],
                    initial: &own.initial[cut(&own.initial)],
                    in_degrees: &own.in_degrees[from..to],
                    source_scales: &own.source_scales[cut(&own.source_scales)],
                    target_scales: &own.target_scales[cut(&own.target_scales)],
                },
            )
        })
        .collect();
    blocks.concat()
}
