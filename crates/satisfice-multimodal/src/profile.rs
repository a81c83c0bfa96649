//! What was measured of a model: quality and time of every strategy.

mod answers;
mod build;
mod cascades;
mod latency;
mod report;

pub use answers::{Evaluation, evaluate};
pub use build::{ProfileOptions, profile};

use crate::{
    ModelConfig, ModelDir, MultimodalError, SlowVariant, layout::Choice, timing::interpolate,
    way::Cascade,
};
use satisfice_core::{Measure, Quality};
use satisfice_kernels::NewFile;
use serde::{Deserialize, Serialize};
use std::{fs, io};

const FORMAT: u32 = 1;

/// A model's profile, as `profile.json` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    format: u32,
    /// Hash of the model's files.
    fingerprint: String,
    /// What executed the networks.
    pub runtime: String,
    /// The machine, for people.
    pub machine: String,
    /// Calibration inputs.
    pub inputs: usize,
    /// Groups of calibration inputs that are independent of each other.
    pub groups: usize,
    /// Strategies that were considered; the bounds hold for all of them at once.
    pub candidates: usize,
    /// Probability with which all bounds of a measure hold.
    pub confidence: f64,
    /// Networks of other precisions that save nothing on the machine: no strategy runs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_offered: Vec<SlowVariant>,
    /// The strategies kept.
    pub strategies: Vec<ProfiledStrategy>,
}

/// One strategy's measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfiledStrategy {
    /// Its name, as the request parameter `plan`.
    pub name: String,
    /// How a cascade decides; nothing for a subset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade: Option<ProfiledCascade>,
    /// Share of right answers, where the calibration inputs have labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Share>,
    /// Share of answers that are those of all modalities.
    pub fidelity: Share,
    /// Times by batch size, ascending from 1.
    pub latency: Vec<Latency>,
}

/// How a cascade decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfiledCascade {
    /// Strategy of the first answer.
    pub first: String,
    /// Strategy of the inputs that are answered again.
    pub then: String,
    /// Confidence from which on the first answer stands.
    pub threshold: f32,
    /// What logits are divided by before they count as confidence.
    pub temperature: f32,
    /// Share of the calibration inputs that were answered again.
    pub escalated: f64,
}

/// A share of the calibration inputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The share itself.
    pub expected: f64,
    /// Lower bound, holding for all candidates at once.
    pub lower: f64,
    /// Lower bound for this strategy alone, had it been chosen beforehand.
    pub lower_alone: f64,
}

/// Time of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Inputs in the batch.
    pub batch: usize,
    /// Median, in seconds.
    pub p50_seconds: f64,
    /// 90th percentile, in seconds.
    pub p90_seconds: f64,
    /// What plans count with, in seconds: the median; for a cascade, whose work depends on its
    /// inputs, the mean over how many of them are answered again.
    pub planned_seconds: f64,
}

impl ProfiledStrategy {
    /// Seconds of a batch that plans count with, by measured batch size.
    pub fn planned(&self) -> impl Iterator<Item = (usize, f64)> {
        let latencies = self.latency.iter();
        latencies.map(|latency| (latency.batch, latency.planned_seconds))
    }

    /// What it promises, accuracy first.
    fn quality(&self) -> Vec<Quality> {
        let quality = |measure, share: Share| Quality {
            measure,
            expected: share.expected,
            lower: share.lower,
        };
        let accuracy = self.accuracy.map(|share| quality(Measure::Accuracy, share));
        let fidelity = quality(Measure::Fidelity, self.fidelity);
        accuracy.into_iter().chain([fidelity]).collect()
    }

    fn check(&self) -> Result<(), String> {
        let shares = self.accuracy.iter().chain([&self.fidelity]);
        for share in shares {
            let numbers = [share.lower, share.lower_alone, share.expected];
            if !numbers.iter().all(|n| (0.0..=1.0).contains(n)) || share.lower > share.expected {
                return Err("a share is not between 0 and 1".to_owned());
            }
        }
        if let Some(cascade) = &self.cascade
            && !(cascade.threshold.is_finite()
                && cascade.temperature.is_finite()
                && cascade.temperature > 0.0
                && (0.0..=1.0).contains(&cascade.escalated))
        {
            return Err("threshold, temperature or share is not one".to_owned());
        }
        let batches: Vec<usize> = self.latency.iter().map(|l| l.batch).collect();
        let times = self
            .latency
            .iter()
            .flat_map(|l| [l.p50_seconds, l.p90_seconds, l.planned_seconds]);
        if batches.first() != Some(&1)
            || !batches.is_sorted_by(|a, b| a < b)
            || !times.into_iter().all(|t| t.is_finite() && t > 0.0)
        {
            return Err("the latencies are not times of ascending batch sizes from 1".to_owned());
        }
        Ok(())
    }
}

impl Profile {
    /// The profile of a model, if it has one.
    ///
    /// # Errors
    /// [`MultimodalError::Profile`] when it is damaged or of other files than the model's.
    pub fn read(model_dir: &ModelDir) -> Result<Option<Self>, MultimodalError> {
        let path = model_dir.profile_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(MultimodalError::Io { path, source }),
        };
        let wrong = |message| MultimodalError::Profile {
            path: path.clone(),
            message,
        };
        let profile: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if profile.format != FORMAT {
            return Err(wrong(format!(
                "format {} is not one that this version reads ({FORMAT})",
                profile.format
            )));
        }
        if profile.fingerprint != model_dir.fingerprint()? {
            return Err(wrong("the model's files have changed since".to_owned()));
        }
        for strategy in &profile.strategies {
            let at = |message| wrong(format!("strategy `{}`: {message}", strategy.name));
            strategy.check().map_err(at)?;
        }
        Ok(Some(profile))
    }

    /// Replaces the profile in the model's directory as a whole.
    ///
    /// # Errors
    /// [`MultimodalError::Io`].
    pub fn write(&self, model_dir: &ModelDir) -> Result<(), MultimodalError> {
        let path = model_dir.profile_path();
        let written = serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|bytes| NewFile::write(&path, &bytes));
        written.map_err(|source| MultimodalError::Io { path, source })
    }

    pub(crate) fn cascade_names(&self) -> Vec<String> {
        let cascades = self.strategies.iter().filter(|s| s.cascade.is_some());
        cascades.map(|s| s.name.clone()).collect()
    }

    /// The cascades with their names, in the profile's order.
    pub(crate) fn cascades(
        &self,
        config: &ModelConfig,
        choices: &[Choice],
    ) -> Result<Vec<(String, Cascade)>, String> {
        let named = |name: &str| {
            let found = choices
                .iter()
                .find(|choice| config.choice_name(**choice) == name);
            found
                .copied()
                .ok_or_else(|| format!("no strategy `{name}`"))
        };
        let cascades = self.strategies.iter().filter_map(|strategy| {
            let cascade = strategy.cascade.as_ref()?;
            let made = || {
                Ok(Cascade {
                    first: named(&cascade.first)?,
                    then: named(&cascade.then)?,
                    threshold: cascade.threshold,
                    temperature: cascade.temperature,
                    escalated: cascade.escalated,
                })
            };
            Some(made().map(|made| (strategy.name.clone(), made)))
        });
        cascades.collect()
    }

    fn strategy(&self, name: &str) -> Option<&ProfiledStrategy> {
        self.strategies
            .iter()
            .find(|strategy| strategy.name == name)
    }

    pub(crate) fn quality(&self, name: &str) -> Vec<Quality> {
        self.strategy(name)
            .map(ProfiledStrategy::quality)
            .unwrap_or_default()
    }

    /// Seconds of a batch of `i + 1` inputs.
    pub(crate) fn seconds(&self, name: &str, batch_max: usize) -> Result<Vec<f64>, String> {
        let strategy = self.strategy(name);
        let strategy = strategy.ok_or_else(|| format!("no strategy `{name}`"))?;
        let points: Vec<(usize, f64)> = strategy.planned().collect();
        Ok(interpolate(&points, batch_max))
    }
}
