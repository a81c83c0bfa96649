//! What a connection is doing, for whoever decides how long it may go on.

use super::{Limits, Protocol};
use futures_util::task::AtomicWaker;
use std::{
    future::poll_fn,
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

/// Before that a body has no rate.
const ARRIVING_MICROS_MIN: u64 = 200_000;

/// A connection is at rest while no request has arrived on it whose answer is not written: before its first
/// request, in the middle of a request's headers, and between two requests.
///
/// Times are microseconds of the process; 0 is none.
#[derive(Debug)]
pub(super) struct Activity {
    /// When it came to rest.
    rest_since: AtomicU64,
    /// When the first byte of headers arrived that are not whole yet.
    head_since: AtomicU64,
    /// Requests whose answers are not written.
    open: AtomicUsize,
    /// Of them, those whose bodies are still arriving.
    arriving: AtomicUsize,
    /// When the last of those began.
    arriving_since: AtomicU64,
    /// Bytes since then.
    received: AtomicUsize,
    /// Answers of HTTP/1 that are complete, but may not be written yet.
    said: AtomicUsize,
    /// Whether the request at hand, one of HTTP/1.1, has no answer yet.
    unanswered: AtomicBool,
    /// Whether it was an HTTP/1.1 client that sent it.
    speaks_1_1: AtomicBool,
    late: AtomicBool,
    given_up: AtomicU8,
    waker: AtomicWaker,
}

/// Why a connection is to end when it is at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Another one takes its place.
    ForAnother = 1,
    /// The server ends.
    Stopping = 2,
}

/// How long a connection that is at rest may be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It is not at rest.
    Busy,
    /// Until then.
    Until(Instant),
    /// No longer: nothing came.
    Idle,
    /// No longer: headers began, and are not whole.
    SlowHead,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            rest_since: AtomicU64::new(now()),
            head_since: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            arriving: AtomicUsize::new(0),
            arriving_since: AtomicU64::new(0),
            received: AtomicUsize::new(0),
            said: AtomicUsize::new(0),
            unanswered: AtomicBool::new(false),
            speaks_1_1: AtomicBool::new(false),
            late: AtomicBool::new(false),
            given_up: AtomicU8::new(0),
            waker: AtomicWaker::new(),
        }
    }

    /// Bytes have come.
    pub(super) fn received(&self, bytes: usize) {
        // What a refused client still sends of a body is no head.
        if self.arriving.load(Ordering::Relaxed) > 0 {
            self.received.fetch_add(bytes, Ordering::Relaxed);
        } else if self.is_at_rest() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(now(), Ordering::Relaxed);
        }
    }

    /// A request has come; whether all of it, and whether its client speaks HTTP/1.1.
    pub(super) fn begun(&self, whole: bool, speaks_1_1: bool) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        self.unanswered.store(true, Ordering::Relaxed);
        self.speaks_1_1.store(speaks_1_1, Ordering::Relaxed);
        if !whole {
            self.arriving_since.store(now(), Ordering::Relaxed);
            self.received.store(0, Ordering::Relaxed);
            self.arriving.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The body of a request that was not whole is, or nobody asks for the rest of it.
    pub(super) fn arrived(&self) {
        self.arriving.fetch_sub(1, Ordering::Relaxed);
    }

    /// An answer begins.
    pub(super) fn answered(&self) {
        self.unanswered.store(false, Ordering::Relaxed);
    }

    /// An answer is complete, or its request was dropped.
    pub(super) fn said(&self, protocol: Protocol) {
        match protocol {
            // The wire knows when it is written.
            Protocol::Http1 => drop(self.said.fetch_add(1, Ordering::Relaxed)),
            Protocol::Http2 => self.close(1),
        }
    }

    /// Everything that was said is written.
    pub(super) fn written(&self) {
        if self.said.load(Ordering::Relaxed) > 0 {
            self.close(self.said.swap(0, Ordering::Relaxed));
        }
    }

    fn close(&self, requests: usize) {
        self.rest_since.store(now(), Ordering::Relaxed);
        self.open.fetch_sub(requests, Ordering::Relaxed);
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Whether it is at rest, or has nothing to do but wait for bodies.
    pub(super) fn waits_for_client(&self) -> bool {
        self.arriving.load(Ordering::Relaxed) >= self.open.load(Ordering::Relaxed)
    }

    /// When it came to rest, if it is at rest.
    pub(super) fn resting_since(&self) -> Option<u64> {
        self.is_at_rest()
            .then(|| self.rest_since.load(Ordering::Relaxed))
    }

    /// Bytes a second in the mean, of a connection that has nothing to do but wait for a body, and has
    /// done so for a while.
    pub(super) fn arriving_rate(&self) -> Option<u64> {
        let waits = self.waits_for_client() && !self.is_at_rest();
        let since = self.arriving_since.load(Ordering::Relaxed);
        let micros = now().saturating_sub(since);
        let received = self.received.load(Ordering::Relaxed) as u64;
        (waits && micros >= ARRIVING_MICROS_MIN)
            .then(|| received.saturating_mul(1_000_000) / micros)
    }

    /// Whether a whole request of HTTP/1 waits for its answer.
    pub(super) fn awaits_answer(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
            && self.arriving.load(Ordering::Relaxed) == 0
            && !self.is_at_rest()
    }

    /// Whether its client can be sent a provisional answer.
    pub(super) fn speaks_1_1(&self) -> bool {
        self.speaks_1_1.load(Ordering::Relaxed)
    }

    /// How long an HTTP/1 connection may go on as it is.
    pub(super) fn rest(&self, limits: &Limits) -> Rest {
        let Some(since) = self.resting_since() else {
            return Rest::Busy;
        };
        let (since, longest, over) = match self.head_since.load(Ordering::Relaxed) {
            0 => (since, limits.idle_timeout, Rest::Idle),
            head => (head, limits.header_read_timeout, Rest::SlowHead),
        };
        match instant(since).checked_add(longest) {
            Some(end) if end > Instant::now() => Rest::Until(end),
            Some(_) => over,
            None => Rest::Busy, // longer than anybody can wait
        }
    }

    /// Its headers have taken too long: whoever reads is to say so and to end.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    pub(super) fn set_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }

    /// Has the connection end when it is at rest.
    pub(super) fn give_up(&self, why: GivenUp) {
        self.given_up.store(why as u8, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn given_up(&self) -> Option<GivenUp> {
        match self.given_up.load(Ordering::Acquire) {
            0 => None,
            1 => Some(GivenUp::ForAnother),
            _ => Some(GivenUp::Stopping),
        }
    }

    /// Wakes this task when the connection is given up.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Completes when the connection is given up.
    pub(super) async fn until_given_up(&self) {
        poll_fn(|context| {
            self.register(context.waker());
            match self.given_up() {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
        .await;
    }
}

static PROCESS: LazyLock<Instant> = LazyLock::new(|| {
    // So that 0 is never a time.
    let now = Instant::now();
    now.checked_sub(Duration::from_micros(1)).unwrap_or(now)
});

fn now() -> u64 {
    PROCESS.elapsed().as_micros() as u64
}

fn instant(micros: u64) -> Instant {
    *PROCESS + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            idle_timeout: Duration::from_hours(2),
            header_read_timeout: Duration::from_hours(1),
            ..Limits::default()
        }
    }

    #[test]
    fn a_request_of_http_1_ends_when_its_answer_is_written() {
        let activity = Activity::new();
        assert!(activity.is_at_rest());
        activity.received(10);
        activity.begun(false, true);
        assert!(!activity.is_at_rest() && !activity.awaits_answer());
        activity.arrived();
        assert!(activity.awaits_answer());
        activity.answered();
        assert!(!activity.awaits_answer());
        // The next one came before the first was written.
        activity.said(Protocol::Http1);
        activity.begun(true, true);
        activity.written();
        assert!(!activity.is_at_rest() && activity.awaits_answer());
        activity.said(Protocol::Http1);
        assert!(!activity.is_at_rest());
        activity.written();
        assert!(activity.is_at_rest());
        assert_eq!(activity.rest(&limits()), activity.rest(&limits()));
    }

    #[test]
    fn headers_have_less_time_than_rest() {
        let activity = Activity::new();
        let until = |activity: &Activity| match activity.rest(&limits()) {
            Rest::Until(end) => end,
            other => panic!("{other:?}"),
        };
        let idle = until(&activity);
        activity.received(1);
        let head = until(&activity);
        assert!(head < idle);
        // More of it gives it no more time.
        activity.received(1);
        assert_eq!(until(&activity), head);
        let none = Limits {
            header_read_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            ..Limits::default()
        };
        assert_eq!(activity.rest(&none), Rest::SlowHead);
        activity.begun(true, true);
        assert_eq!(activity.rest(&none), Rest::Busy);
        activity.said(Protocol::Http2);
        assert_eq!(activity.rest(&none), Rest::Idle);
    }

    #[test]
    fn only_a_body_that_is_waited_for_has_a_rate() {
        let activity = Activity::new();
        assert_eq!(activity.arriving_rate(), None);
        activity.begun(false, true);
        activity.received(7000);
        let ago = now().max(2_000_001) - 2_000_000;
        activity.arriving_since.store(ago, Ordering::Relaxed);
        if now() >= 2_000_001 {
            let rate = activity.arriving_rate().unwrap();
            assert!((3000..=3500).contains(&rate), "{rate}");
        }
        activity.arrived();
        assert_eq!(activity.arriving_rate(), None);
    }
}
