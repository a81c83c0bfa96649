//! What clients may use of the server.

use crate::{config::milliseconds, protocol::TensorLimits};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// What clients may use of the server. What is over a limit is refused, never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one request body, or of one gRPC message; by default 256 MiB.
    pub body_bytes_max: usize,
    /// Bytes of all request bodies held at once, over all connections; by default 1 GiB. Never less
    /// than one body.
    pub bodies_bytes_max: usize,
    /// How many times its own length a compressed body may hold, beyond the first MiB; by default
    /// 2,000. No body in gzip or deflate comes to more than some 1,030, and one of equal elements
    /// does: the default leaves it to `body_bytes_max`.
    pub decompression_ratio_max: usize,
    /// What one request may hold.
    pub tensors: TensorLimits,
    /// Bytes of the request line and headers; by default 64 KiB, at least 8 KiB, the least buffer that
    /// headers are read into.
    pub header_bytes_max: usize,
    /// Headers of one HTTP request; by default 100.
    pub headers_max: usize,
    /// Bytes of a request's path and query; by default 8 KiB.
    pub uri_bytes_max: usize,
    /// Open connections of a transport; by default 1,024. Further ones wait to be accepted.
    pub connections_max: usize,
    /// Time for the headers to arrive, from the first moment of a connection or from the end of
    /// the request before; by default 30 s. A connection that is idle for longer is closed.
    #[serde(with = "milliseconds", rename = "header_read_timeout_ms")]
    pub header_read_timeout: Duration,
    /// Time for a TLS handshake; by default 10 s.
    #[serde(with = "milliseconds", rename = "tls_handshake_timeout_ms")]
    pub tls_handshake_timeout: Duration,
    /// Time for a whole body or message to arrive; by default 2 min.
    #[serde(with = "milliseconds", rename = "body_read_timeout_ms")]
    pub body_read_timeout: Duration,
    /// Time without a byte of the answer being taken by the client; by default 1 min.
    #[serde(with = "milliseconds", rename = "write_timeout_ms")]
    pub write_timeout: Duration,
    /// Time between saying that the server is not ready and not accepting connections any more, for
    /// load balancers to look elsewhere; by default none.
    #[serde(with = "milliseconds", rename = "drain_delay_ms")]
    pub drain_delay: Duration,
    /// Time for running requests to end when the server shuts down; by default 30 s.
    #[serde(with = "milliseconds", rename = "drain_timeout_ms")]
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 256 << 20,
            bodies_bytes_max: 1 << 30,
            decompression_ratio_max: 2000,
            tensors: TensorLimits::default(),
            header_bytes_max: 64 << 10,
            headers_max: 100,
            uri_bytes_max: 8 << 10,
            connections_max: 1024,
            header_read_timeout: Duration::from_secs(30),
            tls_handshake_timeout: Duration::from_secs(10),
            body_read_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_mins(1),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    pub(crate) const HEADER_BYTES_MIN: usize = 8 << 10;

    /// The bytes of request bodies that a server may hold.
    pub(crate) fn bodies(&self) -> Arc<Semaphore> {
        let bytes = self.bodies_bytes_max.max(self.body_bytes_max);
        Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
    }
}
