//! Writes that wait for their turn.

use super::{Applied, Limits, LiveError, Write, codec};
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, PoisonError},
};
use xxhash_rust::xxh3::xxh3_64;

/// Operations that one group holds, unless its first write has more.
const GROUP_OPERATIONS: usize = 1 << 17;

type Outcome = Result<Applied, LiveError>;

/// What a waiting writer is told.
#[derive(Debug)]
pub(super) enum Event {
    /// It is its turn to commit a group, in which its own write is.
    Turn,
    Answered(Outcome),
}

/// Where a write's outcome arrives.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer(Arc<(Mutex<Option<Event>>, Condvar)>);

impl Answer {
    pub(super) fn wait(&self) -> Event {
        let (event, arrived) = &*self.0;
        let mut event = event.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(event) = event.take() {
                return event;
            }
            event = arrived.wait(event).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn give(&self, outcome: Outcome) {
        self.tell(Event::Answered(outcome));
    }

    fn tell(&self, event: Event) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
        self.0.1.notify_all();
    }
}

/// A write that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) write: Write,
    /// The operations as the log holds them.
    pub(super) encoded: Vec<u8>,
    /// xxh3-64 of these.
    pub(super) checksum: u64,
    answer: Answer,
}

impl Pending {
    /// Encodes the operations, on the writer's own thread.
    pub(super) fn new(write: Write) -> Self {
        let encoded = codec::encode_operations(&write.operations);
        Self {
            checksum: xxh3_64(&encoded),
            write,
            encoded,
            answer: Answer::default(),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        self.answer.clone()
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// Bytes of their operations.
    bytes: usize,
    /// Whether a thread takes groups.
    is_served: bool,
}

impl Queue {
    /// Takes a write, whose writer is told when it is its turn.
    pub(super) fn push(&self, pending: Pending, limits: &Limits) -> Result<(), LiveError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = state.bytes + pending.encoded.len();
        let is_full = state.waiting.len() >= limits.waiting_max || bytes > limits.waiting_bytes_max;
        if is_full && !state.waiting.is_empty() {
            return Err(LiveError::Busy {
                waiting: state.waiting.len(),
            });
        }
        state.bytes = bytes;
        if !std::mem::replace(&mut state.is_served, true) {
            pending.answer.tell(Event::Turn);
        }
        state.waiting.push_back(pending);
        Ok(())
    }

    /// The writes that come next, of whoever's turn it is.
    pub(super) fn take_group(&self) -> Vec<Pending> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut group = Vec::new();
        let mut operations = 0;
        while let Some(next) = state.waiting.front() {
            operations += next.write.operations.len();
            if !group.is_empty() && operations > GROUP_OPERATIONS {
                break;
            }
            state.bytes -= next.encoded.len();
            group.extend(state.waiting.pop_front());
        }
        group
    }

    /// Ends a turn: it is that of the writer who has waited longest, so that nobody commits for others for ever.
    pub(super) fn hand_over(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.waiting.front() {
            Some(next) => next.answer.tell(Event::Turn),
            None => state.is_served = false,
        }
    }
}
