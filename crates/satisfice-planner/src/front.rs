//! The cheapest mixes of strategies, for every number of inputs.

mod cache;
mod compose;
mod mix;
#[cfg(test)]
mod tests;
mod view;

use crate::{
    Error, StrategyProfile,
    error::checked,
    pareto::{State, merge},
    units::{self, Nanos, Value},
};
pub use cache::FrontCache;
pub(crate) use mix::scrambled;
pub use mix::{Mix, Run};
pub use view::{Front, Point};

/// Most inputs that a table may be built for.
const TABLE_INPUTS_MAX: usize = 4096;

/// Most strategies in a table.
pub const STRATEGIES_MAX: usize = 256;

/// Most points kept for one number of inputs; beyond it a front is thinned and says its gap.
const POINTS_MAX: usize = 4096;

/// Most inputs in a job.
pub const INPUTS_LIMIT: usize = 1 << 24;

/// One batch of one strategy: what mixes are made of.
#[derive(Debug, Clone, Copy)]
struct Item {
    strategy: usize,
    inputs: usize,
    time: Nanos,
    value: Value,
}

/// Minimal time against summed accuracy, for 1 to `inputs_max` inputs.
///
/// A mix is a multiset of batches, each of one strategy; its time is the sum of theirs, one after
/// the other. For `k` inputs the front is what is not dominated among the fronts of `k - b` inputs
/// with a batch of `b` added, over all strategies and batch sizes: every mix is reached by its last
/// batch, so the front is exact. Accuracies count in millionths, times in nanoseconds.
///
/// Cost: one merge of two fronts for each (number of inputs, strategy, batch size) that is not
/// itself dominated by a mix of the same size.
#[derive(Debug, Clone)]
pub struct FrontTable {
    strategies: Vec<StrategyProfile>,
    items: Vec<Item>,
    /// Of all batches: the corners of the least time by value, were they divisible.
    relaxed: Vec<(f64, f64)>,
    /// By number of inputs, from 0.
    fronts: Vec<Vec<State>>,
    /// By number of inputs: how much summed value thinning may have cost.
    gaps: Vec<Value>,
}

impl FrontTable {
    /// The table over those of `strategies` whose positions are in `available`. Mixes name
    /// strategies by their positions in `strategies`.
    ///
    /// # Errors
    /// Where nothing is available, a position is unknown, or there are more than [`STRATEGIES_MAX`] strategies or
    /// 4096 inputs.
    pub fn new(
        strategies: &[StrategyProfile],
        available: &[usize],
        inputs_max: usize,
    ) -> Result<Self, Error> {
        Self::thinned(strategies, available, inputs_max, POINTS_MAX)
    }

    fn thinned(
        strategies: &[StrategyProfile],
        available: &[usize],
        inputs_max: usize,
        points_max: usize,
    ) -> Result<Self, Error> {
        let items = items(strategies, available)?;
        if inputs_max == 0 {
            return Err(Error::Nothing { what: "input" });
        }
        at_most("inputs of a table", inputs_max, TABLE_INPUTS_MAX)?;
        let mut table = Self {
            strategies: strategies.to_vec(),
            relaxed: compose::relaxed(&items),
            items,
            fronts: vec![vec![State::START]],
            gaps: vec![0],
        };
        for inputs in 1..=inputs_max {
            table.extend(inputs, points_max);
        }
        Ok(table)
    }

    /// Adds the front for `inputs`, one more than there was.
    fn extend(&mut self, inputs: usize, points_max: usize) {
        let mut front = Vec::new();
        let mut merged = Vec::new();
        let mut gap = 0;
        for (step, item) in self.items.iter().enumerate() {
            // Smaller batches come first, so `inputs` is reached once for all that follow.
            if item.inputs > inputs {
                break;
            }
            let rest = inputs - item.inputs;
            gap = gap.max(self.gaps[rest]);
            let added = self.fronts[rest]
                .iter()
                .enumerate()
                .map(|(from, state)| State {
                    time: state.time + item.time,
                    value: state.value + item.value,
                    from: from as u32,
                    step: step as u32,
                });
            merge(&front, added, &mut merged);
            std::mem::swap(&mut front, &mut merged);
        }
        self.forget_dominated(inputs, &mut front);
        gap += thin(&mut front, points_max);
        self.fronts.push(front);
        self.gaps.push(gap);
    }

    /// Drops the batches of `inputs` inputs that are not on the front of `inputs` inputs: whatever
    /// holds one is no worse with the mix that dominates it in its place.
    fn forget_dominated(&mut self, inputs: usize, front: &mut [State]) {
        let mut alone = vec![false; self.items.len()];
        for state in &*front {
            let item = &self.items[state.step as usize];
            alone[state.step as usize] |= item.inputs == inputs;
        }
        let mut position = vec![0; self.items.len()];
        let mut kept = 0;
        let mut step = 0;
        self.items.retain(|item| {
            let keep = item.inputs != inputs || alone[step];
            position[step] = kept;
            kept += u32::from(keep);
            step += 1;
            keep
        });
        // Earlier fronts name smaller batches, which stand before everything that was dropped.
        for state in front {
            state.step = position[state.step as usize];
        }
    }

    /// Most inputs that there is a front for.
    pub fn inputs_max(&self) -> usize {
        self.fronts.len() - 1
    }

    /// The front of exactly `inputs` inputs; none for 0 and beyond [`inputs_max`](Self::inputs_max).
    pub fn front(&self, inputs: usize) -> Option<Front<'_>> {
        (1..=self.inputs_max()).contains(&inputs).then_some(Front {
            table: self,
            inputs,
        })
    }

    /// The cheapest mix whose mean accuracy is at least `min_accuracy`; none where no strategy
    /// reaches it. Beyond [`inputs_max`](Self::inputs_max) inputs the mix is composed of chunks, and
    /// may be dearer than the cheapest ([`Mix::seconds_bound`]).
    ///
    /// # Errors
    /// Where `inputs` is 0 or beyond [`INPUTS_LIMIT`], or `min_accuracy` is not a share.
    pub fn cheapest(&self, inputs: usize, min_accuracy: f64) -> Result<Option<Mix>, Error> {
        let floor = floor(inputs, min_accuracy)?;
        Ok(match self.front(inputs) {
            Some(front) => front
                .cheapest_from(floor)
                .map(|at| front.mix(front.point(at))),
            None => self.compose(inputs, floor),
        })
    }

    /// Mixes to choose among under a deadline, at most `count`, rising in time and accuracy: the
    /// cheapest that reaches `min_accuracy`, the most accurate, and between them those that gain
    /// most accuracy per time. Empty where no strategy reaches it.
    ///
    /// # Errors
    /// As for [`cheapest`](Self::cheapest), and where `count` is 0.
    pub fn alternatives(
        &self,
        inputs: usize,
        min_accuracy: f64,
        count: usize,
    ) -> Result<Vec<Mix>, Error> {
        let floor = floor(inputs, min_accuracy)?;
        if count == 0 {
            return Err(Error::Nothing {
                what: "alternative",
            });
        }
        Ok(match self.front(inputs) {
            Some(front) => front
                .spread(floor, count)
                .into_iter()
                .map(|at| front.mix(front.point(at)))
                .collect(),
            None => self.compose_spread(inputs, floor, count),
        })
    }
}

/// The summed value that `inputs` inputs need for a mean of `min_accuracy`.
fn floor(inputs: usize, min_accuracy: f64) -> Result<Value, Error> {
    if inputs == 0 {
        return Err(Error::Nothing { what: "input" });
    }
    at_most("inputs of a job", inputs, INPUTS_LIMIT)?;
    let share = checked(
        || "a minimum accuracy".to_owned(),
        min_accuracy,
        "0 to 1",
        |v| (0.0..=1.0).contains(&v),
    )?;
    Ok(units::value(share) * inputs as Value)
}

/// Every batch of every available strategy, smallest first.
fn items(strategies: &[StrategyProfile], available: &[usize]) -> Result<Vec<Item>, Error> {
    if available.is_empty() {
        return Err(Error::Nothing { what: "strategy" });
    }
    at_most("strategies of a table", available.len(), STRATEGIES_MAX)?;
    let mut items = Vec::new();
    for &strategy in available {
        let profile = strategies.get(strategy).ok_or(Error::UnknownStrategy {
            index: strategy,
            strategies: strategies.len(),
        })?;
        items.extend((1..=profile.batch_max()).map(|inputs| Item {
            strategy,
            inputs,
            time: profile.nanos(inputs),
            value: profile.value() * inputs as Value,
        }));
    }
    items.sort_by_key(|item| item.inputs);
    Ok(items)
}

fn at_most(what: &'static str, given: usize, most: usize) -> Result<(), Error> {
    if given > most {
        return Err(Error::TooMany { what, given, most });
    }
    Ok(())
}

/// Keeps at most about `points_max` points: of those whose values lie in one of as many equal
/// intervals the cheapest, and the most accurate of all. Returns by how much less value a kept
/// point may have than a dropped one that is no cheaper.
fn thin(front: &mut Vec<State>, points_max: usize) -> Value {
    let (Some(&first), Some(&last)) = (front.first(), front.last()) else {
        return 0;
    };
    if front.len() <= points_max {
        return 0;
    }
    let width = (last.value - first.value) / points_max as Value + 1;
    let mut kept = first;
    let mut gap = 0;
    front.retain(|state| {
        let keep = *state == first
            || *state == last
            || (state.value - first.value) / width > (kept.value - first.value) / width;
        if keep {
            kept = *state;
        } else {
            gap = gap.max(state.value - kept.value);
        }
        keep
    });
    gap
}
