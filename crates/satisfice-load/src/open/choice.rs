use crate::open::{Arrival, Contract};

/// A plan that a client may ask for, as a profile knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownPlan {
    /// Its name.
    pub name: String,
    /// What it promises, comparable with a contract's minimum.
    pub accuracy: f64,
    /// Time of a batch of `i + 1` inputs, in seconds; not empty.
    pub seconds: Vec<f64>,
}

impl KnownPlan {
    /// Time of a job of `inputs` inputs, in batches as large as the profile knows.
    pub fn seconds_of(&self, inputs: usize) -> f64 {
        let largest = self.seconds.len();
        let whole = (inputs / largest) as f64 * self.seconds[largest - 1];
        match inputs % largest {
            0 => whole,
            rest => whole + self.seconds[rest - 1],
        }
    }
}

/// The cheapest plan that promises the contract's accuracy, or the most accurate one where none does:
/// what somebody picks who may pick once, for all jobs.
///
/// # Panics
/// Without plans.
pub fn cheapest<'a>(plans: &'a [KnownPlan], contract: &Contract) -> &'a KnownPlan {
    let minimum = contract.min_accuracy.unwrap_or(0.0);
    let time = |plan: &&KnownPlan| plan.seconds[0];
    plans
        .iter()
        .filter(|plan| plan.accuracy >= minimum)
        .min_by(|a, b| time(a).total_cmp(&time(b)))
        .unwrap_or_else(|| most_accurate(plans.iter()))
}

fn most_accurate<'a>(plans: impl Iterator<Item = &'a KnownPlan>) -> &'a KnownPlan {
    plans
        .max_by(|a, b| a.accuracy.total_cmp(&b.accuracy))
        .expect("invariant: there are plans")
}

/// Chooses once for each job when it arrives, as `INFaaS` chooses among variants of a model: the most
/// accurate plan that by its predicted time, after the jobs before it, makes the deadline; else the
/// cheapest that keeps the minimum. Nothing is changed afterwards.
///
/// `workers` jobs run at once. Returns a position in `plans` for each arrival.
///
/// # Panics
/// Without plans.
pub fn at_arrival(
    arrivals: &[Arrival],
    plans: &[KnownPlan],
    contract: &Contract,
    workers: usize,
) -> Vec<usize> {
    let position = |plan: &KnownPlan| plans.iter().position(|p| p == plan).unwrap_or(0);
    let minimum = contract.min_accuracy.unwrap_or(0.0);
    let deadline = contract.deadline.map_or(f64::INFINITY, |d| d.as_secs_f64());
    let mut free_at = vec![0.0_f64; workers.max(1)];
    let choose = |arrival: &Arrival| {
        let now = arrival.at.as_secs_f64();
        free_at.sort_by(f64::total_cmp);
        let start = free_at[0].max(now);
        let in_time = |plan: &&KnownPlan| {
            plan.accuracy >= minimum && start + plan.seconds_of(arrival.inputs) <= now + deadline
        };
        let chosen = plans
            .iter()
            .filter(in_time)
            .max_by(|a, b| a.accuracy.total_cmp(&b.accuracy))
            .unwrap_or_else(|| cheapest(plans, contract));
        free_at[0] = start + chosen.seconds_of(arrival.inputs);
        position(chosen)
    };
    arrivals.iter().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn plans() -> Vec<KnownPlan> {
        let plan = |name: &str, accuracy, seconds: f64| KnownPlan {
            name: name.to_owned(),
            accuracy,
            seconds: vec![seconds, 1.5 * seconds],
        };
        vec![plan("image", 0.6, 0.1), plan("both", 0.9, 1.0)]
    }

    fn contract(min_accuracy: f64) -> Contract {
        Contract {
            deadline: Some(Duration::from_millis(1500)),
            min_accuracy: Some(min_accuracy),
        }
    }

    #[test]
    fn long_jobs_are_cut_into_batches() {
        assert!((plans()[1].seconds_of(5) - 4.0).abs() < 1e-9);
        assert!((plans()[1].seconds_of(4) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_cheapest_keeps_the_minimum_where_one_can() {
        assert_eq!(cheapest(&plans(), &contract(0.5)).name, "image");
        assert_eq!(cheapest(&plans(), &contract(0.7)).name, "both");
        assert_eq!(cheapest(&plans(), &contract(0.95)).name, "both");
    }

    #[test]
    fn a_choice_at_arrival_counts_the_jobs_before() {
        let at_once = [Arrival {
            at: Duration::ZERO,
            inputs: 1,
        }; 3];
        // The first takes a second; after it the dear plan would be late.
        assert_eq!(at_arrival(&at_once, &plans(), &contract(0.5), 1), [1, 0, 0]);
        assert_eq!(at_arrival(&at_once, &plans(), &contract(0.5), 2), [1, 1, 0]);
        // Who needs the accuracy gets it late.
        assert_eq!(at_arrival(&at_once, &plans(), &contract(0.7), 1), [1, 1, 1]);
    }
}
