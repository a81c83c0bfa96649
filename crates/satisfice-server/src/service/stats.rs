//! What one version of a model has done, in counters.

use super::plan_times::{PlanTimes, Plans};
use satisfice_core::{
    Error, ErrorKind, InferResponse, Parameter,
    parameters::{DEADLINE_LEFT_MS, PLAN},
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A number of times something happened, and how long it took in all.
#[derive(Debug, Default)]
pub(crate) struct Duty {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Duty {
    fn add(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn ns(&self) -> u64 {
        self.ns.load(Ordering::Relaxed)
    }
}

/// Why a request was not answered, in the words of Triton's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Refused or given up before it was executed.
    Rejected,
    /// The client went away.
    Canceled,
    /// The engine's fault.
    Backend,
    /// The request's fault.
    Other,
}

impl Reason {
    /// Every reason.
    pub(crate) const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The reason's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }

    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::TooLarge | ErrorKind::DeadlineExceeded => {
                Self::Rejected
            }
            ErrorKind::Internal => Self::Backend,
            ErrorKind::InvalidInput
            | ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Unsupported => Self::Other,
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Requests answered, from the first byte to the encoded answer.
    pub success: Duty,
    /// Requests not answered.
    pub fail: Duty,
    /// Time in the queue.
    pub queue: Duty,
    /// Time to decode.
    pub compute_input: Duty,
    /// Time in the engine.
    pub compute_infer: Duty,
    /// Time to encode.
    pub compute_output: Duty,
    /// Answers to requests with a deadline, in time and late.
    deadlines: [AtomicU64; 2],
    /// Inputs answered: more than requests where they are cut into inputs.
    inferences: AtomicU64,
    /// Executions by the inputs in them, and nanoseconds.
    executions: Mutex<BTreeMap<usize, (u64, u64)>>,
    /// How long the model took to load, in nanoseconds.
    load_ns: AtomicU64,
    reasons: [AtomicU64; Reason::ALL.len()],
    last_inference_ms: AtomicU64,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    plans: Plans,
}

impl Stats {
    /// Failures for a reason.
    pub(crate) fn failures(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize].load(Ordering::Relaxed)
    }

    /// Answers to requests with a deadline: in time, and late.
    pub(crate) fn deadlines(&self) -> (u64, u64) {
        let [kept, late] = &self.deadlines;
        (kept.load(Ordering::Relaxed), late.load(Ordering::Relaxed))
    }

    /// When the engine last began, in milliseconds since 1970; 0 for never.
    pub(crate) fn last_inference_ms(&self) -> u64 {
        self.last_inference_ms.load(Ordering::Relaxed)
    }

    /// Errors by code.
    pub(crate) fn refusals(&self) -> BTreeMap<&str, u64> {
        lock(&self.refusals)
            .iter()
            .map(|(code, count)| (*code, *count))
            .collect()
    }

    /// Answers by the plan that they say they were made with.
    pub(crate) fn plans(&self) -> BTreeMap<&str, u64> {
        self.plans.answers()
    }

    /// Durations by plan.
    pub(crate) fn plan_times(&self) -> impl Iterator<Item = (&str, &PlanTimes)> {
        self.plans.each()
    }

    /// A request failed after `duration`.
    pub(crate) fn failed(&self, error: &Error, duration: Duration) {
        *lock(&self.refusals).entry(error.code()).or_default() += 1;
        self.count_failure(Reason::of(error), duration);
    }

    fn count_failure(&self, reason: Reason, duration: Duration) {
        self.fail.add(duration);
        self.reasons[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What is executed by a plan has waited so long.
    pub(super) fn waited(&self, plan: &str, duration: Duration) {
        self.queue.add(duration);
        self.plans.waited(plan, duration);
    }

    pub(super) fn executing(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = now.map_or(0, |now| now.as_millis() as u64);
        self.last_inference_ms.store(ms, Ordering::Relaxed);
    }

    /// The engine has worked on so many inputs by a plan, of which so many are answered.
    pub(super) fn executed(&self, plan: &str, inputs: usize, answered: usize, duration: Duration) {
        self.compute_infer.add(duration);
        self.plans.executed(plan, duration);
        self.inferences
            .fetch_add(answered as u64, Ordering::Relaxed);
        let mut executions = lock(&self.executions);
        let (count, ns) = executions.entry(inputs).or_default();
        *count += 1;
        *ns += duration.as_nanos() as u64;
    }

    /// Inputs answered.
    pub(crate) fn inferences(&self) -> u64 {
        self.inferences.load(Ordering::Relaxed)
    }

    /// Executions by the inputs in them, and nanoseconds.
    pub(crate) fn executions(&self) -> BTreeMap<usize, (u64, u64)> {
        lock(&self.executions).clone()
    }

    pub(super) fn loaded(&self, duration: Duration) {
        self.load_ns
            .store(duration.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How long the model took to load; nothing where it was there.
    pub(crate) fn load_duration(&self) -> Duration {
        Duration::from_nanos(self.load_ns.load(Ordering::Relaxed))
    }

    /// Counts the plan that the answer says it was made with.
    pub(super) fn answered_by(&self, response: &InferResponse) {
        if let Some(plan) = plan_of(response) {
            self.plans.answered(plan);
        }
    }
}

/// The plan that an answer says it was made with.
pub(super) fn plan_of(response: &InferResponse) -> Option<&str> {
    match response.parameters.get(PLAN.name) {
        Some(Parameter::String(plan)) => Some(plan),
        _ => None,
    }
}

/// Nothing that is done under the lock can panic half-way.
fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows one request; if it is dropped before it is finished, the client has gone.
pub(crate) struct Recording<'a> {
    stats: &'a Stats,
    received: Instant,
    /// What the answer says that it was made with.
    plan: String,
    finished: bool,
}

impl<'a> Recording<'a> {
    pub(crate) fn new(stats: &'a Stats, received: Instant) -> Self {
        Self {
            stats,
            received,
            plan: String::new(),
            finished: false,
        }
    }

    /// The request has this answer.
    pub(crate) fn answered(&mut self, response: &InferResponse) {
        plan_of(response)
            .unwrap_or_default()
            .clone_into(&mut self.plan);
        if let Some(Parameter::Float(left)) = response.parameters.get(DEADLINE_LEFT_MS) {
            let late = usize::from(*left < 0.0);
            self.stats.deadlines[late].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The request has been decoded in this time.
    pub(crate) fn decoded(&self, duration: Duration) {
        self.stats.compute_input.add(duration);
    }

    /// The answer has been encoded in this time.
    pub(crate) fn encoded(&self, duration: Duration) {
        self.stats.compute_output.add(duration);
    }

    /// The request has come to its end.
    pub(crate) fn finish<T>(mut self, result: &Result<T, Error>) {
        self.finished = true;
        let duration = self.received.elapsed();
        match result {
            Ok(_) => {
                self.stats.success.add(duration);
                self.stats.plans.requested(&self.plan, duration);
            }
            Err(error) => self.stats.failed(error, duration),
        }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let duration = self.received.elapsed();
            self.stats.count_failure(Reason::Canceled, duration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_was_canceled() {
        let stats = Stats::default();
        drop(Recording::new(&stats, Instant::now()));
        Recording::new(&stats, Instant::now()).finish(&Ok(()));
        let error = Error::new(ErrorKind::Unavailable, "queue_full", "");
        Recording::new(&stats, Instant::now()).finish::<()>(&Err(error));
        assert_eq!(
            Reason::ALL.map(|reason| stats.failures(reason)),
            [1, 1, 0, 0]
        );
        assert_eq!((stats.success.count(), stats.fail.count()), (1, 2));
        assert_eq!(stats.refusals(), BTreeMap::from([("queue_full", 1)]));
    }
}
