//! Times from other times: of choices from brief timing where no profile has them, of batch sizes
//! between measured ones, and of cascades from their two steps.

use crate::{MultimodalError, layout::Networks, network::Network};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

/// Batch sizes that are timed; larger batches are taken to cost as much an input as the largest.
const BATCHES: [usize; 4] = [1, 2, 4, 8];
const REPEATS: usize = 3;
/// Time for a network after which nothing more of it is timed.
const BUDGET: Duration = Duration::from_secs(1);
/// Another precision is worth it where it takes less than this share of the time.
const WORTH_IT: f64 = 0.95;
/// Repeats of two networks that are compared, and the time within which more than the fewest are made.
const COMPARED: RangeInclusive<u32> = 2..=15;
const COMPARED_WITHIN: Duration = Duration::from_millis(500);

/// A network of another precision that is not quicker than the one it stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowVariant {
    /// The network.
    pub file: String,
    /// Its seconds for one input.
    pub seconds: f64,
    /// The network that it stands for.
    pub instead_of: String,
    /// Seconds of that for one input.
    pub base_seconds: f64,
}

impl fmt::Display for SlowVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} takes {:.1} ms an input and is not offered: {} takes {:.1}",
            self.file,
            1e3 * self.seconds,
            self.instead_of,
            1e3 * self.base_seconds
        )
    }
}

/// The networks of other precisions that save nothing for one input.
pub(crate) fn slow_variants(networks: &Networks) -> Result<Vec<SlowVariant>, MultimodalError> {
    let mut slow = Vec::new();
    for (variant, base) in networks.variants() {
        let [seconds, base_seconds] = compared([variant, base])?;
        if seconds >= WORTH_IT * base_seconds {
            slow.push(SlowVariant {
                file: variant.file().to_owned(),
                seconds,
                instead_of: base.file().to_owned(),
                base_seconds,
            });
        }
    }
    Ok(slow)
}

/// Least seconds of one row by each of two networks, which take turns.
fn compared(networks: [&Network; 2]) -> Result<[f64; 2], MultimodalError> {
    let mut least = [f64::INFINITY; 2];
    let start = Instant::now();
    for repeat in 0..*COMPARED.end() {
        if repeat >= *COMPARED.start() && start.elapsed() > COMPARED_WITHIN {
            break;
        }
        for (network, least) in networks.iter().zip(&mut least) {
            *least = least.min(timed(network, 1)?);
        }
    }
    Ok(least)
}

fn timed(network: &Network, rows: usize) -> Result<f64, MultimodalError> {
    let start = Instant::now();
    network.run_zeros(rows)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of a batch of `i + 1` inputs by each of the choices: the sum over its networks, without
/// what is done between them. Batches of up to `timed_max` are timed.
pub(crate) fn briefly(
    networks: &Networks,
    batch_max: usize,
    timed_max: usize,
) -> Result<Vec<Vec<f64>>, MultimodalError> {
    let mut timed: Vec<(&Network, Vec<f64>)> = Vec::new();
    let choices = networks.choices().iter();
    let used: Vec<Vec<&Network>> = choices.map(|&choice| networks.used(choice)).collect();
    for network in used.iter().flatten().copied() {
        if !timed.iter().any(|(other, _)| std::ptr::eq(*other, network)) {
            timed.push((network, seconds(network, batch_max, timed_max)?));
        }
    }
    let of = |used: &Vec<&Network>| {
        let mut sum = vec![0.0; batch_max];
        for network in used {
            let found = timed
                .iter()
                .find(|(other, _)| std::ptr::eq(*other, *network));
            for (sum, more) in sum.iter_mut().zip(found.iter().flat_map(|(_, s)| s)) {
                *sum += more;
            }
        }
        sum
    };
    Ok(used.iter().map(of).collect())
}

/// The two steps of a cascade: seconds of a batch of `i + 1` inputs by the choice of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps<'a> {
    pub(crate) first: &'a [f64],
    pub(crate) then: &'a [f64],
    /// Whether the second step runs only what the first did not.
    pub(crate) keeps: bool,
}

impl Steps<'_> {
    /// Seconds of a batch of `inputs`, of which `again` are answered again.
    pub(crate) fn seconds(self, inputs: usize, again: usize) -> f64 {
        let second = match (again, self.keeps) {
            (0, _) => 0.0,
            (again, true) => (self.then[again - 1] - self.first[again - 1]).max(0.0),
            (again, false) => self.then[again - 1],
        };
        self.first[inputs - 1] + second
    }

    /// Mean seconds of a batch of `inputs`, each of which is answered again with probability `again`.
    pub(crate) fn mean_seconds(self, inputs: usize, again: f64) -> f64 {
        (0..=inputs)
            .map(|rows| binomial(inputs, rows, again) * self.seconds(inputs, rows))
            .sum()
    }
}

/// Probability of `successes` in `trials`, each with probability `p`.
fn binomial(trials: usize, successes: usize, p: f64) -> f64 {
    let ways = (0..successes).map(|i| (trials - i) as f64 / (i + 1) as f64);
    ways.product::<f64>() * p.powi(successes as i32) * (1.0 - p).powi((trials - successes) as i32)
}

fn seconds(
    network: &Network,
    batch_max: usize,
    timed_max: usize,
) -> Result<Vec<f64>, MultimodalError> {
    let start = Instant::now();
    let mut points = Vec::new();
    let largest = batch_max.min(timed_max);
    for batch in BATCHES.into_iter().filter(|&batch| batch <= largest) {
        if batch > 1 && start.elapsed() > BUDGET {
            break;
        }
        network.prepare(batch);
        let mut least = timed(network, batch)?;
        for _ in 0..REPEATS {
            if start.elapsed() > BUDGET {
                break;
            }
            least = least.min(timed(network, batch)?);
        }
        points.push((batch, least));
    }
    Ok(interpolate(&points, batch_max))
}

/// Seconds of every batch size from those of some, ascending and beginning with 1: linear between
/// them, in proportion beyond the last, never less than for a smaller batch.
pub(crate) fn interpolate(points: &[(usize, f64)], batch_max: usize) -> Vec<f64> {
    let Some(&(last, slowest)) = points.last() else {
        return Vec::new();
    };
    let at = |batch: usize| {
        let above = points.iter().position(|&(size, _)| size >= batch);
        match above {
            None => slowest * batch as f64 / last as f64,
            Some(0) => points[0].1,
            Some(above) => {
                let ((from, low), (to, high)) = (points[above - 1], points[above]);
                low + (high - low) * (batch - from) as f64 / (to - from) as f64
            }
        }
    };
    let mut largest = 0.0_f64;
    (1..=batch_max)
        .map(|batch| {
            largest = largest.max(at(batch));
            largest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_and_beyond_what_was_measured() {
        let seconds = interpolate(&[(1, 1.0), (2, 3.0), (4, 2.0)], 6);
        assert_eq!(seconds, [1.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
        let seconds = interpolate(&[(1, 1.0), (4, 4.0)], 8);
        assert_eq!(seconds, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }

    #[test]
    fn a_cascade_takes_what_its_steps_take() {
        let steps = |keeps| Steps {
            first: &[1.0, 2.0],
            then: &[9.0, 12.0],
            keeps,
        };
        let of = |keeps: bool, again: usize| {
            let inputs = again.max(1)..=2;
            inputs
                .map(|n| steps(keeps).seconds(n, again))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(true, 0), [1.0, 2.0]);
        assert_eq!(of(true, 1), [9.0, 10.0]);
        assert_eq!(of(true, 2), [12.0]);
        assert_eq!(of(false, 2), [14.0]);
        let mean = |keeps: bool, share: f64| {
            let inputs = 1..=2;
            inputs
                .map(|n| steps(keeps).mean_seconds(n, share))
                .collect::<Vec<_>>()
        };
        assert_eq!(mean(true, 0.0), [1.0, 2.0]);
        assert_eq!(mean(true, 1.0), [9.0, 12.0]);
        assert_eq!(mean(false, 1.0), [10.0, 14.0]);
        // None in a quarter of the batches, one in a half, both in a quarter.
        assert_eq!(mean(true, 0.5), [5.0, 2.0 + 0.5 * 8.0 + 0.25 * 10.0]);
    }
}
