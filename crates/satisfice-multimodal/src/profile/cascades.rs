//! Which cascades are considered, how right they are, and which are kept.

use super::Latency;
use crate::{
    Dataset, MultimodalEngine,
    confidence::{confidence, fit_temperature},
    layout::Choice,
    way::Cascade,
};

/// Shares of the inputs that are answered again.
const SHARES: [f64; 3] = [0.1, 0.25, 0.5];
/// Parts of the calibration groups for cross-fitting.
const FOLDS: usize = 5;
/// Cascades that cost more than this share of answering everything by the larger choice are not
/// considered.
const WORTH_IT: f64 = 0.9;
/// Cascades that are kept.
const KEPT_MAX: usize = 8;
/// Batch size at which costs are compared.
const COMPARED_BATCH: usize = 8;

/// What one choice answered to the calibration inputs.
pub(super) struct Judged {
    pub(super) choice: Choice,
    /// `[inputs, classes]`.
    pub(super) values: Vec<f32>,
    pub(super) classes: Vec<Option<usize>>,
}

/// A cascade that is considered.
pub(super) struct Candidate {
    pub(super) cascade: Cascade,
    /// Share of inputs that were to be answered again.
    pub(super) share: f64,
    /// Its cross-fitted answers.
    pub(super) classes: Vec<Option<usize>>,
    /// Expected seconds of an input.
    cost: f64,
}

/// Confidence of every input under a temperature.
struct Confidences<'a> {
    judged: &'a Judged,
    probabilities: bool,
    classes: usize,
}

impl Confidences<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.judged.values[row * self.classes..(row + 1) * self.classes]
    }

    /// Temperature and threshold from some inputs: the threshold under which `share` of them are.
    fn fit(&self, data: &Dataset, rows: &[usize], share: f64) -> (f32, f32) {
        let sound = || {
            rows.iter()
                .copied()
                .filter(|&row| self.judged.classes[row].is_some())
        };
        let temperature = match data.labels() {
            Some(labels) => {
                let labelled: Vec<(&[f32], usize)> =
                    sound().map(|row| (self.row(row), labels[row])).collect();
                fit_temperature(&labelled, self.probabilities)
            }
            None => 1.0,
        };
        let mut sorted: Vec<f32> = sound().map(|row| self.at(row, temperature)).collect();
        sorted.sort_by(f32::total_cmp);
        let position = (share * sorted.len() as f64) as usize;
        let threshold = sorted.get(position).copied().unwrap_or(0.0);
        (temperature, threshold)
    }

    fn at(&self, row: usize, temperature: f32) -> f32 {
        confidence(self.row(row), self.probabilities, temperature)
    }

    fn unsure(&self, row: usize, (temperature, threshold): (f32, f32)) -> bool {
        self.judged.classes[row].is_some() && self.at(row, temperature) < threshold
    }
}

/// Every pair of a choice and a larger one that continues it, with each share, where that saves
/// time. What is considered depends on times alone, never on how right the answers are: the bounds
/// are for as many candidates as there are.
pub(super) fn candidates(
    engine: &MultimodalEngine,
    data: &Dataset,
    judged: &[Judged],
    latency: &[Vec<Latency>],
) -> Vec<Candidate> {
    let everyone: Vec<usize> = (0..data.len()).collect();
    let (within, outside): (Vec<_>, Vec<_>) = (0..FOLDS)
        .map(|fold| {
            everyone
                .iter()
                .partition::<Vec<usize>, _>(|&&row| data.groups()[row] % FOLDS == fold)
        })
        .unzip();
    let mut candidates = Vec::new();
    for (a, first) in judged.iter().enumerate() {
        let confidences = Confidences {
            judged: first,
            probabilities: engine.config().gives_probabilities(),
            classes: engine.classes().len(),
        };
        for share in SHARES {
            let fits: Vec<(f32, f32)> = outside
                .iter()
                .map(|rows| confidences.fit(data, rows, share))
                .collect();
            let mut unsure = vec![false; data.len()];
            for (rows, fit) in within.iter().zip(&fits) {
                rows.iter()
                    .for_each(|&row| unsure[row] = confidences.unsure(row, *fit));
            }
            let (temperature, threshold) = confidences.fit(data, &everyone, share);
            for (b, then) in judged.iter().enumerate() {
                if !engine.networks().continues(first.choice, then.choice) {
                    continue;
                }
                let (cost_a, cost_b) = (cost(&latency[a]), cost(&latency[b]));
                let again = match engine.networks().keeps_embeddings() {
                    true => (cost_b - cost_a).max(0.0),
                    false => cost_b,
                };
                if cost_a + share * again > WORTH_IT * cost_b {
                    continue;
                }
                let escalated = unsure.iter().filter(|&&u| u).count() as f64 / data.len() as f64;
                candidates.push(Candidate {
                    cascade: Cascade {
                        first: first.choice,
                        then: then.choice,
                        threshold,
                        temperature,
                        escalated,
                    },
                    share,
                    classes: (0..data.len())
                        .map(|row| {
                            if unsure[row] {
                                then.classes[row]
                            } else {
                                first.classes[row]
                            }
                        })
                        .collect(),
                    cost: cost_a + escalated * again,
                });
            }
        }
    }
    candidates
}

/// Seconds of an input in a batch of moderate size.
fn cost(latency: &[Latency]) -> f64 {
    let within = latency.iter().rev().find(|l| l.batch <= COMPARED_BATCH);
    within.map_or(0.0, |l| l.p50_seconds / l.batch as f64)
}

/// The candidates that nothing beats in both cost and quality; where there are too many, some that
/// are spread over the costs.
pub(super) fn keep(
    data: &Dataset,
    agreed: &[Option<usize>],
    judged: &[Judged],
    latency: &[Vec<Latency>],
    candidates: Vec<Candidate>,
) -> Vec<Candidate> {
    let right = |classes: &[Option<usize>]| {
        let is_right = |&row: &usize| match data.labels() {
            Some(labels) => classes[row] == Some(labels[row]),
            None => classes[row].is_some() && classes[row] == agreed[row],
        };
        (0..data.len()).filter(is_right).count()
    };
    let singles = judged.iter().zip(latency);
    let mut points: Vec<(f64, usize)> =
        singles.map(|(j, l)| (cost(l), right(&j.classes))).collect();
    points.extend(candidates.iter().map(|c| (c.cost, right(&c.classes))));
    let singles = judged.len();
    let beaten = |i: usize| {
        let (cost, quality) = points[i];
        points.iter().enumerate().any(|(j, &(other, better))| {
            let as_good = other <= cost && better >= quality;
            as_good && (other < cost || better > quality || j < i)
        })
    };
    let mut kept: Vec<Candidate> = candidates
        .into_iter()
        .enumerate()
        .filter(|(i, _)| !beaten(singles + i))
        .map(|(_, candidate)| candidate)
        .collect();
    kept.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    if kept.len() > KEPT_MAX {
        let last = kept.len() - 1;
        let wanted: Vec<usize> = (0..KEPT_MAX).map(|i| i * last / (KEPT_MAX - 1)).collect();
        let mut position = 0;
        kept.retain(|_| {
            position += 1;
            wanted.contains(&(position - 1))
        });
    }
    kept
}
