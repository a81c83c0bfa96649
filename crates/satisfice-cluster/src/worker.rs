//! A worker: one thread of the dataflow with one part of the graph, and the batches that it takes part in.
//!
//! The dataflow is one exchange of slabs. What happens between two exchanges of a batch is an async
//! function that the worker polls when the round it waits for is complete: batches overlap, and
//! none waits for another one's peers. Rounds are complete when every worker's message has come; the
//! engine's progress tracking is not asked.

use crate::{
    ClusterError, WorkerOptions,
    mail::{ABORT, Mailbox, Post, SCATTER, abort_message, aborted},
    part::Part,
    run::{Counters, Desk, Done, take_part},
    slab::{Address, ByAddress, NO_BATCH, Payload, Slab},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    task::{Context, Poll, Waker},
    thread::Thread,
    time::Duration,
};
use timely::{
    container::NoopBuilder,
    dataflow::{InputHandle, channels::pact::DistributorPact, operators::Operator},
    worker::Worker,
};

/// A batch to begin.
pub(crate) struct Begin {
    /// The message to each worker.
    pub messages: Vec<Vec<u8>>,
    pub reply: SyncSender<Result<Done, ClusterError>>,
}

/// What a worker needs, made before its thread.
#[derive(Debug)]
pub(crate) struct Seat {
    pub part: Arc<Part>,
    pub options: WorkerOptions,
    pub counters: Arc<Counters>,
    pub stop: Arc<AtomicBool>,
    /// The peer that was waited for too long, in words.
    pub suspicion: Arc<Mutex<Option<String>>>,
    pub batches: Mutex<Option<Receiver<Begin>>>,
    /// The worker's thread, to wake it.
    pub thread: OnceLock<Thread>,
}

/// Longest sleep: how late an overdue round may be noticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// Batches given up whose late messages are told from a new batch's.
const DEAD_MAX: usize = 4_096;

/// Bits of a batch's number below the worker that began it.
const SEQUENCE_BITS: u32 = 48;

/// Runs the worker until it is told to stop.
pub(crate) fn run(engine: &mut Worker, seat: &Seat) {
    let _ = seat.thread.set(std::thread::current());
    let taken = seat
        .batches
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(batches) = taken else {
        return;
    };
    let arrived: Rc<RefCell<VecDeque<Slab>>> = Rc::default();
    let mut input: InputHandle<u64, NoopBuilder<Slab>> = InputHandle::new_with_builder();
    let into = Rc::clone(&arrived);
    engine.dataflow(|scope| {
        input.to_stream(scope).sink(
            DistributorPact(|_| ByAddress),
            "exchange",
            move |(messages, _)| {
                messages.for_each(|_, slab| into.borrow_mut().push_back(std::mem::take(slab)));
            },
        );
    });
    let mut table = Table {
        worker: engine.index(),
        workers: engine.peers(),
        desk: Rc::new(Desk::new(
            Arc::clone(&seat.part),
            seat.options.wire,
            Arc::clone(&seat.counters),
        )),
        outbox: Rc::default(),
        running: BTreeMap::new(),
        dead: VecDeque::new(),
        next: 0,
        options: seat.options,
        suspicion: Arc::clone(&seat.suspicion),
    };
    while !seat.stop.load(Ordering::Acquire) {
        let mut busy = false;
        while table.has_room()
            && let Ok(begin) = batches.try_recv()
        {
            table.begin(begin);
            busy = true;
        }
        loop {
            let slab = arrived.borrow_mut().pop_front();
            let Some(slab) = slab else { break };
            table.deliver(slab);
            busy = true;
        }
        table.give_up_overdue();
        for mut slab in table.outbox.take() {
            input.send_batch(&mut slab);
            busy = true;
        }
        match busy || seat.options.spin {
            true => engine.step(),
            false => engine.step_or_park(Some(SLEEP_MAX)),
        };
    }
    drop(input);
    for dataflow in engine.installed_dataflows() {
        engine.drop_dataflow(dataflow);
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Option<Done>, ClusterError>>>>;

/// A batch under way.
struct Running {
    work: Work,
    mailbox: Rc<RefCell<Mailbox>>,
    reply: Option<SyncSender<Result<Done, ClusterError>>>,
}

/// The batches under way.
struct Table {
    worker: usize,
    workers: usize,
    desk: Rc<Desk>,
    outbox: Rc<RefCell<Vec<Slab>>>,
    running: BTreeMap<u64, Running>,
    /// Batches given up, the latest last.
    dead: VecDeque<u64>,
    next: u64,
    options: WorkerOptions,
    suspicion: Arc<Mutex<Option<String>>>,
}

impl Table {
    /// Whether one more batch may begin here: who asked may have given up on those that wait for a peer.
    fn has_room(&self) -> bool {
        let begun = self.running.values().filter(|run| run.reply.is_some());
        begun.count() < self.options.waiting_max
    }

    fn begin(&mut self, begin: Begin) {
        let batch = (self.worker as u64) << SEQUENCE_BITS | self.next;
        self.next += 1;
        for (to, message) in begin.messages.into_iter().enumerate() {
            self.send(batch, SCATTER, to, message);
        }
        self.join(batch).reply = Some(begin.reply);
        self.advance(batch);
    }

    /// The batch of that number; it begins when the first of it is heard of.
    fn join(&mut self, batch: u64) -> &mut Running {
        let place = (self.worker, self.workers);
        let (desk, outbox) = (&self.desk, &self.outbox);
        self.running.entry(batch).or_insert_with(|| {
            let mailbox = Rc::new(RefCell::new(Mailbox::new(place.1)));
            let post = Post::new(place, batch, Rc::clone(&mailbox), Rc::clone(outbox));
            let begun_by = (batch >> SEQUENCE_BITS) as usize;
            Running {
                work: Box::pin(take_part(Rc::clone(desk), post, begun_by)),
                mailbox,
                reply: None,
            }
        })
    }

    fn deliver(&mut self, slab: Slab) {
        let Address {
            batch, round, from, ..
        } = slab.address;
        let known = batch != NO_BATCH && ((batch >> SEQUENCE_BITS) as usize) < self.workers;
        if !known || from as usize >= self.workers || self.dead.contains(&batch) {
            return;
        }
        if round == ABORT {
            self.end(batch, Err(aborted(&slab)));
            return;
        }
        let counters = Arc::clone(&self.desk.counters);
        let mailbox = &self.join(batch).mailbox;
        let last = mailbox.borrow().missing().is_some();
        mailbox.borrow_mut().deliver(slab);
        let ready = mailbox.borrow().is_ready();
        if ready {
            if last {
                let waited = mailbox.borrow().since.elapsed();
                counters.waited_for(from as usize, waited, self.options.slow);
            }
            self.advance(batch);
        }
    }

    /// Lets a batch go on until it waits again.
    fn advance(&mut self, batch: u64) {
        let Some(running) = self.running.get_mut(&batch) else {
            return;
        };
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let work = &mut running.work;
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context)));
            let whole = || self.desk.part.check_files();
            let ended = match polled {
                // What it waits for may have come before it waited.
                Ok(Poll::Pending) if running.mailbox.borrow().is_ready() => continue,
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(ended)) => whole().and(ended),
                Err(panic) => Err(whole().err().unwrap_or_else(|| ClusterError::Worker {
                    worker: self.worker,
                    message: panic_text(&*panic),
                })),
            };
            match ended {
                Ok(answer) => self.end(batch, Ok(answer)),
                Err(error) => self.give_up(batch, error),
            }
            return;
        }
    }

    /// Ends a batch here, and tells who asked.
    fn end(&mut self, batch: u64, ended: Result<Option<Done>, ClusterError>) {
        if ended.is_err() {
            self.dead.push_back(batch);
            if self.dead.len() > DEAD_MAX {
                self.dead.pop_front();
            }
        }
        let Some(running) = self.running.remove(&batch) else {
            return;
        };
        if let (Some(reply), Some(ended)) = (running.reply, ended.transpose()) {
            // Who asked may have given up.
            let _ = reply.try_send(ended);
        }
    }

    /// Ends a batch everywhere.
    fn give_up(&mut self, batch: u64, error: ClusterError) {
        tracing::warn!(batch, "{error}");
        let message = abort_message(&error);
        for to in (0..self.workers).filter(|&to| to != self.worker) {
            self.send(batch, ABORT, to, message.clone());
        }
        self.end(batch, Err(error));
    }

    fn give_up_overdue(&mut self) {
        let overdue = |(&batch, running): (&u64, &Running)| {
            let mailbox = running.mailbox.borrow();
            let waited = mailbox.since.elapsed();
            let (round, worker) = mailbox.missing()?;
            (waited > self.options.round_max).then_some((batch, round, worker, waited))
        };
        let overdue: Vec<_> = self.running.iter().filter_map(overdue).collect();
        for (batch, round, worker, waited) in overdue {
            let slow = ClusterError::Slow {
                worker,
                round,
                waited_ms: waited.as_millis() as u64,
            };
            let counters = &self.desk.counters;
            counters.waited_for(worker, waited, self.options.slow);
            // Whoever asked may not wait any more: the group has to know whatever becomes of the batch.
            let suspicion = self.suspicion.lock();
            let mut suspicion = suspicion.unwrap_or_else(PoisonError::into_inner);
            suspicion.get_or_insert_with(|| slow.to_string());
            drop(suspicion);
            self.give_up(batch, slow);
        }
    }

    fn send(&self, batch: u64, round: u32, to: usize, message: Vec<u8>) {
        self.outbox.borrow_mut().push(Slab {
            address: Address {
                batch,
                round,
                from: self.worker as u32,
                to: to as u32,
            },
            payload: Payload::Owned(message),
        });
    }
}

/// Leaves what the dataflow engine's threads say when a peer is gone to the log's debug level; all other
/// panics are told as before. The engine panics in place of returning an error, and the group takes
/// care of it.
pub fn quiet_engine_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        match thread.name() {
            Some(name) if name.starts_with("timely:") || name.starts_with("cluster:") => {
                tracing::debug!("{name}: {panic}");
            }
            _ => told(panic),
        }
    }));
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}
