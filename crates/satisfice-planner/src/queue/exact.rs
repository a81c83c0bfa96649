//! The choice of highest summed accuracy: a programme over the jobs in order, whose states are
//! (time, value), pruned where dominated.

use super::chain::Chain;
use crate::pareto::{State, merge};

/// Most jobs with a choice for which it is worth trying.
const JOBS_MAX: usize = 24;

/// The best step of every slot; none where more than 24 have a choice, or more than `work_max` states
/// would be extended.
pub(super) fn choose(chain: &Chain<'_>, work_max: usize) -> Option<Vec<usize>> {
    let open = chain.slots.iter().filter(|slot| !slot.is_fixed());
    // One state at least is extended a slot.
    if open.count() > JOBS_MAX || chain.slots.len() > work_max {
        return None;
    }
    let mut work = 0;
    let mut layers = vec![vec![State {
        time: chain.start,
        ..State::START
    }]];
    for slot in &chain.slots {
        let before = &layers[layers.len() - 1];
        work += before.len() * slot.steps.len();
        if work > work_max {
            return None;
        }
        let mut layer = Vec::new();
        let mut merged = Vec::new();
        for (at, step) in slot.steps.iter().enumerate() {
            let added = before.iter().enumerate().map(|(from, state)| State {
                time: state.time + step.time,
                value: state.value + slot.weight * step.value,
                from: from as u32,
                step: at as u32,
            });
            let on_time = added.take_while(|state| state.time <= slot.deadline);
            merge(&layer, on_time, &mut merged);
            std::mem::swap(&mut layer, &mut merged);
        }
        layers.push(layer);
    }
    let mut at = layers[layers.len() - 1].len().checked_sub(1)?;
    let mut chosen: Vec<usize> = layers[1..]
        .iter()
        .rev()
        .map(|layer| {
            let state = layer[at];
            at = state.from as usize;
            state.step as usize
        })
        .collect();
    chosen.reverse();
    Some(chosen)
}
