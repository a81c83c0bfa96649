//! The workers of one node, from the moment its group is whole until it falls apart.

use crate::{
    ClusterError, PartPrecision,
    job::{Exchange, Head, Task, scatter},
    part::Part,
    run::{BatchAnswer, Counters, Done},
    slab::Wire,
    worker::{Begin, Seat, panic_text, run},
};
use satisfice_graph::{Plan, QueryBatch};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use timely::{
    CommunicationConfig, WorkerConfig,
    communication::{AllocatorBuilder, WorkerGuards},
    execute::execute_from,
};

/// Longest precomputation.
const PRECOMPUTE_MAX: Duration = Duration::from_hours(7 * 24);

/// How workers treat batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Precision of partial results between workers.
    pub wire: Wire,
    /// Longest wait for a peer in one round; then the batch is given up.
    pub round_max: Duration,
    /// Longest wait for an answer, all rounds together.
    pub batch_max: Duration,
    /// Whether workers look for messages without a pause, each on a core of its own, instead of sleeping
    /// until some come.
    pub spin: bool,
    /// A round that takes longer is one that a peer was slow in.
    pub slow: Duration,
    /// Batches that one worker lets wait to be begun, and that it has begun at once.
    pub waiting_max: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            wire: Wire::F32,
            round_max: Duration::from_secs(2),
            batch_max: Duration::from_secs(30),
            spin: false,
            slow: Duration::from_millis(200),
            waiting_max: 64,
        }
    }
}

/// The workers of one node: one a part.
#[derive(Debug)]
pub struct Crew {
    seats: Vec<Arc<Seat>>,
    begin: Vec<SyncSender<Begin>>,
    guards: Mutex<Option<Guards>>,
    stop: Arc<AtomicBool>,
    suspicion: Arc<Mutex<Option<String>>>,
    next: AtomicUsize,
    workers: usize,
    first_worker: usize,
    options: WorkerOptions,
}

struct Guards(WorkerGuards<()>);

impl std::fmt::Debug for Guards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads", self.0.guards().len())
    }
}

impl Crew {
    /// All workers in this process, one thread a part.
    ///
    /// # Errors
    /// The parts are not those of one graph and model, or a thread cannot be started.
    pub fn threads(
        parts: Vec<Arc<Part>>,
        options: WorkerOptions,
        counters: &Arc<Counters>,
    ) -> Result<Self, ClusterError> {
        let count = parts.len();
        for (worker, part) in parts.iter().enumerate() {
            check_part(part, worker, count, &parts[0])?;
        }
        let built = CommunicationConfig::Process(count).try_build();
        let (builders, others) = built.map_err(|message| ClusterError::Forming { message })?;
        Self::start((builders, others), parts, (0, count), options, counters)
    }

    /// The workers of a node, of `workers` in the group; its first is `first_worker`.
    pub(crate) fn start(
        (builders, others): (Vec<AllocatorBuilder>, Box<dyn Any + Send>),
        parts: Vec<Arc<Part>>,
        (first_worker, workers): (usize, usize),
        options: WorkerOptions,
        counters: &Arc<Counters>,
    ) -> Result<Self, ClusterError> {
        let stop = Arc::new(AtomicBool::new(false));
        let suspicion = Arc::default();
        let (mut seats, mut begin) = (Vec::new(), Vec::new());
        for part in parts {
            let (sender, receiver) = sync_channel(options.waiting_max);
            begin.push(sender);
            seats.push(Arc::new(Seat {
                part,
                options,
                counters: Arc::clone(counters),
                stop: Arc::clone(&stop),
                suspicion: Arc::clone(&suspicion),
                batches: Mutex::new(Some(receiver)),
                thread: OnceLock::new(),
            }));
        }
        let of_worker = seats.clone();
        let config = WorkerConfig::default();
        let guards = execute_from(builders, others, config, move |worker| {
            run(worker, &of_worker[worker.index() - first_worker]);
        });
        let guards = guards.map_err(|message| ClusterError::Forming { message })?;
        Ok(Self {
            seats,
            begin,
            guards: Mutex::new(Some(Guards(guards))),
            stop,
            suspicion,
            next: AtomicUsize::new(0),
            workers,
            first_worker,
            options,
        })
    }

    /// Number of workers in the group.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Answers a batch. Blocks until all workers have done their part; batches of several threads are
    /// under way at once.
    ///
    /// # Errors
    /// [`ClusterError::Forming`] when the group falls apart under it, [`ClusterError::Slow`] when a peer
    /// does not answer, [`ClusterError::Worker`] when a worker fails on it; [`ClusterError::Graph`] for
    /// [`Plan::Refresh`] where parts keep nothing for it.
    pub fn answer(
        &self,
        batch: &QueryBatch,
        plan: Plan,
        exchange: Exchange,
    ) -> Result<BatchAnswer, ClusterError> {
        self.seats[0].part.check_plan(plan)?;
        let head = Head::new(batch, plan, exchange, self.workers);
        let owners = self.seats[0].part.owners()?;
        self.answer_scattered(scatter(head, batch, owners, self.workers), None)
    }

    /// As [`Crew::answer`], from the messages to the workers, and not later than the deadline.
    pub(crate) fn answer_scattered(
        &self,
        messages: Vec<Vec<u8>>,
        deadline: Option<Instant>,
    ) -> Result<BatchAnswer, ClusterError> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.seats.len();
        let elsewhere = messages.iter().enumerate();
        let elsewhere = elsewhere.filter(|&(worker, _)| worker != self.first_worker + place);
        let scattered: usize = elsewhere.map(|(_, message)| message.len()).sum();
        let longest = self.options.batch_max;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map_or(longest, |left| left.min(longest));
        let done = self.begin(place, messages, time);
        match done.map_err(|error| error.or_late(deadline))? {
            Done::Answer(mut answer) => {
                answer.bytes += scattered as u64;
                Ok(*answer)
            }
            Done::Tables(_) => Err(wrong_task()),
        }
    }

    /// Computes the tables that are not there, with all workers of the group; names those computed.
    ///
    /// # Errors
    /// As [`Crew::answer`].
    pub fn precompute(&self, precision: PartPrecision) -> Result<Vec<String>, ClusterError> {
        let messages = vec![Task::precompute(precision); self.workers];
        match self.begin(0, messages, PRECOMPUTE_MAX)? {
            Done::Tables(tables) => Ok(tables),
            Done::Answer(_) => Err(wrong_task()),
        }
    }

    fn begin(
        &self,
        place: usize,
        messages: Vec<Vec<u8>>,
        time: Duration,
    ) -> Result<Done, ClusterError> {
        let (reply, answer) = sync_channel(1);
        let gone = || ClusterError::Forming {
            message: "it fell apart while the batch was under way".to_owned(),
        };
        self.begin[place]
            .try_send(Begin { messages, reply })
            .map_err(|error| match error {
                TrySendError::Disconnected(_) => gone(),
                TrySendError::Full(_) => ClusterError::Forming {
                    message: format!("{} batches wait already", self.options.waiting_max),
                },
            })?;
        self.wake(place);
        match answer.recv_timeout(time) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => Err(ClusterError::Slow {
                worker: self.first_worker + place,
                round: 0,
                waited_ms: time.as_millis() as u64,
            }),
        }
    }

    fn wake(&self, place: usize) {
        if let Some(thread) = self.seats[place].thread.get() {
            thread.unpark();
        }
    }

    /// The peer that a worker has waited for too long since this was last asked, in words.
    pub(crate) fn suspicion(&self) -> Option<String> {
        let suspicion = self.suspicion.lock();
        suspicion.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a worker has ended, for whatever reason.
    pub(crate) fn has_ended(&self) -> bool {
        let guards = self.guards.lock();
        let guards = guards.unwrap_or_else(PoisonError::into_inner);
        let ended = |guards: &Guards| guards.0.guards().iter().any(JoinHandle::is_finished);
        guards.as_ref().is_none_or(ended)
    }

    /// Tells the workers to stop; batches under way are lost.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        (0..self.seats.len()).for_each(|place| self.wake(place));
    }

    /// Waits for the workers' threads; why they ended, if not because they were told.
    pub(crate) fn join(&self) -> Option<String> {
        let guards = self.guards.lock();
        let guards = guards.unwrap_or_else(PoisonError::into_inner).take()?;
        // The engine panics when a peer is gone, in the workers and when its guards are dropped.
        let joined = catch_unwind(AssertUnwindSafe(|| guards.0.join()));
        match joined {
            Ok(results) => results.into_iter().find_map(Result::err),
            Err(panic) => Some(panic_text(&*panic)),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

/// Messages of one task where those of another belong: a node of another replica sent them.
fn wrong_task() -> ClusterError {
    ClusterError::Worker {
        worker: 0,
        message: "it did another task than it was asked for".to_owned(),
    }
}

/// Whether a part is the one that a worker of a group needs.
pub(crate) fn check_part(
    part: &Part,
    worker: usize,
    workers: usize,
    first: &Part,
) -> Result<(), ClusterError> {
    let (found, wanted) = (part.manifest(), first.manifest());
    let problem = if (found.part, found.parts) != (worker, workers) {
        format!(
            "it is part {} of {}, but worker {worker} of {workers} needs its own",
            found.part, found.parts
        )
    } else if found.store != wanted.store {
        "it is of another graph store".to_owned()
    } else if found.model != wanted.model {
        "it is of another model".to_owned()
    } else if found.map != wanted.map {
        "it is of another partitioning".to_owned()
    } else if part.kept_layers() != first.kept_layers() {
        "it keeps the sums of other layers".to_owned()
    } else {
        return Ok(());
    };
    Err(ClusterError::Part {
        path: part.dir().to_owned(),
        message: problem,
    })
}
