//! Taking in a request body, within its limits.

use super::{App, error::HttpError};
use crate::protocol::message::parse;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use http_body_util::BodyExt;
use satisfice_core::{Error, ErrorKind};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room that is made before the first byte arrives, whatever length the client announces. The system has
/// no memory taken before it is written to.
const ROOM_BYTES_MAX: usize = 16 << 20;
/// Bytes of a JSON document that is no inference.
const JSON_BYTES_MAX: usize = 64 << 10;
/// Time for a refused client to finish sending.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole body, counted against what the server holds at once.
pub(super) struct HeldBody {
    pub bytes: Vec<u8>,
    /// Kept until the request is answered.
    pub held: OwnedSemaphorePermit,
}

/// The announced length of the body, if it is announced and within the limit.
pub(super) fn announced_length(
    headers: &HeaderMap,
    max: usize,
) -> Result<Option<usize>, HttpError> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    match number(length) {
        Some(length) if length <= max => Ok(Some(length)),
        Some(_) => Err(too_large(max).into()),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            "wrong_header",
            "the header `Content-Length` is not a number of bytes",
        )
        .into()),
    }
}

/// A header that is nothing but digits, as a number; too large a number is the largest.
pub(super) fn number(value: &HeaderValue) -> Option<usize> {
    let text = value.to_str().ok()?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

/// Reads the body to its end.
pub(super) async fn read(
    app: &App,
    body: &mut Body,
    announced: Option<usize>,
) -> Result<HeldBody, HttpError> {
    let timeout = app.front.limits().body_read_timeout;
    match tokio::time::timeout(timeout, collect(app, body, announced)).await {
        Ok(result) => result,
        Err(_) => Err(HttpError::with_status(
            StatusCode::REQUEST_TIMEOUT,
            Error::new(
                ErrorKind::InvalidInput,
                "body_too_slow",
                format!("the body did not arrive within {timeout:?}"),
            ),
        )),
    }
}

async fn collect(
    app: &App,
    body: &mut Body,
    announced: Option<usize>,
) -> Result<HeldBody, HttpError> {
    let (max, bodies) = (app.front.limits().body_bytes_max, app.front.bodies());
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(ROOM_BYTES_MAX));
    let mut held = hold(bodies, 0)?;
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(incomplete)?.into_data() else {
            continue; // trailers
        };
        if chunk.len() > max - bytes.len() {
            return Err(too_large(max).into());
        }
        held.merge(hold(bodies, chunk.len())?);
        bytes.extend_from_slice(&chunk);
    }
    Ok(HeldBody { bytes, held })
}

/// A small JSON document, or what an empty body stands for.
pub(super) async fn read_json<T: for<'a> Deserialize<'a> + Default>(
    app: &App,
    mut body: Body,
) -> Result<T, HttpError> {
    let body = read(app, &mut body, None).await?;
    if body.bytes.len() > JSON_BYTES_MAX {
        return Err(too_large(JSON_BYTES_MAX).into());
    }
    match body.bytes.trim_ascii() {
        [] => Ok(T::default()),
        json => Ok(parse(json)?),
    }
}

/// Lets a refused client finish sending: many read the answer only then, and would see a broken
/// connection instead of it. What arrives is dropped as it comes.
pub(super) fn discard(mut body: Body, headers: &HeaderMap, error: &HttpError) {
    let waits_for_us = headers.contains_key(header::EXPECT);
    if waits_for_us || error.status() == StatusCode::REQUEST_TIMEOUT {
        return;
    }
    tokio::spawn(tokio::time::timeout(DISCARD_TIMEOUT, async move {
        while let Some(Ok(_)) = body.frame().await {}
    }));
}

/// Counts `bytes` more until the permit is dropped.
pub(super) fn hold(bodies: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(bodies)
        .try_acquire_many_owned(permits)
        .map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                "bodies_full",
                "the server holds as many bytes of requests as it may",
            )
            .with_hint("send the request again later")
        })
}

pub(super) fn too_large(max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "body_too_large",
        format!("the body has more than the {max} bytes that are allowed"),
    )
}

/// Most often nobody is left to read this.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn incomplete(error: axum::Error) -> HttpError {
    Error::new(
        ErrorKind::InvalidInput,
        "body_incomplete",
        format!("the body ended early: {error}"),
    )
    .into()
}
