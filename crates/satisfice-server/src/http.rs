//! The protocol over HTTP/1.1: routes, headers, status codes, connections.
//!
//! | method and path | answer |
//! |---|---|
//! | `GET /v2/health/live`, `GET /v2/health/ready` | 200 or 400, empty |
//! | `GET /v2` | name, version and extensions of the server |
//! | `GET /v2/models/{model}` | signature |
//! | `GET /v2/models/{model}/ready` | 200 or 400, empty |
//! | `POST /v2/models/{model}/infer` | outputs |
//! | `GET /v2/models/{model}/stats`, `GET /v2/models/stats` | counts and times |
//! | `POST /v2/repository/index` | what is served and what could be |
//! | `POST /v2/repository/models/{model}/load`, `.../unload` | nothing, when it is done |
//! | `GET /metrics` | the same for Prometheus |
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
//! body in an encoding other than gzip and deflate. Answers are compressed when the client asks for
//! it. Every answer carries `X-Request-Id`: the request's own, or one made here.

mod body;
mod compression;
mod error;
mod handlers;
mod index;
mod metrics;
mod repository;

use crate::{
    Limits, Service,
    connection::{self, Server},
    exchange::Codecs,
    request_id,
};
use axum::{
    Router, middleware,
    routing::{get, post},
};
use std::{future::Future, io, sync::Arc};
use tokio::{net::TcpListener, sync::Semaphore};

/// What every handler has.
struct App {
    service: Arc<Service>,
    limits: Limits,
    /// Bytes of request bodies that may still be taken in.
    bodies: Arc<Semaphore>,
    codecs: Codecs,
}

/// Serves HTTP/1.1 on `listener` until `shutdown` completes, then lets running requests end.
///
/// After `shutdown` no connection is accepted, idle ones are closed, and the service says that it
/// is not ready. Requests that run get [`Limits::drain_timeout`] to end; then they are dropped. An
/// engine is never interrupted: a runtime that is to end before it does must be shut down with
/// [`shutdown_timeout`](tokio::runtime::Runtime::shutdown_timeout).
///
/// # Errors
/// When the listener has no local address; failures of single connections are logged.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = Server::http1(router(Arc::clone(&service), limits), limits);
    connection::serve(listener, server, &service, limits, shutdown).await
}

/// The routes over `service`. Of the limits, those on connections and headers are up to whoever
/// serves the router; [`serve`] keeps them all.
pub fn router(service: Arc<Service>, limits: Limits) -> Router {
    let app = Arc::new(App {
        service,
        limits,
        bodies: limits.bodies(),
        codecs: Codecs::new(),
    });
    let model = Router::new()
        .route("/", get(handlers::model_metadata))
        .route("/ready", get(handlers::model_ready))
        .route("/stats", get(handlers::model_statistics))
        .route("/infer", post(handlers::infer));
    Router::new()
        .route("/", get(index::page))
        .route("/v2", get(handlers::server_metadata))
        .route("/v2/", get(handlers::server_metadata))
        .route("/v2/health/live", get(handlers::live))
        .route("/v2/health/ready", get(handlers::ready))
        .route("/v2/models/stats", get(handlers::all_statistics))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route(
            "/v2/repository/models/{model}/unload",
            post(repository::unload),
        )
        .route("/metrics", get(metrics::metrics))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(middleware::from_fn(request_id::label))
        .with_state(app)
}
