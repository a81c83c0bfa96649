//! Why a request was answered by the plan that answered it.

use super::{
    super::{SpareTime, contract::Contract},
    whole::{dearest_of, keeps, plan_named},
};
use crate::protocol::plans::{Promise, promises};
use satisfice_core::{InferRequest, InferResponse, Offer, parameters::EXPLANATION};
use serde::Serialize;
use std::{collections::BTreeMap, time::Instant};

/// What is known of a choice before the answer is there.
pub(super) struct Explanation {
    reason: &'static str,
    contract: Contract,
    /// The only plan that the request allows, if it names one.
    named: Option<String>,
    /// Every plan that there was, with times and promises as they were known.
    offers: Vec<Offer>,
    queued: Instant,
    started: Instant,
}

/// The `explanation` of an answer.
#[derive(Debug, Serialize)]
struct Text<'a> {
    reason: &'a str,
    queued_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_left_at_start_ms: Option<f64>,
    plans: Vec<PlanText<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_more_expensive: Option<NextText<'a>>,
}

/// One plan in an explanation.
#[derive(Debug, Serialize)]
struct PlanText<'a> {
    plan: &'a str,
    verdict: &'static str,
    predicted_ms: f64,
    promises: BTreeMap<&'static str, Promise>,
}

/// What somewhat more would have cost.
#[derive(Debug, Serialize)]
struct NextText<'a> {
    plan: &'a str,
    more_ms: f64,
}

impl Explanation {
    /// The choice among `offers` for a request whose plan the planner chooses.
    pub(super) fn new(
        (contract, spare_time): (Contract, SpareTime),
        named: Option<&str>,
        offers: Vec<Offer>,
        queued: Instant,
    ) -> Self {
        let reason = if named.is_some() {
            "the request names this plan"
        } else if contract.wants_just_enough(spare_time) {
            "the cheapest choice that promises the minimum"
        } else if contract.minimum.is_some() {
            "the best choice that promises the minimum and was predicted to be in time beside all that waited"
        } else if contract.deadline.is_some() {
            "the best choice that was predicted to be in time beside all that waited"
        } else {
            "the request has no deadline and no minimum: the best choice for the time that others leave"
        };
        Self {
            reason,
            contract,
            named: named.map(str::to_owned),
            offers,
            queued,
            started: Instant::now(),
        }
    }

    /// The choice for a request that is executed whole; `tried` where no plan was predicted to be in time and it is executed
    /// all the same.
    pub(super) fn whole(
        request: &InferRequest,
        (contract, spare_time): (Contract, SpareTime),
        offers: Vec<Offer>,
        tried: bool,
        queued: Instant,
    ) -> Self {
        let named = plan_named(&request.parameters);
        let mut explanation = Self::new((contract, spare_time), named, offers, queued);
        if tried {
            explanation.reason = "no plan was predicted to be in time; a share of such requests is tried all the same, \
                                  to see whether that is true";
        } else if explanation.offers.is_empty() && named.is_none() {
            explanation.reason =
                "nothing was measured to choose by: this is the model's default plan";
        } else if !contract.is_demanding() && named.is_none() {
            explanation.reason =
                "the request has no deadline and no minimum: this is the model's default plan";
        }
        explanation
    }

    /// The first part of the request starts.
    pub(super) fn starts_now(&mut self) {
        self.started = Instant::now();
    }

    /// Adds the explanation to an answer by some of the plans.
    pub(super) fn add_to(&self, response: &mut InferResponse, answered_by: &[&str]) {
        // Numbers and strings always have a JSON form.
        let text = serde_json::to_string(&self.text(answered_by)).unwrap_or_default();
        response
            .parameters
            .insert(EXPLANATION.to_owned(), text.into());
    }

    fn text<'a>(&'a self, answered_by: &[&str]) -> Text<'a> {
        let chosen = |offer: &&Offer| answered_by.contains(&&*offer.plan);
        let most_expensive = dearest_of(self.offers.iter().filter(chosen));
        let next = most_expensive.and_then(|most| {
            let above = self.offers.iter().filter(|o| o.seconds > most.seconds);
            let next = above.min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
            Some(NextText {
                plan: &next.plan,
                more_ms: (next.seconds - most.seconds) * 1e3,
            })
        });
        let mut offers: Vec<&Offer> = self.offers.iter().collect();
        offers.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let plans = offers.into_iter().map(|offer| PlanText {
            plan: &offer.plan,
            verdict: self.verdict(offer, answered_by),
            predicted_ms: offer.seconds * 1e3,
            promises: promises(offer),
        });
        Text {
            reason: self.reason,
            queued_ms: milliseconds(self.queued, self.started),
            deadline_left_at_start_ms: self
                .contract
                .deadline
                .map(|deadline| milliseconds(self.started, deadline)),
            plans: plans.collect(),
            next_more_expensive: next,
        }
    }

    fn verdict(&self, offer: &Offer, answered_by: &[&str]) -> &'static str {
        let late = |deadline| milliseconds(self.started, deadline) < offer.seconds * 1e3;
        let named = self.named.as_deref();
        if answered_by.contains(&&*offer.plan) {
            "chosen"
        } else if named.is_some_and(|named| named != offer.plan) {
            "not_named"
        } else if self
            .contract
            .minimum
            .is_some_and(|least| !keeps(offer, least))
        {
            "below_minimum"
        } else if self.contract.deadline.is_some_and(late) {
            "too_slow"
        } else {
            "possible"
        }
    }
}

/// Milliseconds from one instant to another; negative where that one is earlier.
fn milliseconds(from: Instant, to: Instant) -> f64 {
    let seconds = match to.checked_duration_since(from) {
        Some(after) => after.as_secs_f64(),
        None => -from.duration_since(to).as_secs_f64(),
    };
    seconds * 1e3
}

#[cfg(test)]
mod tests {
    use super::{super::super::contract::Minimum, *};
    use satisfice_core::{Measure, Quality};
    use std::time::Duration;

    fn offer(plan: &str, seconds: f64, lower: f64) -> Offer {
        let quality = Quality {
            measure: Measure::Fidelity,
            expected: lower,
            lower,
        };
        Offer {
            plan: plan.to_owned(),
            seconds,
            quality: vec![quality],
        }
    }

    fn verdicts(contract: Contract, named: Option<&str>, answered_by: &str) -> (String, String) {
        let offers = [
            offer("exact", 4.0, 1.0),
            offer("pe", 1.0, 0.7),
            offer("half", 2.0, 0.9),
        ];
        let now = Instant::now();
        let contract = (contract, SpareTime::Idle);
        let explained = Explanation::new(contract, named, offers.into(), now);
        let text = explained.text(&[answered_by]);
        let plans = text.plans.iter();
        let plans: Vec<_> = plans
            .map(|plan| format!("{}={}", plan.plan, plan.verdict))
            .collect();
        let next = text.next_more_expensive;
        let next = next.map_or_else(String::new, |next| {
            format!("{} +{}", next.plan, next.more_ms)
        });
        (plans.join(" "), next)
    }

    #[test]
    fn every_plan_has_its_verdict() {
        let contract = Contract {
            deadline: Some(Instant::now() + Duration::from_secs(3)),
            minimum: Some(Minimum {
                measure: Measure::Fidelity,
                share: 0.8,
            }),
            ..Contract::default()
        };
        let (plans, next) = verdicts(contract, None, "half");
        assert_eq!(plans, "pe=below_minimum half=chosen exact=too_slow");
        assert_eq!(next, "exact +2000");
        let (plans, next) = verdicts(Contract::default(), Some("exact"), "exact");
        assert_eq!(plans, "pe=not_named half=not_named exact=chosen");
        assert_eq!(next, "");
        let (plans, _) = verdicts(Contract::default(), None, "pe");
        assert_eq!(plans, "pe=chosen half=possible exact=possible");
    }
}
