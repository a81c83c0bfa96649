//! Taking in a request body, within its limits.

use super::{App, error::HttpError};
use crate::{
    Limits,
    inflate::too_large,
    protocol::{Pieces, message::parse},
};
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
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};

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
        .with_hint("send it as decimal digits")
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
    let (limits, bodies) = (app.front.limits(), app.front.bodies());
    let max = limits.body_bytes_max;
    let begun = Instant::now();
    let mut frames = TimedFrames {
        body,
        limits: &limits,
        begun,
        received: 0,
        late: pin!(sleep_until(begun + limits.body_time(0))),
    };
    let mut bytes = Pieces::default();
    let mut small = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(chunk) = frames.next().await? {
        if chunk.len() > max - bytes.remaining() - small.len() {
            return Err(too_large(max).into());
        }
        let more = hold(bodies, chunk.len())?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        let whole = chunk.len() >= PIECE_BYTES_MIN || frames.ended() && small.is_empty();
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

/// The data of a body, as long as it comes in time.
struct TimedFrames<'a> {
    body: &'a mut Body,
    limits: &'a Limits,
    begun: Instant,
    received: usize,
    late: Pin<&'a mut Sleep>,
}

impl TimedFrames<'_> {
    fn ended(&self) -> bool {
        self.body.is_end_stream()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            match poll_fn(|context| self.poll(context)).await {
                None => return Ok(None),
                Some(frame) => {
                    // What is no data is trailers.
                    if let Ok(data) = frame?.into_data() {
                        self.received += data.len();
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut *self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(incomplete)));
        }
        // Every byte buys time.
        let time = self.limits.body_time(self.received);
        if self.late.deadline() != self.begun + time {
            self.late.as_mut().reset(self.begun + time);
        }
        ready!(self.late.as_mut().poll(context));
        Poll::Ready(Some(Err(HttpError::with_status(
            StatusCode::REQUEST_TIMEOUT,
            too_slow(time, self.received),
        ))))
    }
}

/// A body or message of which `received` bytes came in `time`.
pub(crate) fn too_slow(time: Duration, received: usize) -> Error {
    let message = format!("{received} bytes came in {time:.1?}, and not the end");
    Error::new(ErrorKind::InvalidInput, "body_too_slow", message)
        .with_hint("send less in one request, or by a faster way")
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
pub(crate) fn hold(bodies: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
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

/// Most often nobody is left to read this.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn incomplete(error: axum::Error) -> HttpError {
    Error::new(
        ErrorKind::InvalidInput,
        "body_incomplete",
        format!("the body ended early: {error}"),
    )
    .with_hint("send as many bytes as the headers announce")
    .into()
}
