//! One layer: partial results of what a worker holds, to the owners of the targets, and completed there.

use super::{
    ByOwner, NONE, RESCALED, Run, Scratch,
    reads::{Reads, Targets},
};
use crate::{
    ClusterError,
    crossing::keeps_sums,
    job::Exchange,
    part::PartView,
    slab::{Payload, SlabReader, SlabWriter},
};
use rayon::prelude::*;
use satisfice_graph::{DegreeScale, OwnRows, Plan, SplitLayer};
use satisfice_kernels::Rows;
use std::{ops::Range, sync::atomic::Ordering};

/// Targets that one task reduces or completes together.
pub(super) const BLOCK: usize = 64;

/// A layer as a batch goes through it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    pub index: usize,
    /// Whether fresh nodes start from what is kept of their sources.
    pub keeps: bool,
}

/// Values computed anew at one level by one worker.
#[derive(Debug)]
pub(crate) struct AtHand {
    /// Of the worker's queries, then of `rows`, `[rows, width]`.
    pub values: Vec<f32>,
    /// Rows of the part, ascending.
    pub rows: Vec<u32>,
}

impl Run<'_> {
    /// Whether the fresh nodes of a layer start from what is kept of their sources.
    pub(super) fn keeps_sums(&self, index: usize, fresh: &[ByOwner]) -> Result<bool, ClusterError> {
        let below = index.checked_sub(1).and_then(|below| fresh.get(below));
        let below: usize = below.map_or(0, |below| below.iter().map(Vec::len).sum());
        keeps_sums(&self.desk.part, index, self.job.head, below as f64)
    }

    /// Values of the worker's queries and fresh nodes after a layer; `keeps` as [`Run::keeps_sums`] says.
    pub(super) async fn layer(
        &self,
        index: usize,
        below: &AtHand,
        (fresh, keeps): (&ByOwner, bool),
    ) -> Result<AtHand, ClusterError> {
        let split = self.desk.part.model().split_layer(index);
        let (reduced, own, rows) = self.reduced(index, below, (fresh, keeps)).await?;
        let targets = self.job.owned.len() + rows.len();
        Ok(AtHand {
            values: complete(split, &reduced, &own, targets),
            rows,
        })
    }

    /// What the sources of the worker's queries and fresh nodes are reduced to, with what the worker knows
    /// of those nodes.
    pub(super) async fn reduced(
        &self,
        index: usize,
        below: &AtHand,
        (fresh, keeps): (&ByOwner, bool),
    ) -> Result<(Vec<f32>, Own, Vec<u32>), ClusterError> {
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
        let initial;
        let read = match split.reads_initial() {
            true => {
                initial = AtHand {
                    values: self.initial.clone(),
                    rows: Vec::new(),
                };
                &initial
            }
            false => below,
        };
        let model = self.desk.part.model();
        let made = match split.makes_messages() {
            true => make_messages(
                split,
                &read.values,
                model.level_width(model.level_read(index)),
            ),
            false => Vec::new(),
        };
        let at_hand = match split.makes_messages() {
            true => &made,
            false => &read.values,
        };
        let own = self.own_rows(index, (read, below), at_hand, &rows)?;
        let terms = self.terms(split, &own, &targets).await?;
        let layer = Layer { index, keeps };
        let messages = self.messages(layer, read, at_hand, (&targets, &terms))?;
        let received = post.all_to_all(messages).await;
        let mine = targets[post.worker];
        let mut reduced = self.cleared(layer, mine.queries, &rows)?;
        self.reduce(layer, &received, &terms[post.worker], &mut reduced)?;
        Ok((reduced, own, rows))
    }

    /// The worker's targets before any source is added: stored nodes with what is kept of theirs where they
    /// start from it.
    pub(super) fn cleared(
        &self,
        layer: Layer,
        queries: usize,
        rows: &[u32],
    ) -> Result<Vec<f32>, ClusterError> {
        let part = &self.desk.part;
        let split = part.model().split_layer(layer.index);
        let width = split.partial_width();
        let mut reduced = vec![0.0; (queries + rows.len()) * width];
        reduced
            .chunks_exact_mut(width)
            .for_each(|row| split.clear(row));
        if layer.keeps
            && let Some(kept) = part.kept_rows(layer.index)?
        {
            let (view, without_self) = (part.view()?, split.without_self());
            let of_rows = reduced.chunks_exact_mut(width).skip(queries);
            for (reduced, &row) in of_rows.zip(rows) {
                // Of a node without a stored source nothing is kept.
                if view.has_sources(row, without_self) {
                    kept.read(row as usize, reduced);
                }
            }
            self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        }
        Ok(reduced)
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
        layer: Layer,
        below: &AtHand,
        at_hand: &[f32],
        (targets, terms): (&[Targets<'_>], &[Vec<f32>]),
    ) -> Result<Vec<Vec<u8>>, ClusterError> {
        let part = &self.desk.part;
        let split = part.model().split_layer(layer.index);
        let view = part.view()?;
        let taken = self.desk.scratch.borrow_mut().take();
        let mut scratch = taken.unwrap_or_else(|| Scratch {
            slots: vec![NONE; view.nodes.len()],
            scales: part.scales().to_vec(),
        });
        let queries = self.job.owned.len();
        let (source, _) = split.scales();
        let refreshes = self.job.head.plan == Plan::Refresh;
        let rescaled = match source.filter(|_| layer.keeps && !refreshes) {
            Some(scale) => self.rescaled(scale),
            None => &[],
        };
        for &(row, _) in rescaled {
            scratch.slots[row as usize] = RESCALED;
        }
        for (at, &row) in below.rows.iter().enumerate() {
            scratch.slots[row as usize] = (queries + at) as u32;
        }
        self.attach(&view, &mut scratch, true);
        let kind = self.kind(source);
        let reads = Reads {
            split,
            view,
            job: self.job,
            keeps: layer.keeps,
            changes: !refreshes && (!rescaled.is_empty() || !below.rows.is_empty()),
            messages: part.message_rows(layer.index)?,
            messages_at_hand: Rows::f32(at_hand, split.message_width()),
            scales: kind.map(|kind| &scratch.scales[kind][..]),
            stored_scales: kind.map(|kind| &part.scales()[kind][..]),
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
            rows_read: &self.rows,
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
        let rescaled = rescaled.iter().map(|&(row, _)| row);
        for row in rescaled.chain(below.rows.iter().copied()) {
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

    /// Joins what all workers sent for the worker's targets into `reduced`, `[targets, partial width]`.
    fn reduce(
        &self,
        layer: Layer,
        received: &[Payload],
        terms: &[f32],
        reduced: &mut [f32],
    ) -> Result<(), ClusterError> {
        let split = self.desk.part.model().split_layer(layer.index);
        let with_factors = layer.keeps || split.scales().0.is_some();
        for (worker, message) in received.iter().enumerate() {
            let mut reader = SlabReader::new(message, worker);
            match self.job.head.exchange {
                Exchange::Partials => join(split, &mut reader, reduced)?,
                Exchange::Rows => add_rows((split, with_factors), &mut reader, terms, reduced)?,
            }
        }
        Ok(())
    }

    /// Rows whose factor of a kind the batch changes.
    fn rescaled(&self, kind: DegreeScale) -> &[(u32, u32)] {
        match kind.follows_out_degree() {
            true => &self.job.readers,
            false => &self.job.touched,
        }
    }

    /// Sets the factors of the rows whose degree the batch changes, or sets them back.
    fn attach(&self, view: &PartView<'_>, scratch: &mut Scratch, attached: bool) {
        for (&kind, values) in self.desk.part.kinds().iter().zip(&mut scratch.scales) {
            for &(row, _) in self.rescaled(kind) {
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

    /// What the worker knows of its own targets, its queries, then the rows `fresh`, from what is at hand at the
    /// level that the layer reads and at the level below.
    pub(super) fn own_rows(
        &self,
        index: usize,
        (read, below): (&AtHand, &AtHand),
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
            values: pick(
                part.level(part.model().level_read(index))?,
                &read.values,
                &read.rows,
            ),
            below: match split.reads_initial() && split.needs_below() {
                true => Some(pick(part.level(index)?, &below.values, &below.rows)),
                false => None,
            },
            kept: match part.own_terms(index)? {
                Some(terms) => gather(terms, fresh),
                None => Vec::new(),
            },
            messages: match split.makes_messages() {
                true => Some(pick(part.message_rows(index)?, at_hand, &read.rows)),
                false => None,
            },
            initial: match split.needs_initial() {
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

/// What an owner knows of its targets; the fields are those of [`OwnRows`] and one more.
#[derive(Debug)]
pub(super) struct Own {
    values: Vec<f32>,
    /// Where they are not `values`.
    below: Option<Vec<f32>>,
    /// What the layer adds of the last targets' own values; of those before it is made of `values`.
    kept: Vec<f32>,
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

    /// What the layer adds of the own values of a range of all `targets`.
    fn mapped(&self, split: SplitLayer<'_>, range: Range<usize>, targets: usize) -> Vec<f32> {
        let (width, own_width) = (self.values.len() / targets, split.own_width());
        let first_kept = match own_width {
            0 => targets,
            _ => targets - self.kept.len() / own_width,
        };
        let from = first_kept.clamp(range.start, range.end);
        let mut mapped = split.own(&self.values[range.start * width..from * width]);
        if from < range.end {
            let kept = from - first_kept..range.end - first_kept;
            mapped.extend_from_slice(&self.kept[kept.start * own_width..kept.end * own_width]);
        }
        mapped
    }
}

/// Some rows of a table, one after the other.
fn gather(table: Rows<'_>, rows: &[u32]) -> Vec<f32> {
    let width = table.width();
    let mut values = vec![0.0; rows.len() * width];
    for (values, &row) in values.chunks_exact_mut(width).zip(rows) {
        table.read(row as usize, values);
    }
    values
}

/// Joins one worker's partial results.
fn join(
    split: SplitLayer<'_>,
    reader: &mut SlabReader<'_>,
    reduced: &mut [f32],
) -> Result<(), ClusterError> {
    let width = split.partial_width();
    let targets = reduced.len() / width;
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

/// Reduces the rows that one worker sent, with factors or without.
fn add_rows(
    (split, with_factors): (SplitLayer<'_>, bool),
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
    let scales = reader.f32s(if with_factors { rows } else { 0 })?;
    let values = reader.f32s(rows * split.message_width())?;
    let table = Rows::f32(&values, split.message_width());
    let scales = with_factors.then_some(&scales[..]);
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
        .map(|rows| split.messages(rows))
        .collect();
    blocks.concat()
}

/// Values of the worker's targets, `[targets, width]`.
pub(super) fn complete(
    split: SplitLayer<'_>,
    reduced: &[f32],
    own: &Own,
    targets: usize,
) -> Vec<f32> {
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
            let below = own.below.as_deref().unwrap_or(&own.values);
            split.complete(
                reduced[cut(reduced)].to_vec(),
                own.mapped(split, from..to, targets),
                &OwnRows {
                    values: &own.values[cut(&own.values)],
                    below: &below[cut(below)],
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
