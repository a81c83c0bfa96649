//! Taking in a request body, within its limits.

use super::{App, error::HttpError};
use crate::protocol::{Pieces, message::parse};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use bytes::Buf;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use satisfice_core::{Error, ErrorKind};
use serde::Deserialize;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A piece of a body that is kept as it arrived. Smaller ones are copied together: each keeps the buffer
/// that it was read into, which is twice this long at most.
const PIECE_BYTES_MIN: usize = 32 << 10;
/// What is copied together becomes a piece at this length, and is not moved to grow.
const COPIED_BYTES_MAX: usize = 256 << 10;
/// Bytes of a JSON document that is no inference.
const JSON_BYTES_MAX: usize = 64 << 10;
/// Time for a refused client to finish sending.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole body, counted against what the server holds at once.
pub(super) struct HeldBody {
    pub bytes: Pieces,
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
pub(super) async fn read(app: &App, body: &mut Body) -> Result<HeldBody, HttpError> {
    let timeout = app.front.limits().body_read_timeout;
    match tokio::time::timeout(timeout, collect(app, body)).await {
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

async fn collect(app: &App, body: &mut Body) -> Result<HeldBody, HttpError> {
    let (max, bodies) = (app.front.limits().body_bytes_max, app.front.bodies());
    let mut bytes = Pieces::default();
    let mut small = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(incomplete)?.into_data() else {
            continue; // trailers
        };
        if chunk.len() > max - bytes.remaining() - small.len() {
            return Err(too_large(max).into());
        }
        let more = hold(bodies, chunk.len())?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        let whole = chunk.len() >= PIECE_BYTES_MIN || body.is_end_stream() && small.is_empty();
        if whole || small.len() >= COPIED_BYTES_MAX {
            bytes.push(std::mem::take(&mut small));
        }
        match whole {
            true => bytes.push(chunk),
            false => small.extend_from_slice(&chunk),
        }
    }
    bytes.push(small);
    let held = match held {
        Some(held) => held,
        None => hold(bodies, 0)?,
    };
    Ok(HeldBody { bytes, held })
}

/// The body of an answer, written from where its pieces lie.
impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().pop().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        !self.has_remaining()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining() as u64)
    }
}

/// A small JSON document, or what an empty body stands for.
pub(super) async fn read_json<T: for<'a> Deserialize<'a> + Default>(
    app: &App,
    mut body: Body,
) -> Result<T, HttpError> {
    let body = read(app, &mut body).await?;
    if body.bytes.remaining() > JSON_BYTES_MAX {
        return Err(too_large(JSON_BYTES_MAX).into());
    }
    match body.bytes.join().trim_ascii() {
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
