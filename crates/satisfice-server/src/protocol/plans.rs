//! What is said of the plans of a model.

use crate::service::PlanAudit;
use satisfice_core::Offer;
use serde::Serialize;
use std::collections::BTreeMap;

/// The plans of one version of a model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelPlans {
    pub model_name: String,
    pub model_version: String,
    /// What the predicted times are of.
    pub predicted_for: &'static str,
    /// Cheapest first.
    pub plans: Vec<PlanSummary>,
}

/// One plan as it is now known.
#[derive(Debug, Serialize)]
pub(crate) struct PlanSummary {
    pub plan: String,
    /// Predicted time alone on this machine.
    pub predicted_ms: f64,
    /// By measure.
    pub promises: BTreeMap<&'static str, Promise>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audited: Option<Audited>,
}

/// How good answers by a plan are.
#[derive(Debug, Serialize)]
pub(crate) struct Promise {
    pub expected: f64,
    pub lower_bound: f64,
}

/// What answers that were computed twice say.
#[derive(Debug, Serialize)]
pub(crate) struct Audited {
    pub promised_agreement: f64,
    pub observed_agreement: f64,
    pub inputs: u64,
    pub broken_promises: u64,
}

impl ModelPlans {
    /// Offers as plans, cheapest first, each with what audits say of it.
    pub(crate) fn summaries(mut offers: Vec<Offer>, audits: &[PlanAudit]) -> Vec<PlanSummary> {
        offers.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let summary = |offer: Offer| PlanSummary {
            audited: audits
                .iter()
                .find(|audit| audit.plan == offer.plan)
                .map(Audited::of),
            promises: promises(&offer),
            predicted_ms: offer.seconds * 1e3,
            plan: offer.plan,
        };
        offers.into_iter().map(summary).collect()
    }
}

impl Audited {
    fn of(audit: &PlanAudit) -> Self {
        Self {
            promised_agreement: audit.promised,
            observed_agreement: audit.observed,
            inputs: audit.inputs,
            broken_promises: audit.alarms,
        }
    }
}

/// What an offer promises, by measure.
pub(crate) fn promises(offer: &Offer) -> BTreeMap<&'static str, Promise> {
    let promise = offer.quality.iter().map(|quality| {
        let promise = Promise {
            expected: quality.expected,
            lower_bound: quality.lower,
        };
        (quality.measure.name(), promise)
    });
    promise.collect()
}
