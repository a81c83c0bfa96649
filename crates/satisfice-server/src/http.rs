//! The protocol over HTTP/1.1: routes, headers, status codes, connections.
//!
//! | method and path | answer |
//! |---|---|
//! | `GET /v2/health/live`, `GET /v2/health/ready` | 200 or 400, empty |
//! | `GET /v2` | name, version and extensions of the server |
//! | `GET /v2/models/{model}` | signature |
//! | `GET /v2/models/{model}/ready` | 200 or 400, empty |
//! | `POST /v2/models/{model}/infer` | outputs |
//! | `GET /` | a page for people |
//!
//! `/versions/{version}` may follow `{model}` everywhere. An error is
//! `{"error": "...", "code": "...", "hint": "..."}` with these statuses:
//!
//! | kind | status |
//! |---|---|
//! | `InvalidInput` | 400 |
//! | `NotFound` | 404 |
//! | `TooLarge` | 413 |
//! | `Internal` | 500 |
//! | `Unsupported` | 501 |
//! | `Unavailable` | 503, with `Retry-After` |
//! | `DeadlineExceeded` | 504 |
//!
//! 405 answers a method that a path does not have, 408 a body that came too slowly, and 415 a
//! compressed body. Every answer carries `X-Request-Id`: the request's own, or one made here.

mod body;
mod connection;
mod error;
mod handlers;
mod index;
mod request_id;

pub use connection::serve;

use crate::{Service, protocol::TensorLimits};
use axum::{
    Router, middleware,
    routing::{get, post},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// What clients may use of the server. What is over a limit is refused, never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request body; by default 256 MiB.
    pub body_bytes_max: usize,
    /// Bytes of all request bodies held at once, over all connections; by default 1 GiB. Never
    /// less than one body.
    pub bodies_bytes_max: usize,
    /// What one request may hold.
    pub tensors: TensorLimits,
    /// Bytes of the request line and headers; by default 64 KiB, at least 8 KiB.
    pub header_bytes_max: usize,
    /// Open connections; by default 1,024. Further ones wait to be accepted.
    pub connections_max: usize,
    /// Time for the headers to arrive, from the first moment of a connection or from the end of
    /// the request before; by default 30 s. A connection that is idle for longer is closed.
    pub header_read_timeout: Duration,
    /// Time for a whole body to arrive; by default 2 min.
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

/// What every handler has.
struct App {
    service: Arc<Service>,
    limits: Limits,
    /// Bytes of request bodies that may still be taken in.
    bodies: Arc<Semaphore>,
    /// Large messages that may still be decoded or encoded at once.
    codecs: Arc<Semaphore>,
}

/// The routes over `service`. Of the limits, those on connections and headers are up to whoever
/// serves the router; [`serve`] keeps them all.
pub fn router(service: Arc<Service>, limits: Limits) -> Router {
    let bodies = limits
        .bodies_bytes_max
        .max(limits.body_bytes_max)
        .min(Semaphore::MAX_PERMITS);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let app = Arc::new(App {
        service,
        limits,
        bodies: Arc::new(Semaphore::new(bodies)),
        codecs: Arc::new(Semaphore::new(cores)),
    });
    let model = Router::new()
        .route("/", get(handlers::model_metadata))
        .route("/ready", get(handlers::model_ready))
        .route("/infer", post(handlers::infer));
    Router::new()
        .route("/", get(index::page))
        .route("/v2", get(handlers::server_metadata))
        .route("/v2/", get(handlers::server_metadata))
        .route("/v2/health/live", get(handlers::live))
        .route("/v2/health/ready", get(handlers::ready))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(middleware::from_fn(request_id::label))
        .with_state(app)
}
