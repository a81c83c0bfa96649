//! A batch on its way to the workers: what each of them has to know.

use crate::{
    ClusterError, PartPrecision,
    part::PartView,
    slab::{Payload, SlabReader, SlabWriter, Wire},
};
use satisfice_graph::{Degrees, Plan, Policy, QueryBatch};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// What travels between workers in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// Partial results over the sources that a worker holds: computation graph parallelism. No row of a
    /// feature or an embedding leaves its machine.
    Partials,
    /// The rows of the sources, once for each worker that reads them.
    Rows,
}

impl Exchange {
    /// `"partials"` or `"rows"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partials => "partials",
            Self::Rows => "rows",
        }
    }
}

/// What all workers know of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Head {
    pub plan: Plan,
    pub exchange: Exchange,
    pub queries: usize,
    /// Stored nodes with an edge to a query.
    pub candidates: usize,
    /// Stored nodes with an edge from a query.
    pub touched: usize,
    /// The worker that owns the first queries: [`Head::new`] says which.
    pub first: usize,
}

impl Head {
    /// Of a batch. Which worker owns the first queries follows from the batch: batches begin with different
    /// ones, and the same batch with the same one, so that it gets the same numbers again.
    pub(crate) fn new(batch: &QueryBatch, plan: Plan, exchange: Exchange, workers: usize) -> Self {
        let hash = xxh3_64(bytemuck::cast_slice(batch.x()));
        Self {
            plan,
            exchange,
            queries: batch.queries(),
            candidates: batch.readers().len(),
            touched: batch.touched().len(),
            first: (hash % workers as u64) as usize,
        }
    }

    /// Queries that a worker owns: even shares.
    pub(crate) fn owned(&self, worker: usize, workers: usize) -> Range<usize> {
        let place = (worker + workers - self.first) % workers;
        place * self.queries / workers..(place + 1) * self.queries / workers
    }

    fn write(&self, writer: &mut SlabWriter) {
        let (plan, budget, policy) = match self.plan {
            Plan::Precomputed => (0, 0.0, 0),
            Plan::Exact => (1, 0.0, 0),
            Plan::Refresh => (3, 0.0, 0),
            Plan::Recompute { budget, policy } => {
                let at = Policy::ALL.iter().position(|&p| p == policy);
                (2, budget, at.unwrap_or(0))
            }
        };
        let exchange = match self.exchange {
            Exchange::Partials => 0,
            Exchange::Rows => 1,
        };
        let words = [
            plan,
            policy,
            exchange,
            self.queries,
            self.candidates,
            self.touched,
            self.first,
        ];
        writer.u32s(&words.map(|word| word as u32));
        writer.f64s(&[budget]);
    }

    fn read(reader: &mut SlabReader<'_>, workers: usize) -> Result<Self, ClusterError> {
        let words = reader.u32s()?;
        reader.check(words.len() == 7)?;
        let budget = reader.f64s()?;
        reader.check(budget.len() == 1 && (0.0..=1.0).contains(&budget[0]))?;
        let policy = Policy::ALL.get(words[1] as usize).copied();
        let plan = match (words[0], policy) {
            (0, _) => Some(Plan::Precomputed),
            (1, _) => Some(Plan::Exact),
            (3, _) => Some(Plan::Refresh),
            (2, Some(policy)) => Some(Plan::Recompute {
                budget: budget[0],
                policy,
            }),
            _ => None,
        };
        reader.check(plan.is_some() && words[2] < 2 && (words[6] as usize) < workers)?;
        Ok(Self {
            plan: plan.unwrap_or(Plan::Exact),
            exchange: match words[2] {
                0 => Exchange::Partials,
                _ => Exchange::Rows,
            },
            queries: words[3] as usize,
            candidates: words[4] as usize,
            touched: words[5] as usize,
            first: words[6] as usize,
        })
    }
}

/// The message of a batch to each worker: the degrees of all queries; its queries' features; the edges
/// whose source it owns; and which of its nodes get new in-edges.
pub(crate) fn scatter(
    head: Head,
    batch: &QueryBatch,
    owners: &[u8],
    workers: usize,
) -> Vec<Vec<u8>> {
    let features = batch.x().len() / batch.queries().max(1);
    let degrees: Vec<u32> = batch
        .query_degrees()
        .iter()
        .flat_map(|d| [d.incoming, d.outgoing, d.loops])
        .collect();
    let mut of_worker: Vec<Lists> = (0..workers).map(|_| Lists::default()).collect();
    let mut owner_of_query = vec![0; batch.queries()];
    for worker in 0..workers {
        owner_of_query[head.owned(worker, workers)].fill(worker);
    }
    for query in 0..batch.queries() {
        for &node in batch.stored_into_query(query) {
            let lists = &mut of_worker[owners[node as usize] as usize];
            lists.stored_into_query.push(query as u32, node);
        }
        for &source in batch.query_into_query(query) {
            let lists = &mut of_worker[owner_of_query[source as usize]];
            lists.query_into_query.push(query as u32, source);
        }
    }
    let mut stored_of_query = vec![Vec::new(); batch.queries()];
    for &node in batch.touched() {
        let sources = batch.query_into_stored(node);
        let owner = owners[node as usize] as usize;
        of_worker[owner].touched.push(node, sources.len() as u32);
        for &source in sources {
            stored_of_query[source as usize].push(node);
        }
    }
    for (query, nodes) in stored_of_query.into_iter().enumerate() {
        let lists = &mut of_worker[owner_of_query[query]];
        let runs = &mut lists.query_into_stored;
        nodes
            .into_iter()
            .for_each(|node| runs.push(query as u32, node));
    }
    let message = |(worker, lists): (usize, Lists)| {
        let owned = head.owned(worker, workers);
        let mut writer = SlabWriter::default();
        writer.u32s(&[Task::BATCH]);
        head.write(&mut writer);
        writer.u32s(&degrees);
        let x = &batch.x()[owned.start * features..owned.end * features];
        writer.f32s(x, Wire::F32);
        lists.stored_into_query.write(&mut writer);
        lists.query_into_query.write(&mut writer);
        lists.query_into_stored.write(&mut writer);
        lists.touched.write(&mut writer);
        writer.finish()
    };
    of_worker.into_iter().enumerate().map(message).collect()
}

/// What the workers are to do together.
#[derive(Debug)]
pub(crate) enum Task {
    Batch(Box<Job>),
    /// To compute the tables that are not there, in this precision.
    Precompute(PartPrecision),
}

impl Task {
    const BATCH: u32 = 0;

    /// The message that begins a precomputation.
    pub(crate) fn precompute(precision: PartPrecision) -> Vec<u8> {
        let mut writer = SlabWriter::default();
        writer.u32s(&[match precision {
            PartPrecision::F32 => 1,
            PartPrecision::F16 => 2,
        }]);
        writer.finish()
    }

    pub(crate) fn read(
        payload: &Payload,
        from: usize,
        place: (usize, usize),
        part: &PartView<'_>,
    ) -> Result<Self, ClusterError> {
        let mut reader = SlabReader::new(payload, from);
        let kind = reader.u32s()?;
        reader.check(kind.len() == 1 && kind[0] <= 2)?;
        match kind[0] {
            Self::BATCH => Ok(Self::Batch(Box::new(Job::read(&mut reader, place, part)?))),
            1 => Ok(Self::Precompute(PartPrecision::F32)),
            _ => Ok(Self::Precompute(PartPrecision::F16)),
        }
    }
}

/// What a worker is told of a batch's edges.
#[derive(Default)]
struct Lists {
    /// (query, stored node), ascending.
    stored_into_query: Runs,
    /// (query, source query), ascending.
    query_into_query: Runs,
    /// (source query, stored node), ascending.
    query_into_stored: Runs,
    /// (stored node, new in-edges), ascending.
    touched: Counts,
}

/// Pairs, of which many one after the other begin with the same number.
#[derive(Default)]
struct Runs {
    /// First number and length of each run, end to end.
    runs: Vec<u32>,
    /// Second numbers.
    seconds: Vec<u32>,
}

impl Runs {
    fn push(&mut self, first: u32, second: u32) {
        match self.runs.last_chunk_mut() {
            Some([last, len]) if *last == first => *len += 1,
            _ => self.runs.extend([first, 1]),
        }
        self.seconds.push(second);
    }

    fn write(&self, writer: &mut SlabWriter) {
        writer.u32s(&self.runs);
        writer.u32s(&self.seconds);
    }

    /// The pairs, which are ascending by their first number.
    fn read(reader: &mut SlabReader<'_>) -> Result<Vec<(u32, u32)>, ClusterError> {
        let (runs, seconds) = (reader.u32s()?, reader.u32s()?);
        let (runs, rest) = runs.as_chunks::<2>();
        let len: u64 = runs.iter().map(|&[_, len]| u64::from(len)).sum();
        reader.check(rest.is_empty() && len == seconds.len() as u64)?;
        reader.check(runs.is_sorted_by_key(|run| run[0]))?;
        let firsts = runs
            .iter()
            .flat_map(|&[first, len]| std::iter::repeat_n(first, len as usize));
        Ok(firsts.zip(seconds.iter().copied()).collect())
    }
}

/// How many edges some nodes get: a byte for each, and again for what does not fit it.
#[derive(Default)]
struct Counts {
    nodes: Vec<u32>,
    counts: Vec<u8>,
}

impl Counts {
    fn push(&mut self, node: u32, mut count: u32) {
        while count > 0 {
            let fits = count.min(u32::from(u8::MAX));
            self.nodes.push(node);
            self.counts.push(fits as u8);
            count -= fits;
        }
    }

    fn write(&self, writer: &mut SlabWriter) {
        writer.u32s(&self.nodes);
        writer.u8s(&self.counts);
    }

    /// The nodes, ascending, with the number of edges of each.
    fn read(reader: &mut SlabReader<'_>) -> Result<Vec<(u32, u32)>, ClusterError> {
        let (nodes, counts) = (reader.u32s()?, reader.u8s()?);
        reader.check(nodes.len() == counts.len() && nodes.is_sorted())?;
        let mut found: Vec<(u32, u32)> = Vec::with_capacity(nodes.len());
        for (&node, &count) in nodes.iter().zip(counts.iter()) {
            match found.last_mut() {
                Some((last, sum)) if *last == node => *sum += u32::from(count),
                _ => found.push((node, u32::from(count))),
            }
        }
        Ok(found)
    }
}

/// Pairs (reader, source), ascending by reader.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Vec<(u32, u32)>);

impl Pairs {
    /// The pairs of a reader.
    pub(crate) fn of(&self, reader: u32) -> &[(u32, u32)] {
        let start = self.0.partition_point(|pair| pair.0 < reader);
        let len = self.0[start..].partition_point(|pair| pair.0 == reader);
        &self.0[start..start + len]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }
}

/// A batch as one worker knows it.
#[derive(Debug)]
pub(crate) struct Job {
    pub head: Head,
    /// Of all queries.
    pub degrees: Vec<Degrees>,
    /// Features of the worker's queries, `[queries, features]`.
    pub x: Vec<f32>,
    /// The worker's queries.
    pub owned: Range<usize>,
    /// (query, row of the part).
    pub stored_into_query: Pairs,
    /// (query, place among the worker's queries).
    pub query_into_query: Pairs,
    /// (stored node, place among the worker's queries).
    pub query_into_stored: Pairs,
    /// (row, new in-edges), ascending.
    pub touched: Vec<(u32, u32)>,
    /// (row, new out-edges), ascending.
    pub readers: Vec<(u32, u32)>,
}

impl Job {
    /// A job of no batch.
    pub(crate) fn empty() -> Self {
        Self {
            head: Head {
                plan: Plan::Precomputed,
                exchange: Exchange::Partials,
                queries: 0,
                candidates: 0,
                touched: 0,
                first: 0,
            },
            degrees: Vec::new(),
            x: Vec::new(),
            owned: 0..0,
            stored_into_query: Pairs::default(),
            query_into_query: Pairs::default(),
            query_into_stored: Pairs::default(),
            touched: Vec::new(),
            readers: Vec::new(),
        }
    }

    fn read(
        reader: &mut SlabReader<'_>,
        (worker, workers): (usize, usize),
        part: &PartView<'_>,
    ) -> Result<Self, ClusterError> {
        let head = Head::read(reader, workers)?;
        let owned = head.owned(worker, workers);
        let degrees = reader.u32s()?;
        reader.check(degrees.len() == 3 * head.queries)?;
        let width = part.part.model().features();
        let x = reader.f32s(owned.len() * width)?.into_owned();
        let stored_into_query = Runs::read(reader)?;
        let query_into_query = Runs::read(reader)?;
        let query_into_stored = Runs::read(reader)?;
        let touched = Counts::read(reader)?;
        let row = |node: u32| part.row(node).unwrap_or(u32::MAX);
        let place = |query: u32| query.wrapping_sub(owned.start as u32);
        let second = |pairs: Vec<(u32, u32)>, f: &dyn Fn(u32) -> u32| {
            pairs
                .into_iter()
                .map(|(a, b)| (a, f(b)))
                .collect::<Vec<_>>()
        };
        let stored_into_query = second(stored_into_query, &row);
        let query_into_query = second(query_into_query, &place);
        let by_node = query_into_stored.into_iter();
        let mut query_into_stored: Vec<_> = by_node.map(|(q, node)| (node, place(q))).collect();
        query_into_stored.sort_unstable();
        let touched: Vec<_> = touched.into_iter().map(|(a, n)| (row(a), n)).collect();
        let (rows, places) = (part.nodes.len() as u32, owned.len() as u32);
        reader.check(
            stored_into_query.iter().all(|pair| pair.1 < rows)
                && touched.iter().all(|pair| pair.0 < rows)
                && query_into_query.iter().all(|pair| pair.1 < places)
                && query_into_stored.iter().all(|pair| pair.1 < places),
        )?;
        Ok(Self {
            degrees: degrees
                .chunks_exact(3)
                .map(|d| Degrees {
                    incoming: d[0],
                    outgoing: d[1],
                    loops: d[2],
                })
                .collect(),
            readers: count(stored_into_query.iter().map(|&(_, row)| row)),
            stored_into_query: Pairs(stored_into_query),
            query_into_query: Pairs(query_into_query),
            query_into_stored: Pairs(query_into_stored),
            touched,
            x,
            owned,
            head,
        })
    }

    /// New in-edges of a row.
    pub(crate) fn new_in_edges(&self, row: u32) -> u32 {
        match self.touched.binary_search_by_key(&row, |&(row, _)| row) {
            Ok(at) => self.touched[at].1,
            Err(_) => 0,
        }
    }

    /// Degrees of a row of the part with the batch attached.
    pub(crate) fn attached(&self, part: &PartView<'_>, row: u32) -> Degrees {
        let mut degrees = part.degrees(row);
        degrees.incoming += self.new_in_edges(row);
        if let Ok(at) = self.readers.binary_search_by_key(&row, |&(row, _)| row) {
            degrees.outgoing += self.readers[at].1;
        }
        degrees
    }
}

/// The different values, ascending, with how often each occurs.
fn count(values: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut values: Vec<u32> = values.collect();
    values.sort_unstable();
    values
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len() as u32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(runs: &[u32], seconds: &[u32]) -> Result<Vec<(u32, u32)>, ClusterError> {
        let mut writer = SlabWriter::default();
        writer.u32s(runs);
        writer.u32s(seconds);
        let payload = Payload::Owned(writer.finish());
        Runs::read(&mut SlabReader::new(&payload, 0))
    }

    #[test]
    fn runs_are_the_pairs_that_were_pushed() {
        let pairs = [(0, 7), (0, 9), (3, 1), (4, 4), (4, 4)];
        let mut runs = Runs::default();
        pairs.iter().for_each(|&(a, b)| runs.push(a, b));
        assert_eq!(runs.runs, [0, 2, 3, 1, 4, 2]);
        assert_eq!(read(&runs.runs, &runs.seconds).unwrap(), pairs);
        assert_eq!(read(&[], &[]).unwrap(), []);
    }

    #[test]
    fn counts_are_those_that_were_pushed_however_large() {
        let pushed = [(0, 1), (4, 255), (5, 256), (9, 70_000)];
        let mut counts = Counts::default();
        pushed.iter().for_each(|&(a, b)| counts.push(a, b));
        let mut writer = SlabWriter::default();
        counts.write(&mut writer);
        let payload = Payload::Owned(writer.finish());
        let read = Counts::read(&mut SlabReader::new(&payload, 0)).unwrap();
        assert_eq!(read, pushed);
    }

    #[test]
    fn runs_that_do_not_fit_are_refused() {
        for (runs, seconds) in [
            (&[1][..], &[][..]),
            (&[1, 2], &[5]),
            (&[1, 1], &[5, 6]),
            (&[1, u32::MAX, 2, 1], &[5]),
            (&[2, 1, 1, 1], &[5, 6]),
        ] {
            assert!(read(runs, seconds).is_err(), "{runs:?} {seconds:?}");
        }
    }
}
