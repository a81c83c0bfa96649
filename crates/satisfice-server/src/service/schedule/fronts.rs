//! The strategies of a batching engine as they are now known, and the cheapest mixes of them.

use super::record::Records;
use satisfice_core::{Measure, Offer, Quality, Strategy};
use satisfice_planner::{Batcher, Error, FrontCache, FrontTable, StrategyProfile};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Inputs of a job up to which its mixes are the cheapest of all; larger ones are composed.
const EXACT_INPUTS_MAX: usize = 64;

/// Longest wait for a batch to fill, in seconds.
const DELAY_MAX: f64 = 3600.0;

/// Relative change of a time from which on fronts are made anew when they may be.
const STALE: f64 = 0.03;

/// One state of knowledge. It does not change: when more is known there is another.
#[derive(Debug)]
pub(in super::super) struct Fronts {
    strategies: Vec<Strategy>,
    /// What each strategy's own times were multiplied by.
    scales: Vec<f64>,
    /// What jobs without a minimum are measured by; none where nothing was measured.
    usual: Option<Measure>,
    caches: [Mutex<FrontCache>; 2],
    pub(super) batcher: Batcher,
}

impl Fronts {
    /// `strategies` as the engine says, corrected by what was seen since.
    pub(super) fn new(
        strategies: &[Strategy],
        records: &Records,
        delay: Duration,
        executors: usize,
    ) -> Result<Self, Error> {
        let dearest = strategies.iter().max_by(|a, b| {
            let single = |strategy: &Strategy| strategy.seconds.first().copied();
            single(a)
                .partial_cmp(&single(b))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let scales = records.scales(strategies);
        let known = strategies.iter().zip(&scales);
        let known = known.map(|(strategy, &scale)| corrected(strategy, scale, dearest, records));
        let strategies: Vec<Strategy> = known.collect();
        let usual = [Measure::Accuracy, Measure::Fidelity]
            .into_iter()
            .find(|&measure| strategies.iter().any(|s| quality(s, measure).is_some()));
        let cache = |measure| -> Result<_, Error> {
            let profiles = profiles(&strategies, measure, usual)?;
            Ok(Mutex::new(FrontCache::new(profiles, EXACT_INPUTS_MAX)))
        };
        let caches = [cache(Measure::Accuracy)?, cache(Measure::Fidelity)?];
        let batcher = Batcher::new(
            &profiles(&strategies, usual.unwrap_or(Measure::Accuracy), usual)?,
            delay.as_secs_f64().min(DELAY_MAX),
            executors,
        )?;
        Ok(Self {
            strategies,
            scales,
            usual,
            caches,
            batcher,
        })
    }

    pub(in super::super) fn strategies(&self) -> &[Strategy] {
        &self.strategies
    }

    /// The strategies at the positions `available`, each with the time that it would take for all of `inputs` inputs.
    pub(in super::super) fn alone(&self, available: &[usize], inputs: usize) -> Vec<Offer> {
        let offer = |&at: &usize| {
            let Strategy {
                name,
                quality,
                seconds,
            } = &self.strategies[at];
            let batch_max = seconds.len().max(1);
            let of = |inputs: usize| inputs.checked_sub(1).and_then(|last| seconds.get(last));
            let full = (inputs / batch_max) as f64 * of(batch_max).copied().unwrap_or(0.0);
            Offer {
                plan: name.clone(),
                seconds: full + of(inputs % batch_max).copied().unwrap_or(0.0),
                quality: quality.clone(),
            }
        };
        available.iter().map(offer).collect()
    }

    /// Whether times are by now known to be other ones.
    pub(super) fn are_stale(&self, records: &Records) -> bool {
        let known = self.scales.iter().zip(records.scales(&self.strategies));
        known
            .map(|(then, now)| (now / then).ln().abs())
            .any(|moved| moved > STALE)
    }

    /// What jobs without a minimum are measured by; none where nothing was measured.
    pub(super) fn usual(&self) -> Option<Measure> {
        self.usual
    }

    /// The mixes of the strategies at the positions `available`, by `measure`, for jobs of `inputs`
    /// inputs. Takes its time when it is asked for the first time.
    pub(super) fn table(
        &self,
        measure: Option<Measure>,
        available: &[usize],
        inputs: usize,
    ) -> Result<Arc<FrontTable>, Error> {
        let cache = match measure.or(self.usual) {
            Some(Measure::Accuracy) | None => &self.caches[0],
            Some(Measure::Fidelity) => &self.caches[1],
        };
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.table(available, inputs)
    }

    /// The largest lower bound among the strategies at `available`, and whose it is.
    pub(super) fn most(&self, measure: Measure, available: &[usize]) -> Option<(f64, String)> {
        let promised = available.iter().filter_map(|&at| {
            let strategy = &self.strategies[at];
            Some((quality(strategy, measure)?.lower, strategy.name.clone()))
        });
        promised.max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

pub(super) fn quality(strategy: &Strategy, measure: Measure) -> Option<Quality> {
    let mut qualities = strategy.quality.iter().copied();
    qualities.find(|quality| quality.measure == measure)
}

fn corrected(
    strategy: &Strategy,
    scale: f64,
    dearest: Option<&Strategy>,
    records: &Records,
) -> Strategy {
    let name = &strategy.name;
    let known = |&found: &Quality| {
        let dearest = dearest.and_then(|dearest| quality(dearest, found.measure));
        records.quality(name, found, dearest)
    };
    Strategy {
        name: name.clone(),
        quality: strategy.quality.iter().map(known).collect(),
        seconds: strategy
            .seconds
            .iter()
            .map(|seconds| seconds * scale)
            .collect(),
    }
}

/// What the planner has to know. Where no strategy was measured, dearer ones count as better; where
/// only some were, the others promise nothing.
fn profiles(
    strategies: &[Strategy],
    measure: Measure,
    usual: Option<Measure>,
) -> Result<Vec<StrategyProfile>, Error> {
    let rank = |strategy: &Strategy| {
        let cheaper = strategies
            .iter()
            .filter(|s| s.seconds.first() < strategy.seconds.first());
        cheaper.count() as f64 / strategies.len() as f64
    };
    let profile = |strategy: &Strategy| {
        let (lower, expected) = match (quality(strategy, measure), usual) {
            (Some(quality), _) => (quality.lower, quality.expected),
            (None, Some(_)) => (0.0, 0.0),
            (None, None) => (rank(strategy), rank(strategy)),
        };
        StrategyProfile::new(lower, expected, strategy.seconds.clone())
    };
    strategies.iter().map(profile).collect()
}
