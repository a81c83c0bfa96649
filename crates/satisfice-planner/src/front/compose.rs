//! Mixes for more inputs than a table holds.
//!
//! All but the last chunk have half a table's inputs, and are at one of two neighbouring corners of
//! that front's hull: what the linear relaxation over whole chunks would choose. The last chunk has
//! between half and a whole table's inputs and is chosen exactly, for what the others left.

use super::{
    Front, FrontTable, Item, Mix, Run,
    view::{corners, evenly},
};
use crate::{
    pareto::hull_by,
    units::{Nanos, Value},
};

impl FrontTable {
    /// A cheap mix of `inputs` inputs with a summed value of at least `floor`; none where no strategy
    /// reaches it.
    pub(super) fn compose(&self, inputs: usize, floor: Value) -> Option<Mix> {
        let chunks = Chunks::new(self, inputs);
        let [down, up] = chunks.straddling(floor, inputs)?;
        let value = |at: usize| chunks.bulk.states()[at].value;
        let time = |at: usize| chunks.bulk.states()[at].time;
        let mut best: Option<(Nanos, usize, usize)> = None;
        for ups in 0..=chunks.count {
            let downs = chunks.count - ups;
            let done = value(up) * ups as Value + value(down) * downs as Value;
            let left = floor.saturating_sub(done);
            let Some(last) = chunks.last.cheapest_from(left) else {
                continue;
            };
            let last_time = chunks.last.states()[last].time;
            let total = time(up) * ups as Nanos + time(down) * downs as Nanos + last_time;
            if best.is_none_or(|(least, ..)| total < least) {
                best = Some((total, ups, last));
            }
            // More chunks at the dearer corner only cost more once the last one is the cheapest.
            if last == 0 {
                break;
            }
        }
        let (_, ups, last) = best?;
        let mut runs = chunks.runs(up, ups);
        runs.extend(chunks.runs(down, chunks.count - ups));
        runs.extend(chunks.last.mix(chunks.last.point(last)).runs);
        let mut mix = Mix::new(runs, &self.strategies);
        mix.seconds_bound = self.relaxed_seconds(inputs, floor).min(mix.seconds);
        Some(mix)
    }

    /// At most `count` such mixes, rising in time and accuracy.
    pub(super) fn compose_spread(&self, inputs: usize, floor: Value, count: usize) -> Vec<Mix> {
        let chunks = Chunks::new(self, inputs);
        let per_chunk = chunks.bulk.inputs as Value;
        let most = chunks.bulk.states()[chunks.bulk.len() - 1].value;
        let mut floors = vec![floor];
        floors.extend(corners(chunks.bulk.states()).into_iter().filter_map(|at| {
            let value = chunks.bulk.states()[at].value;
            // The highest corner is all inputs at the best strategy: no rounding may spare it one.
            let whole = match value == most {
                true => (most / per_chunk) * inputs as Value,
                false => value * inputs as Value / per_chunk,
            };
            (whole > floor).then_some(whole)
        }));
        let count = count.min(floors.len());
        let mut mixes: Vec<Mix> = Vec::new();
        for at in evenly(floors.len(), count) {
            let Some(mix) = self.compose(inputs, floors[at]) else {
                continue;
            };
            // Chunks may answer a higher floor in less time; the same mix may answer both, and stays the lower one's.
            let beaten =
                |last: &mut Mix| (mix.seconds, last.accuracy) < (last.seconds, mix.accuracy);
            while mixes.pop_if(beaten).is_some() {}
            if mixes.last().is_none_or(|last| mix.accuracy > last.accuracy) {
                mixes.push(mix);
            }
        }
        mixes
    }

    /// The least time of any mix of `inputs` inputs that reaches `floor`, were batches divisible.
    pub(super) fn relaxed_seconds(&self, inputs: usize, floor: Value) -> f64 {
        let need = floor as f64 / inputs as f64;
        let above = self.relaxed.partition_point(|&(value, _)| value < need);
        let each = match (above.checked_sub(1), self.relaxed.get(above)) {
            (_, None) => f64::INFINITY,
            (None, Some(&(_, time))) => time,
            (Some(below), Some(&(high, dear))) => {
                let (low, cheap) = self.relaxed[below];
                cheap + (need - low) / (high - low) * (dear - cheap)
            }
        };
        each * inputs as f64 / 1e9
    }
}

/// The least time of an input by its mean value, were batches divisible: (value, nanoseconds) at the corners,
/// both rising, the time ever faster.
pub(super) fn relaxed(items: &[Item]) -> Vec<(f64, f64)> {
    let each = |item: &Item| {
        let inputs = item.inputs as f64;
        (item.value as f64 / inputs, item.time as f64 / inputs)
    };
    let mut points: Vec<(f64, f64)> = items.iter().map(each).collect();
    points.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.0.total_cmp(&a.0)));
    let mut most = f64::NEG_INFINITY;
    points.retain(|&(value, _)| {
        let better = value > most;
        most = most.max(value);
        better
    });
    let corners = hull_by(&points, |&(v0, t0), &(v1, t1), &(value, time)| {
        (v1 - v0) * (time - t0) > (value - v0) * (t1 - t0)
    });
    corners.into_iter().map(|at| points[at]).collect()
}

/// `count` equal chunks and a last one.
struct Chunks<'a> {
    count: usize,
    bulk: Front<'a>,
    last: Front<'a>,
}

impl<'a> Chunks<'a> {
    fn new(table: &'a FrontTable, inputs: usize) -> Self {
        let size = (table.inputs_max() / 2).max(1);
        let count = inputs / size - 1;
        let front = |inputs| Front { table, inputs };
        Self {
            count,
            bulk: front(size),
            last: front(inputs - count * size),
        }
    }

    /// The neighbouring corners of the chunks' hull between which their part of `floor` lies; the
    /// last one twice where it lies beyond by rounding. None where no mix reaches `floor`.
    fn straddling(&self, floor: Value, inputs: usize) -> Option<[usize; 2]> {
        let states = self.bulk.states();
        let per_chunk = u128::from(floor) * self.bulk.inputs as u128;
        let corners = corners(states);
        let up = corners
            .iter()
            .position(|&at| u128::from(states[at].value) * inputs as u128 >= per_chunk)?;
        Some([corners[up.saturating_sub(1)], corners[up]])
    }

    fn runs(&self, at: usize, times: usize) -> Vec<Run> {
        if times == 0 {
            return Vec::new();
        }
        let mut runs = self.bulk.mix(self.bulk.point(at)).runs;
        runs.iter_mut().for_each(|run| run.times *= times);
        runs
    }
}
