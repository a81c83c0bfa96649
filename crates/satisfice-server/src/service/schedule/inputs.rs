//! Requests that are cut into inputs: which were started how, and what came of them.

use super::{
    super::{SpareTime, contract::Contract},
    explain::Explanation,
    fronts::Fronts,
    whole::unmeetable,
};
use satisfice_core::{
    Error, ErrorKind, InferResponse, Job, Measure, NamedTensor, Parameter, Parameters, Quality,
    Tensor,
};
use satisfice_planner::{FrontTable, Mix};
use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Instant};

/// Mixes that the planner chooses among for one job.
const MIXES_MAX: usize = 8;

/// A job of many inputs.
///
/// Inputs are started one after the other on a circle that begins somewhere: which input is answered
/// by which strategy depends on when batches were formed, never on what an input holds.
pub(in super::super) struct Inputs {
    job: Arc<Job>,
    /// Strategies that may be used.
    available: Vec<usize>,
    /// What quality is measured by, if anything was.
    measure: Option<Measure>,
    least: f64,
    /// Mixes to choose among; one where just enough is asked for.
    mixes_max: usize,
    table: Arc<FrontTable>,
    mixes: Vec<Mix>,
    /// The input that was started first.
    begin: usize,
    /// How many were started with each strategy.
    started: BTreeMap<usize, usize>,
    done: usize,
    pieces: Vec<Piece>,
    /// What the answer says of the choice, if it is to.
    explanation: Option<Box<Explanation>>,
}

/// Inputs of one job that one batch answered.
struct Piece {
    strategy: usize,
    inputs: Range<usize>,
    outputs: Vec<NamedTensor>,
}

impl Inputs {
    /// A prepared job under a contract. Builds the mixes, which may take its time.
    pub(in super::super) fn new(
        job: Job,
        contract: &Contract,
        spare_time: SpareTime,
        fronts: &Fronts,
    ) -> Result<Self, Error> {
        let mut available = job.strategies.clone();
        let named = match job.request.parameters.get("plan") {
            Some(Parameter::String(named)) => Some(named.clone()),
            _ => None,
        };
        if let Some(named) = &named {
            available.retain(|&at| fronts.strategies()[at].name == *named);
            if available.is_empty() {
                return Err(unknown_plan(named, &job, fronts));
            }
        }
        let explanation = contract.explain.then(|| {
            let offers = fronts.alone(&job.strategies, job.inputs);
            let contract = (*contract, spare_time);
            let named = named.as_deref();
            Box::new(Explanation::new(contract, named, offers, Instant::now()))
        });
        let minimum = contract.minimum;
        let measure = minimum.map(|minimum| minimum.measure).or(fronts.usual());
        let table = fronts.table(measure, &available, job.inputs);
        let table = table.map_err(unplannable)?;
        let mut inputs = Self {
            measure,
            least: minimum.map_or(0.0, |minimum| minimum.share),
            mixes_max: match contract.wants_just_enough(spare_time) {
                true => 1,
                false => MIXES_MAX,
            },
            table,
            mixes: Vec::new(),
            begin: 0,
            started: BTreeMap::new(),
            done: 0,
            pieces: Vec::new(),
            explanation,
            job: Arc::new(job),
            available,
        };
        inputs.mixes = inputs.cheapest_mixes(inputs.least)?;
        match minimum {
            Some(minimum) if inputs.mixes.is_empty() => {
                let most = fronts.most(minimum.measure, &inputs.available);
                Err(unmeetable(minimum, named.as_deref(), most))
            }
            _ => Ok(inputs),
        }
    }

    /// The same job begun at an input that `seed` alone decides.
    pub(super) fn begun_at(mut self, seed: u64) -> Self {
        // Fibonacci hashing: consecutive seeds are spread over the whole circle.
        let scrambled = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        self.begin = scrambled as usize % self.job.inputs;
        self
    }

    fn cheapest_mixes(&self, least: f64) -> Result<Vec<Mix>, Error> {
        let rest = self.waiting();
        let mixes = self.table.alternatives(rest, least, self.mixes_max);
        mixes.map_err(unplannable)
    }

    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Inputs that were not started.
    pub(super) fn waiting(&self) -> usize {
        self.job.inputs - self.started.values().sum::<usize>()
    }

    /// Mixes for the inputs that were not started, to choose among.
    pub(super) fn mixes(&self) -> &[Mix] {
        &self.mixes
    }

    /// Takes `count` inputs that were not started; at most two ranges.
    pub(super) fn start(&mut self, strategy: usize, count: usize) -> Vec<Range<usize>> {
        if let Some(explanation) = self
            .explanation
            .as_mut()
            .filter(|_| self.started.is_empty())
        {
            explanation.starts_now();
        }
        let total = self.job.inputs;
        let from = (self.begin + total - self.waiting()) % total;
        let first = from..(from + count).min(total);
        let rest = 0..count - first.len();
        *self.started.entry(strategy).or_default() += count;
        let ranges = [first, rest].into_iter();
        ranges.filter(|range| !range.is_empty()).collect()
    }

    /// What its mixes are looked up by.
    pub(super) fn table_key(&self) -> (Option<Measure>, &[usize]) {
        (self.measure, &self.available)
    }

    /// Inputs that its table has fronts of, at most.
    pub(super) fn table_inputs(&self) -> usize {
        self.table.inputs_max()
    }

    /// Chooses among other mixes from now on: more is known of the strategies.
    pub(super) fn use_table(&mut self, table: Arc<FrontTable>) {
        self.table = table;
    }

    /// Chooses mixes anew for what was not started, such that the whole keeps its minimum: after
    /// every start, and when more is known.
    pub(super) fn replan(&mut self, fronts: &Fronts) {
        if self.waiting() == 0 {
            return;
        }
        let lower = |strategy: usize| self.quality(fronts, strategy).map_or(0.0, |q| q.lower);
        let started = self.started.iter();
        let reached: f64 = started
            .map(|(&strategy, &inputs)| inputs as f64 * lower(strategy))
            .sum();
        let owed = self.least * self.job.inputs as f64 - reached;
        // What rounding takes away is not owed.
        let least = (owed / self.waiting() as f64 - 1e-9).clamp(0.0, 1.0);
        // Where the minimum can no longer be kept, the best that is left comes closest.
        let mixes = self.cheapest_mixes(least).unwrap_or_default();
        self.mixes = if mixes.is_empty() {
            let all = self.cheapest_mixes(0.0).unwrap_or_default();
            all.into_iter().next_back().into_iter().collect()
        } else {
            mixes
        };
    }

    fn quality(&self, fronts: &Fronts, strategy: usize) -> Option<Quality> {
        super::fronts::quality(&fronts.strategies()[strategy], self.measure?)
    }

    /// Takes in the outputs of inputs that were started.
    pub(super) fn finish(
        &mut self,
        strategy: usize,
        inputs: Range<usize>,
        outputs: Vec<NamedTensor>,
    ) -> Result<(), Error> {
        for output in &outputs {
            if output.tensor.shape().first() != Some(&inputs.len()) {
                return Err(wrong_output(&output.name));
            }
        }
        self.done += inputs.len();
        self.pieces.push(Piece {
            strategy,
            inputs,
            outputs,
        });
        Ok(())
    }

    /// Whether every input was answered.
    pub(super) fn is_finished(&self) -> bool {
        self.done == self.job.inputs
    }

    /// Which strategy answered which inputs.
    pub(super) fn answered(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.pieces
            .iter()
            .map(|piece| (piece.strategy, piece.inputs.clone()))
    }

    /// The answer, once everything is answered: outputs in the order of the inputs.
    pub(super) fn answer(&mut self, fronts: &Fronts) -> Result<InferResponse, Error> {
        self.pieces.sort_by_key(|piece| piece.inputs.start);
        let wanted = &self.job.request.outputs;
        let first = self.pieces.first().map_or(&[][..], |piece| &piece.outputs);
        let names: Vec<&str> = match wanted.is_empty() {
            true => first.iter().map(|output| output.name.as_str()).collect(),
            false => wanted.iter().map(String::as_str).collect(),
        };
        let outputs: Result<Vec<NamedTensor>, Error> =
            names.into_iter().map(|name| self.joined(name)).collect();
        let mut response = InferResponse {
            outputs: outputs?,
            parameters: self.parameters(fronts),
        };
        if let Some(explanation) = &self.explanation {
            let strategies = fronts.strategies();
            let answered_by = self.started.keys().map(|&at| strategies[at].name.as_str());
            explanation.add_to(&mut response, &answered_by.collect::<Vec<_>>());
        }
        Ok(response)
    }

    fn joined(&self, name: &str) -> Result<NamedTensor, Error> {
        let parts = self.pieces.iter().map(|piece| {
            let mut outputs = piece.outputs.iter();
            outputs
                .find(|output| output.name == name)
                .map(|output| &output.tensor)
        });
        let parts: Option<Vec<&Tensor>> = parts.collect();
        let tensor = parts.and_then(|parts| join(&parts));
        Ok(NamedTensor {
            name: name.to_owned(),
            tensor: tensor.ok_or_else(|| wrong_output(name))?,
        })
    }

    fn parameters(&self, fronts: &Fronts) -> Parameters {
        let counts = &self.started;
        let name = |strategy: &usize| fronts.strategies()[*strategy].name.as_str();
        let by = counts
            .iter()
            .map(|(at, inputs)| format!("{}={inputs}", name(at)));
        let by: Vec<String> = by.collect();
        let mut names = counts.keys().map(name);
        let plan = match (names.next(), names.next()) {
            (Some(only), None) => only,
            _ => "mixed",
        };
        let mut parameters = Parameters::from([
            ("plan".to_owned(), plan.into()),
            ("strategies".to_owned(), by.join(",").into()),
        ]);
        if let Some(quality) = self.mean_quality(fronts) {
            report(quality, &mut parameters);
        }
        parameters
    }

    fn mean_quality(&self, fronts: &Fronts) -> Option<Quality> {
        let (mut expected, mut lower) = (0.0, 0.0);
        for (&strategy, &inputs) in &self.started {
            let quality = self.quality(fronts, strategy)?;
            expected += quality.expected * inputs as f64;
            lower += quality.lower * inputs as f64;
        }
        let inputs = self.job.inputs as f64;
        Some(Quality {
            measure: self.measure?,
            expected: expected / inputs,
            lower: lower / inputs,
        })
    }
}

/// Says in an answer's parameters how good it is.
pub(super) fn report(quality: Quality, parameters: &mut Parameters) {
    let measure = quality.measure.name();
    parameters.insert(format!("expected_{measure}"), quality.expected.into());
    parameters.insert(format!("{measure}_lower_bound"), quality.lower.into());
}

/// Tensors one after the other along the first dimension; none where they do not fit together.
fn join(parts: &[&Tensor]) -> Option<Tensor> {
    let (first, rest) = parts.split_first()?;
    if rest.is_empty() {
        return Some((*first).clone());
    }
    let rows = parts.iter().map(|part| part.shape()[0]).sum();
    let mut shape = first.shape().to_vec();
    let mut data = first.data().clone();
    for part in rest {
        if part.shape()[1..] != shape[1..] || !data.append(part.data()) {
            return None;
        }
    }
    shape[0] = rows;
    Tensor::new(shape, data).ok()
}

fn unknown_plan(named: &str, job: &Job, fronts: &Fronts) -> Error {
    let strategies = fronts.strategies();
    let known = crate::clip::list(
        job.strategies
            .iter()
            .map(|&at| strategies[at].name.as_str()),
    );
    let message = format!(
        "plan `{}` is no strategy that the request's tensors suffice for",
        crate::clip::clip(named)
    );
    Error::new(ErrorKind::InvalidInput, "unknown_plan", message)
        .with_hint(format!("they suffice for {known}"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unplannable(error: satisfice_planner::Error) -> Error {
    let kind = error.kind();
    Error::new(kind, "not_plannable", error.to_string())
}

fn wrong_output(name: &str) -> Error {
    let message = format!("the engine's output `{name}` does not have one row for each input");
    Error::new(ErrorKind::Internal, "wrong_output", message)
}
