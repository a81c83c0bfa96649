//! Confidence bounds of shares.

/// Lower bound of a probability of which `successes` in `trials` independent trials were seen: exact
/// (Clopper-Pearson), one-sided, wrong with probability `risk` at most.
///
/// # Source
/// Clopper and Pearson, The use of confidence or fiducial limits, 1934.
pub(crate) fn lower_bound(successes: u64, trials: u64, risk: f64) -> f64 {
    if successes == 0 {
        return 0.0;
    }
    // The largest p under which as many successes or more have probability `risk`: the tail grows
    // with p.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        match upper_tail(successes, trials, middle) < risk {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

/// Probability of `successes` or more in `trials`, each with probability `p` in (0, 1).
fn upper_tail(successes: u64, trials: u64, p: f64) -> f64 {
    let gamma = |n: u64| libm::lgamma(n as f64 + 1.0);
    let log_ratio = p.ln() - (-p).ln_1p();
    let mut log = gamma(trials) - gamma(successes) - gamma(trials - successes)
        + successes as f64 * p.ln()
        + (trials - successes) as f64 * (-p).ln_1p();
    let mut sum = 0.0;
    for k in successes..=trials {
        sum += log.exp();
        log += ((trials - k) as f64 / (k + 1) as f64).ln() + log_ratio;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_tables() {
        // All of n: risk^(1/n).
        assert!((lower_bound(10, 10, 0.05) - 0.05_f64.powf(0.1)).abs() < 1e-9);
        assert!(lower_bound(0, 10, 0.05).abs() < 1e-12);
        // By summing the binomial distribution in exact arithmetic.
        assert!((lower_bound(80, 100, 0.05) - 0.722_799_75).abs() < 1e-6);
        assert!((lower_bound(300, 340, 0.05) - 0.849_619_59).abs() < 1e-6);
    }

    #[test]
    fn bounds_hold_for_large_counts_and_small_risks() {
        let bound = lower_bound(90_000, 100_000, 0.05);
        assert!((0.898..0.9).contains(&bound));
        assert!(lower_bound(300, 340, 0.001) < lower_bound(300, 340, 0.05));
    }
}
