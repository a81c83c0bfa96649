use crate::{Error, error::checked};

/// Weight of the newest observation.
const NEWEST: f64 = 0.2;

/// One observation counts for no more than this factor: a stall is not a wrong profile.
const OUTLIER: f64 = 4.0;

/// How far the scale has to move to be worth a new plan.
const NOTICED: f64 = 1.4;

/// Compares observed with predicted times of one strategy.
///
/// The logarithm of their ratio is averaged with exponentially falling weights; predictions are to be
/// multiplied by [`scale`](Self::scale). A profile that is wrong by a factor of two either way is
/// noticed by the fourth observation; a single outlier, however large, is not noticed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LatencyDrift {
    log_scale: f64,
    /// Of the last notice.
    log_noticed: f64,
    observations: u64,
}

impl LatencyDrift {
    /// Takes in one execution: the profile's time for it, unscaled, and what it took. Returns whether
    /// plans that rest on the old scale are to be made anew.
    ///
    /// # Errors
    /// Where a time is not finite or not above 0; the observation is then left out.
    pub fn observe(&mut self, predicted: f64, observed: f64) -> Result<bool, Error> {
        let positive =
            |what: &str, time| checked(|| what.to_owned(), time, "above 0 seconds", |v| v > 0.0);
        let ratio =
            positive("an observed time", observed)? / positive("a predicted time", predicted)?;
        // Relative to the present scale: where the profile is wrong by more than what one outlier
        // counts for, the scale still gets there.
        let limit = OUTLIER.ln();
        let surprise = (ratio.ln() - self.log_scale).clamp(-limit, limit);
        self.log_scale += NEWEST * surprise;
        self.observations += 1;
        let noticed = (self.log_scale - self.log_noticed).abs() > NOTICED.ln();
        if noticed {
            self.log_noticed = self.log_scale;
        }
        Ok(noticed)
    }

    /// What the profile's times are to be multiplied by.
    pub fn scale(&self) -> f64 {
        self.log_scale.exp()
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

    #[test]
    fn a_factor_of_two_is_noticed_by_the_fourth_observation() {
        for factor in [2.0, 0.5] {
            let mut drift = LatencyDrift::default();
            let noticed = (1..=20).find(|_| drift.observe(0.010, 0.010 * factor).unwrap());
            assert!(noticed.is_some_and(|count| count <= 4), "{noticed:?}");
            for _ in 0..30 {
                drift.observe(0.010, 0.010 * factor).unwrap();
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
            assert!(!drift.observe(0.010, 0.010 * noise).unwrap());
        }
        for outlier in [1e6, 1e-6] {
            assert!(
                !LatencyDrift::default()
                    .observe(0.010, 0.010 * outlier)
                    .unwrap()
            );
        }
    }

    #[test]
    fn a_factor_beyond_an_outlier_is_learnt_too() {
        let mut drift = LatencyDrift::default();
        for _ in 0..60 {
            drift.observe(0.001, 0.100).unwrap();
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
            assert!(drift.observe(0.1, time).is_err() && drift.observe(time, 0.1).is_err());
        }
        assert_eq!(drift, LatencyDrift::default());
    }
}
