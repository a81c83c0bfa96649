//! What lies between a connection's bytes and the library that speaks HTTP over them.

use super::{Protocol, activity::Activity, refusal::Refusals};
use bytes::{Buf, Bytes};
use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A provisional answer, which says nothing new: a client that waits reads over it, and the system of one
/// that is gone answers with a reset.
const STILL_HERE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// How long a client that sends no more is waited for before it is asked whether it is there; twice as
/// long each time after that.
const ASK_FIRST: Duration = Duration::from_millis(100);
/// How often it is asked.
const ASK_MAX: u32 = 10;
/// Bytes that are read ahead while an answer is made.
const AHEAD_BYTES: usize = 1 << 10;
/// What a refused client may still send, and for how long, before its connection is closed: it would lose
/// the refusal if it were closed at once.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A connection's bytes.
///
/// Of HTTP/1 it knows three things that the library does not:
///
/// - whether a client that has closed its sending half is there still. It is while it takes provisional answers;
/// - what the library refuses by itself, which gets the body that every refusal has;
/// - that headers took too long, which is refused as well.
pub(super) struct Wire<S> {
    stream: S,
    protocol: Protocol,
    activity: Arc<Activity>,
    refusals: Refusals,
    /// Read, but not by the library.
    ahead: Bytes,
    /// Written by nobody yet.
    own: Bytes,
    /// The client sends no more.
    ended: bool,
    refused: bool,
    asked: u32,
    ask: Option<Pin<Box<Sleep>>>,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// `ahead` is what has been read of the stream.
    pub(super) fn new(
        stream: S,
        ahead: Bytes,
        protocol: Protocol,
        activity: Arc<Activity>,
        refusals: Refusals,
    ) -> Self {
        Self {
            stream,
            protocol,
            activity,
            refusals,
            ahead,
            own: Bytes::new(),
            ended: false,
            refused: false,
            asked: 0,
            ask: None,
            linger: None,
        }
    }

    /// Reads what comes; nothing is the end.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let length = buffer.filled().len() - before;
        self.ended = length == 0;
        Poll::Ready(Ok(length))
    }

    /// Writes what the library knows nothing of.
    fn write_own(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.own))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.own.advance(length),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The library answers by itself, before a request has come: with a head and nothing else.
    fn refuse(&mut self, head: Vec<u8>) {
        self.own = self.refusals.with_body(head).into();
        self.refused = true;
    }

    /// Notices that the client has gone away, while its answer is made. An error is that it has.
    fn watch(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.ended && self.ahead.is_empty() {
            let mut bytes = [0; AHEAD_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            if let Poll::Ready(length) = self.read(context, &mut buffer) {
                // The beginning of another request, for later.
                if length? > 0 {
                    self.ahead = Bytes::copy_from_slice(buffer.filled());
                }
            }
        }
        match self.ended && self.activity.speaks_1_1() {
            true => self.ask(context),
            false => Ok(()),
        }
    }

    /// Asks a client that sends no more whether it is there, now and then.
    fn ask(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.asked < ASK_MAX {
            let wait = ASK_FIRST * 2_u32.pow(self.asked);
            let ask = self.ask.get_or_insert_with(|| Box::pin(sleep(wait)));
            if ask.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.asked += 1;
            ask.as_mut().reset(Instant::now() + 2 * wait);
            if self.own.is_empty() {
                self.own = Bytes::from_static(STILL_HERE);
            }
            if let Poll::Ready(written) = self.write_own(context) {
                written?;
            }
            if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context) {
                flushed?;
            }
        }
        Ok(())
    }

    /// Lets a refused client finish sending.
    fn linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (end, read) = self
            .linger
            .get_or_insert_with(|| (Box::pin(sleep(LINGER)), 0));
        let mut bytes = [0; 4096];
        while *read < LINGER_BYTES_MAX && end.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *read += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.activity.is_late() {
            if !this.refused {
                this.own = this.refusals.slow_head().into();
                this.refused = true;
            }
            ready!(this.write_own(context))?;
            ready!(Pin::new(&mut this.stream).poll_flush(context))?;
            return Poll::Ready(Ok(()));
        }
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(length));
            this.activity.received(length);
            return Poll::Ready(Ok(()));
        }
        let length = ready!(this.read(context, buffer))?;
        if length > 0 {
            this.activity.received(length);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_own(context))?;
        if this.protocol == Protocol::Http1 && this.activity.is_at_rest() {
            this.refuse(bytes.to_vec());
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_own(context))?;
        if this.protocol == Protocol::Http1 && this.activity.is_at_rest() {
            let whole: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| piece.iter().copied())
                .collect();
            let length = whole.len();
            this.refuse(whole);
            return Poll::Ready(Ok(length));
        }
        Pin::new(&mut this.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The library asks for this whenever it has nothing left to write, so that it is where an answer ends,
    /// and where there is time to look after the client.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write_own(context))?;
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        if this.protocol == Protocol::Http2 {
            return Poll::Ready(Ok(()));
        }
        this.activity.written();
        if this.activity.awaits_answer() {
            this.watch(context)?;
        } else if !this.ahead.is_empty() && this.activity.is_at_rest() {
            // What was read ahead wakes nobody.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(this.write_own(context))?;
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        if this.refused && !this.ended {
            ready!(this.linger(context));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Front, Limits, edge::Transport};
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn wire(ahead: &'static [u8]) -> (Wire<DuplexStream>, DuplexStream, Arc<Activity>) {
        let (ours, theirs) = duplex(1 << 16);
        let activity = Arc::new(Activity::new());
        let refusals = Refusals::new(&Front::new(Limits::default()), Transport::Http);
        let ahead = Bytes::from_static(ahead);
        let wire = Wire::new(
            ours,
            ahead,
            Protocol::Http1,
            Arc::clone(&activity),
            refusals,
        );
        (wire, theirs, activity)
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (mut wire, mut theirs, _) = wire(b"before ");
        theirs.write_all(b"after").await.unwrap();
        drop(theirs);
        let mut all = String::new();
        wire.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "before after");
    }

    #[tokio::test]
    async fn a_request_read_ahead_is_not_lost() {
        let (mut wire, mut theirs, activity) = wire(b"");
        activity.begun(true, true);
        theirs.write_all(b"another").await.unwrap();
        wire.flush().await.unwrap();
        wire.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        theirs.read_exact(&mut answer).await.unwrap();
        let mut another = [0; 7];
        wire.read_exact(&mut another).await.unwrap();
        assert_eq!((&answer, &another), (b"answer", b"another"));
    }

    /// Looks after the client until something is so, or it has gone.
    async fn watch(
        wire: &mut Wire<DuplexStream>,
        until: impl Fn(&Wire<DuplexStream>) -> bool,
    ) -> io::Result<()> {
        poll_fn(|context| match Pin::new(&mut *wire).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ if until(wire) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        })
        .await
    }

    #[tokio::test]
    async fn a_client_that_sends_no_more_is_asked_whether_it_is_there() {
        let (mut wire, mut theirs, activity) = wire(b"");
        activity.begun(true, true);
        theirs.shutdown().await.unwrap();
        watch(&mut wire, |wire| wire.asked == 2).await.unwrap();
        let mut asked = vec![0; 2 * STILL_HERE.len()];
        theirs.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, STILL_HERE.repeat(2));
        // The answer follows on what is written.
        wire.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        theirs.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        // Where nobody reads any more, the request ends.
        drop(theirs);
        assert!(watch(&mut wire, |_| false).await.is_err());
    }

    #[tokio::test]
    async fn who_knows_no_provisional_answers_gets_none() {
        let (mut wire, mut theirs, activity) = wire(b"");
        activity.begun(true, false);
        theirs.shutdown().await.unwrap();
        watch(&mut wire, |wire| wire.ended).await.unwrap();
        assert!(wire.ask.is_none());
    }
}
