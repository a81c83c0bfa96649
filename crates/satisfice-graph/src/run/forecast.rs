//! What a plan leaves stale and what it costs, known before it runs.

use super::{
    batch::QueryBatch,
    forward::{BatchScales, Serving, rescaled},
    layer::Target,
    policy::{self, ReadWeight, share_of_new_edges},
    scratch::{NODES_MAX, Scratch},
    select::budget_count,
};
use crate::{
    Plan, Policy,
    model::{Layer, Reduction},
};
use satisfice_core::{Cores, Stopped};
use std::{cmp::Ordering, ops::Range};

/// What is known of one plan for one batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forecast {
    /// For each query: the share of what its last layer reads that the batch changes and the plan
    /// leaves as stored, 0 to 1.
    ///
    /// It is the sum over the query's stored sources that are not computed anew of the weight with
    /// which the source is read times its share of new in-edges, over the sum of all weights: of a
    /// mean over neighbours, exactly the weight of what is missing.
    pub stale: Vec<f32>,
    /// What the plan's time follows from.
    pub work: Work,
}

/// Counts that the time of a plan follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Work {
    /// Edges of the batch and stored neighbours: checking, ordering, choosing.
    pub edges: f64,
    /// Nodes computed, over all layers.
    pub targets: f64,
    /// Rows read, over all layers. How many in-edges of the chosen nodes have a source that changed, which
    /// only their ids say, is reckoned as if sources were drawn by their out-degrees.
    pub rows: f64,
    /// Bytes of those rows.
    pub bytes: f64,
    /// Operations of the dense products.
    pub flops: f64,
    /// Ids of in-edges looked through.
    pub ids: f64,
}

impl Work {
    /// Number of terms.
    pub(crate) const TERMS: usize = 7;

    /// What each coefficient of a cost model counts: one, then the counts.
    pub(crate) fn terms(&self) -> [f64; Self::TERMS] {
        [
            1.0,
            self.edges,
            self.targets,
            self.rows,
            self.bytes,
            self.flops,
            self.ids,
        ]
    }
}

/// One stored neighbour of the batch.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    node: u32,
    /// Share of new edges among its in-edges.
    share: f64,
    /// New in-edges.
    new: u32,
    /// Stored in-edges.
    stored: u32,
    /// Stored out-edges.
    read: u32,
}

/// Sums over the candidates that a plan computes anew.
#[derive(Debug, Clone, Copy, Default)]
struct Chosen {
    nodes: f64,
    new: f64,
    stored: f64,
    read: f64,
}

impl Chosen {
    fn add(&mut self, candidate: Candidate) {
        self.nodes += 1.0;
        self.new += f64::from(candidate.new);
        self.stored += f64::from(candidate.stored);
        self.read += f64::from(candidate.read);
    }

    fn plus(self, other: Self) -> Self {
        Self {
            nodes: self.nodes + other.nodes,
            new: self.new + other.new,
            stored: self.stored + other.stored,
            read: self.read + other.read,
        }
    }
}

impl Serving<'_> {
    /// What each of `plans` would leave stale and cost. `scratch` is prepared for the batch.
    ///
    /// Cost: for each policy, one pass over the batch's edges and stored neighbours; no row is read.
    ///
    /// # Panics
    /// When a plan's policy is [`Policy::Oracle`], which cannot be known before it runs.
    pub(crate) fn forecast(
        &self,
        batch: &QueryBatch,
        plans: &[Plan],
        cores: &Cores,
        scratch: &Scratch,
    ) -> Result<Vec<Forecast>, Stopped> {
        let scales = BatchScales::new(self.model.scales(), batch);
        let weight = self.read_weight(&scales, &scratch.scales);
        let candidates = self.candidates(batch, cores)?;
        let rescaled = self.rescaled(batch);
        let choices = self.choices(batch, plans, (&weight, &candidates), cores)?;
        let steps = cores.map(choices.len(), steps_at_once(&candidates), |at| {
            let Choice { counts, scores, .. } = &choices[at];
            Steps::new(counts, scores)
        })?;
        let mut forecasts = Vec::with_capacity(plans.len());
        for (choice, steps) in choices.iter().zip(&steps) {
            let stale = self.stale(batch, &weight, (&candidates, steps), cores)?;
            let chosen = steps.chosen(&candidates);
            for (&plan, &count) in choice.plans.iter().zip(&choice.counts) {
                let step = steps.of(count);
                let stale = match plans[plan] {
                    Plan::Refresh | Plan::Exact => vec![0.0; batch.queries()],
                    _ => stale[step].clone(),
                };
                let work = self.work(batch, (plans[plan], chosen[step]), &rescaled);
                forecasts.push((plan, Forecast { stale, work }));
            }
        }
        forecasts.sort_unstable_by_key(|&(plan, _)| plan);
        let forecasts = forecasts.into_iter();
        Ok(forecasts.map(|(_, forecast)| forecast).collect())
    }

    /// What the plans of each policy choose.
    fn choices(
        &self,
        batch: &QueryBatch,
        plans: &[Plan],
        (weight, candidates): (&ReadWeight<'_>, &[Candidate]),
        cores: &Cores,
    ) -> Result<Vec<Choice>, Stopped> {
        let count = |plan: &Plan| match *plan {
            Plan::Precomputed => 0,
            Plan::Recompute { budget, .. } => budget_count(budget, candidates.len()),
            Plan::Refresh | Plan::Exact => candidates.len(),
        };
        let mut choices = Vec::new();
        for policy in Policy::ALL {
            // The others choose nothing by a policy: they go with the default one.
            let mine = |plan: &Plan| match *plan {
                Plan::Recompute { policy: own, .. } => own == policy,
                Plan::Precomputed | Plan::Refresh | Plan::Exact => policy == Policy::default(),
            };
            let mine: Vec<usize> = (0..plans.len()).filter(|&p| mine(&plans[p])).collect();
            if mine.is_empty() {
                continue;
            }
            let scores = policy::scores(
                policy,
                (self.graph, batch, cores),
                |place| candidates[place].share,
                || policy::reach(batch, weight, cores),
                || unreachable!("invariant: no plan that is forecast goes by its own outcome"),
            )?;
            choices.push(Choice {
                counts: mine.iter().map(|&p| count(&plans[p])).collect(),
                plans: mine,
                scores,
            });
        }
        Ok(choices)
    }

    fn candidates(&self, batch: &QueryBatch, cores: &Cores) -> Result<Vec<Candidate>, Stopped> {
        policy::each_reader(batch, cores, |place, node| Candidate {
            node,
            share: share_of_new_edges(self.graph, batch, place),
            new: batch.new_in_edges(place) as u32,
            stored: self.graph.in_degree(node),
            read: self.graph.out_degree(node),
        })
    }

    /// For each step, the stale share of every query.
    fn stale(
        &self,
        batch: &QueryBatch,
        weight: &ReadWeight<'_>,
        (candidates, steps): (&[Candidate], &Steps),
        cores: &Cores,
    ) -> Result<Vec<Vec<f32>>, Stopped> {
        let queries = batch.queries();
        let parts = match candidates.len() > NODES_MAX {
            true => cores.width(),
            false => 1,
        };
        let mut readings: Vec<Reading> = (0..queries)
            .map(|query| self.reading_of_queries(batch, query, (weight, steps)))
            .collect();
        let part = queries.div_ceil(parts).max(1);
        let parts = readings.chunks_mut(part).enumerate();
        let parts = parts.map(|(at, readings)| (at * part, readings, 0));
        cores.each(
            parts,
            || (),
            |(), (first, readings, from)| {
                let to = candidates.len().min(from + NODES_MAX);
                let of = (first, &mut *readings);
                add_readings((batch, weight), (candidates, steps), from..to, of);
                (to < candidates.len()).then_some((first, readings, to))
            },
        )?;
        let mut stale = vec![Vec::with_capacity(queries); steps.counts.len()];
        for Reading { total, by_step } in readings {
            // What a step does not compute is what only later steps do, or none.
            let mut missing = by_step[steps.counts.len()];
            for step in (0..steps.counts.len()).rev() {
                let share = if total > 0.0 { missing / total } else { 0.0 };
                stale[step].push(share as f32);
                missing += by_step[step];
            }
        }
        Ok(stale)
    }

    /// What the last layer reads for a query of the batch's own nodes.
    fn reading_of_queries(
        &self,
        batch: &QueryBatch,
        query: usize,
        (weight, steps): (&ReadWeight<'_>, &Steps),
    ) -> Reading {
        let last = &self.model.layers[self.model.layers() - 1].conv;
        let self_loop = last.propagation().and_then(|p| p.self_loop);
        let of = |source: u32| weight.of(batch, query, Target::Query(source));
        let sources = batch.query_into_query(query).iter();
        Reading {
            total: self_loop.map_or(0.0, |w| f64::from(w) * of(query as u32))
                + sources.map(|&source| of(source)).sum::<f64>(),
            by_step: vec![0.0; steps.counts.len() + 1],
        }
    }

    /// For each layer but the last, which computes queries only: the share of the graph's edges whose source
    /// counts with a factor that the batch changes.
    fn rescaled(&self, batch: &QueryBatch) -> Vec<f64> {
        let share = |layer: &Layer| {
            let source = layer.conv.scales().0?;
            let nodes = rescaled(batch, source).into_iter();
            let read: f64 = nodes
                .map(|node| f64::from(self.graph.out_degree(node)))
                .sum();
            Some(self.share_of_edges(read))
        };
        let inner = &self.model.layers[..self.model.layers() - 1];
        let shares = inner.iter().map(|layer| share(layer).unwrap_or(0.0));
        shares.collect()
    }

    fn share_of_edges(&self, edges: f64) -> f64 {
        edges / (self.graph.edges() as f64).max(1.0)
    }

    /// The counts for a batch of which `chosen` is computed anew by a plan.
    fn work(&self, batch: &QueryBatch, (plan, chosen): (Plan, Chosen), rescaled: &[f64]) -> Work {
        let layers = self.model.layers();
        let queries = batch.queries() as f64;
        let into_queries: usize = (0..batch.queries()).map(|q| batch.query_in_degree(q)).sum();
        let between: usize = (0..batch.queries())
            .map(|q| batch.query_into_query(q).len())
            .sum();
        let mut work = Work {
            edges: (batch.edges() + batch.readers().len()) as f64,
            ..Work::default()
        };
        for layer in 0..layers {
            let (nodes, of_chosen) = match rescaled.get(layer) {
                Some(&rescaled) => (chosen.nodes, self.reads(layer, plan, chosen, rescaled)),
                None => (0.0, Reads::default()),
            };
            let level = self.levels[self.model.level_read(layer)];
            let width = self.model.level_width(layer + 1);
            let row_bytes = self.messages[layer].unwrap_or(level).row_bytes() as f64;
            let for_queries = match self.model.layers[layer].conv.reduction() {
                Reduction::Sum { .. } => batch.readers().len() + between,
                Reduction::Max | Reduction::Softmax { .. } | Reduction::Joint { .. } => {
                    into_queries
                }
            };
            let rows = for_queries as f64 + of_chosen.rows;
            let targets = queries + nodes;
            work.targets += targets;
            work.rows += rows + of_chosen.kept;
            work.bytes += rows * row_bytes + of_chosen.kept * of_chosen.kept_bytes;
            work.flops += 2.0 * targets * (level.width() * width) as f64;
            work.ids += of_chosen.ids;
        }
        work
    }

    /// What computing `chosen` anew at a layer reads, where `rescaled` of the graph's edges have a source
    /// whose factor changes.
    fn reads(&self, layer: usize, plan: Plan, chosen: Chosen, rescaled: f64) -> Reads {
        let Some(kept) = self.reduced.get(layer).copied().flatten() else {
            return Reads {
                rows: chosen.stored + chosen.new,
                ids: chosen.stored,
                ..Reads::default()
            };
        };
        let values = match self.model.level_read(layer) {
            0 => 0.0,
            _ => self.share_of_edges(chosen.read),
        };
        let changed = match plan {
            Plan::Refresh => 0.0,
            _ => rescaled.max(values),
        };
        // A sum gives up the row that counted before and takes the one that counts now, unless it is quicker to
        // take all anew; from other reductions nothing can be taken.
        let again = match self.model.layers[layer].conv.reduction() {
            _ if changed == 0.0 => 0.0,
            Reduction::Sum { .. } => (2.0 * changed).min(1.0),
            Reduction::Max | Reduction::Softmax { .. } | Reduction::Joint { .. } => 1.0,
        };
        Reads {
            rows: chosen.new + again * chosen.stored,
            kept: chosen.nodes,
            kept_bytes: kept.row_bytes() as f64,
            ids: if changed > 0.0 { chosen.stored } else { 0.0 },
        }
    }
}

/// What the plans of one policy choose.
#[derive(Debug)]
struct Choice {
    /// Which plans.
    plans: Vec<usize>,
    /// How many candidates each computes anew.
    counts: Vec<usize>,
    /// Of the candidates.
    scores: Vec<f64>,
}

/// Policies whose candidates one core puts in order: few candidates are in order before another has woken.
fn steps_at_once(candidates: &[Candidate]) -> usize {
    match candidates.len() > NODES_MAX {
        true => 1,
        false => Policy::ALL.len(),
    }
}

/// Adds what the last layer reads of some candidates for the queries from `first` on. The batch's stored neighbours are
/// gone through in order, so that only the queries' own sums are looked up.
fn add_readings(
    (batch, weight): (&QueryBatch, &ReadWeight<'_>),
    (candidates, steps): (&[Candidate], &Steps),
    places: Range<usize>,
    (first, readings): (usize, &mut [Reading]),
) {
    for (place, candidate) in places.clone().zip(&candidates[places]) {
        let readers = batch.queries_of_reader(place);
        let [from, to] = [first, first + readings.len()]
            .map(|bound| readers.partition_point(|&query| (query as usize) < bound));
        for query in readers[from..to].iter().map(|&query| query as usize) {
            let read = weight.of(batch, query, Target::Stored(candidate.node));
            let reading = &mut readings[query - first];
            reading.total += read;
            reading.by_step[steps.first[place] as usize] += read * candidate.share;
        }
    }
}

/// What the last layer reads for one query.
#[derive(Debug, Clone)]
struct Reading {
    /// The weights of all its sources.
    total: f64,
    /// Of its stored sources, by the first step that computes them, weights times shares of new edges; last of those that
    /// no step computes.
    by_step: Vec<f64>,
}

/// What a layer reads to compute stored nodes anew.
#[derive(Debug, Clone, Copy, Default)]
struct Reads {
    /// Rows of sources.
    rows: f64,
    /// Rows of what sources were reduced to.
    kept: f64,
    /// Bytes of one of those.
    kept_bytes: f64,
    /// Ids of in-edges.
    ids: f64,
}

/// Candidates by the first of some budgets that reaches them.
#[derive(Debug)]
struct Steps {
    /// How many candidates each step computes anew, ascending, each once.
    counts: Vec<usize>,
    /// For each candidate: the first step that computes it; one past the last where none does.
    first: Vec<u32>,
}

impl Steps {
    /// Steps that compute `counts` candidates each: those with the highest scores, ties by position,
    /// as `highest` chooses them.
    fn new(counts: &[usize], scores: &[f64]) -> Self {
        let mut counts = counts.to_vec();
        counts.sort_unstable();
        counts.dedup();
        let mut first = vec![counts.len() as u32; scores.len()];
        let mut best: Vec<u32> = (0..scores.len() as u32).collect();
        let order = |a: &u32, b: &u32| -> Ordering {
            let (left, right) = (scores[*a as usize], scores[*b as usize]);
            right.total_cmp(&left).then(a.cmp(b))
        };
        for (step, &count) in counts.iter().enumerate().rev() {
            if (1..best.len()).contains(&count) {
                best.select_nth_unstable_by(count - 1, order);
            }
            best.truncate(count);
            for &candidate in &best {
                first[candidate as usize] = step as u32;
            }
        }
        Self { counts, first }
    }

    /// The step that computes `count` candidates.
    fn of(&self, count: usize) -> usize {
        self.counts.partition_point(|&other| other < count)
    }

    /// For each step: the sums over what it computes.
    fn chosen(&self, candidates: &[Candidate]) -> Vec<Chosen> {
        let mut sums = vec![Chosen::default(); self.counts.len() + 1];
        for (&candidate, &step) in candidates.iter().zip(&self.first) {
            sums[step as usize].add(candidate);
        }
        let running = sums.iter().scan(Chosen::default(), |sum, step| {
            *sum = sum.plus(*step);
            Some(*sum)
        });
        running.take(self.counts.len()).collect()
    }
}
