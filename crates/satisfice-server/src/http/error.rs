//! Errors as HTTP answers.

use crate::{clip::clip, edge::ErrorCode};
use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use satisfice_core::{Error, ErrorKind};
use serde::Serialize;

/// Least number of seconds after which a refused client may try again.
const RETRY_AFTER_SECONDS_MIN: u64 = 1;

/// An error with its status.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    error: Error,
}

/// The one table from a kind of error to a status.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self {
            status: status(error.kind()),
            error,
        }
    }
}

impl HttpError {
    /// An error that only HTTP has a status for.
    pub(super) fn with_status(status: StatusCode, error: Error) -> Self {
        Self { status, error }
    }

    pub(super) fn error(&self) -> &Error {
        &self.error
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl<'a> From<&'a Error> for ErrorBody<'a> {
    fn from(error: &'a Error) -> Self {
        Self {
            error: error.message(),
            code: error.code(),
            hint: error.hint(),
        }
    }
}

/// The body of an answer that bears this error.
pub(crate) fn body(error: &Error) -> Vec<u8> {
    // Three texts can always be written.
    serde_json::to_vec(&ErrorBody::from(error)).unwrap_or_default()
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        // Refusals are counted; to log each would be work when there is too much of it.
        if self.error.kind() == ErrorKind::Internal {
            tracing::warn!(
                status = self.status.as_u16(),
                code = self.error.code(),
                "{}",
                self.error
            );
        } else {
            tracing::debug!(
                status = self.status.as_u16(),
                code = self.error.code(),
                "{}",
                self.error
            );
        }
        let mut response = (self.status, axum::Json(ErrorBody::from(&self.error))).into_response();
        response
            .extensions_mut()
            .insert(ErrorCode(self.error.code()));
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let wait = self.error.retry_after().unwrap_or_default();
            let seconds = (wait.as_secs_f64().ceil() as u64).max(RETRY_AFTER_SECONDS_MIN);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A path that does not exist.
pub(super) async fn no_route(uri: Uri) -> HttpError {
    Error::new(
        ErrorKind::NotFound,
        "route_not_found",
        format!("there is nothing at `{}`", clip(uri.path())),
    )
    .with_hint("paths are /v2, /v2/health/live, /v2/health/ready, /v2/history, /v2/models/stats, /v2/models/{model}[/versions/{version}][/ready | /infer | /plans | /stats | /config], /v2/graphs[/{graph}[/apply]], /v2/repository/index, /v2/repository/models/{model}[/load | /unload], /v2/logging, /v2[/models/{model}]/trace/setting and /metrics")
    .into()
}

/// A path that exists, with another method.
pub(super) async fn no_method(uri: Uri) -> HttpError {
    HttpError::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        Error::new(
            ErrorKind::InvalidInput,
            "method_not_allowed",
            format!("`{}` does not have this method", clip(uri.path())),
        )
        .with_hint(
            "POST to .../infer, .../apply and /v2/repository/..., GET or POST settings, GET everything else",
        ),
    )
}
