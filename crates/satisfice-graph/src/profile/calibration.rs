//! From what a plan leaves stale to the share of answers that are right.

use satisfice_core::{Measure, Quality};
use serde::{Deserialize, Serialize};

/// One query answered by one plan in one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Observation {
    /// Edges to the query.
    pub in_degree: u32,
    /// Its stale share under the plan (`run::Forecast`).
    pub stale: f32,
    /// Whether the plan's answer is that of `exact`.
    pub agrees: bool,
    /// Whether the plan's answer is the label, where the query has one.
    pub right: Option<bool>,
}

/// Queries that are alike before they are answered, and how their answers turned out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    /// Least in-degree of the class.
    pub in_degree: u32,
    /// Least stale share of the class.
    pub stale: f32,
    /// Answers measured.
    pub answers: u32,
    /// Of them, those that are as the exact ones.
    pub agreeing: u32,
    /// Of them, those of queries with a label.
    pub labelled: u32,
    /// Of those, the right ones.
    pub right: u32,
}

/// What is seen of a batch's queries before they are answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Edges to each query.
    pub in_degrees: &'a [u32],
    /// Stale share of each query under the plan.
    pub stale: &'a [f32],
}

/// The classes of a plan: quantiles of the in-degree and, within each, of the stale share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Classes(Vec<Class>);

/// Quantiles of each kind.
const QUANTILES: usize = 6;

impl Classes {
    /// Sorts observations into classes of about equal size and counts outcomes.
    pub(crate) fn fit(mut observations: Vec<Observation>) -> Self {
        observations.sort_unstable_by_key(|o| o.in_degree);
        let mut classes = Vec::new();
        let by_degree = quantile_groups(&mut observations, |a, b| a.in_degree == b.in_degree);
        for (index, group) in by_degree.into_iter().enumerate() {
            group.sort_unstable_by(|a, b| a.stale.total_cmp(&b.stale));
            let in_degree = if index == 0 { 0 } else { group_least(group) };
            let by_stale = quantile_groups(group, |a, b| a.stale.to_bits() == b.stale.to_bits());
            for (index, class) in by_stale.into_iter().enumerate() {
                let stale = if index == 0 { 0.0 } else { class[0].stale };
                classes.push(Class::count(in_degree, stale, class));
            }
        }
        Self(classes)
    }

    /// Whether the classes are in order and the counts possible.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |class: &Class| {
            class.stale.is_finite()
                && class.answers > 0
                && class.agreeing <= class.answers
                && class.labelled <= class.answers
                && class.right <= class.labelled
        };
        let first = self
            .0
            .first()
            .is_some_and(|c| (c.in_degree, c.stale) == (0, 0.0));
        let ordered = |a: &Class, b: &Class| {
            a.in_degree < b.in_degree || (a.in_degree == b.in_degree && a.stale < b.stale)
        };
        let starts = |a: &Class, b: &Class| a.in_degree == b.in_degree || b.stale == 0.0;
        first
            && self.0.iter().all(sound)
            && self
                .0
                .windows(2)
                .all(|w| ordered(&w[0], &w[1]) && starts(&w[0], &w[1]))
    }

    /// What a batch may expect; nothing where none of the measured queries of a class had a label.
    pub(crate) fn quality(&self, measure: Measure, seen: Seen<'_>) -> Option<Quality> {
        let mut members = vec![0_u32; self.0.len()];
        for (&in_degree, &stale) in seen.in_degrees.iter().zip(seen.stale) {
            members[self.position(in_degree, stale)] += 1;
        }
        let mut failures = WeightedFailures::default();
        for (class, &members) in self.0.iter().zip(&members).filter(|(_, m)| **m > 0) {
            let (answers, good) = match measure {
                Measure::Accuracy => (class.labelled, class.right),
                Measure::Fidelity => (class.answers, class.agreeing),
            };
            if answers == 0 {
                return None;
            }
            let share = f64::from(members) / seen.in_degrees.len() as f64;
            failures.add(share / f64::from(answers), f64::from(answers - good));
        }
        let expected = 1.0 - failures.sum;
        Some(Quality {
            measure,
            expected,
            lower: (1.0 - failures.upper()).clamp(0.0, expected),
        })
    }

    /// The class of a query.
    fn position(&self, in_degree: u32, stale: f32) -> usize {
        let end = self
            .0
            .partition_point(|class| class.in_degree <= in_degree)
            .max(1);
        let least = self.0[end - 1].in_degree;
        let start = self.0.partition_point(|class| class.in_degree < least);
        start
            + self.0[start..end]
                .partition_point(|class| class.stale <= stale)
                .max(1)
            - 1
    }
}

fn group_least(group: &[Observation]) -> u32 {
    group.iter().map(|o| o.in_degree).min().unwrap_or(0)
}

impl Class {
    fn count(in_degree: u32, stale: f32, observations: &[Observation]) -> Self {
        let count = |is: &dyn Fn(&Observation) -> bool| {
            observations.iter().filter(|o| is(o)).count() as u32
        };
        Self {
            in_degree,
            stale,
            answers: observations.len() as u32,
            agreeing: count(&|o| o.agrees),
            labelled: count(&|o| o.right.is_some()),
            right: count(&|o| o.right == Some(true)),
        }
    }
}

/// Cuts a sorted slice into about [`QUANTILES`] parts; what is the same stays together.
fn quantile_groups<T>(sorted: &mut [T], same: impl Fn(&T, &T) -> bool) -> Vec<&mut [T]> {
    let target = sorted.len().div_ceil(QUANTILES).max(1);
    let mut groups = Vec::new();
    let mut rest = sorted;
    while !rest.is_empty() {
        let mut end = target.min(rest.len());
        while end < rest.len() && same(&rest[end - 1], &rest[end]) {
            end += 1;
        }
        if rest.len() - end < target / 2 {
            end = rest.len();
        }
        let (group, after) = rest.split_at_mut(end);
        groups.push(group);
        rest = after;
    }
    groups
}

/// A weighted sum of numbers of failures, with its upper bound.
///
/// Source: Fay and Feuer, "Confidence intervals for directly standardized rates: a method based on
/// the gamma distribution" (1997). The variance is doubled: the bound is one of what a second
/// measurement, of as many queries, finds, and so can be put to the test.
#[derive(Debug, Clone, Copy, Default)]
struct WeightedFailures {
    sum: f64,
    variance: f64,
    weight_max: f64,
}

/// The 97.5 % quantile of the standard normal distribution: the bound is an end of a two-sided interval of 95 %. The 95 %
/// quantile held in 93 to 100 % of the classes of a profile, by chance, since they rest on the same queries.
const NORMAL_97_5: f64 = 1.959_963_984_540_054;

impl WeightedFailures {
    fn add(&mut self, weight: f64, failures: f64) {
        self.sum += weight * failures;
        self.variance += weight * weight * failures;
        self.weight_max = self.weight_max.max(weight);
    }

    /// The 97.5 % quantile of the gamma distribution with the mean and variance of the sum and one
    /// more failure of the heaviest weight, by the approximation of Wilson and Hilferty (1931).
    fn upper(&self) -> f64 {
        let mean = self.sum + self.weight_max;
        let variance = 2.0 * (self.variance + self.weight_max * self.weight_max);
        if variance <= 0.0 {
            return 0.0;
        }
        // Chi-square with `degrees` of freedom, scaled.
        let degrees = 2.0 * mean * mean / variance;
        let spread = 2.0 / (9.0 * degrees);
        mean * (1.0 - spread + NORMAL_97_5 * spread.sqrt()).powi(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 in a fixed sequence (`SplitMix64`).
    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A query whose answers fail the more the more of it is stale.
    fn observe(state: &mut u64) -> Observation {
        let in_degree = (uniform(state) * 40.0) as u32;
        let stale = if in_degree == 0 {
            0.0
        } else {
            uniform(state).powi(3) as f32
        };
        let agrees = uniform(state) > 0.01 + 0.3 * f64::from(stale);
        let right = Some(agrees && uniform(state) < 0.8);
        Observation {
            in_degree,
            stale,
            agrees,
            right,
        }
    }

    fn seen(observations: &[Observation]) -> (Vec<u32>, Vec<f32>) {
        observations.iter().map(|o| (o.in_degree, o.stale)).unzip()
    }

    #[test]
    fn a_second_measurement_meets_the_bound_nineteen_times_in_twenty_and_more() {
        let mut state = 7;
        let (mut met, mut of) = (0, 0);
        for _ in 0..200 {
            let first: Vec<_> = (0..1_500).map(|_| observe(&mut state)).collect();
            let classes = Classes::fit(first);
            assert!(classes.is_sound());
            let second: Vec<_> = (0..1_500).map(|_| observe(&mut state)).collect();
            let (in_degrees, stale) = seen(&second);
            let seen = Seen {
                in_degrees: &in_degrees,
                stale: &stale,
            };
            for measure in [Measure::Fidelity, Measure::Accuracy] {
                let quality = classes.quality(measure, seen).unwrap();
                let good = second.iter().filter(|o| match measure {
                    Measure::Fidelity => o.agrees,
                    Measure::Accuracy => o.right == Some(true),
                });
                let share = good.count() as f64 / second.len() as f64;
                assert!(
                    (quality.expected - share).abs() < 0.06,
                    "{quality:?} {share}"
                );
                assert!(quality.lower < quality.expected && quality.lower > share - 0.1);
                met += usize::from(share >= quality.lower);
                of += 1;
            }
        }
        assert!(met * 100 >= of * 96, "{met} of {of}");
    }

    #[test]
    fn a_measurement_without_a_failure_promises_less_than_all() {
        let observation = Observation {
            in_degree: 1,
            stale: 0.0,
            agrees: true,
            right: None,
        };
        let classes = Classes::fit(vec![observation; 100]);
        let seen = Seen {
            in_degrees: &[1, 5],
            stale: &[0.0, 0.5],
        };
        let fidelity = classes.quality(Measure::Fidelity, seen).unwrap();
        assert!(fidelity.expected > 0.999_999);
        assert!((0.95..0.97).contains(&fidelity.lower), "{fidelity:?}");
        assert_eq!(
            classes.quality(Measure::Accuracy, seen),
            None,
            "there was no label"
        );
    }

    #[test]
    fn every_query_falls_into_the_class_that_it_was_counted_in() {
        let mut state = 3;
        let observations: Vec<_> = (0..2_000).map(|_| observe(&mut state)).collect();
        let classes = Classes::fit(observations.clone());
        assert!(classes.0.len() > 20, "{}", classes.0.len());
        let mut counted = vec![0; classes.0.len()];
        for o in &observations {
            counted[classes.position(o.in_degree, o.stale)] += 1;
        }
        let answers: Vec<u32> = classes.0.iter().map(|class| class.answers).collect();
        assert_eq!(counted, answers);
    }
}
