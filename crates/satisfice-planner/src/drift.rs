use crate::{Error, error::checked};

/// Weight of the newest observation.
const NEWEST: f64 = 0.2;

/// One observation counts for no more than this factor: a stall is not a wrong profile.
const OUTLIER: f64 = 4.0;

/// How far the scale has to move to be worth a new plan at once.
const NOTICED: f64 = 1.4;

/// Batches over which planned work is compared with what it turned out to be: a single one says little.
const WORK_BATCHES: f64 = 64.0;

/// Seconds that others run until most of what was known of a strategy that does not is forgotten.
const FORGOTTEN_SECONDS: f64 = 30.0;

/// What is known of one execution, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// The profile's time, unscaled, before it ran.
    pub planned: f64,
    /// The profile's time for what then was to be done: in a cascade, with as many inputs answered
    /// again as were. As `planned` where inputs do not decide it.
    pub work: f64,
    /// What it took.
    pub observed: f64,
}

/// Compares observed with predicted times of one strategy.
///
/// Predictions are to be multiplied by [`scale`](Self::scale), which has two parts. How fast work goes
/// varies little from batch to batch: the logarithm of observed time over that of the work is averaged
/// with exponentially falling weights. How much work there is varies much in a cascade: its sum is
/// compared with the planned sum, over many batches. (Were the two not told apart, a cascade would
/// wander above and below what it takes, and one that is thought dear is not run and stays dear.)
///
/// A profile that is wrong by a factor of two either way is noticed by the fourth observation; a
/// single outlier, however large, is not noticed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LatencyDrift {
    /// Of the time that work takes over the profile's.
    log_speed: f64,
    /// Sums of work and of planned work beyond the first `WORK_BATCHES`, as planned.
    work: f64,
    planned: f64,
    /// Scale of the last notice.
    log_noticed: f64,
    observations: u64,
}

impl LatencyDrift {
    /// Takes in one execution. Returns whether plans that rest on the old scale are to be made anew at
    /// once.
    ///
    /// # Errors
    /// Where a time is not finite or not above 0; the observation is then left out.
    pub fn observe(&mut self, timing: Timing) -> Result<bool, Error> {
        let positive =
            |what: &str, time| checked(|| what.to_owned(), time, "above 0 seconds", |v| v > 0.0);
        let planned = positive("a planned time", timing.planned)?;
        let work = positive("the time of some work", timing.work)?;
        let ratio = positive("an observed time", timing.observed)? / work;
        // Relative to the present speed: where the profile is wrong by more than what one outlier
        // counts for, the speed still gets there.
        let limit = OUTLIER.ln();
        let surprise = (ratio.ln() - self.log_speed).clamp(-limit, limit);
        self.log_speed += NEWEST * surprise;
        if self.observations == 0 {
            (self.work, self.planned) = (WORK_BATCHES * planned, WORK_BATCHES * planned);
        }
        let kept = 1.0 - 1.0 / WORK_BATCHES;
        self.work = kept * self.work + work;
        self.planned = kept * self.planned + planned;
        self.observations += 1;
        let log_scale = self.scale().ln();
        let noticed = (log_scale - self.log_noticed).abs() > NOTICED.ln();
        if noticed {
            self.log_noticed = log_scale;
        }
        Ok(noticed)
    }

    /// Lets go of some of what was seen of this strategy, while another one ran for some seconds: what
    /// a strategy took long ago says less than how fast the `others` are now.
    pub fn forget(&mut self, others: &Self, seconds: f64) {
        let share = 1.0 - (-seconds.max(0.0) / FORGOTTEN_SECONDS).exp();
        self.log_speed += share * (others.log_speed - self.log_speed);
    }

    /// What the profile's times are to be multiplied by.
    pub fn scale(&self) -> f64 {
        let share = match self.observations {
            0 => 1.0,
            _ => self.work / self.planned,
        };
        self.log_speed.exp() * share
    }

    /// Executions taken in.
    pub fn observations(&self) -> u64 {
        self.observations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Random;

    fn plain(planned: f64, observed: f64) -> Timing {
        Timing {
            planned,
            work: planned,
            observed,
        }
    }

    #[test]
    fn a_factor_of_two_is_noticed_by_the_fourth_observation() {
        for factor in [2.0, 0.5] {
            let mut drift = LatencyDrift::default();
            let noticed = (1..=20).find(|_| drift.observe(plain(0.010, 0.010 * factor)).unwrap());
            assert!(noticed.is_some_and(|count| count <= 4), "{noticed:?}");
            for _ in 0..30 {
                drift.observe(plain(0.010, 0.010 * factor)).unwrap();
            }
            assert!((drift.scale() / factor).ln().abs() < 0.01);
        }
    }

    #[test]
    fn noise_and_single_outliers_are_not_noticed() {
        let mut random = Random::new(11);
        let mut drift = LatencyDrift::default();
        for _ in 0..100_000 {
            let noise = 0.75 + 0.5 * random.unit();
            assert!(!drift.observe(plain(0.010, 0.010 * noise)).unwrap());
        }
        for outlier in [1e6, 1e-6] {
            assert!(
                !LatencyDrift::default()
                    .observe(plain(0.010, 0.010 * outlier))
                    .unwrap()
            );
        }
    }

    #[test]
    fn a_factor_beyond_an_outlier_is_learnt_too() {
        let mut drift = LatencyDrift::default();
        for _ in 0..60 {
            drift.observe(plain(0.001, 0.100)).unwrap();
        }
        assert!(
            (drift.scale() / 100.0).ln().abs() < 0.01,
            "{}",
            drift.scale()
        );
    }

    #[test]
    fn wrong_times_are_left_out() {
        let mut drift = LatencyDrift::default();
        for time in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert!(drift.observe(plain(0.1, time)).is_err());
            assert!(drift.observe(plain(time, 0.1)).is_err());
        }
        assert_eq!(drift, LatencyDrift::default());
    }
    /// Two cascades, the second dearer by a quarter, of which the cheaper by the scales is run, while
    /// the machine is now fast and now slow. Returns how much dearer than need be it came, and how long
    /// the dearer was run in a row. Scales are looked at every `every` batches, and when they are noticed.
    fn cascades(seed: u64, period: usize, every: usize) -> (f64, usize) {
        const FIRST: f64 = 0.8;
        const SECOND: [f64; 2] = [3.0, 4.2];
        const INPUTS: usize = 4;
        const BATCHES: usize = 20_000;
        let mut random = Random::new(seed);
        let planned = SECOND.map(|second| INPUTS as f64 * (FIRST + 0.5 * second));
        let mut drifts = [LatencyDrift::default(); 2];
        let mut all = LatencyDrift::default();
        let mut scales = [1.0; 2];
        let (mut spent, mut in_a_row, mut longest) = (0.0, 0, 0);
        for batch in 0..BATCHES {
            let run = usize::from(planned[1] * scales[1] < planned[0] * scales[0]);
            let again = (0..INPUTS).filter(|_| random.unit() < 0.5).count();
            let work = INPUTS as f64 * FIRST + again as f64 * SECOND[run];
            let slow = if batch / period % 2 == 1 { 1.6 } else { 1.0 };
            let timing = Timing {
                planned: planned[run],
                work,
                observed: work * slow * (0.75 + 0.5 * random.unit()),
            };
            let noticed = drifts[run].observe(timing).unwrap();
            all.observe(timing).unwrap();
            drifts[1 - run].forget(&all, 1e-3 * timing.observed);
            if noticed || batch % every == 0 {
                scales = drifts.map(|drift| drift.scale());
            }
            spent += planned[run] / planned[0];
            in_a_row = if run == 0 { 0 } else { in_a_row + 1 };
            longest = longest.max(in_a_row);
        }
        (spent / BATCHES as f64, longest)
    }

    #[test]
    fn the_cheaper_of_two_cascades_is_run() {
        for period in [100, 400, 2000] {
            for seed in 0..6 {
                let (cost, longest) = cascades(seed, period, 50);
                println!(
                    "period {period}, seed {seed}: {cost:.3} times the least, {longest} in a row"
                );
                assert!(cost < 1.02 && longest <= 500, "{cost} {longest}");
            }
        }
    }

    #[test]
    fn inputs_that_are_harder_than_those_of_the_profile_are_noticed() {
        let mut random = Random::new(12);
        let mut drift = LatencyDrift::default();
        // Half of the inputs are answered again, and three quarters of them are.
        let mut observe = |share: f64| {
            let work = 4.0 + 6.0 * (0..4).filter(|_| random.unit() < share).count() as f64;
            let timing = Timing {
                planned: 16.0,
                work,
                observed: work,
            };
            let noticed = drift.observe(timing).unwrap();
            (noticed, drift.scale())
        };
        for _ in 0..10_000 {
            let (noticed, scale) = observe(0.5);
            assert!(!noticed && (0.75..1.3).contains(&scale), "{scale}");
        }
        for _ in 0..300 {
            observe(0.75);
        }
        assert!((1.2..1.6).contains(&drift.scale()), "{}", drift.scale());
    }

    #[test]
    fn what_does_not_run_is_taken_to_be_as_fast_as_what_does() {
        let (mut idle, mut others) = (LatencyDrift::default(), LatencyDrift::default());
        for _ in 0..30 {
            idle.observe(plain(1.0, 3.0)).unwrap();
            others.observe(plain(1.0, 0.9)).unwrap();
        }
        for _ in 0..100 {
            idle.forget(&others, 0.1);
        }
        assert!((1.5..2.5).contains(&idle.scale()), "{}", idle.scale());
        for _ in 0..1_000 {
            idle.forget(&others, 0.1);
        }
        assert!((0.85..0.99).contains(&idle.scale()), "{}", idle.scale());
    }
}
