//! Measuring a model.

use super::{
    FORMAT, Profile, ProfiledCascade, ProfiledStrategy, Share,
    answers::answers,
    cascades::{self, Candidate},
    latency,
};
use crate::{
    Dataset, ModelDir, MultimodalEngine, MultimodalError,
    bound::lower_bound,
    layout::Choice,
    way::{Cascade, Way},
};
use std::fs;

/// Probability with which all bounds of a measure hold at once.
const CONFIDENCE: f64 = 0.95;

/// How a model is measured.
pub struct ProfileOptions<'a> {
    /// Fewer repeats and smaller batches; quality is measured in full.
    pub quick: bool,
    /// Measure networks of other precisions also where they are not quicker than those they stand for.
    pub all_variants: bool,
    /// Called with what is being done, how much of it is done, and how much there is.
    pub progress: &'a dyn Fn(&str, usize, usize),
}

/// The answers of one way to every input: positions of classes; nothing where a network broke.
type Classes = Vec<Option<usize>>;

/// Measures every subset of a model and the cascades worth keeping, on calibration inputs and on
/// this machine. Networks of other precisions that save nothing for one input are left out of the engine
/// before anything else is measured.
///
/// Shares have exact (Clopper-Pearson) one-sided bounds that hold for all candidates at once
/// (Bonferroni), so that they also hold for whichever is chosen by them. Inputs of one group count
/// as one. Cascades are judged by cross-fitting: temperature and threshold come from other groups
/// than those they are judged on.
///
/// # Errors
/// [`MultimodalError`] when the model cannot be opened or fails on an input's tensors.
pub fn profile(
    model_dir: &ModelDir,
    engine: &mut MultimodalEngine,
    data: &Dataset,
    options: &ProfileOptions<'_>,
) -> Result<Profile, MultimodalError> {
    if engine.classes().is_empty() {
        return Err(MultimodalError::File {
            path: model_dir.version_path().join("../model.toml"),
            message: "a profile says how often the class is right, and this model names no classes"
                .to_owned(),
        });
    }
    let not_offered = match options.all_variants {
        true => Vec::new(),
        false => engine.leave_out_slow(model_dir)?,
    };
    let engine = &*engine;
    let choices = engine.networks().choices();
    let judged = answers(engine, data, options.progress)?;
    let reference = reference(choices);
    let agreed = judged[reference].classes.clone();
    let singles: Vec<Way> = choices.iter().copied().map(Way::Single).collect();
    let single_times = latency::measure(engine, data, &singles, options)?;
    let candidates = cascades::candidates(engine, data, &judged, &single_times);
    let total = choices.len() + candidates.len();
    let share = |classes: &Classes, truth: &dyn Fn(usize) -> Option<usize>| {
        let right = |&row: &usize| classes[row].is_some() && classes[row] == truth(row);
        share(data, (0..data.len()).filter(right).count(), total)
    };
    let strategy = |classes: &Classes| {
        let accuracy = data
            .labels()
            .map(|labels| share(classes, &|row| Some(labels[row])));
        (accuracy, share(classes, &|row| agreed[row]))
    };
    let kept = cascades::keep(data, &agreed, &judged, &single_times, candidates);
    let kept_ways: Vec<Way> = kept.iter().map(|kept| Way::Cascade(kept.cascade)).collect();
    // What cascades are planned with follows from the times of their steps: all that is compared is
    // timed together.
    let cascade_times = latency::measure(engine, data, &kept_ways, options)?;
    let mut times = single_times.into_iter().chain(cascade_times);
    let mut strategies: Vec<ProfiledStrategy> = Vec::new();
    for (i, judged) in judged.iter().enumerate() {
        let (accuracy, mut fidelity) = strategy(&judged.classes);
        if i == reference {
            // It agrees with itself by definition.
            fidelity.lower = fidelity.expected;
            fidelity.lower_alone = fidelity.expected;
        }
        strategies.push(ProfiledStrategy {
            name: engine.config().choice_name(judged.choice),
            cascade: None,
            accuracy,
            fidelity,
            latency: times.next().unwrap_or_default(),
        });
    }
    let keeps = engine.networks().keeps_embeddings();
    for candidate in &kept {
        let (accuracy, fidelity) = strategy(&candidate.classes);
        let (name, cascade) = describe(engine, candidate);
        let mut latency = times.next().unwrap_or_default();
        let of = |name: &str| strategies.iter().find(|s| s.name == name);
        if let (Some(first), Some(then)) = (of(&cascade.first), of(&cascade.then)) {
            let again = cascade.escalated;
            latency::plan_cascade(&mut latency, &first.latency, &then.latency, again, keeps);
        }
        strategies.push(ProfiledStrategy {
            name,
            cascade: Some(cascade),
            accuracy,
            fidelity,
            latency,
        });
    }
    Ok(Profile {
        format: FORMAT,
        fingerprint: model_dir.fingerprint()?,
        runtime: engine.runtime().to_owned(),
        machine: machine(),
        inputs: data.len(),
        groups: data.group_count(),
        candidates: total,
        confidence: CONFIDENCE,
        not_offered,
        strategies,
    })
}

/// The share of `right` inputs with its bounds among `candidates`.
fn share(data: &Dataset, right: usize, candidates: usize) -> Share {
    let expected = right as f64 / data.len() as f64;
    let trials = data.group_count() as u64;
    // Inputs of one group may be right or wrong together: as many trials as groups.
    let successes = (expected * trials as f64 + 1e-9).floor() as u64;
    let risk = 1.0 - CONFIDENCE;
    Share {
        expected,
        lower: lower_bound(successes, trials, risk / candidates as f64),
        lower_alone: lower_bound(successes, trials, risk),
    }
}

/// Name and description of a cascade.
fn describe(engine: &MultimodalEngine, candidate: &Candidate) -> (String, ProfiledCascade) {
    let Cascade {
        first,
        then,
        threshold,
        temperature,
        escalated,
    } = candidate.cascade;
    let (first, then) = (
        engine.config().choice_name(first),
        engine.config().choice_name(then),
    );
    let percent = (100.0 * candidate.share).round();
    let name = format!("{first}>{then}:{percent}%");
    let cascade = ProfiledCascade {
        first,
        then,
        threshold,
        temperature,
        escalated,
    };
    (name, cascade)
}

/// Position of the choice whose answers fidelity is agreement with: the most modalities, in the
/// base variant.
fn reference(choices: &[Choice]) -> usize {
    let base = (0..choices.len()).filter(|&i| choices[i].variant == 0);
    base.max_by_key(|&i| (choices[i].subset.len(), std::cmp::Reverse(i)))
        .unwrap_or(0)
}

/// The processor and its cores.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|rest| rest.split_once(':'));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    format!("{model}, {cores} cores")
}
