//! A good choice for long queues.

use super::chain::{Chain, Slot};
use std::{cmp::Ordering, collections::BinaryHeap};

/// Starts everybody at the most accurate alternative; where a prefix misses its deadline, applies,
/// inside that prefix, the downgrade with the largest saved time per lost accuracy, until it no
/// longer does. A downgrade saves as much at every later deadline, so one pass is enough. What the
/// last downgrades saved too much is then spent on upgrades.
///
/// All jobs are on time, as they are when everybody is at the cheapest.
pub(super) fn choose(chain: &Chain<'_>) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::with_capacity(chain.slots.len());
    let mut downgrades = BinaryHeap::new();
    let mut time = chain.start;
    for (at, slot) in chain.slots.iter().enumerate() {
        let last = slot.steps.len() - 1;
        chosen.push(last);
        time += slot.steps[last].time;
        downgrades.extend(Downgrade::from(at, slot, slot.hull.len() - 1));
        while time > slot.deadline {
            let Some(best) = downgrades.pop() else { break };
            let slot = &chain.slots[best.slot];
            let to = slot.hull[best.corner] as usize;
            time -= slot.steps[chosen[best.slot]].time - slot.steps[to].time;
            chosen[best.slot] = to;
            downgrades.extend(Downgrade::from(best.slot, slot, best.corner));
        }
    }
    upgrade(chain, &mut chosen);
    chosen
}

/// The step from a corner of a job's hull to the next cheaper one.
struct Downgrade {
    /// Time saved per accuracy lost.
    gain: f64,
    slot: usize,
    /// The cheaper corner.
    corner: usize,
}

impl Downgrade {
    fn from(at: usize, slot: &Slot<'_>, corner: usize) -> Option<Self> {
        let corner = corner.checked_sub(1)?;
        let [to, from] = [0, 1].map(|i| slot.steps[slot.hull[corner + i] as usize]);
        let lost = (from.value - to.value) * slot.weight;
        Some(Self {
            gain: (from.time - to.time) as f64 / lost as f64,
            slot: at,
            corner,
        })
    }
}

impl Ord for Downgrade {
    fn cmp(&self, other: &Self) -> Ordering {
        // Ties by position: equal queues get equal plans.
        self.gain
            .total_cmp(&other.gain)
            .then(other.slot.cmp(&self.slot))
    }
}

impl PartialOrd for Downgrade {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Downgrade {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Downgrade {}

/// Gives each job the most accurate alternative that everybody behind it can bear, from the front and
/// from the back, and keeps the better of the two.
fn upgrade(chain: &Chain<'_>, chosen: &mut Vec<usize>) {
    let slack = chain.slack(chosen);
    let mut forward = chosen.clone();
    let mut spent = 0;
    for (at, slot) in chain.slots.iter().enumerate() {
        // Every upgrade so far puts off all from here on by as much.
        spent += raise(slot, &mut forward[at], slack[at] - spent);
    }
    let mut left = u64::MAX;
    for (at, slot) in chain.slots.iter().enumerate().rev() {
        left = left.min(slack[at]);
        left -= raise(slot, &mut chosen[at], left);
    }
    if chain.value(&forward) > chain.value(chosen) {
        *chosen = forward;
    }
}

/// The most accurate step that takes at most `slack` longer. Returns how much longer it takes.
fn raise(slot: &Slot<'_>, chosen: &mut usize, slack: u64) -> u64 {
    let now = slot.steps[*chosen].time;
    let fits = slot.steps[*chosen..].partition_point(|step| step.time <= now.saturating_add(slack));
    *chosen += fits - 1;
    slot.steps[*chosen].time - now
}
