//! Why requests are not executed.

use satisfice_core::{Error, ErrorKind};
use satisfice_planner as planner;
use std::time::Duration;

/// The server is ending.
pub(super) fn shutting_down() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "shutting_down",
        "the server is shutting down",
    )
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn wrong_numbers(error: planner::Error) -> Error {
    let message = format!("the model's times or qualities are no numbers to plan with: {error}");
    Error::new(ErrorKind::Internal, "wrong_profile", message)
}

/// The deadline has passed.
pub(in super::super) fn too_late() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "deadline_exceeded",
        "the deadline passed before there was an answer",
    )
}

/// The deadline is too early whatever else there is to do.
pub(super) fn too_short(seconds: f64, left: Duration) -> Error {
    let message = format!(
        "the deadline is {:.3} ms away, and the cheapest plan takes {:.3} ms",
        left.as_secs_f64() * 1e3,
        seconds * 1e3
    );
    Error::new(ErrorKind::DeadlineExceeded, "deadline_too_short", message)
        .with_hint("allow more time, or a lower minimum")
}

/// The deadline is too early for all that there is to do.
pub(super) fn unmeetable(wait: f64) -> Error {
    let wait = Duration::try_from_secs_f64(wait).unwrap_or_default();
    let message = format!(
        "the deadline cannot be met beside the work of about {:.0} ms that waits",
        wait.as_secs_f64() * 1e3
    );
    Error::new(ErrorKind::Unavailable, "deadline_unmeetable", message)
        .with_hint("send the request again later, or allow more time")
        .with_retry_after(wait)
}
