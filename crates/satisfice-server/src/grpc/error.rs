//! Errors as gRPC statuses.

use satisfice_core::{Error, ErrorKind};
use std::time::Duration;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

/// After what time a refused client may try again, where nothing is predicted.
const RETRY_PUSHBACK: Duration = Duration::from_secs(1);

/// The one table from a kind of error to a code.
pub(super) fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::TooLarge => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The error as a status.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn status(error: Error) -> Status {
    let kind = error.kind();
    // Refusals are counted; to log each would be work when there is too much of it.
    if kind == ErrorKind::Internal {
        tracing::warn!(code = error.code(), "{error}");
    } else {
        tracing::debug!(code = error.code(), "{error}");
    }
    let mut metadata = MetadataMap::new();
    metadata.insert("error-code", MetadataValue::from_static(error.code()));
    if kind == ErrorKind::Unavailable {
        let wait = error.retry_after().unwrap_or(RETRY_PUSHBACK);
        let pushback = MetadataValue::from(wait.as_millis().max(1) as u64);
        metadata.insert("grpc-retry-pushback-ms", pushback);
    }
    Status::with_metadata(code(kind), error.to_string(), metadata)
}
