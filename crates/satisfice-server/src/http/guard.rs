//! Who may ask for what, before a handler is asked.

use super::{App, body, error::HttpError, handlers::ModelPath};
use crate::{clip::clip, edge::Asked};
use axum::{
    extract::{Extension, Request, State},
    http::{StatusCode, Uri},
    middleware::Next,
    response::{IntoResponse, Response},
};
use satisfice_core::{Error, ErrorKind};
use std::sync::Arc;

/// Refuses paths that are too long to be meant.
pub(super) fn check_uri(uri: &Uri, app: &App) -> Result<(), HttpError> {
    let max = app.front.limits().uri_bytes_max;
    let length = uri.path_and_query().map_or(0, |text| text.as_str().len());
    if length <= max {
        return Ok(());
    }
    let message = format!(
        "the path `{}` has {length} bytes, but {max} are allowed",
        clip(uri.path())
    );
    let error = Error::new(ErrorKind::TooLarge, "uri_too_long", message);
    Err(HttpError::with_status(StatusCode::URI_TOO_LONG, error))
}

/// Lets everybody through who is known.
pub(super) async fn known(
    Extension(asked): Extension<Asked>,
    request: Request,
    next: Next,
) -> Response {
    pass(asked.caller.check_known(), request, next).await
}

/// Lets through who may use the model in the path.
pub(super) async fn model(
    Extension(asked): Extension<Asked>,
    path: Result<ModelPath, HttpError>,
    request: Request,
    next: Next,
) -> Response {
    match path {
        Ok(path) => pass(asked.caller.check_model(path.model()), request, next).await,
        Err(error) => refuse(request, error),
    }
}

/// Lets through who may change the server.
pub(super) async fn admin(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    request: Request,
    next: Next,
) -> Response {
    let address = asked.peer.map(|peer| peer.listener);
    let place = app.front.access().admin_at(app.role, address);
    pass(asked.caller.check_admin(place), request, next).await
}

/// Lets through who may read metrics.
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Asked>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = app.front.access().check_metrics(app.role, &asked.caller);
    pass(allowed, request, next).await
}

async fn pass(allowed: Result<(), Error>, request: Request, next: Next) -> Response {
    match allowed {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(request, error.into()),
    }
}

/// An answer to a request that is not read.
pub(super) fn refuse(request: Request, error: HttpError) -> Response {
    let (parts, body) = request.into_parts();
    body::discard(body, &parts.headers, &error);
    error.into_response()
}
