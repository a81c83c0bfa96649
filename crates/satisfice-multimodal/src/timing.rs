//! Times from other times: of choices from brief timing where no profile has them, of batch sizes
//! between measured ones, and of cascades from their two steps.

use crate::{MultimodalError, layout::Networks, network::Network};
use std::time::Instant;

/// Batch sizes that are timed; larger batches are taken to cost as much an input as the largest.
const BATCHES: [usize; 4] = [1, 2, 4, 8];
const REPEATS: usize = 3;

/// Seconds of a batch of `i + 1` inputs by each of the choices: the sum over its networks, without
/// what is done between them.
pub(crate) fn briefly(
    networks: &Networks,
    batch_max: usize,
) -> Result<Vec<Vec<f64>>, MultimodalError> {
    let mut timed: Vec<(&Network, Vec<f64>)> = Vec::new();
    let choices = networks.choices().iter();
    let used: Vec<Vec<&Network>> = choices.map(|&choice| networks.used(choice)).collect();
    for network in used.iter().flatten().copied() {
        if !timed.iter().any(|(other, _)| std::ptr::eq(*other, network)) {
            timed.push((network, seconds(network, batch_max)?));
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

fn seconds(network: &Network, batch_max: usize) -> Result<Vec<f64>, MultimodalError> {
    let mut points = Vec::new();
    for batch in BATCHES.into_iter().filter(|&batch| batch <= batch_max) {
        network.run_zeros(batch)?;
        let mut least = f64::INFINITY;
        for _ in 0..REPEATS {
            let start = Instant::now();
            network.run_zeros(batch)?;
            least = least.min(start.elapsed().as_secs_f64());
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
