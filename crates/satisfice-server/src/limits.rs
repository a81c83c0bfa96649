//! What clients may use of the server.

use crate::{config::milliseconds, protocol::TensorLimits};
use axum::http::{Request, Version};
use satisfice_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Time in which a body may be as slow as it likes.
const SLOW_START: Duration = Duration::from_secs(10);

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
    /// Open connections of a listener; by default 4,096. For one more, the one that has been without
    /// a request for the longest is closed.
    pub connections_max: usize,
    /// Open connections of one client address, or of one /64 network of IPv6; absent, the half of
    /// `connections_max`, and no limit for loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_address_max: Option<usize>,
    /// Time for a request line and headers to arrive, from their first byte; by default 10 s.
    #[serde(with = "milliseconds", rename = "header_read_timeout_ms")]
    pub header_read_timeout: Duration,
    /// Time that an HTTP/1 connection may be without a request; by default 75 s. HTTP/2 clients are
    /// asked whether they are there instead.
    #[serde(with = "milliseconds", rename = "idle_timeout_ms")]
    pub idle_timeout: Duration,
    /// Time for a TLS handshake; by default 10 s.
    #[serde(with = "milliseconds", rename = "tls_handshake_timeout_ms")]
    pub tls_handshake_timeout: Duration,
    /// Time for a whole body or message to arrive; by default 2 min.
    #[serde(with = "milliseconds", rename = "body_read_timeout_ms")]
    pub body_read_timeout: Duration,
    /// Bytes a second that a body or message must bring in the mean, after its first 10 s; by default
    /// 1,024, none if 0.
    pub body_bytes_per_second_min: usize,
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
            connections_max: 4096,
            connections_per_address_max: None,
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            tls_handshake_timeout: Duration::from_secs(10),
            body_read_timeout: Duration::from_mins(2),
            body_bytes_per_second_min: 1024,
            write_timeout: Duration::from_mins(1),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    pub(crate) const HEADER_BYTES_MIN: usize = 8 << 10;

    /// What HTTP/2 clients are told that headers may come to. It is the double of what is taken, so that
    /// whoever sends a little too much is told by an error of ours and not by the library's empty one.
    pub(crate) fn header_list_bytes(&self) -> u32 {
        let bytes = self.header_bytes_max.max(Self::HEADER_BYTES_MIN);
        u32::try_from(bytes.saturating_mul(2)).unwrap_or(u32::MAX)
    }

    /// Refuses headers of HTTP/2 that are too many or too long; those of HTTP/1 are counted as they come.
    pub(crate) fn check_headers<T>(&self, request: &Request<T>) -> Result<(), Error> {
        if request.version() != Version::HTTP_2 {
            return Ok(());
        }
        let uri = request.uri();
        let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
        let authority = uri.authority().map_or(0, |name| name.as_str().len());
        let headers = request.headers();
        let lengths = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let bytes = path + authority + lengths.sum::<usize>();
        match headers.len() > self.headers_max || bytes > self.header_bytes_max {
            true => Err(self.headers_too_large()),
            false => Ok(()),
        }
    }

    pub(crate) fn headers_too_large(&self) -> Error {
        let (bytes, count) = (self.header_bytes_max, self.headers_max);
        let message = format!(
            "the request's headers are more than the {bytes} bytes or the {count} headers that are allowed"
        );
        Error::new(ErrorKind::TooLarge, "headers_too_large", message)
            .with_hint("send what is long in the body")
    }

    /// The bytes of request bodies that a server may hold.
    pub(crate) fn bodies(&self) -> Arc<Semaphore> {
        let bytes = self.bodies_bytes_max.max(self.body_bytes_max);
        Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
    }

    /// Time for a body of which `bytes` bytes have arrived, from its beginning.
    pub(crate) fn body_time(&self, bytes: usize) -> Duration {
        match self.body_bytes_per_second_min {
            0 => self.body_read_timeout,
            rate => {
                let earned = Duration::from_secs_f64(bytes as f64 / rate as f64);
                self.body_read_timeout.min(SLOW_START + earned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_buy_time() {
        let limits = Limits {
            body_bytes_per_second_min: 100,
            ..Limits::default()
        };
        assert_eq!(limits.body_time(0), SLOW_START);
        assert_eq!(limits.body_time(500), SLOW_START + Duration::from_secs(5));
        assert_eq!(limits.body_time(1 << 30), limits.body_read_timeout);
        let none = Limits {
            body_bytes_per_second_min: 0,
            ..limits
        };
        assert_eq!(none.body_time(0), none.body_read_timeout);
    }
}
