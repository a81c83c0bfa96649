//! Who may ask for what, before a handler is asked.

use super::{App, body, error::HttpError, handlers::ModelPath};
use crate::{access::Caller, clip::clip, front::Peer};
use axum::{
    extract::{Extension, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use satisfice_core::{Error, ErrorKind};
use std::sync::Arc;

/// Refuses paths that are too long to be meant.
pub(super) async fn uri(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let max = app.front.limits().uri_bytes_max;
    let uri = request.uri();
    let length = uri.path_and_query().map_or(0, |text| text.as_str().len());
    if length <= max {
        return next.run(request).await;
    }
    let message = format!(
        "the path `{}` has {length} bytes, but {max} are allowed",
        clip(uri.path())
    );
    let error = Error::new(ErrorKind::TooLarge, "uri_too_long", message);
    refuse(
        request,
        HttpError::with_status(StatusCode::URI_TOO_LONG, error),
    )
}

/// Lets everybody through who is known.
pub(super) async fn known(
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    pass(caller.check_known(), request, next).await
}

/// Lets through who may use the model in the path.
pub(super) async fn model(
    Extension(caller): Extension<Caller>,
    path: Result<ModelPath, HttpError>,
    request: Request,
    next: Next,
) -> Response {
    match path {
        Ok(path) => pass(caller.check_model(path.model()), request, next).await,
        Err(error) => refuse(request, error),
    }
}

/// Lets through who may change the server.
pub(super) async fn admin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>();
    let address = peer.map(|peer| peer.listener);
    let place = app.front.access().admin_at(app.role, address);
    pass(caller.check_admin(place), request, next).await
}

/// Lets through who may read metrics.
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = app.front.access().check_metrics(app.role, &caller);
    pass(allowed, request, next).await
}

async fn pass(allowed: Result<(), Error>, request: Request, next: Next) -> Response {
    match allowed {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(request, error.into()),
    }
}

fn refuse(request: Request, error: HttpError) -> Response {
    let (parts, body) = request.into_parts();
    body::discard(body, &parts.headers, &error);
    error.into_response()
}
