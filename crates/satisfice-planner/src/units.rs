//! Whole numbers inside, so that sums are exact and equal plans compare as equal.

/// Nanoseconds.
pub(crate) type Nanos = u64;

/// Millionths of one correct input, summed over inputs.
pub(crate) type Value = u64;

/// The longest time that is planned with, in seconds: sums of 2^24 of them fit.
pub(crate) const SECONDS_MAX: f64 = 500.0;

const NANOS: f64 = 1e9;
const MILLIONTHS: f64 = 1e6;

/// A predicted time, rounded up; what is below a billionth of a nanosecond over is not counted.
pub(crate) fn nanos(seconds: f64) -> Nanos {
    (seconds * NANOS - 1e-6).ceil().max(0.0) as Nanos
}

/// Time left, rounded down; none when it is past. Beyond 292 years all is the same.
pub(crate) fn nanos_left(seconds: f64) -> Nanos {
    (seconds * NANOS + 1e-6).floor().clamp(0.0, i64::MAX as f64) as Nanos
}

pub(crate) fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / NANOS
}

/// A share of correct inputs, to the nearest millionth.
pub(crate) fn value(share: f64) -> Value {
    (share * MILLIONTHS).round() as Value
}

/// The mean share that a summed value over `inputs` is.
pub(crate) fn share(value: Value, inputs: usize) -> f64 {
    value as f64 / (MILLIONTHS * inputs as f64)
}
