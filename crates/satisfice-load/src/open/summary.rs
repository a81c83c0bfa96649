use crate::open::{Outcome, run::Unanswered};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// What became of all jobs of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Jobs sent.
    pub jobs: usize,
    /// Their inputs.
    pub inputs: usize,
    /// Jobs answered, in time or not.
    pub answered: usize,
    /// Share of all jobs that were answered by their deadline; a job without one is in time once it is
    /// answered.
    pub on_time: f64,
    /// Jobs answered after their deadline.
    pub late: usize,
    /// Jobs that the server refused, by its word for why.
    pub refused: BTreeMap<String, usize>,
    /// Jobs whose answer could not be had or read, by reason.
    pub failed: BTreeMap<String, usize>,
    /// Median time from arrival to answer, of the answered jobs.
    pub p50_ms: f64,
    /// As `p50_ms`: 99 % took no longer.
    pub p99_ms: f64,
    /// Share of the answered inputs whose class was right.
    pub accuracy: f64,
    /// Mean over the answered inputs of the accuracy that the server expected.
    pub expected: Option<f64>,
    /// Mean over the answered inputs of the lower bound that the server gave.
    pub lower: Option<f64>,
    /// Inputs that each strategy answered.
    pub strategies: BTreeMap<String, usize>,
    /// How right the answered jobs of each number of inputs were.
    pub by_size: BTreeMap<usize, Right>,
}

/// Answered inputs, and how many of them were right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Right {
    /// The inputs.
    pub inputs: usize,
    /// Those whose class was right.
    pub correct: usize,
}

impl Summary {
    /// Counts outcomes.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut summary = Self {
            jobs: outcomes.len(),
            inputs: outcomes.iter().map(|outcome| outcome.inputs).sum(),
            ..Self::default()
        };
        let mut times = Vec::new();
        let (mut answered_inputs, mut correct, mut on_time) = (0, 0, 0);
        let (mut expected, mut lower) = (Mean::default(), Mean::default());
        for outcome in outcomes {
            match &outcome.result {
                Ok(answer) => {
                    times.push(outcome.took);
                    answered_inputs += outcome.inputs;
                    correct += answer.correct;
                    let of_size = summary.by_size.entry(outcome.inputs).or_default();
                    of_size.inputs += outcome.inputs;
                    of_size.correct += answer.correct;
                    match outcome.is_in_time() {
                        true => on_time += 1,
                        false => summary.late += 1,
                    }
                    expected.add(answer.expected, outcome.inputs);
                    lower.add(answer.lower, outcome.inputs);
                    for (name, count) in &answer.strategies {
                        *summary.strategies.entry(name.clone()).or_default() += count;
                    }
                }
                Err(Unanswered::Refused(code)) => {
                    *summary.refused.entry(code.clone()).or_default() += 1;
                }
                Err(Unanswered::Failed(reason)) => {
                    *summary.failed.entry(reason.clone()).or_default() += 1;
                }
            }
        }
        times.sort_unstable();
        summary.answered = times.len();
        summary.on_time = f64::from(on_time) / outcomes.len().max(1) as f64;
        summary.p50_ms = percentile_ms(&times, 0.5);
        summary.p99_ms = percentile_ms(&times, 0.99);
        summary.accuracy = correct as f64 / answered_inputs.max(1) as f64;
        summary.expected = expected.value(answered_inputs);
        summary.lower = lower.value(answered_inputs);
        summary
    }

    /// Jobs that the server refused, for whatever reason.
    pub fn refusals(&self) -> usize {
        self.refused.values().sum()
    }
}

/// A mean weighted by inputs.
#[derive(Default)]
struct Mean {
    sum: f64,
    inputs: usize,
}

impl Mean {
    fn add(&mut self, value: Option<f64>, inputs: usize) {
        if let Some(value) = value {
            self.sum += value * inputs as f64;
            self.inputs += inputs;
        }
    }

    /// Nothing unless every one of `inputs` had a value.
    fn value(&self, inputs: usize) -> Option<f64> {
        (inputs > 0 && self.inputs == inputs).then(|| self.sum / inputs as f64)
    }
}

/// Of ascending times, the smallest that `share` of them do not exceed.
fn percentile_ms(times: &[Duration], share: f64) -> f64 {
    let rank = (share * times.len() as f64).ceil() as usize;
    let time = times.get(rank.max(1) - 1);
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::run::Answered;

    fn answered(inputs: usize, correct: usize, took_ms: u64) -> Outcome {
        Outcome {
            inputs,
            took: Duration::from_millis(took_ms),
            deadline: Some(Duration::from_millis(50)),
            result: Ok(Answered {
                correct,
                expected: Some(0.5),
                lower: None,
                strategies: BTreeMap::from([("image".to_owned(), inputs)]),
            }),
        }
    }

    #[test]
    fn every_job_counts() {
        let refused = Outcome {
            result: Err(Unanswered::Refused("queue_full".to_owned())),
            ..answered(3, 0, 1)
        };
        let failed = Outcome {
            result: Err(Unanswered::Failed("reset".to_owned())),
            ..answered(2, 0, 90)
        };
        let outcomes = [answered(1, 1, 10), answered(3, 2, 60), refused, failed];
        let summary = Summary::of(&outcomes);
        assert_eq!((summary.jobs, summary.inputs, summary.answered), (4, 9, 2));
        assert!((summary.on_time - 0.25).abs() < 1e-9);
        assert_eq!((summary.late, summary.refusals()), (1, 1));
        assert_eq!(summary.failed["reset"], 1);
        assert!((summary.accuracy - 0.75).abs() < 1e-9);
        assert_eq!(summary.expected, Some(0.5));
        assert_eq!(summary.lower, None);
        assert_eq!(summary.strategies["image"], 4);
        let (inputs, correct) = (3, 2);
        assert_eq!(summary.by_size[&3], Right { inputs, correct });
        assert!((summary.p50_ms - 10.0).abs() < 1e-9);
        assert!((summary.p99_ms - 60.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_sent_is_nothing_in_time() {
        let summary = Summary::of(&[]);
        assert!(summary.on_time == 0.0 && summary.p50_ms.is_nan());
    }
}
