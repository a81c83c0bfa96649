use crate::{Error, error::checked};

/// By how much the accuracy of `inputs` inputs stays below its expectation at most, with probability
/// `confidence` (0 to 1), whatever its distribution: `sqrt(ln(1 / (1 - confidence)) / (2 inputs))`.
///
/// # Errors
/// Where `inputs` is 0, or `confidence` is not above 0 and below 1.
///
/// # Source
/// Hoeffding 1963.
///
/// ```
/// let shortfall = satisfice_planner::shortfall(200, 0.95)?;
/// assert!((shortfall - 0.087).abs() < 5e-4);
/// # Ok::<(), satisfice_planner::Error>(())
/// ```
pub fn shortfall(inputs: usize, confidence: f64) -> Result<f64, Error> {
    if inputs == 0 {
        return Err(Error::Nothing { what: "input" });
    }
    let confidence = checked(
        || "a confidence".to_owned(),
        confidence,
        "above 0 and below 1",
        |v| v > 0.0 && v < 1.0,
    )?;
    Ok((-(-confidence).ln_1p() / (2.0 * inputs as f64)).sqrt())
}

/// What a client or class was promised, and what it got in expectation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AccuracyBalance {
    inputs: u64,
    promised: f64,
    planned: f64,
}

impl AccuracyBalance {
    /// Adds an answered job: its inputs, the minimum that it asked for, and the mean accuracy of the
    /// plan that answered it.
    ///
    /// # Errors
    /// Where a mean is not 0 to 1; the job is then left out.
    pub fn add(&mut self, inputs: usize, promised: f64, planned: f64) -> Result<(), Error> {
        let mean = |what: &str, value| {
            checked(
                || what.to_owned(),
                value,
                "0 to 1",
                |v| (0.0..=1.0).contains(&v),
            )
        };
        let promised = mean("a promised accuracy", promised)?;
        let planned = mean("a planned accuracy", planned)?;
        self.inputs += inputs as u64;
        self.promised += promised * inputs as f64;
        self.planned += planned * inputs as f64;
        Ok(())
    }

    /// Inputs answered.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// By how many correct inputs the plans promise more than was asked for; negative is a debt.
    pub fn surplus(&self) -> f64 {
        self.planned - self.promised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortfalls_are_those_of_hoeffding() {
        for (inputs, expected) in [(10, 0.387), (50, 0.173), (200, 0.087), (1000, 0.039)] {
            assert!((shortfall(inputs, 0.95).unwrap() - expected).abs() < 5e-4);
        }
        for confidence in [f64::NAN, 0.0, 1.0, -1.0] {
            assert!(shortfall(10, confidence).is_err());
        }
        assert!(shortfall(0, 0.95).is_err());
    }

    #[test]
    fn a_balance_counts_inputs() {
        let mut balance = AccuracyBalance::default();
        balance.add(10, 0.8, 0.9).unwrap();
        balance.add(5, 0.9, 0.7).unwrap();
        assert!(balance.add(5, f64::NAN, 0.7).is_err() && balance.add(5, 0.9, 2.0).is_err());
        assert_eq!(balance.inputs(), 15);
        assert!(balance.surplus().abs() < 1e-12);
    }
}
