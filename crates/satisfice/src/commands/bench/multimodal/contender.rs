//! Who is measured: Satisfice under a contract, and what one would do without it.

use super::repository::Form;
use satisfice_load::open::{Arrival, Contract, Job, KnownPlan, at_arrival, cheapest};
use satisfice_server::protocol::client::Format;
use std::{sync::Arc, time::Duration};

/// How the plan of each job comes about.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Policy {
    /// All modalities for every input, whatever is asked.
    Agnostic,
    /// The cheapest plan, whatever is asked.
    Cheapest,
    /// The client picks one plan for all jobs: the cheapest that promises the minimum.
    Fixed,
    /// The client picks a plan for each job when it arrives.
    AtArrival,
    /// The server picks, in that form of the model.
    Satisfice(Form),
    /// Another server, with all modalities for every input.
    Peer,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Contender {
    pub name: String,
    pub policy: Policy,
    pub url: String,
    pub model: String,
    /// How its tensors travel.
    pub format: Format,
    /// Points below what all modalities promise, where a minimum is asked for.
    pub floor: Option<f64>,
    /// The minimum.
    pub min_accuracy: Option<f64>,
}

/// What clients know of the model.
#[derive(Debug, Clone)]
pub(super) struct Knowledge {
    /// Subsets of the modalities in every variant, without cascades.
    pub plans: Vec<KnownPlan>,
    /// All strategies.
    pub strategies: Vec<KnownPlan>,
    /// The plan that runs all modalities.
    pub all: String,
    /// Tensors of each modality.
    pub tensors: Vec<(String, Vec<String>)>,
    /// Jobs that a server executes at once.
    pub workers: usize,
}

impl Knowledge {
    fn plan(&self, name: &str) -> Option<&KnownPlan> {
        self.plans.iter().find(|plan| plan.name == name)
    }

    /// Tensors that a plan reads.
    fn tensors_of(&self, plan: &str) -> Arc<[String]> {
        let subset = plan.split('@').next().unwrap_or_default();
        let needs = |modality: &str| subset.split('+').any(|part| part == modality);
        let tensors = self.tensors.iter().filter(|(modality, _)| needs(modality));
        tensors.flat_map(|(_, names)| names.clone()).collect()
    }
}

impl Contender {
    /// Jobs of these sizes a second that the cores would bear, were all answered by the plan that the
    /// contender is expected to use most.
    pub(super) fn capacity(&self, knowledge: &Knowledge, sizes: &[(usize, f64)]) -> f64 {
        let contract = Contract {
            deadline: None,
            min_accuracy: self.min_accuracy,
        };
        let of_form: Vec<KnownPlan>;
        let plan = match self.policy {
            Policy::Agnostic | Policy::Peer | Policy::AtArrival => knowledge.plan(&knowledge.all),
            Policy::Cheapest | Policy::Fixed => Some(cheapest(&knowledge.plans, &contract)),
            Policy::Satisfice(form) => {
                let strategies = knowledge.strategies.iter();
                of_form = strategies
                    .filter(|plan| form.has(&plan.name))
                    .cloned()
                    .collect();
                Some(cheapest(&of_form, &contract))
            }
        };
        let seconds = plan.map_or(1.0, |plan| mean(sizes, |inputs| plan.seconds_of(inputs)));
        knowledge.workers as f64 / seconds
    }

    /// The jobs that it sends. Who names a plan, or cannot choose, asks for nothing else: such jobs are
    /// answered however late, where Satisfice would refuse them.
    pub(super) fn jobs(
        &self,
        arrivals: &[Arrival],
        deadline: Duration,
        knowledge: &Knowledge,
    ) -> Vec<Job> {
        let contract = Contract {
            deadline: Some(deadline),
            min_accuracy: self.min_accuracy,
        };
        let plans = self.plans(arrivals, &contract, knowledge);
        let job = |(&arrival, plan): (&Arrival, Option<String>)| Job {
            arrival,
            deadline: Some(deadline),
            contract: match plan {
                Some(_) => Contract::default(),
                None => contract,
            },
            tensors: plan.as_deref().map(|plan| knowledge.tensors_of(plan)),
            plan: plan.filter(|_| self.policy != Policy::Peer),
        };
        arrivals.iter().zip(plans).map(job).collect()
    }

    /// The plan that each job names.
    fn plans(
        &self,
        arrivals: &[Arrival],
        contract: &Contract,
        knowledge: &Knowledge,
    ) -> Vec<Option<String>> {
        let same = |name: &str| vec![Some(name.to_owned()); arrivals.len()];
        let anything = Contract::default();
        match &self.policy {
            Policy::Agnostic | Policy::Peer => same(&knowledge.all),
            Policy::Cheapest => same(&cheapest(&knowledge.plans, &anything).name),
            Policy::Fixed => same(&cheapest(&knowledge.plans, contract).name),
            Policy::AtArrival => {
                at_arrival(arrivals, &knowledge.plans, contract, knowledge.workers)
                    .into_iter()
                    .map(|plan| Some(knowledge.plans[plan].name.clone()))
                    .collect()
            }
            Policy::Satisfice(_) => vec![None; arrivals.len()],
        }
    }
}

/// The mean over jobs of these sizes, each with its weight.
pub(super) fn mean(sizes: &[(usize, f64)], of: impl Fn(usize) -> f64) -> f64 {
    let weights: f64 = sizes.iter().map(|(_, weight)| weight).sum();
    let sum: f64 = sizes
        .iter()
        .map(|&(inputs, weight)| weight * of(inputs))
        .sum();
    sum / weights
}
