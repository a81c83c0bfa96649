//! Rounds of messages between the workers of a batch, counted: a round is over when every worker's
//! message is there.

use crate::{
    ClusterError,
    slab::{Address, Payload, Slab, SlabReader, SlabWriter},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The round in which a batch is scattered.
pub(crate) const SCATTER: u32 = 0;

/// A message that ends the batch everywhere.
pub(crate) const ABORT: u32 = u32::MAX;

/// The message of a worker that gives a batch up.
pub(crate) fn abort_message(error: &ClusterError) -> Vec<u8> {
    let mut writer = SlabWriter::default();
    // A peer that does not answer is nobody's mistake: who asked tries again.
    writer.u32s(&match *error {
        ClusterError::Slow {
            worker,
            round,
            waited_ms,
        } => [1, worker as u32, round, waited_ms as u32],
        _ => [0; 4],
    });
    writer.text(&error.to_string());
    writer.finish()
}

/// The error of a worker that gave a batch up, from its message.
pub(crate) fn aborted(slab: &Slab) -> ClusterError {
    let worker = slab.address.from as usize;
    let mut reader = SlabReader::new(&slab.payload, worker);
    let said = reader.u32s().and_then(|words| Ok((words, reader.text()?)));
    match said {
        Ok((words, _)) if words.len() == 4 && words[0] == 1 => ClusterError::Slow {
            worker: words[1] as usize,
            round: words[2],
            waited_ms: u64::from(words[3]),
        },
        Ok((_, message)) => ClusterError::Worker { worker, message },
        Err(error) => error,
    }
}

/// Messages that have come for a batch.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// By round, then by worker.
    rounds: BTreeMap<u32, Vec<Option<Payload>>>,
    /// What is waited for, if the batch waits: the round, and who has to send.
    waits: Option<(u32, Senders)>,
    /// When the last wait began.
    pub since: Instant,
    /// Time spent waiting.
    waited: Duration,
    workers: usize,
}

/// Who sends in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Senders {
    All,
    One(usize),
}

impl Mailbox {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            rounds: BTreeMap::new(),
            waits: None,
            since: Instant::now(),
            waited: Duration::ZERO,
            workers,
        }
    }

    /// Takes a message in. A second one from the same worker in the same round replaces the first.
    pub(crate) fn deliver(&mut self, slab: Slab) {
        let Address { round, from, .. } = slab.address;
        let messages = self
            .rounds
            .entry(round)
            .or_insert_with(|| vec![None; self.workers]);
        if let Some(place) = messages.get_mut(from as usize) {
            *place = Some(slab.payload);
        }
    }

    /// Whether what is waited for has come.
    pub(crate) fn is_ready(&self) -> bool {
        match self.waits {
            None => true,
            Some((round, senders)) => self.first_missing(round, senders).is_none(),
        }
    }

    /// The round that is waited for, and the first worker whose message is missing.
    pub(crate) fn missing(&self) -> Option<(u32, usize)> {
        let (round, senders) = self.waits?;
        Some((round, self.first_missing(round, senders)?))
    }

    fn first_missing(&self, round: u32, senders: Senders) -> Option<usize> {
        let there = |worker: usize| {
            let round = self.rounds.get(&round);
            round.is_some_and(|messages| messages[worker].is_some())
        };
        match senders {
            Senders::All => (0..self.workers).find(|&worker| !there(worker)),
            Senders::One(worker) => (!there(worker)).then_some(worker),
        }
    }
}

/// One batch's way to the other workers.
#[derive(Debug)]
pub(crate) struct Post {
    pub worker: usize,
    pub workers: usize,
    batch: u64,
    next_round: Cell<u32>,
    mailbox: Rc<RefCell<Mailbox>>,
    outbox: Rc<RefCell<Vec<Slab>>>,
    sent_bytes: Cell<u64>,
}

impl Post {
    /// Time spent waiting for other workers so far.
    pub(crate) fn waited(&self) -> Duration {
        self.mailbox.borrow().waited
    }

    pub(crate) fn new(
        (worker, workers): (usize, usize),
        batch: u64,
        mailbox: Rc<RefCell<Mailbox>>,
        outbox: Rc<RefCell<Vec<Slab>>>,
    ) -> Self {
        Self {
            worker,
            workers,
            batch,
            next_round: Cell::new(SCATTER + 1),
            mailbox,
            outbox,
            sent_bytes: Cell::new(0),
        }
    }

    /// Bytes sent to other workers so far.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }

    /// Sends each worker its message, and waits for everybody's.
    pub(crate) async fn all_to_all(&self, messages: Vec<Vec<u8>>) -> Vec<Payload> {
        let round = self.begin();
        for (to, message) in messages.into_iter().enumerate() {
            self.send(round, to, message);
        }
        self.receive(round, Senders::All).await
    }

    /// Sends all workers the same message, and waits for everybody's.
    pub(crate) async fn all_gather(&self, message: Vec<u8>) -> Vec<Payload> {
        self.all_to_all(vec![message; self.workers]).await
    }

    /// Sends one worker a message; that one waits for everybody's, the others get nothing.
    pub(crate) async fn gather(&self, to: usize, message: Vec<u8>) -> Vec<Payload> {
        let round = self.begin();
        self.send(round, to, message);
        match self.worker == to {
            true => self.receive(round, Senders::All).await,
            false => Vec::new(),
        }
    }

    /// Waits for the message with which a worker began the batch.
    pub(crate) async fn scattered(&self, from: usize) -> Payload {
        let mut messages = self.receive(SCATTER, Senders::One(from)).await;
        messages.swap_remove(from)
    }

    fn begin(&self) -> u32 {
        self.next_round.replace(self.next_round.get() + 1)
    }

    fn send(&self, round: u32, to: usize, message: Vec<u8>) {
        if to != self.worker {
            let bytes = self.sent_bytes.get() + message.len() as u64;
            self.sent_bytes.set(bytes);
        }
        self.outbox.borrow_mut().push(Slab {
            address: Address {
                batch: self.batch,
                round,
                from: self.worker as u32,
                to: to as u32,
            },
            payload: Payload::Owned(message),
        });
    }

    fn receive(&self, round: u32, senders: Senders) -> Receive<'_> {
        let mut mailbox = self.mailbox.borrow_mut();
        mailbox.waits = Some((round, senders));
        mailbox.since = Instant::now();
        Receive {
            mailbox: &self.mailbox,
            round,
        }
    }
}

/// The messages of a round, by worker.
struct Receive<'a> {
    mailbox: &'a RefCell<Mailbox>,
    round: u32,
}

impl Future for Receive<'_> {
    type Output = Vec<Payload>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Vec<Payload>> {
        let mut mailbox = self.mailbox.borrow_mut();
        if !mailbox.is_ready() {
            return Poll::Pending;
        }
        mailbox.waits = None;
        let waited = mailbox.since.elapsed();
        mailbox.waited += waited;
        let messages = mailbox.rounds.remove(&self.round).unwrap_or_default();
        Poll::Ready(
            messages
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect(),
        )
    }
}
