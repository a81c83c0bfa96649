//! `profile.json` of a model version.

use super::{
    calibration::{Classes, Seen},
    cost::CostModel,
    fitted::Coverage,
};
use crate::{
    GraphError, ModelDir, Plan,
    run::{Forecast, Work},
};
use satisfice_core::{Measure, Offer, Quality};
use satisfice_kernels::NewFile;
use satisfice_store::GraphStore;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path};
use xxhash_rust::xxh3::xxh3_64;

/// Version of the file that this version writes and reads.
pub(super) const FORMAT: u32 = 2;

/// Bytes of the largest profile that is read.
const BYTES_MAX: u64 = 16 << 20;

/// What the plans of a model promise and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub(super) format: u32,
    /// What it was measured with.
    pub(super) belongs_to: Origin,
    /// Held-out queries measured.
    pub queries: usize,
    /// Of them, those with a label.
    pub labelled: usize,
    /// Queries in a batch; every query was measured once at each size.
    pub batches: Vec<usize>,
    /// How the promises held on queries that their calibration had not seen.
    pub coverage: Vec<Coverage>,
    pub(crate) cost: CostModel,
    /// The plans, cheapest first.
    pub plans: Vec<PlanProfile>,
}

/// One plan of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanProfile {
    /// The plan's name.
    #[serde(with = "plan_name")]
    pub plan: Plan,
    /// For each batch size that was measured, ascending.
    pub(crate) sizes: Vec<SizeProfile>,
}

/// A plan in batches of one size. A query of a large batch has as little stale as another kind of query in a
/// small one, and a small batch is not shared between cores as a large one is: sizes are kept apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SizeProfile {
    /// Queries in a batch.
    pub batch: usize,
    /// How many times what the cost model says the batches took, by geometric mean; 1 where none was timed.
    pub time_ratio: f64,
    pub classes: Classes,
}

/// Fingerprints of everything that answers follow from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// Of the graph store.
    pub store: String,
    /// Of the weights and layers.
    pub model: String,
    /// Of the embeddings.
    pub embeddings: String,
}

impl Origin {
    /// Of a model as it is now.
    pub(crate) fn of(model_dir: &ModelDir, store: &GraphStore) -> Result<Self, GraphError> {
        Ok(Self {
            store: store.fingerprint(),
            model: model_dir.fingerprint()?,
            embeddings: model_dir.embeddings_fingerprint()?,
        })
    }
}

mod plan_name {
    use crate::Plan;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(plan: &Plan, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(plan)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Plan, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Profile {
    /// The profile of a model version, or nothing where there is none.
    ///
    /// # Errors
    /// [`GraphError::Profile`] where it is damaged, or was measured with another graph, weights or
    /// embeddings; [`GraphError::Io`] where it cannot be read.
    pub fn read(model_dir: &ModelDir, store: &GraphStore) -> Result<Option<Self>, GraphError> {
        Self::read_of(model_dir, || Origin::of(model_dir, store))
    }

    /// As [`Profile::read`], for a graph and embeddings of which only the fingerprints are at hand.
    ///
    /// # Errors
    /// As [`Profile::read`].
    pub fn read_elsewhere(
        model_dir: &ModelDir,
        store: &str,
        embeddings: &str,
    ) -> Result<Option<Self>, GraphError> {
        Self::read_of(model_dir, || {
            Ok(Origin {
                store: store.to_owned(),
                model: model_dir.fingerprint()?,
                embeddings: embeddings.to_owned(),
            })
        })
    }

    fn read_of(
        model_dir: &ModelDir,
        origin: impl FnOnce() -> Result<Origin, GraphError>,
    ) -> Result<Option<Self>, GraphError> {
        let path = model_dir.profile_path();
        let io = |source| GraphError::Io {
            path: path.clone(),
            source,
        };
        let wrong = |message: String| GraphError::Profile {
            path: path.clone(),
            message,
        };
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => {
                if found.map_err(io)?.len() > BYTES_MAX {
                    return Err(wrong(format!("longer than {BYTES_MAX} bytes")));
                }
            }
        }
        let text = fs::read_to_string(&path).map_err(io)?;
        let profile = Self::parse(&text).map_err(wrong)?;
        if profile.belongs_to != origin()? {
            return Err(wrong(
                "it was measured with another graph, weights or embeddings".to_owned(),
            ));
        }
        Ok(Some(profile))
    }

    fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let (first, rest) = text.split_once('\n').ok_or("it is no profile")?;
        if first != checksum_line(rest) {
            return Err("its checksum differs: it is damaged".to_owned());
        }
        let json = format!("{{{rest}");
        let FormatOnly { format } = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!("format {format} is not known"));
        }
        let profile: Self = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        let cost = [profile.cost.selective, profile.cost.exact];
        let sound = cost.iter().all(super::cost::Coefficients::is_sound)
            && !profile.batches.is_empty()
            && profile.plans.iter().all(PlanProfile::is_sound);
        match sound {
            true => Ok(profile),
            false => Err("it contradicts itself".to_owned()),
        }
    }

    /// Replaces the file as a whole: a kill leaves the old one or the new one.
    ///
    /// # Errors
    /// [`GraphError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), GraphError> {
        NewFile::write(path, self.text().as_bytes()).map_err(|source| GraphError::Io {
            path: path.to_owned(),
            source,
        })
    }

    fn text(&self) -> String {
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        let rest = format!(
            "{}\n",
            json.trim_start_matches('{').trim_start_matches('\n')
        );
        format!("{}\n{rest}", checksum_line(&rest))
    }

    /// The plans, in the order of the profile.
    pub(crate) fn plan_list(&self) -> Vec<Plan> {
        self.plans.iter().map(|plan| plan.plan).collect()
    }

    /// What each plan promises and costs for a batch; `forecasts` are in the order of
    /// [`Profile::plan_list`].
    pub(crate) fn offers(&self, in_degrees: &[u32], forecasts: &[Forecast]) -> Vec<Offer> {
        let offer = |(plan, forecast): (&PlanProfile, &Forecast)| Offer {
            plan: plan.plan.to_string(),
            seconds: plan.seconds(&self.cost, &forecast.work, in_degrees.len()),
            quality: [Measure::Accuracy, Measure::Fidelity]
                .into_iter()
                .filter_map(|measure| {
                    let seen = Seen {
                        in_degrees,
                        stale: &forecast.stale,
                    };
                    plan.quality(measure, seen)
                })
                .collect(),
        };
        self.plans.iter().zip(forecasts).map(offer).collect()
    }
}

impl PlanProfile {
    /// What the plan promises for a batch; `exact` agrees with itself.
    pub(crate) fn quality(&self, measure: Measure, seen: Seen<'_>) -> Option<Quality> {
        match (self.plan, measure) {
            (Plan::Exact, Measure::Fidelity) => Some(Quality {
                measure,
                expected: 1.0,
                lower: 1.0,
            }),
            _ => self
                .nearest(seen.in_degrees.len())?
                .classes
                .quality(measure, seen),
        }
    }

    /// The measured size that is nearest to `queries`, by ratio.
    fn nearest(&self, queries: usize) -> Option<&SizeProfile> {
        let distance = |of: &SizeProfile| (of.batch as f64 / queries.max(1) as f64).ln().abs();
        self.sizes
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// Predicted seconds for a batch of `queries` that is `work`.
    pub(crate) fn seconds(&self, cost: &CostModel, work: &Work, queries: usize) -> f64 {
        cost.seconds(self.plan, work) * self.time_ratio(queries)
    }

    /// The ratio of the measured sizes; between two of them, by the logarithms of both.
    fn time_ratio(&self, queries: usize) -> f64 {
        let next = self.sizes.partition_point(|size| size.batch < queries);
        match (next.checked_sub(1), self.sizes.get(next)) {
            (Some(last), Some(next)) => {
                let last = &self.sizes[last];
                let way = |to: usize| (to as f64 / last.batch as f64).ln();
                let at = way(queries) / way(next.batch);
                last.time_ratio.powf(1.0 - at) * next.time_ratio.powf(at)
            }
            (None, Some(only)) => only.time_ratio,
            (last, None) => last.map_or(1.0, |last| self.sizes[last].time_ratio),
        }
    }

    fn is_sound(&self) -> bool {
        let sound = |size: &SizeProfile| {
            size.batch > 0
                && size.time_ratio.is_finite()
                && size.time_ratio > 0.0
                && size.classes.is_sound()
        };
        !self.sizes.is_empty()
            && self.sizes.iter().all(sound)
            && self.sizes.windows(2).all(|w| w[0].batch < w[1].batch)
    }
}

fn checksum_line(rest: &str) -> String {
    format!("{{\"checksum\": \"{:016x}\",", xxh3_64(rest.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::calibration::Observation;

    fn plan(ratios: &[(usize, f64)]) -> PlanProfile {
        let observation = Observation {
            in_degree: 1,
            stale: 0.0,
            agrees: true,
            right: None,
        };
        let size = |&(batch, time_ratio): &(usize, f64)| SizeProfile {
            batch,
            time_ratio,
            classes: Classes::fit(vec![observation]),
        };
        PlanProfile {
            plan: Plan::Refresh,
            sizes: ratios.iter().map(size).collect(),
        }
    }

    #[test]
    fn a_ratio_is_that_of_a_measured_size_and_between_two_of_them_between_theirs() {
        let plan = plan(&[(16, 0.5), (64, 2.0), (1024, 1.0)]);
        assert!(plan.is_sound());
        let wanted = [
            (1, 0.5),
            (16, 0.5),
            (32, 1.0),
            (64, 2.0),
            (256, 2.0_f64.sqrt()),
            (1024, 1.0),
            (9999, 1.0),
        ];
        for (queries, ratio) in wanted {
            assert!(
                (plan.time_ratio(queries) - ratio).abs() < 1e-12,
                "{queries}"
            );
        }
    }

    #[test]
    fn sizes_out_of_order_and_ratios_that_are_none_are_not_sound() {
        for ratios in [
            &[][..],
            &[(0, 1.0)],
            &[(64, 1.0), (16, 1.0)],
            &[(16, 0.0)],
            &[(16, -1.0)],
            &[(16, f64::NAN)],
            &[(16, f64::INFINITY)],
        ] {
            assert!(!plan(ratios).is_sound(), "{ratios:?}");
        }
    }
}
