use crate::{Error, error::checked};

/// Weight of the newest observation in how fast everything goes.
const NEWEST: f64 = 0.19;

/// Its weight in how fast one strategy goes beside the others.
const NEWEST_OWN: f64 = 0.05;

/// One observation counts for no more than this factor: a stall is not a wrong profile.
const OUTLIER: f64 = 4.0;

/// How far the scale has to move to be worth a new plan at once.
const NOTICED: f64 = 1.4;

/// Batches over which planned work is compared with what it turned out to be: a single one says little.
const WORK_BATCHES: f64 = 64.0;

/// Seconds of execution after which most of a pace is no longer taken to be that of the machine.
const PACE_SECONDS: f64 = 100.0;

/// Seconds that others run until most of what was known of a strategy that does not is forgotten.
const FORGOTTEN_SECONDS: f64 = 300.0;

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

/// How fast all strategies of a model go at present, beside their profiles.
///
/// A machine that others use too, or that was idle, is slow for whatever runs. Were that charged to the
/// strategy that happened to run, all others would look cheap.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Logarithm of the time that work takes over the profile's.
    log: f64,
}

impl Pace {
    /// Lets go of some of what was seen, some seconds of execution ago.
    pub fn forget(&mut self, seconds: f64) {
        self.log *= (-seconds.max(0.0) / PACE_SECONDS).exp();
    }
}

/// Compares observed with predicted times of one strategy.
///
/// Predictions are to be multiplied by [`scale`](Self::scale), which has two parts. How fast work goes
/// varies little from batch to batch: the logarithm of observed time over that of the work is averaged
/// with exponentially falling weights, most of it in the common [`Pace`], a little in the strategy's own
/// speed; what lasts becomes the strategy's own. How much work there is varies much in a cascade: its sum is
/// compared with the planned sum, over many batches. (Were the two not told apart, a cascade would
/// wander above and below what it takes, and one that is thought dear is not run and stays dear.)
///
/// A profile that is wrong by a factor of two either way is noticed by the fourth observation; a
/// single outlier, however large, is not noticed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LatencyDrift {
    /// Of the time that work takes over the profile's at the common pace.
    log_own: f64,
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
    pub fn observe(&mut self, timing: Timing, pace: &mut Pace) -> Result<bool, Error> {
        let positive =
            |what: &str, time| checked(|| what.to_owned(), time, "above 0 seconds", |v| v > 0.0);
        let planned = positive("a planned time", timing.planned)?;
        let work = positive("the time of some work", timing.work)?;
        let observed = positive("an observed time", timing.observed)?;
        // Relative to the present speed: where the profile is wrong by more than what one outlier
        // counts for, the speed still gets there.
        let limit = OUTLIER.ln();
        pace.forget(observed);
        let expected = pace.log + self.log_own;
        let surprise = ((observed / work).ln() - expected).clamp(-limit, limit);
        pace.log += NEWEST * surprise;
        self.log_own += NEWEST_OWN * surprise;
        if self.observations == 0 {
            (self.work, self.planned) = (WORK_BATCHES * planned, WORK_BATCHES * planned);
        }
        let kept = 1.0 - 1.0 / WORK_BATCHES;
        self.work = kept * self.work + work;
        self.planned = kept * self.planned + planned;
        self.observations += 1;
        let log_scale = self.scale(*pace).ln();
        let noticed = (log_scale - self.log_noticed).abs() > NOTICED.ln();
        if noticed {
            self.log_noticed = log_scale;
        }
        Ok(noticed)
    }

    /// Lets go of some of what was seen of this strategy, while another one ran for some seconds: what
    /// a strategy took long ago says little.
    pub fn forget(&mut self, seconds: f64) {
        self.log_own *= (-seconds.max(0.0) / FORGOTTEN_SECONDS).exp();
    }

    /// What the profile's times are to be multiplied by.
    pub fn scale(&self, pace: Pace) -> f64 {
        let share = match self.observations {
            0 => 1.0,
            _ => self.work / self.planned,
        };
        (pace.log + self.log_own).exp() * share
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
            let (mut drift, mut pace) = (LatencyDrift::default(), Pace::default());
            let mut observe = || drift.observe(plain(0.010, 0.010 * factor), &mut pace);
            let noticed = (1..=20).find(|_| observe().unwrap());
            assert!(noticed.is_some_and(|count| count <= 4), "{noticed:?}");
            for _ in 0..30 {
                observe().unwrap();
            }
            assert!((drift.scale(pace) / factor).ln().abs() < 0.01);
        }
    }

    #[test]
    fn noise_and_single_outliers_are_not_noticed() {
        let mut random = Random::new(11);
        let (mut drift, mut pace) = (LatencyDrift::default(), Pace::default());
        for _ in 0..100_000 {
            let noise = 0.75 + 0.5 * random.unit();
            assert!(
                !drift
                    .observe(plain(0.010, 0.010 * noise), &mut pace)
                    .unwrap()
            );
        }
        for outlier in [1e6, 1e-6] {
            assert!(
                !LatencyDrift::default()
                    .observe(plain(0.010, 0.010 * outlier), &mut Pace::default())
                    .unwrap()
            );
        }
    }

    #[test]
    fn a_factor_beyond_an_outlier_is_learnt_too() {
        let (mut drift, mut pace) = (LatencyDrift::default(), Pace::default());
        for _ in 0..60 {
            drift.observe(plain(0.001, 0.100), &mut pace).unwrap();
        }
        let scale = drift.scale(pace);
        assert!((scale / 100.0).ln().abs() < 0.02, "{scale}");
    }

    #[test]
    fn wrong_times_are_left_out() {
        let (mut drift, mut pace) = (LatencyDrift::default(), Pace::default());
        for time in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert!(drift.observe(plain(0.1, time), &mut pace).is_err());
            assert!(drift.observe(plain(time, 0.1), &mut pace).is_err());
        }
        assert_eq!((drift, pace), (LatencyDrift::default(), Pace::default()));
    }

    /// Two cascades, the second dearer by a quarter, of which the cheaper by the scales is run, while
    /// the machine is now fast and now slow. Returns how much dearer than need be it came, and how long
    /// the dearer was run in a row. Scales are looked at every `every` batches, and when they are noticed.
    fn cascades(seed: u64, period: usize, every: usize) -> (f64, usize) {
        const FIRST: f64 = 0.8e-3;
        const SECOND: [f64; 2] = [3.0e-3, 4.2e-3];
        const INPUTS: usize = 4;
        const BATCHES: usize = 20_000;
        let mut random = Random::new(seed);
        let planned = SECOND.map(|second| INPUTS as f64 * (FIRST + 0.5 * second));
        let mut drifts = [LatencyDrift::default(); 2];
        let mut pace = Pace::default();
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
            let noticed = drifts[run].observe(timing, &mut pace).unwrap();
            drifts[1 - run].forget(timing.observed);
            if noticed || batch % every == 0 {
                scales = drifts.map(|drift| drift.scale(pace));
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
                assert!(cost < 1.01 && longest <= 500, "{cost} {longest}");
            }
        }
    }

    #[test]
    fn inputs_that_are_harder_than_those_of_the_profile_are_noticed() {
        let mut random = Random::new(12);
        let (mut drift, mut pace) = (LatencyDrift::default(), Pace::default());
        // Half of the inputs are answered again, and three quarters of them are.
        let mut observe = |share: f64| {
            let work = 4.0 + 6.0 * (0..4).filter(|_| random.unit() < share).count() as f64;
            let timing = Timing {
                planned: 16.0,
                work,
                observed: work,
            };
            let noticed = drift.observe(timing, &mut pace).unwrap();
            (noticed, drift.scale(pace))
        };
        for _ in 0..10_000 {
            let (noticed, scale) = observe(0.5);
            assert!(!noticed && (0.75..1.3).contains(&scale), "{scale}");
        }
        for _ in 0..299 {
            observe(0.75);
        }
        let (_, scale) = observe(0.75);
        assert!((1.2..1.6).contains(&scale), "{scale}");
    }

    /// The cheaper of two strategies, by the scales, is run on a machine that is slow while little is to
    /// be done: how much dearer than need be it came.
    fn cold_starts(seed: u64) -> f64 {
        const SECONDS: [f64; 2] = [0.010, 0.0113];
        const BATCHES: usize = 10_000;
        let mut random = Random::new(seed);
        let (mut drifts, mut pace) = ([LatencyDrift::default(); 2], Pace::default());
        let mut spent = 0.0;
        for batch in 0..BATCHES {
            let seconds = |run: usize| SECONDS[run] * drifts[run].scale(pace);
            let run = usize::from(seconds(1) < seconds(0));
            let cold = if batch % 100 < 20 { 1.6 } else { 1.0 };
            let observed = SECONDS[run] * cold * (0.75 + 0.5 * random.unit());
            drifts[run]
                .observe(plain(SECONDS[run], observed), &mut pace)
                .unwrap();
            drifts[1 - run].forget(observed);
            spent += SECONDS[run] / SECONDS[0];
        }
        spent / BATCHES as f64
    }

    #[test]
    fn what_is_slow_for_all_is_charged_to_none() {
        for seed in 0..6 {
            let cost = cold_starts(seed);
            println!("seed {seed}: {cost:.4} times the least");
            assert!(cost < 1.005, "{cost}");
        }
    }

    #[test]
    fn what_lasts_is_a_strategy_s_own() {
        let (mut slow, mut pace) = (LatencyDrift::default(), Pace::default());
        let other = LatencyDrift::default();
        for _ in 0..60_000 {
            slow.observe(plain(0.010, 0.020), &mut pace).unwrap();
        }
        assert!((slow.scale(pace) / 2.0).ln().abs() < 0.01);
        assert!(other.scale(pace) < 1.2, "{}", other.scale(pace));
        for _ in 0..100_000 {
            slow.forget(0.010);
        }
        assert!(slow.scale(pace) < 1.2, "{}", slow.scale(pace));
    }
}
