use crate::{LoadError, open::Summary};

/// How to look for the highest rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// Where to begin, in jobs a second.
    pub start: f64,
    /// Factor from one rate to the next while the limit is not known from both sides, above 1. Downwards it
    /// grows: the start may be far off.
    pub step: f64,
    /// Halvings of a gap of one step: what is left of the gap in the end.
    pub halvings: u32,
    /// Rates tried in the first part, at most.
    pub steps_max: u32,
    /// Share of jobs that must be in time.
    pub on_time: f64,
    /// Share of the answered inputs that must be right.
    pub accuracy: f64,
}

impl Search {
    fn holds(&self, summary: &Summary) -> bool {
        summary.on_time >= self.on_time && summary.accuracy >= self.accuracy
    }
}

impl Default for Search {
    fn default() -> Self {
        Self {
            start: 10.0,
            step: 2.0,
            halvings: 3,
            steps_max: 10,
            on_time: 0.99,
            accuracy: 0.0,
        }
    }
}

/// The highest rate found at which enough jobs are in time and enough inputs right, with what happened
/// there; `None` when no rate that was tried is low enough.
///
/// `try_rate` makes one run at a rate. That a higher rate is harder is assumed, not checked.
///
/// # Errors
/// Those of `try_rate`.
pub async fn highest_rate<E: From<LoadError>>(
    search: Search,
    mut try_rate: impl AsyncFnMut(f64) -> Result<Summary, E>,
) -> Result<Option<(f64, Summary)>, E> {
    let mut best: Option<(f64, Summary)> = None;
    let mut too_high = None;
    let (mut rate, mut down) = (search.start, search.step);
    for _ in 0..search.steps_max {
        let summary = try_rate(rate).await?;
        if search.holds(&summary) {
            best = Some((rate, summary));
            if too_high.is_some() {
                break;
            }
            rate *= search.step;
        } else {
            too_high = Some(rate);
            if best.is_some() {
                break;
            }
            rate /= down;
            down *= search.step;
        }
    }
    let Some((mut low, mut high)) = best.as_ref().map(|(rate, _)| *rate).zip(too_high) else {
        return Ok(best);
    };
    // The geometric mean halves: what counts is the ratio of rates.
    let known = search.step.powf(0.5_f64.powf(search.halvings.into())) * (1.0 + 1e-9);
    while high / low > known {
        let middle = (low * high).sqrt();
        let summary = try_rate(middle).await?;
        if search.holds(&summary) {
            low = middle;
            best = Some((middle, summary));
        } else {
            high = middle;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    async fn search(limit: f64) -> Option<f64> {
        let found = highest_rate(Search::default(), async |rate| {
            Ok::<_, LoadError>(Summary {
                on_time: if rate <= limit { 1.0 } else { 0.5 },
                ..Summary::default()
            })
        });
        found.await.unwrap().map(|(rate, _)| rate)
    }

    #[tokio::test]
    async fn finds_the_limit_from_either_side() {
        for limit in [1e-4, 0.3, 7.0, 10.0, 400.0] {
            let found = search(limit).await.unwrap();
            // Three halvings of a factor of 2 leave a ratio of 2^(1/8).
            assert!(
                found <= limit && limit <= found * 1.1,
                "{found} for {limit}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_in_time_must_be_right_too() {
        let search = Search {
            accuracy: 0.8,
            ..Search::default()
        };
        let found = highest_rate(search, async |rate| {
            Ok::<_, LoadError>(Summary {
                on_time: 1.0,
                accuracy: if rate <= 15.0 { 0.81 } else { 0.79 },
                ..Summary::default()
            })
        });
        let (rate, _) = found.await.unwrap().unwrap();
        assert!((13.0..=15.0).contains(&rate), "{rate}");
    }

    #[tokio::test]
    async fn gives_up_where_nothing_is_low_enough() {
        assert_eq!(search(0.0).await, None);
    }
}
