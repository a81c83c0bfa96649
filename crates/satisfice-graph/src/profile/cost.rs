//! From counts to seconds.

use crate::{Plan, run::Work};
use serde::{Deserialize, Serialize};

/// Seconds as a sum of counts, each times a coefficient that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Coefficients {
    /// Of every batch.
    pub fixed: f64,
    /// Of an edge of the batch or a stored neighbour.
    pub edge: f64,
    /// Of a node computed at a layer.
    pub target: f64,
    /// Of a row read.
    pub row: f64,
    /// Of a byte of rows.
    pub byte: f64,
    /// Of an operation of a dense product.
    pub flop: f64,
    /// Of an id of an in-edge.
    pub id: f64,
}

/// A batch that was answered, and the time that it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Timing {
    pub work: Work,
    pub seconds: f64,
}

/// The time of every plan. Recomputation and `exact` have coefficients of their own: `exact`
/// searches for what changes instead of choosing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CostModel {
    /// Of `pe`, `refresh` and `recompute` plans.
    pub selective: Coefficients,
    /// Of `exact`.
    pub exact: Coefficients,
}

impl CostModel {
    /// Predicted seconds of a plan.
    pub(crate) fn seconds(&self, plan: Plan, work: &Work) -> f64 {
        match plan {
            Plan::Exact => self.exact.seconds(work),
            Plan::Precomputed | Plan::Refresh | Plan::Recompute { .. } => {
                self.selective.seconds(work)
            }
        }
    }

    /// How many times the predicted seconds these batches of a plan took, by geometric mean; 1 where there is
    /// none.
    pub(crate) fn ratio(&self, plan: Plan, timings: impl Iterator<Item = Timing>) -> f64 {
        let ratios = timings.map(|timing| timing.seconds / self.seconds(plan, &timing.work));
        let logs: Vec<f64> = ratios
            .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
            .map(f64::ln)
            .collect();
        (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp()
    }
}

impl Coefficients {
    fn list(&self) -> [f64; Work::TERMS] {
        [
            self.fixed,
            self.edge,
            self.target,
            self.row,
            self.byte,
            self.flop,
            self.id,
        ]
    }

    /// Whether every coefficient is a number and none negative.
    pub(crate) fn is_sound(&self) -> bool {
        self.list().iter().all(|c| c.is_finite() && *c >= 0.0)
    }

    /// Predicted seconds.
    pub(crate) fn seconds(&self, work: &Work) -> f64 {
        self.list()
            .iter()
            .zip(work.terms())
            .map(|(c, term)| c * term)
            .sum()
    }

    /// The coefficients with the least sum of squared errors relative to the times, none negative.
    ///
    /// Each coefficient in turn is set to its best value given the others until none moves: on a
    /// convex problem with bounds on single coordinates this ends at the optimum.
    pub(crate) fn fit(timings: &[Timing]) -> Self {
        let rows: Vec<[f64; Work::TERMS]> = timings
            .iter()
            .map(|timing| timing.work.terms().map(|term| term / timing.seconds))
            .collect();
        // Columns of one size: counts of bytes and of batches are far apart.
        let mut size = [0.0_f64; Work::TERMS];
        for row in &rows {
            size.iter_mut().zip(row).for_each(|(s, v)| *s += v * v);
        }
        let size = size.map(|s| if s > 0.0 { s.sqrt() } else { 1.0 });
        let mut gram = [[0.0; Work::TERMS]; Work::TERMS];
        let mut toward = [0.0; Work::TERMS];
        for row in &rows {
            for i in 0..Work::TERMS {
                let value = row[i] / size[i];
                toward[i] += value;
                for j in 0..Work::TERMS {
                    gram[i][j] += value * row[j] / size[j];
                }
            }
        }
        let mut c = [0.0_f64; Work::TERMS];
        for _ in 0..ROUNDS_MAX {
            let mut moved = 0.0_f64;
            for i in 0..Work::TERMS {
                if gram[i][i] <= 0.0 {
                    continue;
                }
                let rest: f64 = (0..Work::TERMS)
                    .filter(|&j| j != i)
                    .map(|j| gram[i][j] * c[j])
                    .sum();
                let best = ((toward[i] - rest) / gram[i][i]).max(0.0);
                moved = moved.max((best - c[i]).abs());
                c[i] = best;
            }
            if moved < 1e-12 {
                break;
            }
        }
        let [fixed, edge, target, row, byte, flop, id] = std::array::from_fn(|i| c[i] / size[i]);
        Self {
            fixed,
            edge,
            target,
            row,
            byte,
            flop,
            id,
        }
    }
}

const ROUNDS_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn work(i: usize) -> Work {
        let n = (1 + i * i % 97) as f64;
        Work {
            edges: 14.0 * n + (i % 5) as f64,
            targets: 2.0 * n + (i % 7) as f64 * 30.0,
            rows: 30.0 * n + (i % 3) as f64 * 200.0,
            bytes: 512.0 * (30.0 * n + (i % 3) as f64 * 200.0),
            flops: 3e4 * n,
            ids: (i % 11) as f64 * 5_000.0,
        }
    }

    #[test]
    fn times_that_are_such_a_sum_are_predicted() {
        let truth = Coefficients {
            fixed: 4e-5,
            edge: 5e-8,
            target: 0.0,
            row: 0.0,
            byte: 1e-10,
            flop: 4e-12,
            id: 1e-9,
        };
        let timings: Vec<Timing> = (0..200)
            .map(|i| Timing {
                work: work(i),
                seconds: truth.seconds(&work(i)),
            })
            .collect();
        let found = Coefficients::fit(&timings[..100]);
        assert!(found.is_sound());
        for timing in &timings[100..] {
            let error = found.seconds(&timing.work) / timing.seconds - 1.0;
            assert!(error.abs() < 0.02, "{error} {found:?}");
        }
    }

    #[test]
    fn a_ratio_is_the_geometric_mean_of_what_batches_took() {
        let coefficients = Coefficients {
            fixed: 1.0,
            edge: 0.0,
            target: 0.0,
            row: 0.0,
            byte: 0.0,
            flop: 0.0,
            id: 0.0,
        };
        let cost = CostModel {
            selective: coefficients,
            exact: coefficients,
        };
        let timing = |seconds| Timing {
            work: work(1),
            seconds,
        };
        let ratio =
            |seconds: &[f64]| cost.ratio(Plan::Refresh, seconds.iter().copied().map(timing));
        assert!((ratio(&[0.5, 8.0]) - 2.0).abs() < 1e-12);
        assert_eq!(ratio(&[]).to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn no_coefficient_is_negative_where_times_fall() {
        let falling = |i: usize| Timing {
            work: work(i),
            seconds: 1.0 / (1.0 + work(i).rows),
        };
        let timings: Vec<Timing> = (0..50).map(falling).collect();
        assert!(Coefficients::fit(&timings).is_sound());
    }
}
