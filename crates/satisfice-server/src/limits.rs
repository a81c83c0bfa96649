//! What clients may use of the server.

use crate::protocol::TensorLimits;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// What clients may use of the server. What is over a limit is refused, never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request body, or of one gRPC message; by default 256 MiB.
    pub body_bytes_max: usize,
    /// Bytes of all request bodies held at once, over all connections of a transport; by default
    /// 1 GiB. Never less than one body.
    pub bodies_bytes_max: usize,
    /// What one request may hold.
    pub tensors: TensorLimits,
    /// Bytes of the request line and headers; by default 64 KiB, at least 8 KiB.
    pub header_bytes_max: usize,
    /// Open connections of a transport; by default 1,024. Further ones wait to be accepted.
    pub connections_max: usize,
    /// Time for the headers to arrive, from the first moment of a connection or from the end of
    /// the request before; by default 30 s. A connection that is idle for longer is closed.
    pub header_read_timeout: Duration,
    /// Time for a whole body or message to arrive; by default 2 min.
    pub body_read_timeout: Duration,
    /// Time without a byte of the answer being taken by the client; by default 1 min.
    pub write_timeout: Duration,
    /// Time for running requests to end when the server shuts down; by default 30 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 256 << 20,
            bodies_bytes_max: 1 << 30,
            tensors: TensorLimits::default(),
            header_bytes_max: 64 << 10,
            connections_max: 1024,
            header_read_timeout: Duration::from_secs(30),
            body_read_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_mins(1),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The bytes of request bodies that a transport may hold.
    pub(crate) fn bodies(&self) -> Arc<Semaphore> {
        let bytes = self.bodies_bytes_max.max(self.body_bytes_max);
        Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
    }
}
