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

/// Where a write's outcome arrives.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer(Arc<(Mutex<Option<Outcome>>, Condvar)>);

impl Answer {
    pub(super) fn wait(&self) -> Outcome {
        let (outcome, arrived) = &*self.0;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            outcome = arrived
                .wait(outcome)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn give(&self, outcome: Outcome) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
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
    /// Returns whether it is the caller's turn to take groups until there is none.
    pub(super) fn push(&self, pending: Pending, limits: &Limits) -> Result<bool, LiveError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = state.bytes + pending.encoded.len();
        let is_full = state.waiting.len() >= limits.waiting_max || bytes > limits.waiting_bytes_max;
        if is_full && !state.waiting.is_empty() {
            return Err(LiveError::Busy {
                waiting: state.waiting.len(),
            });
        }
        state.bytes = bytes;
        state.waiting.push_back(pending);
        Ok(!std::mem::replace(&mut state.is_served, true))
    }

    /// The writes that come next; with `None` the turn is over.
    pub(super) fn take_group(&self) -> Option<Vec<Pending>> {
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
        if group.is_empty() {
            state.is_served = false;
            return None;
        }
        Some(group)
    }
}
