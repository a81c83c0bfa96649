//! Errors as gRPC statuses.

use satisfice_core::{Error, ErrorKind};
use std::time::Duration;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

/// The header that bears the stable code.
pub(super) const ERROR_CODE: &str = "error-code";

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

/// What the transport refuses by itself, with the code and the hint that an error of ours would have.
pub(super) fn typed(refusal: Status) -> Status {
    if refusal.metadata().contains_key(ERROR_CODE) {
        return refusal;
    }
    let (kind, code) = match refusal.code() {
        // That of a message whose length is too large, and of one that is too large decompressed.
        Code::OutOfRange | Code::ResourceExhausted => (ErrorKind::TooLarge, "body_too_large"),
        Code::Unimplemented => (ErrorKind::Unsupported, "unsupported"),
        Code::Internal => (ErrorKind::InvalidInput, "invalid_message"),
        // The connection's end, for one: nobody reads it.
        _ => return refusal,
    };
    let error = Error::new(kind, code, refusal.message());
    status(match kind {
        ErrorKind::TooLarge => error.with_hint("send less in one message"),
        _ => error,
    })
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
    metadata.insert(ERROR_CODE, MetadataValue::from_static(error.code()));
    if kind == ErrorKind::Unavailable {
        let wait = error.retry_after().unwrap_or(RETRY_PUSHBACK);
        let pushback = MetadataValue::from(wait.as_millis().max(1) as u64);
        metadata.insert("grpc-retry-pushback-ms", pushback);
    }
    Status::with_metadata(code(kind), error.to_string(), metadata)
}
