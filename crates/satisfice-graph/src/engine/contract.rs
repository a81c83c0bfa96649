//! Requests that name a minimum instead of a plan.

use super::{GraphEngine, view::View};
use crate::{GraphError, Plan, PlanProfile, Profile, QueryBatch, profile::Seen, run::Forecast};
use satisfice_core::{
    Cores, InferRequest, Measure, Offer, Parameters, Quality,
    parameters::{MIN_ACCURACY, MIN_FIDELITY, ParameterSpec},
};
use satisfice_store::live::Snapshot;

/// The least share of good answers that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Minimum {
    measure: Measure,
    share: f64,
}

impl Minimum {
    /// `min_accuracy` or `min_fidelity` of a request.
    pub(crate) fn of(request: &InferRequest) -> Result<Option<Self>, GraphError> {
        let read = |spec: ParameterSpec, measure| {
            let share = spec.number(&request.parameters)?;
            Ok::<_, GraphError>(share.map(|share| Self { measure, share }))
        };
        let accuracy = read(MIN_ACCURACY, Measure::Accuracy)?;
        let fidelity = read(MIN_FIDELITY, Measure::Fidelity)?;
        match (accuracy, fidelity) {
            (Some(_), Some(_)) => Err(GraphError::request_hint(
                "two_minimums",
                "`min_accuracy` and `min_fidelity` are both there",
                "a request asks for one of them",
            )),
            (accuracy, fidelity) => Ok(accuracy.or(fidelity)),
        }
    }
}

/// A plan with what it promises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Promise {
    pub plan: Plan,
    quality: Quality,
    seconds: f64,
}

impl Promise {
    /// What an answer says of it.
    pub(crate) fn describe(&self, parameters: &mut Parameters) {
        let measure = self.quality.measure.name();
        let predicted_us = (self.seconds * 1e6).round() as i64;
        parameters.extend([
            (format!("expected_{measure}"), self.quality.expected.into()),
            (format!("{measure}_lower_bound"), self.quality.lower.into()),
            ("predicted_us".to_owned(), predicted_us.into()),
        ]);
    }
}

impl GraphEngine {
    /// What each plan of the profile promises and costs for a batch; empty without a profile.
    pub(super) fn offers_of(
        &self,
        view: &View,
        batch: &QueryBatch,
        cores: &Cores,
    ) -> Result<Vec<Offer>, GraphError> {
        let Some(profile) = self.profile() else {
            return Ok(Vec::new());
        };
        let forecasts = self.forecast(view, batch, &profile.plan_list(), cores)?;
        let mut offers = profile.offers(&batch.in_degrees(), &forecasts);
        if view.changed().is_some() {
            // What the others promise was measured on another graph.
            let exact = Plan::Exact.to_string();
            for offer in &mut offers {
                let keeps =
                    |quality: &Quality| offer.plan == exact && quality.measure == Measure::Fidelity;
                offer.quality.retain(keeps);
            }
        }
        Ok(offers)
    }

    /// The plan of the profile that is predicted to be the quickest of those that promise a minimum;
    /// or `wanted`, if it does.
    pub(super) fn promise(
        &self,
        view: &View,
        (batch, minimum, wanted): (&QueryBatch, Minimum, Option<Plan>),
        cores: &Cores,
    ) -> Result<Promise, GraphError> {
        let profile = self.profile();
        let profile = profile.ok_or_else(|| unprofiled(self.profile_problem()))?;
        let forecasts = self.forecast(view, batch, &profile.plan_list(), cores)?;
        let wanted = match (view.changed(), minimum.measure, wanted) {
            (None, _, wanted) => wanted,
            // It agrees with itself whatever was measured; what the others promise was measured on another graph.
            (Some(_), Measure::Fidelity, None | Some(Plan::Exact)) => Some(Plan::Exact),
            (Some(snapshot), ..) => return Err(measured_before(snapshot)),
        };
        profile.promise(&batch.in_degrees(), &forecasts, minimum, wanted)
    }
}

impl Profile {
    /// The plan that is predicted to be the quickest of those that promise a minimum, or `wanted`, if it
    /// does; `forecasts` are in the order of [`Profile::plan_list`].
    pub(super) fn promise(
        &self,
        in_degrees: &[u32],
        forecasts: &[Forecast],
        minimum: Minimum,
        wanted: Option<Plan>,
    ) -> Result<Promise, GraphError> {
        let promise = |(plan, forecast): (&PlanProfile, &Forecast)| {
            let seen = Seen {
                in_degrees,
                stale: &forecast.stale,
            };
            let quality = plan.quality(minimum.measure, seen)?;
            Some(Promise {
                plan: plan.plan,
                quality,
                seconds: plan.seconds(&self.cost, &forecast.work, in_degrees.len()),
            })
        };
        let promises: Vec<Promise> = self
            .plans
            .iter()
            .zip(forecasts)
            .filter(|(plan, _)| wanted.is_none_or(|wanted| plan.plan == wanted))
            .filter_map(promise)
            .collect();
        let met = promises.iter().filter(|p| p.quality.lower >= minimum.share);
        let quickest = met.min_by(|a, b| a.seconds.total_cmp(&b.seconds));
        quickest
            .copied()
            .ok_or_else(|| not_promised(minimum, wanted, &promises))
    }
}

/// The refusal of a minimum where there is no profile, or one that is not used.
pub(super) fn unprofiled(problem: Option<&GraphError>) -> GraphError {
    let message = match problem {
        Some(problem) => format!("the model's profile is not used: {problem}"),
        None => "nothing is promised of this model: it has no profile".to_owned(),
    };
    GraphError::Unpromised {
        code: "no_profile",
        message,
        hint: "run `satisfice profile` on the model, or name a `plan`".to_owned(),
    }
}

/// The refusal of a minimum for stored nodes.
pub(super) fn stored_unpromised() -> GraphError {
    GraphError::Unpromised {
        code: "stored_ids_not_promised",
        message: "nothing is promised of the answers of stored nodes: profiles measure new ones"
            .to_owned(),
        hint: "name a `plan` without a minimum; `exact` is exact".to_owned(),
    }
}

/// The refusal of a minimum that was measured on the graph as it was before it was written to.
fn measured_before(snapshot: &Snapshot) -> GraphError {
    GraphError::Unpromised {
        code: "graph_changed",
        message: format!(
            "the graph has been written to since the model was profiled (it is at version {}): but for the fidelity of \
             plan `exact`, nothing is promised",
            snapshot.version()
        ),
        hint: "ask for `min_fidelity` and no `plan`, or name a `plan` without a minimum".to_owned(),
    }
}

fn not_promised(minimum: Minimum, wanted: Option<Plan>, promises: &[Promise]) -> GraphError {
    let name = minimum.measure.name();
    let best = promises
        .iter()
        .max_by(|a, b| a.quality.lower.total_cmp(&b.quality.lower));
    let (message, hint) = match (best, wanted) {
        (Some(best), _) => (
            format!(
                "{name} of at least {} cannot be promised for this batch: at most {:.4}, by plan \
                 `{}`, which is expected to reach {:.4}",
                minimum.share, best.quality.lower, best.plan, best.quality.expected
            ),
            format!(
                "ask for less, or name the `plan` `{}` without a minimum",
                best.plan
            ),
        ),
        (None, Some(plan)) => (
            format!("no {name} can be promised of plan `{plan}`: it was not profiled for it"),
            "leave `plan` out, or profile the model with it".to_owned(),
        ),
        (None, None) => (
            format!("no {name} can be promised: the profile's queries have no labels"),
            "ask for `min_fidelity`, or profile with labelled queries".to_owned(),
        ),
    };
    GraphError::Unpromised {
        code: "minimum_not_promised",
        message,
        hint,
    }
}
