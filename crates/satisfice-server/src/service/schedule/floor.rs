//! Requests that are refused before the engine looks at them: what others need first leaves them no time.

use super::super::{
    contract::Contract,
    times::{SIZES, size},
};
use std::collections::BTreeMap;

/// A request, as far as it is known before the engine looks at it.
#[derive(Clone, Copy)]
pub(in super::super) struct Asked<'a> {
    pub contract: &'a Contract,
    /// The plan that it names.
    pub plan: Option<&'a str>,
    /// Its length on the wire.
    pub bytes: usize,
}

/// Plans by whose names requests are told apart; clients may make up any number of them.
const PLANS_MAX: usize = 16;

/// By how much a floor rises with every request that is above it: what was quicker once may not be so any more.
const RISES: f64 = 1.01;

/// Requests of a size before its floor is believed.
const BELIEVED_AFTER: u32 = 8;

/// What requests take at least, by the plan that they name and by their length on the wire.
#[derive(Debug, Default)]
pub(super) struct Floors(BTreeMap<String, [Floor; SIZES]>);

/// Of lengths of one power of two.
#[derive(Debug, Clone, Copy, Default)]
struct Floor {
    requests: u32,
    /// Seconds for a byte.
    rate: f64,
}

impl Floors {
    /// The cheapest way to answer a request of `bytes` bytes that names `plan`, or none, takes `seconds`.
    pub(super) fn observe(&mut self, plan: Option<&str>, bytes: usize, seconds: f64) {
        let plan = plan.unwrap_or_default();
        if self.0.len() >= PLANS_MAX && !self.0.contains_key(plan) {
            return;
        }
        let rate = seconds / bytes.max(1) as f64;
        if !rate.is_finite() {
            return;
        }
        let new = || [Floor::default(); SIZES];
        let floors = self.0.entry(plan.to_owned()).or_insert_with(new);
        let floor = &mut floors[size(bytes)];
        floor.rate = match floor.requests {
            0 => rate,
            _ => rate.min(RISES * floor.rate),
        };
        floor.requests = floor.requests.saturating_add(1);
    }

    /// Seconds that a request of `bytes` bytes which names `plan`, or none, takes at least, as others of that size did.
    pub(super) fn of(&self, plan: Option<&str>, bytes: usize) -> Option<f64> {
        let floor = self.0.get(plan.unwrap_or_default())?[size(bytes)];
        (floor.requests >= BELIEVED_AFTER).then(|| floor.rate * bytes.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_the_least_of_its_plan_and_size() {
        let mut floors = Floors::default();
        for seconds in [3.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0] {
            floors.observe(Some("exact"), 1000, seconds);
            assert_eq!(floors.of(Some("exact"), 1000), None);
        }
        floors.observe(Some("exact"), 1000, 5.0);
        let floor = floors.of(Some("exact"), 1000).unwrap();
        assert!((2.0..2.2).contains(&floor), "{floor}");
        let half = floors.of(Some("exact"), 600).unwrap();
        assert!((half - 0.6 * floor).abs() < 1e-12);
        assert_eq!(floors.of(Some("exact"), 100), None);
        assert_eq!(floors.of(None, 1000), None);
    }

    #[test]
    fn plans_are_bounded_and_times_are_numbers() {
        let mut floors = Floors::default();
        for plan in 0..100 {
            for seconds in [f64::NAN, f64::INFINITY, 1.0] {
                (0..BELIEVED_AFTER).for_each(|_| {
                    floors.observe(Some(&plan.to_string()), 10, seconds);
                });
            }
        }
        assert_eq!(floors.0.len(), PLANS_MAX);
        let floor = floors.of(Some("3"), 10).unwrap();
        assert!((floor - 1.0).abs() < 1e-12, "{floor}");
    }
}
