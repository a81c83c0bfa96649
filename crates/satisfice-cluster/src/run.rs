//! A batch through the layers, as every worker runs it side by side.

mod layer;
mod precompute;
mod reads;
mod score;
mod select;

use crate::{
    ClusterError,
    job::{Exchange, Job, Task},
    mail::Post,
    part::Part,
    slab::{SlabReader, SlabWriter, Wire},
};
use layer::AtHand;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a worker keeps between batches.
#[derive(Debug)]
pub(crate) struct Desk {
    pub part: Arc<Part>,
    pub wire: Wire,
    pub counters: Arc<Counters>,
    /// Taken while it is used: work that panics does not give it back.
    scratch: RefCell<Option<Scratch>>,
}

impl Desk {
    pub(crate) fn new(part: Arc<Part>, wire: Wire, counters: Arc<Counters>) -> Self {
        Self {
            part,
            wire,
            counters,
            scratch: RefCell::new(None),
        }
    }
}

/// Space of the size of the part, left as it was found.
#[derive(Debug)]
struct Scratch {
    /// Row of the part -> row at hand; [`NONE`] = as stored. All [`NONE`] between layers.
    slots: Vec<u32>,
    /// For each of the model's scales, the factor of every row; as without a batch between layers.
    scales: Vec<Vec<f32>>,
}

/// No row at hand.
const NONE: u32 = u32::MAX;

/// No row at hand either, but the batch changes the row's factor as a source.
const RESCALED: u32 = u32::MAX - 1;

/// What the workers of a node have done since they started.
#[derive(Debug, Default)]
pub struct Counters {
    batches: AtomicU64,
    sent_bytes: AtomicU64,
    sent_rows: AtomicU64,
    /// By worker, microseconds.
    waited_for: Mutex<BTreeMap<usize, Waits>>,
}

/// How often and how long a node's workers waited for one worker last of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Waits {
    /// Rounds that its message ended.
    pub rounds: u64,
    /// Of them, those that were slow, and those that were given up.
    pub slow_rounds: u64,
    /// Time from the beginning of the wait to its message, in microseconds.
    pub waited_us: u64,
}

impl Counters {
    /// Counts a round that the message of `worker` ended; it was a slow one if it took longer than `slow`.
    pub(crate) fn waited_for(&self, worker: usize, time: Duration, slow: Duration) {
        let mut waits = self
            .waited_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waits = waits.entry(worker).or_default();
        waits.rounds += 1;
        waits.slow_rounds += u64::from(time > slow);
        waits.waited_us += time.as_micros() as u64;
    }

    /// For whom rounds had to wait, by worker: a slow one stands out.
    pub fn waits(&self) -> BTreeMap<usize, Waits> {
        self.waited_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Batches that the workers took part in to the end.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Bytes of messages to other workers.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Rows of features, embeddings and messages sent to other workers; 0 as long as only partial
    /// results are exchanged.
    pub fn sent_rows(&self) -> u64 {
        self.sent_rows.load(Ordering::Relaxed)
    }
}

/// An answer with what was done for it.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchAnswer {
    /// `[queries, outputs]`.
    pub outputs: Vec<f32>,
    /// Stored nodes computed anew, at one layer or more; ascending.
    pub recomputed: Vec<u32>,
    /// In-edges of everything computed, over all layers.
    pub edges: u64,
    /// Rows of sources and kept sums read for them: fewer than edges where sums are brought up to date.
    pub rows: u64,
    /// What was exchanged between workers.
    pub exchange: Exchange,
    /// Bytes of all messages between different workers: the batch, what was exchanged for it, the
    /// answers.
    pub bytes: u64,
    /// The same of partial results or rows, over all layers.
    pub layer_bytes: u64,
    /// Rows that crossed from one worker to another.
    pub rows_moved: u64,
    /// From the scattered batch to the answer, at the worker that the request came to.
    pub time: Duration,
    /// Of that, time in which this worker waited for others.
    pub waited: Duration,
}

/// Lists of stored nodes, each list of its owner's, ascending.
pub(crate) type ByOwner = Vec<Vec<u32>>;

/// One batch on its way through the layers.
pub(crate) struct Run<'a> {
    desk: &'a Desk,
    post: &'a Post,
    job: &'a Job,
    /// Values of the worker's queries before the first layer.
    initial: Vec<f32>,
    edges: Cell<u64>,
    rows: AtomicU64,
    layer_bytes: Cell<u64>,
    rows_moved: Cell<u64>,
}

/// What workers have done together.
#[derive(Debug)]
pub(crate) enum Done {
    Answer(Box<BatchAnswer>),
    /// Names of the tables computed.
    Tables(Vec<String>),
}

/// Takes part in a task. What was done is told at the worker that began it.
pub(crate) async fn take_part(
    desk: Rc<Desk>,
    post: Post,
    begun_by: usize,
) -> Result<Option<Done>, ClusterError> {
    let scattered = post.scattered(begun_by).await;
    let place = (post.worker, post.workers);
    let task = Task::read(&scattered, begun_by, place, &desk.part.view()?)?;
    drop(scattered);
    match task {
        Task::Batch(job) => {
            let answer = answer(&desk, &post, &job, begun_by).await?;
            Ok(answer.map(|answer| Done::Answer(Box::new(answer))))
        }
        Task::Precompute(precision) => {
            let tables = precompute::run(&desk, &post, precision, begun_by).await?;
            Ok(tables.map(Done::Tables))
        }
    }
}

/// Takes part in a batch. The answer comes at the worker that began it.
async fn answer(
    desk: &Desk,
    post: &Post,
    job: &Job,
    begun_by: usize,
) -> Result<Option<BatchAnswer>, ClusterError> {
    let start = Instant::now();
    let model = desk.part.model();
    let run = Run {
        initial: match job.owned.is_empty() {
            true => Vec::new(),
            false => model.apply_input(job.x.clone()),
        },
        desk,
        post,
        job,
        edges: Cell::new(0),
        rows: AtomicU64::new(0),
        layer_bytes: Cell::new(0),
        rows_moved: Cell::new(0),
    };
    let fresh = run.select().await?;
    run.edges.set(0);
    run.rows.store(0, Ordering::Relaxed);
    let (last, joined) = run.layers(model.layers(), &fresh).await?;
    let values = match joined.is_empty() {
        true => vec![last.values],
        false => joined,
    };
    let outputs = match job.owned.is_empty() {
        true => Vec::new(),
        false => model.finish(values),
    };
    // An answer is whole when every worker has told its share; whoever has lost a file tells none.
    desk.part.check_files()?;
    run.collect(&outputs, &fresh, begun_by, start).await
}

impl Run<'_> {
    /// Values of the worker's queries and fresh nodes after the first `count` layers; and those of its
    /// queries after each layer, where the model joins them.
    async fn layers(
        &self,
        count: usize,
        fresh: &[ByOwner],
    ) -> Result<(AtHand, Vec<Vec<f32>>), ClusterError> {
        let model = self.desk.part.model();
        let nothing = vec![Vec::new(); self.post.workers];
        let mut below = AtHand {
            values: self.initial.clone(),
            rows: Vec::new(),
        };
        let mut joined = match model.joins_levels() {
            true => vec![self.initial.clone()],
            false => Vec::new(),
        };
        for index in 0..count {
            let targets = fresh.get(index).unwrap_or(&nothing);
            let keeps = self.keeps_sums(index, fresh)?;
            below = self.layer(index, &below, (targets, keeps)).await?;
            if model.joins_levels() {
                let width = model.level_width(index + 1);
                joined.push(below.values[..self.job.owned.len() * width].to_vec());
            }
        }
        Ok((below, joined))
    }

    /// Brings the answers of all workers to the one that began the batch.
    async fn collect(
        &self,
        outputs: &[f32],
        fresh: &[ByOwner],
        begun_by: usize,
        start: Instant,
    ) -> Result<Option<BatchAnswer>, ClusterError> {
        let mut writer = SlabWriter::default();
        writer.f32s(outputs, Wire::F32);
        let counts = [
            self.edges.get(),
            self.rows.load(Ordering::Relaxed),
            self.post.sent_bytes(),
            self.layer_bytes.get(),
            self.rows_moved.get(),
        ];
        writer.u32s(
            &counts
                .map(|count| [count as u32, (count >> 32) as u32])
                .concat(),
        );
        let message = writer.finish();
        let counters = &self.desk.counters;
        let own = match self.post.worker == begun_by {
            true => 0,
            false => message.len() as u64,
        };
        counters.batches.fetch_add(1, Ordering::Relaxed);
        let sent = self.post.sent_bytes() + own;
        counters.sent_bytes.fetch_add(sent, Ordering::Relaxed);
        counters
            .sent_rows
            .fetch_add(self.rows_moved.get(), Ordering::Relaxed);
        let messages = self.post.gather(begun_by, message).await;
        if self.post.worker != begun_by {
            return Ok(None);
        }
        let (head, width) = (self.job.head, self.desk.part.model().outputs());
        let mut all = vec![0.0; head.queries * width];
        let mut totals = [0_u64; 5];
        for (worker, message) in messages.iter().enumerate() {
            if worker != begun_by {
                totals[2] += message.bytes().len() as u64;
            }
            let owned = head.owned(worker, self.post.workers);
            let mut reader = SlabReader::new(message, worker);
            let values = reader.f32s(owned.len() * width)?;
            all[owned.start * width..owned.end * width].copy_from_slice(&values);
            let counts = reader.u32s()?;
            reader.check(counts.len() == 10)?;
            for (total, count) in totals.iter_mut().zip(counts.chunks_exact(2)) {
                *total += u64::from(count[0]) | u64::from(count[1]) << 32;
            }
        }
        Ok(Some(BatchAnswer {
            outputs: all,
            recomputed: union(fresh),
            edges: totals[0],
            rows: totals[1],
            exchange: head.exchange,
            bytes: totals[2],
            layer_bytes: totals[3],
            rows_moved: totals[4],
            time: start.elapsed(),
            waited: self.post.waited(),
        }))
    }
}

/// The different nodes of all lists, ascending.
fn union(lists: &[ByOwner]) -> Vec<u32> {
    let mut nodes: Vec<u32> = lists.iter().flatten().flatten().copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}
