//! How much one version of a model takes on at once.

use crate::config::microseconds;
use satisfice_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What one version of one model takes on at once, and its share of the server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Requests or batches that the engine executes at once, those that give way to others included, at least 1; by
    /// default the number of cores, and at least 2.
    pub executing_max: usize,
    /// Requests that wait for the engine; by default 256.
    pub waiting_max: usize,
    /// Bytes of all requests that execute or wait, as they came over the wire; by default 1 GiB.
    pub bytes_max: usize,
    /// Weight among the models that have work: one of share 2 gets twice the core time of one of
    /// share 1. Above 0; by default 1.
    pub share: f64,
    /// How long an input may wait for others to fill its batch while nothing else waits; by default
    /// 0. At most an hour. Only for engines that batch.
    #[serde(rename = "batch_delay_us", with = "microseconds")]
    pub batch_delay: Duration,
    /// Share of the answers made by a cheaper plan than the dearest that are made again by the
    /// dearest in idle time, to see whether promises hold; 0 to 1, by default 0.01.
    pub audit_share: f64,
    /// What time is used for that no deadline needs; by default nothing.
    pub spare_time: SpareTime,
}

/// What becomes of time that is left until the deadline of a request with a minimum, once all that wait
/// are on time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpareTime {
    /// Nothing: the request gets the cheapest answer that keeps its minimum.
    #[default]
    Idle,
    /// A better answer than the minimum asks for.
    Quality,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            executing_max: std::thread::available_parallelism()
                .map_or(2, |cores| cores.get().max(2)),
            waiting_max: 256,
            bytes_max: 1 << 30,
            share: 1.0,
            batch_delay: Duration::ZERO,
            audit_share: 0.01,
            spare_time: SpareTime::Idle,
        }
    }
}

/// The places of one engine: for those who wait and those who are executed.
pub(super) struct Room {
    admission: Admission,
    load: Arc<Mutex<Load>>,
}

#[derive(Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn new(admission: Admission) -> Self {
        Self {
            admission,
            load: Arc::default(),
        }
    }

    /// What the model takes on, as it is set.
    pub(super) fn admission(&self) -> Admission {
        self.admission
    }

    /// A place, or a refusal at once.
    pub(super) fn enter(&self, bytes: usize) -> Result<Ticket, Error> {
        let Admission {
            executing_max,
            waiting_max,
            bytes_max,
            ..
        } = self.admission;
        if bytes > bytes_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "request_too_large",
                format!("the request has {bytes} bytes, but a model takes {bytes_max} at once"),
            ));
        }
        let mut load = lock(&self.load);
        if load.requests >= executing_max.max(1).saturating_add(waiting_max)
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
        Ok(Ticket {
            load: Arc::clone(&self.load),
            bytes,
        })
    }
}

/// A place; dropping it gives it back.
pub(super) struct Ticket {
    load: Arc<Mutex<Load>>,
    bytes: usize,
}

impl Ticket {
    /// Bytes of the request as it came over the wire.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
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
        let room = Room::new(Admission {
            executing_max: 1,
            waiting_max: 1,
            bytes_max: 10,
            ..Admission::default()
        });
        let first = room.enter(4).unwrap();
        let second = room.enter(6).unwrap();
        assert_eq!(room.enter(0).err().unwrap().code(), "queue_full");
        drop(first);
        assert_eq!(room.enter(5).err().unwrap().code(), "queue_full");
        assert_eq!(room.enter(11).err().unwrap().kind(), ErrorKind::TooLarge);
        drop(second);
        assert!(room.enter(10).is_ok());
    }
}
