//! Places in front of one engine: how many may run, how many may wait.

use satisfice_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one version of one model takes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Requests that the engine executes at once, at least 1; by default the number of cores.
    pub executing_max: usize,
    /// Requests that wait for the engine; by default 256.
    pub waiting_max: usize,
    /// Bytes of all requests that execute or wait, as they came over the wire; by default 1 GiB.
    pub bytes_max: usize,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            executing_max: std::thread::available_parallelism().map_or(1, usize::from),
            waiting_max: 256,
            bytes_max: 1 << 30,
        }
    }
}

/// The queue of one engine.
pub(super) struct Lane {
    admission: Admission,
    turns: Arc<Semaphore>,
    load: Arc<Mutex<Load>>,
}

#[derive(Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

impl Lane {
    pub(super) fn new(admission: Admission) -> Self {
        let executing_max = admission.executing_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            admission: Admission {
                executing_max,
                ..admission
            },
            turns: Arc::new(Semaphore::new(executing_max)),
            load: Arc::default(),
        }
    }

    /// Requests that have a place but no turn yet.
    pub(super) fn waiting(&self) -> usize {
        let executing = self.admission.executing_max - self.turns.available_permits();
        lock(&self.load).requests.saturating_sub(executing)
    }

    /// A place to wait in, or a refusal at once.
    pub(super) fn enter(&self, bytes: usize) -> Result<Waiting, Error> {
        let Admission {
            executing_max,
            waiting_max,
            bytes_max,
        } = self.admission;
        if bytes > bytes_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "request_too_large",
                format!("the request has {bytes} bytes, but a model takes {bytes_max} at once"),
            ));
        }
        let mut load = lock(&self.load);
        if load.requests >= executing_max.saturating_add(waiting_max)
            || bytes > bytes_max - load.bytes
        {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "queue_full",
                "too many requests are waiting for this model",
            )
            .with_hint("send the request again later"));
        }
        load.requests += 1;
        load.bytes += bytes;
        Ok(Waiting {
            turns: Arc::clone(&self.turns),
            ticket: Ticket {
                load: Arc::clone(&self.load),
                bytes,
            },
        })
    }
}

/// A place in the queue; dropping it leaves the queue.
pub(super) struct Waiting {
    turns: Arc<Semaphore>,
    ticket: Ticket,
}

impl Waiting {
    /// Waits for a turn, first come first served.
    pub(super) async fn turn(self, deadline: Option<Instant>) -> Result<Place, Error> {
        let turn = self.turns.acquire_owned();
        let turn = match deadline {
            None => turn.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), turn)
                .await
                .map_err(|_| too_late())?,
        };
        let turn = turn.expect("invariant: the semaphore is never closed");
        match deadline {
            Some(deadline) if deadline <= Instant::now() => Err(too_late()),
            _ => Ok(Place {
                _turn: turn,
                _ticket: self.ticket,
            }),
        }
    }
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "deadline_exceeded",
        "the deadline passed before the request could be executed",
    )
}

/// The right to execute; dropping it lets the next one in.
pub(super) struct Place {
    _turn: OwnedSemaphorePermit,
    _ticket: Ticket,
}

struct Ticket {
    load: Arc<Mutex<Load>>,
    bytes: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut load = lock(&self.load);
        load.requests -= 1;
        load.bytes -= self.bytes;
    }
}

/// Nothing that is done under the lock can panic half-way.
fn lock(load: &Mutex<Load>) -> MutexGuard<'_, Load> {
    load.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let lane = Lane::new(Admission {
            executing_max: 1,
            waiting_max: 1,
            bytes_max: 10,
        });
        let first = lane.enter(4).unwrap();
        let second = lane.enter(6).unwrap();
        assert_eq!(lane.enter(0).err().unwrap().code(), "queue_full");
        drop(first);
        assert_eq!(lane.enter(5).err().unwrap().code(), "queue_full");
        assert_eq!(lane.enter(11).err().unwrap().kind(), ErrorKind::TooLarge);
        drop(second);
        assert!(lane.enter(10).is_ok());
    }
}
