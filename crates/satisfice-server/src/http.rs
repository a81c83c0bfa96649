//! The protocol over HTTP/1.1 and HTTP/2: routes, headers, status codes, connections.
//!
//! | method and path | answer |
//! |---|---|
//! | `GET /v2/health/live`, `GET /v2/health/ready` | 200 or 400, and a body that says the same |
//! | `GET /v2` | name, version and extensions of the server |
//! | `GET /v2/models/{model}` | signature |
//! | `GET /v2/models/{model}/ready` | the same |
//! | `POST /v2/models/{model}/infer` | outputs |
//! | `GET /v2/models/{model}/stats`, `GET /v2/models/stats` | counts and times |
//! | `GET /v2/models/{model}/plans` | plans, with predicted times and promises |
//! | `GET /v2/models/{model}/config` | signature as Triton's model configuration |
//! | `GET /v2/history` | counters over time |
//! | `POST /v2/graphs/{graph}/apply` | what a write did |
//! | `GET /v2/graphs`, `GET /v2/graphs/{graph}` | how graphs stand that may be written to |
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
//! 405 answers a method that a path does not have, 408 headers or a body that came too slowly, 414 a path that
//! is too long, 415 a body in an encoding other than gzip and deflate, 417 an expectation other than
//! `100-continue`, and 431 headers that are too many or too long. Answers are compressed when the client asks for
//! it. Every answer carries `X-Request-Id`: the request's own, or one made here; traced
//! requests have `traceparent` in the answer. Who may ask what: [`access`](crate::access).

mod body;
mod compression;
mod error;
mod graphs;
mod guard;
mod handlers;
mod history;
mod index;
mod metrics;
mod openapi;
mod process;
mod repository;
mod settings;

pub(crate) use body::{hold, too_slow};
pub(crate) use error::body as error_body;
pub(crate) use guard::not_grpc;
pub use openapi::openapi;

use crate::{
    Service,
    access::Role,
    connection::{self, Respond, Server, Spoken},
    edge::{Asked, Edge, Transport},
    front::{Front, Listener, Peer},
    grpc,
};
use axum::{
    Router,
    extract::Request,
    http::Method,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use std::{future::Future, io, sync::Arc};

/// What every handler has.
struct App {
    service: Arc<Service>,
    front: Front,
    role: Role,
}

/// Serves HTTP/1.1 and HTTP/2 on `listener`, and the gRPC services beside it where the listener is the main one, until `shutdown` completes, then lets running requests end.
///
/// After `shutdown` no connection is accepted, idle ones are closed, and the service says that it
/// is not ready. Requests that run get [`Limits::drain_timeout`] to end; then they are dropped. An
/// engine is not interrupted within a stage: a runtime that is to end before it does must be shut down with
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
    let routes = Everything {
        http: Routes::new(listener.role, Arc::clone(&service), front.clone()),
        grpc: (listener.role == Role::Main)
            .then(|| grpc::Routes::new(Arc::clone(&service), front.clone())),
    };
    let server = Server::new(Spoken::Http, routes, front.limits());
    connection::serve(listener, server, &service, &front, shutdown).await
}

/// What is answered on a listener that both transports come by.
#[derive(Clone)]
struct Everything {
    http: Routes,
    grpc: Option<grpc::Routes>,
}

impl Respond for Everything {
    async fn respond(&self, request: Request, peer: Option<Peer>) -> Response {
        match &self.grpc {
            Some(grpc) if grpc::is_grpc(&request) => grpc.respond(request, peer).await,
            _ => self.http.respond(request, peer).await,
        }
    }
}

/// What a listener answers. Limits on connections and headers are up to whoever serves it; [`serve`] keeps
/// them all.
#[derive(Clone)]
pub struct Routes(Arc<Inner>);

struct Inner {
    app: Arc<App>,
    edge: Edge,
    router: Router,
}

impl Routes {
    /// What a listener of this role answers.
    pub fn new(role: Role, service: Arc<Service>, front: impl Into<Front>) -> Self {
        let front = front.into();
        let app = Arc::new(App {
            service,
            front: front.clone(),
            role,
        });
        let router = router(&app).with_state(Arc::clone(&app));
        let transport = Transport::Http;
        let edge = Edge { front, transport };
        Self(Arc::new(Inner { app, edge, router }))
    }

    /// The answer to one request. Without a peer, it is taken for one from afar.
    pub async fn answer(&self, request: Request) -> Response {
        self.respond(request, None).await
    }
}

impl Respond for Routes {
    async fn respond(&self, request: Request, peer: Option<Peer>) -> Response {
        let inner = &*self.0;
        let route = |request, asked| inner.route(request, asked);
        inner.edge.observe(request, peer, route).await
    }
}

impl Inner {
    /// Inferences whose names are written plainly do not go through the router: what it does for each request
    /// would be a good part of their time.
    async fn route(&self, request: Request, asked: Asked) -> Response {
        if let Err(error) = guard::check_request(&request, &asked, &self.app) {
            return guard::refuse(request, error);
        }
        let (mut parts, body) = request.into_parts();
        if self.app.role == Role::Main
            && parts.method == Method::POST
            && let Some(names) = inference(parts.uri.path())
        {
            let answer = handlers::infer(&self.app, asked, names, &parts.headers, body);
            return answer.await.into_response();
        }
        parts.extensions.insert(asked);
        connection::routed(&self.router, Request::from_parts(parts, body)).await
    }
}

/// Model and version in the path of an inference, if it is one and nothing in it is to be decoded.
fn inference(path: &str) -> Option<(&str, Option<&str>)> {
    let names = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
    let mut parts = names.split('/');
    let names = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        (model, None, None, None) => (model, None),
        (model, Some("versions"), Some(version), None) => (model, Some(version)),
        _ => return None,
    };
    let plain = |name: &str| !name.is_empty() && !name.contains('%');
    (plain(names.0) && names.1.is_none_or(plain)).then_some(names)
}

fn router(app: &Arc<App>) -> Guarded {
    let routes = match app.role {
        Role::Main => everybodys(app)
            .merge(known())
            .merge(models(app))
            .merge(admins(app))
            .merge(metrics(app)),
        Role::Admin => everybodys(app)
            .merge(known())
            .merge(admins(app))
            .merge(metrics(app)),
        Role::Metrics => metrics(app),
    };
    routes
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
}

type Guarded = Router<Arc<App>>;

/// Routes under a model, and under a version of it. Nested routers would rewrite the path of every request.
fn of_model<const N: usize>(routes: [(&str, MethodRouter<Arc<App>>); N]) -> Guarded {
    let model = "/v2/models/{model}";
    let under = |all: Guarded, (path, route): (&str, MethodRouter<Arc<App>>)| {
        let version = format!("{model}/versions/{{version}}{path}");
        all.route(&format!("{model}{path}"), route.clone())
            .route(&version, route)
    };
    routes.into_iter().fold(Router::new(), under)
}

/// What needs no token, and the readiness of models, which only those learn who may use them: whether a model is
/// there is not everybody's business.
fn everybodys(app: &Arc<App>) -> Guarded {
    let model_ready = of_model([("/ready", get(handlers::model_ready))])
        .route_layer(from_fn_with_state(Arc::clone(app), guard::model));
    Router::new()
        // Says itself who may see what.
        .route("/", get(index::page))
        .route("/openapi.json", get(openapi_document))
        .route("/v2/health/live", get(handlers::live))
        .route("/v2/health/ready", get(handlers::ready))
        .merge(model_ready)
}

async fn openapi_document() -> axum::Json<serde_json::Value> {
    axum::Json(openapi::openapi())
}

/// What any token is good for.
fn known() -> Guarded {
    Router::new()
        .route("/v2", get(handlers::server_metadata))
        .route("/v2/", get(handlers::server_metadata))
        .route("/v2/history", get(history::history))
        .route("/v2/models/stats", get(handlers::all_statistics))
        .route("/v2/graphs", get(graphs::list))
        .route("/v2/graphs/{graph}", get(graphs::status))
        .route("/v2/graphs/{graph}/apply", post(graphs::apply))
        .route("/v2/repository/index", post(repository::index))
        .route_layer(from_fn(guard::known))
}

/// What needs a token for the model.
fn models(app: &Arc<App>) -> Guarded {
    of_model([
        ("", get(handlers::model_metadata)),
        ("/config", get(handlers::model_config)),
        ("/stats", get(handlers::model_statistics)),
        ("/plans", get(handlers::model_plans)),
        ("/infer", post(handlers::infer_by_route)),
    ])
    .route_layer(from_fn_with_state(Arc::clone(app), guard::model))
}

/// What changes the server.
fn admins(app: &Arc<App>) -> Guarded {
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

fn metrics(app: &Arc<App>) -> Guarded {
    Router::new()
        .route("/metrics", get(metrics::metrics))
        .route_layer(from_fn_with_state(Arc::clone(app), guard::metrics))
}

#[cfg(test)]
mod tests {
    use super::inference;

    #[test]
    fn paths_of_inferences_are_known() {
        for (path, names) in [
            ("/v2/models/m/infer", Some(("m", None))),
            (
                "/v2/models/m.1-x/versions/7/infer",
                Some(("m.1-x", Some("7"))),
            ),
            ("/v2/models/versions/infer", Some(("versions", None))),
            ("/v2/models/m/versions/infer", None),
            ("/v2/models/m/version/7/infer", None),
            ("/v2/models/m/versions//infer", None),
            ("/v2/models/m/versions/7/8/infer", None),
            ("/v2/models//infer", None),
            ("/v2/models/infer", None),
            ("/v2/models/a%20b/infer", None),
            ("/v2/models/m/infer/", None),
            ("/v2/models/m/ready", None),
            ("/v3/models/m/infer", None),
        ] {
            assert_eq!(inference(path), names, "{path}");
        }
    }
}
