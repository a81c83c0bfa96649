//! Short jobs before long ones, where nobody becomes late.

use crate::units::Nanos;
use std::collections::BinaryHeap;

/// Jobs at the head of an executor's queue that may change places. Whoever is behind moves up.
const JOBS_MAX: usize = 64;

/// A job for which an alternative was chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub time: Nanos,
    pub deadline: Nanos,
    /// Whether it may change places; where one may not, nobody passes it.
    pub moves: bool,
}

/// Positions of jobs in the order in which their times from now until they are done have the least
/// sum, while each is done in half of the time to its deadline where that is possible. `jobs` run from
/// `start`, all of them on time in the order given, and so they are afterwards.
///
/// From the back, of the jobs that may still be done so late, the longest goes last. Where there is none,
/// the last one given does.
///
/// Source: Smith 1956.
pub(super) fn first(jobs: &[Chosen], start: Nanos) -> Vec<usize> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    let head = &jobs[..jobs.len().min(JOBS_MAX)];
    let (mut from, mut begin) = (0, start);
    for stretch in head.chunk_by(|a, b| a.moves && b.moves) {
        let end = begin + stretch.iter().map(|job| job.time).sum::<Nanos>();
        arrange(stretch, end, &mut order[from..from + stretch.len()]);
        from += stretch.len();
        begin = end;
    }
    order
}

/// Arranges `places`, ascending positions of `jobs`, of which the last is done at `end`.
fn arrange(jobs: &[Chosen], mut end: Nanos, places: &mut [usize]) {
    let from = places.first().copied().unwrap_or(0);
    let mut given = jobs.len();
    let mut may_be_last = BinaryHeap::new();
    for place in places.iter_mut().rev() {
        while given > 0 && (jobs[given - 1].deadline / 2 >= end || may_be_last.is_empty()) {
            given -= 1;
            may_be_last.push((jobs[given].time, given));
        }
        if let Some((time, at)) = may_be_last.pop() {
            *place = from + at;
            end -= time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Random;

    /// Times of completion in that order; none where somebody is not done in the share of the time to
    /// its deadline.
    fn sum(jobs: &[Chosen], order: &[usize], start: Nanos, share: Nanos) -> Option<Nanos> {
        let (mut time, mut sum) = (start, 0);
        for &at in order {
            time += jobs[at].time;
            sum += time;
            if time > jobs[at].deadline / share {
                return None;
            }
        }
        Some(sum)
    }

    fn best(jobs: &[Chosen], order: &mut Vec<usize>, start: Nanos) -> Option<Nanos> {
        if order.len() == jobs.len() {
            return sum(jobs, order, start, 2);
        }
        let mut least: Option<Nanos> = None;
        for at in 0..jobs.len() {
            if !order.contains(&at) {
                order.push(at);
                let found = best(jobs, order, start);
                order.pop();
                least = least.into_iter().chain(found).min();
            }
        }
        least
    }

    /// Jobs by deadline, all on time from `start`.
    fn jobs(random: &mut Random, start: Nanos, count: usize, moving: usize) -> Vec<Chosen> {
        let mut jobs: Vec<Chosen> = (0..count)
            .map(|_| Chosen {
                time: 1 + random.below(20) as Nanos,
                deadline: start + random.below(40 * count) as Nanos,
                moves: random.below(moving) > 0,
            })
            .collect();
        jobs.sort_by_key(|job| job.deadline);
        let mut time = start;
        for job in &mut jobs {
            time += job.time;
            job.deadline = job.deadline.max(time);
        }
        jobs
    }

    #[test]
    fn the_sum_is_the_least_of_all_orders() {
        let mut random = Random::new(31);
        let mut possible = 0;
        for _ in 0..2_000 {
            let start = random.below(10) as Nanos;
            let count = 1 + random.below(5);
            let jobs = jobs(&mut random, start, count, 1_000_000);
            let Some(least) = best(&jobs, &mut Vec::new(), start) else {
                continue;
            };
            assert_eq!(sum(&jobs, &first(&jobs, start), start, 2), Some(least));
            possible += 1;
        }
        assert!(possible > 500, "{possible}");
    }

    #[test]
    fn nobody_becomes_late_and_who_does_not_move_is_not_passed() {
        let mut random = Random::new(32);
        let mut moved = 0;
        for _ in 0..2_000 {
            let count = 1 + random.below(100);
            let jobs = jobs(&mut random, 5, count, 8);
            let order = first(&jobs, 5);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            assert!(sum(&jobs, &order, 5, 1).is_some());
            let fixed = (0..count).filter(|&at| !jobs[at].moves || at >= JOBS_MAX);
            assert!(fixed.clone().all(|at| order[at] == at));
            moved += usize::from(order != sorted);
        }
        assert!(moved > 1_000, "{moved}");
    }
}
