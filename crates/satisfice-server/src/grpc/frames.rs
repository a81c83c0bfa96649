//! Messages of a call as they stand in its body, when they may be compressed: the library would make room for what
//! they hold without asking anybody.

use super::{error::status, metering::Arriving};
use crate::{
    Limits,
    exchange::Codecs,
    inflate::{Count, Encoding, inflate, too_large},
    protocol::Pieces,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use satisfice_core::Error;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};
use tonic::Status;

/// The flag and the length before each message.
const PREFIX_BYTES: usize = 5;

/// Takes messages out of a body, and hands them on as they were before they were compressed.
pub(super) struct Frames {
    encoding: Encoding,
    limits: Limits,
    codecs: Arc<Codecs>,
    arriving: Arriving,
    /// What has arrived of a message that is not whole.
    partial: BytesMut,
    /// What is ready to be handed on.
    ready: Pieces,
    work: Option<BoxFuture<'static, Result<Bytes, Error>>>,
}

impl Frames {
    pub(super) fn new(
        encoding: Encoding,
        limits: Limits,
        codecs: Arc<Codecs>,
        arriving: Arriving,
    ) -> Self {
        Self {
            encoding,
            limits,
            codecs,
            arriving,
            partial: BytesMut::new(),
            ready: Pieces::default(),
            work: None,
        }
    }

    /// Bytes that have arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
    }

    /// What is left at the end: of a message that is not whole, for whoever reads to find that out.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        (!self.partial.is_empty()).then(|| self.partial.split().freeze())
    }

    /// The next bytes to hand on; none when more has to arrive.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(bytes) = self.ready.pop() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if let Some(work) = &mut self.work {
                let whole = ready!(work.as_mut().poll(context));
                self.work = None;
                self.ready = prefixed(whole.map_err(status)?);
                continue;
            }
            let Some((flag, length)) = self.prefix() else {
                return Poll::Ready(Ok(None));
            };
            if length > self.limits.body_bytes_max {
                return Poll::Ready(Err(status(too_large(self.limits.body_bytes_max))));
            }
            if self.partial.len() - PREFIX_BYTES < length {
                return Poll::Ready(Ok(None));
            }
            match flag {
                1 => {
                    self.partial.advance(PREFIX_BYTES);
                    let message = self.partial.split_to(length).freeze();
                    self.work = Some(self.inflate(message));
                }
                // Not compressed, or wrong: whoever reads knows.
                _ => self
                    .ready
                    .push(self.partial.split_to(PREFIX_BYTES + length)),
            }
        }
    }

    fn prefix(&self) -> Option<(u8, usize)> {
        let (flag, length) = self.partial.get(..PREFIX_BYTES)?.split_first()?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        Some((*flag, length as usize))
    }

    fn inflate(&self, message: Bytes) -> BoxFuture<'static, Result<Bytes, Error>> {
        let (codecs, mut arriving) = (Arc::clone(&self.codecs), self.arriving.clone());
        let (encoding, limits) = (self.encoding, self.limits);
        Box::pin(async move {
            let work = move || {
                let whole = inflate(encoding, message.into(), limits, &mut arriving)?;
                // Whoever reads makes a copy.
                arriving.take(whole.len())?;
                Ok(whole)
            };
            codecs.elsewhere(work).await?
        })
    }
}

/// A message as one that is not compressed stands in a body.
fn prefixed(message: Bytes) -> Pieces {
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
    prefix.put_u8(0);
    prefix.put_u32(message.len() as u32);
    let mut whole = Pieces::from(prefix);
    whole.push(message);
    whole
}
