//! `profile.json` of a model version.

use super::{
    calibration::{Seen, SizeClasses},
    cost::CostModel,
    fitted::Coverage,
};
use crate::{GraphError, ModelDir, Plan, run::Forecast};
use satisfice_core::{Measure, Offer, Quality};
use satisfice_store::GraphStore;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path};
use xxhash_rust::xxh3::xxh3_64;

/// Version of the file that this version writes and reads.
pub(super) const FORMAT: u32 = 1;

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
    /// For each batch size that was measured.
    pub(crate) sizes: Vec<SizeClasses>,
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
        let sizes = || profile.plans.iter().flat_map(|plan| &plan.sizes);
        let sound = cost.iter().all(super::cost::Coefficients::is_sound)
            && !profile.batches.is_empty()
            && profile.plans.iter().all(|plan| !plan.sizes.is_empty())
            && sizes().all(|size| size.batch > 0 && size.classes.is_sound());
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
        let partial = path.with_extension("partial");
        fs::write(&partial, self.text())
            .and_then(|()| fs::File::open(&partial)?.sync_all())
            .and_then(|()| fs::rename(&partial, path))
            .map_err(|source| GraphError::Io {
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
            seconds: self.cost.seconds(plan.plan, &forecast.work),
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
            _ => SizeClasses::nearest(&self.sizes, seen.in_degrees.len())?
                .classes
                .quality(measure, seen),
        }
    }
}

fn checksum_line(rest: &str) -> String {
    format!("{{\"checksum\": \"{:016x}\",", xxh3_64(rest.as_bytes()))
}
