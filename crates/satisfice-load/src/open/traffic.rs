use crate::LoadError;
use std::time::Duration;

/// Jobs that one drawing may hold.
const JOBS_MAX: f64 = 1e6;

/// How arrivals are spread over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// Independent of each other.
    Poisson,
    /// As Poisson, but in the first `share` of every `period` the rate is `factor` times the mean, and
    /// so much lower in the rest that the mean is kept.
    Bursts {
        /// How much more comes in a burst, at least 1 and at most `1 / share`.
        factor: f64,
        /// Share of the time that is burst, between 0 and 1.
        share: f64,
        /// From burst to burst.
        period: Duration,
    },
}

/// Traffic to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Jobs a second, on average.
    pub rate: f64,
    /// How long jobs arrive.
    pub length: Duration,
    /// How they are spread.
    pub pattern: Pattern,
    /// Inputs of a job, and how often jobs have that many, as weights.
    pub sizes: Vec<(usize, f64)>,
    /// The same seed draws the same traffic.
    pub seed: u64,
}

/// One job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it comes, from the start.
    pub at: Duration,
    /// Its inputs.
    pub inputs: usize,
}

impl Traffic {
    /// Inputs of a job, on average.
    pub fn mean_inputs(&self) -> f64 {
        let weights: f64 = self.sizes.iter().map(|&(_, weight)| weight).sum();
        let inputs: f64 = self.sizes.iter().map(|&(n, w)| n as f64 * w).sum();
        inputs / weights
    }

    /// Draws the jobs, in the order of their arrival.
    ///
    /// # Errors
    /// [`LoadError::Traffic`] when a number is out of its range.
    pub fn draw(&self) -> Result<Vec<Arrival>, LoadError> {
        self.check()?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        let end = self.length.as_secs_f64();
        let peak = self.rate * self.pattern.peak();
        let mut at = 0.0;
        let mut arrivals = Vec::new();
        loop {
            // Thinning: as many as in a burst all the time, of which some do not come.
            at -= (1.0 - random.f64()).ln() / peak;
            if at >= end {
                return Ok(arrivals);
            }
            let comes = random.f64() * peak < self.rate * self.pattern.at(at);
            let inputs = self.draw_size(random.f64());
            if comes {
                arrivals.push(Arrival {
                    at: Duration::from_secs_f64(at),
                    inputs,
                });
            }
        }
    }

    fn draw_size(&self, drawn: f64) -> usize {
        let weights: f64 = self.sizes.iter().map(|&(_, weight)| weight).sum();
        let mut left = drawn * weights;
        for &(inputs, weight) in &self.sizes {
            if left < weight {
                return inputs;
            }
            left -= weight;
        }
        self.sizes.last().map_or(1, |&(inputs, _)| inputs)
    }

    fn check(&self) -> Result<(), LoadError> {
        let wrong = |what: &str| Err(LoadError::Traffic(what.to_owned()));
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return wrong("the rate must be above 0");
        }
        if self.rate * self.length.as_secs_f64() > JOBS_MAX {
            return wrong("more than a million jobs");
        }
        let weight_is_good = |&(inputs, weight): &(usize, f64)| inputs > 0 && weight > 0.0;
        if self.sizes.is_empty() || !self.sizes.iter().all(weight_is_good) {
            return wrong("jobs need a size of at least 1 with a weight above 0");
        }
        match self.pattern {
            Pattern::Poisson => Ok(()),
            Pattern::Bursts {
                factor,
                share,
                period,
            } => {
                let share_is_good = share > 0.0 && share < 1.0;
                if share_is_good && factor >= 1.0 && factor * share <= 1.0 && !period.is_zero() {
                    Ok(())
                } else {
                    wrong("a burst needs 0 < share < 1, 1 <= factor <= 1 / share and a period")
                }
            }
        }
    }
}

impl Pattern {
    /// The rate at the moment `at`, in multiples of the mean.
    fn at(self, at: f64) -> f64 {
        match self {
            Self::Poisson => 1.0,
            Self::Bursts {
                factor,
                share,
                period,
            } => match (at / period.as_secs_f64()).fract() < share {
                true => factor,
                false => (1.0 - factor * share) / (1.0 - share),
            },
        }
    }

    fn peak(self) -> f64 {
        match self {
            Self::Poisson => 1.0,
            Self::Bursts { factor, .. } => factor,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn traffic(pattern: Pattern) -> Traffic {
        Traffic {
            rate: 200.0,
            length: Duration::from_secs(50),
            pattern,
            sizes: vec![(1, 3.0), (9, 1.0)],
            seed: 4,
        }
    }

    const BURSTS: Pattern = Pattern::Bursts {
        factor: 4.0,
        share: 0.2,
        period: Duration::from_secs(5),
    };

    #[test]
    fn keeps_the_mean_rate_and_sizes() {
        for pattern in [Pattern::Poisson, BURSTS] {
            let traffic = traffic(pattern);
            let drawn = traffic.draw().unwrap();
            // 10,000 jobs expected, with a standard deviation of 100.
            assert!((9_500..10_500).contains(&drawn.len()), "{}", drawn.len());
            assert!(drawn.is_sorted_by_key(|arrival| arrival.at));
            let inputs: usize = drawn.iter().map(|arrival| arrival.inputs).sum();
            let mean = inputs as f64 / drawn.len() as f64;
            assert!((mean - traffic.mean_inputs()).abs() < 0.2, "{mean}");
        }
    }

    #[test]
    fn bursts_hold_their_share() {
        let drawn = traffic(BURSTS).draw().unwrap();
        let in_burst = |arrival: &&Arrival| arrival.at.as_secs_f64() % 5.0 < 1.0;
        let share = drawn.iter().filter(in_burst).count() as f64 / drawn.len() as f64;
        assert!((share - 0.8).abs() < 0.03, "{share}");
    }

    #[test]
    fn the_seed_decides() {
        let one = traffic(Pattern::Poisson);
        let other = Traffic {
            seed: 5,
            ..one.clone()
        };
        assert_eq!(one.draw().unwrap(), one.draw().unwrap());
        assert_ne!(one.draw().unwrap(), other.draw().unwrap());
    }

    #[test]
    fn refuses_what_cannot_be_drawn() {
        let good = traffic(Pattern::Poisson);
        let wrong = [
            Traffic {
                rate: f64::NAN,
                ..good.clone()
            },
            Traffic {
                rate: 1e9,
                ..good.clone()
            },
            Traffic {
                sizes: vec![(0, 1.0)],
                ..good.clone()
            },
            Traffic {
                sizes: Vec::new(),
                ..good.clone()
            },
            Traffic {
                pattern: Pattern::Bursts {
                    factor: 6.0,
                    share: 0.2,
                    period: Duration::from_secs(5),
                },
                ..good
            },
        ];
        for traffic in wrong {
            assert!(traffic.draw().is_err(), "{traffic:?}");
        }
    }
}
