//! Requests that are executed whole: which plans come into question.

use super::{
    super::{
        SpareTime,
        contract::{Contract, Minimum},
    },
    record::{Length, Records, agreement},
};
use satisfice_core::{
    Error, ErrorKind, InferRequest, Measure, Offer, Parameter, Parameters, Quality,
    parameters::PLAN,
};

/// A request with the ways to answer it.
pub(in super::super) struct Whole {
    pub request: InferRequest,
    /// Ways to answer it; empty where nobody has to know them. A request without a contract is executed as it is.
    pub offers: Vec<Offer>,
}

/// The ways that keep a request's contract.
#[derive(Default)]
pub(super) struct Options {
    /// With times and qualities as they are now known.
    pub offers: Vec<Offer>,
    /// What the auditor compares with.
    pub dearest: Option<Offer>,
}

impl Whole {
    /// A request that is executed as it is.
    pub(in super::super) fn plain(request: InferRequest) -> Self {
        Self {
            request,
            offers: Vec::new(),
        }
    }

    /// What the engine said the plan takes, in seconds.
    pub(super) fn profiled_seconds(&self, plan: &str) -> Option<f64> {
        let offer = self.offers.iter().find(|offer| offer.plan == plan)?;
        Some(offer.seconds)
    }

    /// All offers, with times and qualities as they are now known.
    pub(super) fn known(&self, records: &Records) -> Vec<Offer> {
        let mut offers = self.offers.clone();
        let dearest = dearest_of(&self.offers);
        for offer in &mut offers {
            refresh(offer, dearest, records);
        }
        offers
    }

    /// Those of the offers that keep the contract's minimum: the one that the request names, the
    /// cheapest one where just enough is wanted, or all.
    pub(super) fn options(
        &self,
        contract: &Contract,
        spare_time: SpareTime,
        records: &Records,
    ) -> Result<Options, Error> {
        if !contract.is_demanding() {
            return Ok(Options::default());
        }
        let mut offers = self.known(records);
        let dearest = dearest_of(&self.offers).cloned();
        let named = plan_named(&self.request.parameters);
        if let Some(named) = named {
            offers.retain(|offer| offer.plan == named);
        }
        if let Some(minimum) = contract.minimum {
            let most = most(&offers, minimum.measure);
            offers.retain(|offer| keeps(offer, minimum));
            if offers.is_empty() {
                return Err(unmeetable(minimum, named, most));
            }
        }
        let mut options = Options { offers, dearest };
        if contract.wants_just_enough(spare_time) {
            options.keep_cheapest();
        }
        Ok(options)
    }
}

/// The plan that a request names.
pub(in super::super) fn plan_named(parameters: &Parameters) -> Option<&str> {
    match parameters.get(PLAN.name) {
        Some(Parameter::String(plan)) => Some(plan),
        _ => None,
    }
}

impl Options {
    /// Leaves no choice but the cheapest.
    pub(super) fn keep_cheapest(&mut self) {
        let offers = std::mem::take(&mut self.offers).into_iter();
        let cheapest = offers.min_by(|a, b| a.seconds.total_cmp(&b.seconds));
        self.offers = cheapest.into_iter().collect();
    }

    /// Seconds of the cheapest, if there is one.
    pub(super) fn cheapest_seconds(&self) -> Option<f64> {
        let seconds = self.offers.iter().map(|offer| offer.seconds);
        seconds.min_by(f64::total_cmp)
    }

    /// (seconds, value) of each, for the planner; `usual` seconds where there is nothing to choose.
    pub(super) fn alternatives(&self, contract: &Contract, usual: f64) -> Vec<(f64, f64)> {
        if self.offers.is_empty() {
            return vec![(usual, 0.0)];
        }
        let measure = contract.minimum.map(|minimum| minimum.measure);
        let measured = self.offers.iter().any(|offer| !offer.quality.is_empty());
        let value = |offer: &Offer| {
            if measured {
                return reported(offer, measure).map_or(0.0, |quality| quality.lower);
            }
            // Nothing is known but that more work is not for nothing.
            let cheaper = self.offers.iter().filter(|o| o.seconds < offer.seconds);
            cheaper.count() as f64 / self.offers.len() as f64
        };
        let offers = self.offers.iter();
        offers.map(|offer| (offer.seconds, value(offer))).collect()
    }
}

/// The quality that an answer by this offer reports: by the measure asked for, or the first.
pub(super) fn reported(offer: &Offer, measure: Option<Measure>) -> Option<Quality> {
    let mut qualities = offer.quality.iter().copied();
    match measure {
        Some(measure) => qualities.find(|quality| quality.measure == measure),
        None => qualities.next(),
    }
}

/// What has to be true of the offer's agreement with the dearest for an audit of it, if an audit of
/// it says anything.
pub(super) fn audited_share(offer: &Offer, dearest: Option<&Offer>) -> Option<f64> {
    let dearest = dearest.filter(|dearest| dearest.plan != offer.plan)?;
    agreement(&offer.quality, &dearest.quality)
}

/// The most expensive of some offers.
pub(super) fn dearest_of<'a>(offers: impl IntoIterator<Item = &'a Offer>) -> Option<&'a Offer> {
    let by_time = |a: &&Offer, b: &&Offer| a.seconds.total_cmp(&b.seconds);
    offers.into_iter().max_by(by_time)
}

/// The offer as it is now known.
fn refresh(offer: &mut Offer, dearest: Option<&Offer>, records: &Records) {
    offer.seconds *= records.scale(&offer.plan, Length::of(offer.seconds));
    for quality in &mut offer.quality {
        let dearest = dearest.and_then(|dearest| reported(dearest, Some(quality.measure)));
        *quality = records.quality(&offer.plan, *quality, dearest);
    }
}

/// Whether the offer promises the minimum.
pub(super) fn keeps(offer: &Offer, minimum: Minimum) -> bool {
    reported(offer, Some(minimum.measure)).is_some_and(|quality| quality.lower >= minimum.share)
}

/// The most that is promised, and by which plan.
fn most(offers: &[Offer], measure: Measure) -> Option<(f64, String)> {
    let promised = offers.iter().filter_map(|offer| {
        let quality = reported(offer, Some(measure))?;
        Some((quality.lower, &offer.plan))
    });
    let most = promised.max_by(|a, b| a.0.total_cmp(&b.0));
    most.map(|(lower, plan)| (lower, plan.clone()))
}

/// A minimum that nothing promises.
pub(super) fn unmeetable(
    minimum: Minimum,
    named: Option<&str>,
    most: Option<(f64, String)>,
) -> Error {
    let measure = minimum.measure.name();
    let who = match named {
        Some(plan) => format!("plan `{}` does not promise", crate::clip::clip(plan)),
        None => "no plan promises".to_owned(),
    };
    let message = format!("{who} the minimum {measure} of {}", minimum.share);
    let hint = match most {
        Some((lower, plan)) => format!("the most that is promised is {lower:.4}, by `{plan}`"),
        None => format!(
            "no {measure} was measured for it: `satisfice profile` does, with labels for accuracy"
        ),
    };
    Error::new(ErrorKind::InvalidInput, "minimum_unmeetable", message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

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

    fn whole(plan: Option<&str>) -> Whole {
        let plan = plan.map(|plan| ("plan".to_owned(), plan.into()));
        let offers = [("exact", 4.0, 1.0), ("pe", 1.0, 0.7), ("half", 2.0, 0.9)];
        Whole {
            request: InferRequest {
                parameters: plan.into_iter().collect(),
                ..InferRequest::default()
            },
            offers: offers
                .map(|(plan, seconds, lower)| offer(plan, seconds, lower))
                .into(),
        }
    }

    fn plans(whole: &Whole, minimum: Option<f64>, deadline: bool) -> Result<String, String> {
        plans_with(whole, minimum, deadline, SpareTime::Idle)
    }

    fn plans_with(
        whole: &Whole,
        minimum: Option<f64>,
        deadline: bool,
        spare_time: SpareTime,
    ) -> Result<String, String> {
        let contract = Contract {
            deadline: deadline.then(Instant::now),
            minimum: minimum.map(|share| Minimum {
                measure: Measure::Fidelity,
                share,
            }),
            ..Contract::default()
        };
        let options = whole.options(&contract, spare_time, &Records::default());
        let options = options.map_err(|error| error.to_string())?;
        assert_eq!(options.dearest.unwrap().plan, "exact");
        let plans: Vec<_> = options.offers.iter().map(|offer| &*offer.plan).collect();
        Ok(plans.join(" "))
    }

    #[test]
    fn a_contract_narrows_the_choice() {
        assert_eq!(plans(&whole(None), None, true).unwrap(), "exact pe half");
        assert_eq!(plans(&whole(None), Some(0.8), true).unwrap(), "half");
        let quality = |deadline| plans_with(&whole(None), Some(0.8), deadline, SpareTime::Quality);
        assert_eq!(quality(true).unwrap(), "exact half");
        assert_eq!(quality(false).unwrap(), "half");
        assert_eq!(plans(&whole(None), Some(0.8), false).unwrap(), "half");
        assert_eq!(plans(&whole(Some("pe")), Some(0.7), false).unwrap(), "pe");
        assert_eq!(plans(&whole(Some("own")), None, true).unwrap(), "");
    }

    #[test]
    fn what_cannot_be_promised_is_said() {
        let most = |text: String, words: [&str; 2]| {
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        let mut modest = whole(None);
        modest.offers.remove(0);
        modest.offers.push(offer("all", 9.0, 0.95));
        let modest = |minimum| {
            let contract = Contract {
                minimum: Some(minimum),
                ..Contract::default()
            };
            let options = modest.options(&contract, SpareTime::Idle, &Records::default());
            options.err().unwrap().to_string()
        };
        let minimum = Minimum {
            measure: Measure::Fidelity,
            share: 0.99,
        };
        most(modest(minimum), ["0.95", "`all`"]);
        most(
            plans(&whole(Some("pe")), Some(0.9), false).unwrap_err(),
            ["`pe`", "0.7000"],
        );
        most(
            plans(&whole(Some("own")), Some(0.9), true).unwrap_err(),
            ["`own`", "no fidelity"],
        );
    }
}
