//! What arrives over gRPC, counted against what the server holds at once.

use super::{
    error::{ERROR_CODE, status, typed},
    frames::Frames,
};
use crate::{
    Limits,
    clip::clip,
    connection,
    edge::Asked,
    exchange::Codecs,
    front::Front,
    http::{hold, too_slow},
    inflate::{Count, Encoding},
};
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
    task::{Context, Poll, ready},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tonic::{Code, Status};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The header that says how messages are compressed.
const ENCODING: &str = "grpc-encoding";

/// What every path of server reflection begins with.
const REFLECTION: &str = "/grpc.reflection.";

/// Counts the messages of every call.
pub(super) struct Meter {
    bytes: Arc<Semaphore>,
    limits: Limits,
    codecs: Arc<Codecs>,
}

impl Meter {
    pub(super) fn new(front: &Front) -> Self {
        Self {
            bytes: Arc::clone(front.bodies()),
            limits: front.limits(),
            codecs: Arc::clone(front.codecs()),
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
        if let Err(error) = self.check(&request, &asked) {
            return status(error).into_http();
        }
        let (mut parts, body) = request.into_parts();
        let uri = parts.uri.clone();
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
        let frames = encoding(&parts.headers).map(|encoding| {
            let codecs = Arc::clone(&self.codecs);
            Frames::new(encoding, self.limits, codecs, arriving.clone())
        });
        let begun = Instant::now();
        let metered = MeteredBody {
            body,
            frames,
            arriving,
            limits: self.limits,
            begun,
            received: 0,
            late: Box::pin(sleep_until(begun + self.limits.body_read_timeout)),
        };
        let request = Request::from_parts(parts, Body::new(metered));
        let response = connection::routed(methods, request).await;
        match Status::from_header_map(response.headers()) {
            Some(refusal) if refusal.code() == Code::Ok => response,
            Some(refusal) if is_unknown(&refusal) => status(unknown_method(uri.path())).into_http(),
            Some(refusal) => typed(refusal).into_http(),
            None => response,
        }
    }

    /// Refuses what no method has to look at.
    fn check(&self, request: &Request, asked: &Asked) -> Result<(), Error> {
        self.limits.check_headers(request)?;
        match request.uri().path().starts_with(REFLECTION) {
            true => asked.caller.check_known(),
            false => Ok(()),
        }
    }
}

/// Whether the library refuses a method because there is none of this name: it says nothing else.
fn is_unknown(refusal: &Status) -> bool {
    refusal.code() == Code::Unimplemented
        && refusal.message().is_empty()
        && !refusal.metadata().contains_key(ERROR_CODE)
}

fn unknown_method(path: &str) -> Error {
    let message = format!("there is no method `{}`", clip(path));
    Error::new(ErrorKind::Unsupported, "unknown_method", message).with_hint(
        "services are inference.GRPCInferenceService, inference.GraphService, grpc.health.v1.Health and grpc.reflection.v1.ServerReflection, which lists their methods",
    )
}

/// What is known of a call beside its message.
#[derive(Clone)]
pub(super) struct Call {
    pub asked: Asked,
    pub arriving: Arriving,
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers
        .get(ENCODING)
        .is_some_and(|encoding| encoding != "identity")
}

/// How messages are compressed, if they may be and it is known.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    Encoding::from_name(headers.get(ENCODING)?.to_str().ok()?)
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
    pub(super) fn whole(&self, length: usize) -> Result<OwnedSemaphorePermit, Error> {
        drop(self.lock().take());
        hold(&self.bytes, length)
    }

    fn add(&self, length: usize) -> Result<(), Error> {
        let permit = hold(&self.bytes, length)?;
        let mut held = self.lock();
        match held.as_mut() {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.lock().is_none()
    }

    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count for Arriving {
    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.add(bytes)
    }

    fn give_back(&mut self, bytes: usize) {
        if let Some(held) = self.lock().as_mut() {
            drop(held.split(bytes));
        }
    }
}

/// A body whose bytes are counted, and whose messages must each arrive in time.
struct MeteredBody {
    body: Body,
    /// Where messages may be compressed.
    frames: Option<Frames>,
    arriving: Arriving,
    limits: Limits,
    /// When the message at hand began to arrive, and its bytes since then.
    begun: Instant,
    received: usize,
    late: Pin<Box<Sleep>>,
}

impl MeteredBody {
    /// The next bytes that arrive, counted and in time.
    fn arrive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    if self.arriving.is_empty() {
                        self.begun = Instant::now();
                        self.received = 0;
                    }
                    self.received += data.len();
                    self.arriving.add(data.len()).map_err(status)?;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending if self.arriving.is_empty() => Poll::Pending,
            Poll::Pending => {
                let time = self.limits.body_time(self.received);
                if self.late.deadline() != self.begun + time {
                    self.late.as_mut().reset(self.begun + time);
                }
                ready!(self.late.as_mut().poll(context));
                let error = too_slow(time, self.received);
                let error = Error::new(ErrorKind::DeadlineExceeded, error.code(), error.message());
                Poll::Ready(Some(Err(status(error).into())))
            }
        }
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            let Some(frames) = &mut this.frames else {
                return this.arrive(context);
            };
            if let Some(bytes) = ready!(frames.poll(context))? {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let frame = ready!(this.arrive(context)).transpose()?;
            let Some(frames) = &mut this.frames else {
                continue;
            };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => frames.push(&data),
                Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                None => return Poll::Ready(frames.rest().map(|bytes| Ok(Frame::data(bytes)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // What was compressed may wait.
        self.frames.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.frames {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
