//! How sure a model is of an answer.

/// The largest probability of a row; logits are divided by `temperature` first. NaN where the row
/// has none.
pub(crate) fn confidence(row: &[f32], probabilities: bool, temperature: f32) -> f32 {
    let logit = |value: f32| match probabilities {
        true => value.max(f32::MIN_POSITIVE).ln() / temperature,
        false => value / temperature,
    };
    let largest = row
        .iter()
        .copied()
        .map(logit)
        .fold(f32::NEG_INFINITY, f32::max);
    1.0 / row.iter().map(|&v| (logit(v) - largest).exp()).sum::<f32>()
}

/// Position of the first of the largest values.
pub(crate) fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = i;
        }
    }
    best
}

/// Mean of minus the logarithm of the probability given to the labels.
fn surprise(rows: &[(&[f32], usize)], probabilities: bool, temperature: f32) -> f64 {
    let one = |&(row, label): &(&[f32], usize)| {
        let logit = |value: f32| match probabilities {
            true => f64::from(value.max(f32::MIN_POSITIVE)).ln(),
            false => f64::from(value),
        };
        let scaled: Vec<f64> = row
            .iter()
            .map(|&v| logit(v) / f64::from(temperature))
            .collect();
        let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scaled.iter().map(|v| (v - largest).exp()).sum();
        sum.ln() + largest - scaled[label]
    };
    rows.iter().map(one).sum::<f64>() / rows.len().max(1) as f64
}

/// The temperature under which confidence is closest to the share of right answers: the one of least
/// surprise (temperature scaling). 1 without rows.
///
/// # Source
/// Guo et al., On calibration of modern neural networks, 2017.
pub(crate) fn fit_temperature(rows: &[(&[f32], usize)], probabilities: bool) -> f32 {
    if rows.is_empty() {
        return 1.0;
    }
    // The surprise is convex in 1/T, so it has one minimum in ln T: golden-section search.
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let at = |x: f64| surprise(rows, probabilities, x.exp() as f32);
    let (mut low, mut high) = (-3.0, 3.0);
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_a, mut at_b) = (at(a), at(b));
    for _ in 0..30 {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - ratio * (high - low);
            at_a = at(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + ratio * (high - low);
            at_b = at(b);
        }
    }
    f64::midpoint(low, high).exp() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_the_largest_softmax() {
        let row = [1.0, 2.0, 0.5];
        let sum: f32 = row.iter().map(|v: &f32| v.exp()).sum();
        assert!((confidence(&row, false, 1.0) - 2.0_f32.exp() / sum).abs() < 1e-6);
        assert!((confidence(&[0.1, 0.7, 0.2], true, 1.0) - 0.7).abs() < 1e-6);
        assert!((confidence(&[1e30, -1e30], false, 1.0) - 1.0).abs() < 1e-6);
        assert!(confidence(&row, false, 10.0) < confidence(&row, false, 1.0));
    }

    #[test]
    fn temperature_makes_confidence_true() {
        // Logits of 4 against 0 are right 73 % of the time, as logits of 1 against 0 should be.
        let share = 1.0 / (1.0 + (-1.0_f64).exp());
        let rows: Vec<(&[f32], usize)> = (0..1000)
            .map(|i| (&[4.0_f32, 0.0][..], usize::from(i as f64 >= 1000.0 * share)))
            .collect();
        assert!((fit_temperature(&rows, false) - 4.0).abs() < 0.05);
    }
}
