//! Who may ask for what, before a handler is asked.

use super::{App, body, error::HttpError, handlers::ModelPath};
use crate::{clip::clip, edge::Asked};
use axum::{
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use satisfice_core::{Error, ErrorKind};
use std::sync::Arc;

/// Refuses requests that HTTP does not allow, or that are too long to be meant. How those stood on the wire that did not come
/// by a connection of ours is up to whoever brings them.
pub(super) fn check_request(request: &Request, asked: &Asked, app: &App) -> Result<(), HttpError> {
    check_uri(request.uri(), app)?;
    if asked.peer.is_none() {
        return Ok(());
    }
    check_host(request)?;
    check_expectation(request.headers())?;
    check_transfer(request.headers())?;
    app.front
        .limits()
        .check_headers(request)
        .map_err(|error| HttpError::with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, error))
}

/// Whom a request is for must be said, once (RFC 9112, section 3.2; RFC 9113, section 8.3.1): where two
/// are named, proxies may take another one than we do.
fn check_host(request: &Request) -> Result<(), HttpError> {
    let mut hosts = request.headers().get_all(header::HOST).into_iter();
    let (host, more) = (hosts.next(), hosts.next());
    let authority = request.uri().authority();
    let right = match (host, request.version()) {
        (None, Version::HTTP_11) => false,
        (None, _) => true,
        (Some(host), version) => {
            let valid = host.is_empty() || Authority::try_from(host.as_bytes()).is_ok();
            let same = authority.is_none_or(|name| name.as_str().as_bytes() == host.as_bytes());
            valid && more.is_none() && (version != Version::HTTP_2 || same)
        }
    };
    if right {
        return Ok(());
    }
    let message = "the request does not say once, and rightly, whom it is for";
    let error = Error::new(ErrorKind::InvalidInput, "wrong_host", message);
    Err(error
        .with_hint("send one header `Host` with the server's name and port")
        .into())
}

/// Nothing can be expected but to be told to continue (RFC 9110, section 10.1.1).
fn check_expectation(headers: &HeaderMap) -> Result<(), HttpError> {
    let mut expected = headers.get_all(header::EXPECT).into_iter();
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    match expected.find(|value| !known(value)) {
        None => Ok(()),
        Some(value) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            let message = format!("the expectation `{}` cannot be met", clip(&text));
            let error = Error::new(ErrorKind::Unsupported, "unsupported_expectation", message);
            let error = error.with_hint("send `Expect: 100-continue`, or nothing of the kind");
            Err(HttpError::with_status(
                StatusCode::EXPECTATION_FAILED,
                error,
            ))
        }
    }
}

/// Bodies come in chunks or as they are (RFC 9112, section 6.1).
fn check_transfer(headers: &HeaderMap) -> Result<(), HttpError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let (first, more) = (codings.next(), codings.next());
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if more.is_none() && first.is_none_or(chunked) {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::Unsupported,
        "unsupported_transfer_encoding",
        "the body has a transfer coding other than `chunked`",
    );
    Err(error
        .with_hint("name how the body is compressed in Content-Encoding")
        .into())
}

/// Refuses paths that are too long to be meant.
fn check_uri(uri: &Uri, app: &App) -> Result<(), HttpError> {
    let max = app.front.limits().uri_bytes_max;
    let length = uri.path_and_query().map_or(0, |text| text.as_str().len());
    if length <= max {
        return Ok(());
    }
    let message = format!(
        "the path `{}` has {length} bytes, but {max} are allowed",
        clip(uri.path())
    );
    let error = Error::new(ErrorKind::TooLarge, "uri_too_long", message)
        .with_hint("send what is long in the body");
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

/// The answer to what is no call where calls alone are answered.
pub(crate) fn not_grpc(request: Request) -> Response {
    let error = Error::new(
        ErrorKind::Unsupported,
        "not_grpc",
        "this port answers requests of the content type `application/grpc` alone",
    );
    let error = error.with_hint("send HTTP requests to the address of `http.listen`");
    refuse(
        request,
        HttpError::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, error),
    )
}

/// An answer to a request that is not read.
pub(super) fn refuse(request: Request, error: HttpError) -> Response {
    let (parts, body) = request.into_parts();
    body::discard(body, &parts.headers, &error);
    error.into_response()
}
