use crate::{
    Error,
    error::checked,
    units::{self, Nanos, SECONDS_MAX, Value},
};
use satisfice_core::{Measure, Strategy};

/// Largest batch that a strategy may have a time for.
pub const BATCH_MAX: usize = 1024;

/// What the planner has to know of one strategy: checked numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct StrategyProfile {
    accuracy: f64,
    expected: f64,
    seconds: Vec<f64>,
}

impl StrategyProfile {
    /// `accuracy` is planned with (a lower confidence bound), `expected` only reported; both are
    /// shares, 0 to 1. `seconds[b - 1]` is the time of a batch of `b` inputs.
    ///
    /// # Errors
    /// Where a number is not finite or out of range, or no batch size has a time.
    pub fn new(accuracy: f64, expected: f64, seconds: Vec<f64>) -> Result<Self, Error> {
        if seconds.is_empty() {
            return Err(Error::Nothing { what: "batch time" });
        }
        if seconds.len() > BATCH_MAX {
            return Err(Error::TooMany {
                what: "batch sizes of a strategy",
                given: seconds.len(),
                most: BATCH_MAX,
            });
        }
        let share = |name: &'static str, share| {
            checked(
                || name.to_owned(),
                share,
                "0 to 1",
                |v| (0.0..=1.0).contains(&v),
            )
        };
        for (at, &time) in seconds.iter().enumerate() {
            checked(
                || format!("the time of a batch of {}", at + 1),
                time,
                "above 0 and at most 500 seconds",
                |v| v > 0.0 && v <= SECONDS_MAX,
            )?;
        }
        Ok(Self {
            accuracy: share("a strategy's accuracy", accuracy)?,
            expected: share("a strategy's expected accuracy", expected)?,
            seconds,
        })
    }

    /// The profile of an engine's strategy by what `measure` found; none where it was not measured.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn of(strategy: &Strategy, measure: Measure) -> Result<Option<Self>, Error> {
        strategy
            .quality
            .iter()
            .find(|quality| quality.measure == measure)
            .map(|quality| Self::new(quality.lower, quality.expected, strategy.seconds.clone()))
            .transpose()
    }

    /// The same strategy with all times multiplied by [`LatencyDrift::scale`](crate::LatencyDrift::scale).
    ///
    /// # Errors
    /// Where that takes a time out of range.
    pub fn scaled(&self, scale: f64) -> Result<Self, Error> {
        let seconds = self.seconds.iter().map(|time| time * scale).collect();
        Self::new(self.accuracy, self.expected, seconds)
    }

    /// Share of correct inputs that is planned with.
    pub fn accuracy(&self) -> f64 {
        self.accuracy
    }

    /// Share of correct inputs that is expected.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// Time of a batch of `i + 1` inputs, in seconds.
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// The largest batch.
    pub fn batch_max(&self) -> usize {
        self.seconds.len()
    }

    pub(crate) fn value(&self) -> Value {
        units::value(self.accuracy)
    }

    pub(crate) fn nanos(&self, batch: usize) -> Nanos {
        units::nanos(self.seconds[batch - 1])
    }
}
