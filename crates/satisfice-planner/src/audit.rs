use crate::{Error, error::checked};

/// Tests request by request whether a promised accuracy is kept.
///
/// Page's cumulative sum over audited inputs: the log-likelihood ratio of an accuracy that is lower by
/// `shortfall` against the promised one, reset to 0 when it falls below. It notices a profile that
/// was wrong from the start as fast as one that has become wrong.
///
/// False alarms: while the true accuracy is the promised one or higher, the mean number of audited
/// inputs until an alarm is at least `inputs_between_false_alarms`. Delay: about
/// [`inputs_until_noticed`](Self::inputs_until_noticed).
///
/// Source: Page 1954; the bound is Lorden's (1971).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccuracyAudit {
    promised: f64,
    shortfall: f64,
    threshold: f64,
    sum: f64,
    inputs: u64,
    correct: u64,
}

impl AccuracyAudit {
    /// An audit of the promise that a share `promised` of inputs is correct, tuned to notice when
    /// it is lower by `shortfall`.
    ///
    /// # Errors
    /// Where `promised` is not above 0 and below 1, `shortfall` is not above 0 and below `promised`,
    /// or `inputs_between_false_alarms` is not above 1.
    pub fn new(
        promised: f64,
        shortfall: f64,
        inputs_between_false_alarms: f64,
    ) -> Result<Self, Error> {
        let promised = checked(
            || "a promised accuracy".to_owned(),
            promised,
            "above 0 and below 1",
            |v| v > 0.0 && v < 1.0,
        )?;
        let shortfall = checked(
            || "a shortfall".to_owned(),
            shortfall,
            "above 0 and below the promised accuracy",
            |v| v > 0.0 && v < promised,
        )?;
        let between = checked(
            || "the number of inputs between false alarms".to_owned(),
            inputs_between_false_alarms,
            "above 1",
            |v| v > 1.0,
        )?;
        Ok(Self {
            promised,
            shortfall,
            threshold: between.ln(),
            sum: 0.0,
            inputs: 0,
            correct: 0,
        })
    }

    /// Takes in one audited input. Returns whether the promise is broken; the audit then starts
    /// anew, for the promise that is made in its place.
    pub fn observe(&mut self, correct: bool) -> bool {
        self.inputs += 1;
        self.correct += u64::from(correct);
        self.sum = (self.sum + self.evidence(correct)).max(0.0);
        let broken = self.sum >= self.threshold;
        if broken {
            self.sum = 0.0;
        }
        broken
    }

    /// About how many inputs it takes to notice that the true accuracy is `accuracy`; infinite where
    /// that is too close to the promise to be noticed other than by chance.
    pub fn inputs_until_noticed(&self, accuracy: f64) -> f64 {
        let drift = accuracy * self.evidence(true) + (1.0 - accuracy) * self.evidence(false);
        if drift > 0.0 {
            // One input may carry the sum beyond the threshold.
            (self.threshold + self.evidence(false)) / drift
        } else {
            f64::INFINITY
        }
    }

    /// Share of correct inputs among those audited so far; none before the first.
    pub fn observed(&self) -> Option<f64> {
        (self.inputs > 0).then(|| self.correct as f64 / self.inputs as f64)
    }

    /// Inputs audited so far.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// What one input says for the lower accuracy.
    fn evidence(&self, correct: bool) -> f64 {
        let lower = self.promised - self.shortfall;
        match correct {
            true => (lower / self.promised).ln(),
            false => ((1.0 - lower) / (1.0 - self.promised)).ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Random;

    fn audit() -> AccuracyAudit {
        AccuracyAudit::new(0.9, 0.05, 20_000.0).unwrap()
    }

    fn inputs_until_alarm(accuracy: f64, random: &mut Random) -> u64 {
        let mut audit = audit();
        while !audit.observe(random.unit() < accuracy) {}
        audit.inputs()
    }

    #[test]
    fn false_alarms_are_as_rare_as_said() {
        let mut random = Random::new(21);
        let runs = 100;
        let total: u64 = (0..runs)
            .map(|_| inputs_until_alarm(0.9, &mut random))
            .sum();
        let mean = total as f64 / f64::from(runs);
        println!("kept promise: {mean:.0} inputs between alarms on average");
        assert!(mean > 20_000.0, "{mean}");
    }

    #[test]
    fn broken_promises_are_noticed_as_fast_as_said() {
        let mut random = Random::new(22);
        for accuracy in [0.85, 0.8, 0.7] {
            let said = audit().inputs_until_noticed(accuracy);
            let runs = 400;
            let total: u64 = (0..runs)
                .map(|_| inputs_until_alarm(accuracy, &mut random))
                .sum();
            let mean = total as f64 / f64::from(runs);
            println!("promised 0.9, true {accuracy}: {mean:.0} inputs, said {said:.0}");
            assert!(mean < said && mean > 0.6 * said, "{mean} {said}");
        }
        assert!(audit().inputs_until_noticed(0.9).is_infinite());
    }

    #[test]
    fn a_promise_that_breaks_later_is_noticed_as_fast() {
        let mut random = Random::new(23);
        let mut audit = audit();
        for _ in 0..1_000 {
            audit.observe(random.unit() < 0.95);
        }
        let said = audit.inputs_until_noticed(0.8);
        let from = audit.inputs();
        while !audit.observe(random.unit() < 0.8) {}
        assert!(((audit.inputs() - from) as f64) < 2.0 * said);
    }

    #[test]
    fn wrong_numbers_are_refused() {
        for (promised, shortfall, between) in [
            (f64::NAN, 0.1, 100.0),
            (1.0, 0.1, 100.0),
            (0.0, 0.1, 100.0),
            (0.9, 0.9, 100.0),
            (0.9, f64::NAN, 100.0),
            (0.9, 0.1, 1.0),
            (0.9, 0.1, f64::INFINITY),
        ] {
            assert!(AccuracyAudit::new(promised, shortfall, between).is_err());
        }
    }
}
