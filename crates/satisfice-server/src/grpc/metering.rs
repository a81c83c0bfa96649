//! What arrives over gRPC, counted against what the server holds at once.

use super::error::{status, typed};
use crate::{connection, edge::Asked, front::Front};
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header::HeaderMap,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use satisfice_core::{Error, ErrorKind};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tonic::{Code, Status};

/// Counts the messages of every call.
pub(super) struct Meter {
    bytes: Arc<Semaphore>,
    timeout: Duration,
}

impl Meter {
    pub(super) fn new(front: &Front) -> Self {
        Self {
            bytes: Arc::clone(front.bodies()),
            timeout: front.limits().body_read_timeout,
        }
    }

    /// Has a call answered, and counts what arrives of it. An answer is compressed only when the request was:
    /// most clients say of every call that they could read compressed answers. What the transport refuses by
    /// itself gets the code that errors of ours have.
    pub(super) async fn answer(
        &self,
        request: Request,
        asked: Asked,
        methods: &Router,
    ) -> Response {
        let (mut parts, body) = request.into_parts();
        if !is_compressed(&parts.headers) {
            parts.headers.remove("grpc-accept-encoding");
        }
        let arriving = Arriving {
            bytes: Arc::clone(&self.bytes),
            held: Arc::default(),
        };
        parts.extensions.insert(Call {
            asked,
            arriving: arriving.clone(),
        });
        let metered = MeteredBody {
            body,
            arriving,
            timeout: self.timeout,
            late: Box::pin(tokio::time::sleep(self.timeout)),
        };
        let request = Request::from_parts(parts, Body::new(metered));
        let response = connection::routed(methods, request).await;
        match Status::from_header_map(response.headers()) {
            Some(refusal) if refusal.code() != Code::Ok => typed(refusal).into_http(),
            _ => response,
        }
    }
}

/// What is known of a call beside its message.
#[derive(Clone)]
pub(super) struct Call {
    pub asked: Asked,
    pub arriving: Arriving,
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers
        .get("grpc-encoding")
        .is_some_and(|encoding| encoding != "identity")
}

/// The bytes that have arrived of messages that are not whole yet.
#[derive(Clone)]
pub(super) struct Arriving {
    bytes: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Arriving {
    /// A message of `length` bytes is whole: it counts until the permit is dropped, and what has
    /// arrived counts no more.
    pub(super) fn take(&self, length: usize) -> Result<OwnedSemaphorePermit, Error> {
        drop(self.lock().take());
        self.acquire(length)
    }

    fn add(&self, length: usize) -> Result<(), Error> {
        let permit = self.acquire(length)?;
        let mut held = self.lock();
        match held.as_mut() {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }

    fn acquire(&self, length: usize) -> Result<OwnedSemaphorePermit, Error> {
        let permits = u32::try_from(length).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes)
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

    fn is_empty(&self) -> bool {
        self.lock().is_none()
    }

    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body whose bytes are counted, and whose messages must each arrive in time.
struct MeteredBody {
    body: Body,
    arriving: Arriving,
    timeout: Duration,
    late: Pin<Box<Sleep>>,
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    if this.arriving.is_empty() {
                        this.late.as_mut().reset(Instant::now() + this.timeout);
                    }
                    this.arriving.add(data.len()).map_err(status)?;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending if this.arriving.is_empty() => Poll::Pending,
            Poll::Pending => {
                std::task::ready!(this.late.as_mut().poll(context));
                let text = format!("the message did not arrive within {:?}", this.timeout);
                let error = Error::new(ErrorKind::DeadlineExceeded, "body_too_slow", text);
                Poll::Ready(Some(Err(status(error).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
