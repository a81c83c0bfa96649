//! The protocol over HTTP/1.1: routes, headers, status codes, connections.
//!
//! | method and path | answer |
//! |---|---|
//! | `GET /v2/health/live`, `GET /v2/health/ready` | 200 or 400, and a body that says the same |
//! | `GET /v2` | name, version and extensions of the server |
//! | `GET /v2/models/{model}` | signature |
//! | `GET /v2/models/{model}/ready` | the same |
//! | `POST /v2/models/{model}/infer` | outputs |
//! | `GET /v2/models/{model}/stats`, `GET /v2/models/stats` | counts and times |
//! | `GET /v2/models/{model}/config` | signature as Triton's model configuration |
//! | `POST /v2/repository/index` | what is served and what could be |
//! | `POST /v2/repository/models/{model}/load`, `.../unload` | nothing, when it is done |
//! | `GET`, `POST /v2/logging` | the log's settings |
//! | `GET`, `POST /v2/trace/setting`, `/v2/models/{model}/trace/setting` | the traces' settings |
//! | `GET /metrics` | the same for Prometheus |
//! | `GET /openapi.json` | all of this for programs |
//! | `GET /` | a page for people |
//!
//! `/versions/{version}` may follow `{model}` everywhere. An error is
//! `{"error": "...", "code": "...", "hint": "..."}` with these statuses:
//!
//! | kind | status |
//! |---|---|
//! | `InvalidInput` | 400 |
//! | `Unauthenticated` | 401, with `WWW-Authenticate` |
//! | `Forbidden` | 403 |
//! | `NotFound` | 404 |
//! | `TooLarge` | 413 |
//! | `Internal` | 500 |
//! | `Unsupported` | 501 |
//! | `Unavailable` | 503, with `Retry-After` |
//! | `DeadlineExceeded` | 504 |
//!
//! 405 answers a method that a path does not have, 408 a body that came too slowly, 414 a path that
//! is too long, 415 a body in an encoding other than gzip and deflate, and 431, without a body,
//! headers that are too many or too long. Answers are compressed when the client asks for
//! it. Every answer carries `X-Request-Id`: the request's own, or one made here; traced
//! requests have `traceparent` in the answer. Who may ask what: [`access`](crate::access).

mod body;
mod compression;
mod error;
mod guard;
mod handlers;
mod index;
mod metrics;
mod openapi;
mod process;
mod repository;
mod settings;

pub use openapi::openapi;

use crate::{
    Service,
    access::Role,
    connection::{self, Server},
    edge::{self, Edge, Transport},
    front::{Front, Listener},
};
use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{MethodRouter, get, post},
};
use std::{future::Future, io, sync::Arc};

/// What every handler has.
struct App {
    service: Arc<Service>,
    front: Front,
    role: Role,
}

/// Serves HTTP/1.1 on `listener` until `shutdown` completes, then lets running requests end.
///
/// After `shutdown` no connection is accepted, idle ones are closed, and the service says that it
/// is not ready. Requests that run get [`Limits::drain_timeout`] to end; then they are dropped. An
/// engine is never interrupted: a runtime that is to end before it does must be shut down with
/// [`shutdown_timeout`](tokio::runtime::Runtime::shutdown_timeout).
///
/// [`Limits::drain_timeout`]: crate::Limits::drain_timeout
///
/// # Errors
/// When the listener has no local address; failures of single connections are logged.
pub async fn serve(
    listener: impl Into<Listener>,
    service: Arc<Service>,
    front: impl Into<Front>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (listener, front) = (listener.into(), front.into());
    let routes = router(listener.role, Arc::clone(&service), front.clone());
    let server = Server::http1(routes, front.limits());
    connection::serve(listener, server, &service, &front, shutdown).await
}

/// The routes that a listener of this role has. Limits on connections and headers are up to whoever
/// serves the router; [`serve`] keeps them all.
pub fn router(role: Role, service: Arc<Service>, front: impl Into<Front>) -> Router {
    let front = front.into();
    let app = Arc::new(App {
        service,
        front: front.clone(),
        role,
    });
    let routes = match role {
        Role::Main => everybodys()
            .merge(known())
            .merge(models(&app))
            .merge(admins(&app))
            .merge(metrics(&app)),
        Role::Admin => everybodys()
            .merge(known())
            .merge(admins(&app))
            .merge(metrics(&app)),
        Role::Metrics => metrics(&app),
    };
    let edge = Edge {
        front,
        transport: Transport::Http,
    };
    routes
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(from_fn_with_state(Arc::clone(&app), guard::uri))
        .layer(from_fn_with_state(edge, edge::observe))
        .with_state(app)
}

type Routes = Router<Arc<App>>;

/// Routes under a model, and under a version of it. Nested routers would rewrite the path of every request.
fn of_model<const N: usize>(routes: [(&str, MethodRouter<Arc<App>>); N]) -> Routes {
    let model = "/v2/models/{model}";
    let under = |all: Routes, (path, route): (&str, MethodRouter<Arc<App>>)| {
        let version = format!("{model}/versions/{{version}}{path}");
        all.route(&format!("{model}{path}"), route.clone())
            .route(&version, route)
    };
    routes.into_iter().fold(Router::new(), under)
}

/// What needs no token.
fn everybodys() -> Routes {
    Router::new()
        .route("/openapi.json", get(openapi_document))
        .route("/v2/health/live", get(handlers::live))
        .route("/v2/health/ready", get(handlers::ready))
        .merge(of_model([("/ready", get(handlers::model_ready))]))
}

async fn openapi_document() -> axum::Json<serde_json::Value> {
    axum::Json(openapi::openapi())
}

/// What any token is good for.
fn known() -> Routes {
    Router::new()
        .route("/", get(index::page))
        .route("/v2", get(handlers::server_metadata))
        .route("/v2/", get(handlers::server_metadata))
        .route("/v2/models/stats", get(handlers::all_statistics))
        .route("/v2/repository/index", post(repository::index))
        .route_layer(from_fn(guard::known))
}

/// What needs a token for the model.
fn models(app: &Arc<App>) -> Routes {
    of_model([
        ("", get(handlers::model_metadata)),
        ("/config", get(handlers::model_config)),
        ("/stats", get(handlers::model_statistics)),
        ("/infer", post(handlers::infer)),
    ])
    .route_layer(from_fn_with_state(Arc::clone(app), guard::model))
}

/// What changes the server.
fn admins(app: &Arc<App>) -> Routes {
    Router::new()
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route(
            "/v2/repository/models/{model}/unload",
            post(repository::unload),
        )
        .route("/v2/logging", get(settings::log).post(settings::set_log))
        .route(
            "/v2/trace/setting",
            get(settings::traces).post(settings::set_traces),
        )
        .route(
            "/v2/models/{model}/trace/setting",
            get(settings::model_traces).post(settings::set_model_traces),
        )
        .route_layer(from_fn_with_state(Arc::clone(app), guard::admin))
}

fn metrics(app: &Arc<App>) -> Routes {
    Router::new()
        .route("/metrics", get(metrics::metrics))
        .route_layer(from_fn_with_state(Arc::clone(app), guard::metrics))
}
