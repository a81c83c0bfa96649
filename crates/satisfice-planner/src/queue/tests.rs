//! Plans against brute force.

use super::{Alternatives, Decision, Job, Limits, Planner};
use crate::simulate::Random;
use proptest::prelude::*;

/// A job as whole milliseconds and thousandths.
#[derive(Debug, Clone)]
struct Raw {
    deadline: u32,
    inputs: usize,
    priority: i32,
    ways: Vec<(u32, u32)>,
}

fn job(id: usize, raw: &Raw) -> Job {
    let ways: Vec<(f64, f64)> = raw
        .ways
        .iter()
        .map(|&(ms, accuracy)| (f64::from(ms) / 1e3, f64::from(accuracy) / 1e3))
        .collect();
    Job::new(
        id as u64,
        0.0,
        raw.inputs,
        Alternatives::new(&ways).unwrap(),
    )
    .unwrap()
    .with_deadline(f64::from(raw.deadline) / 1e3)
    .unwrap()
    .with_priority(raw.priority)
}

fn jobs(raw: &[Raw]) -> Vec<Job> {
    raw.iter()
        .enumerate()
        .map(|(id, raw)| job(id, raw))
        .collect()
}

fn queue(random: &mut Random, count: usize, priorities: usize) -> Vec<Raw> {
    let total = 40 * count + 20;
    (0..count)
        .map(|_| Raw {
            deadline: 5 + random.below(total) as u32,
            inputs: 1 + random.below(8),
            priority: random.below(priorities) as i32,
            ways: (0..=random.below(4))
                .map(|_| (1 + random.below(60) as u32, 500 + random.below(500) as u32))
                .collect(),
        })
        .collect()
}

/// Whether all times, in the jobs' order of deadline, are met on one executor.
fn on_time(raw: &[Raw], chosen: &[(usize, usize)]) -> bool {
    let mut order = chosen.to_vec();
    order.sort_by_key(|&(at, _)| raw[at].deadline);
    let mut time = 0;
    order.into_iter().all(|(at, way)| {
        time += raw[at].ways[way].0;
        time <= raw[at].deadline
    })
}

/// The highest summed accuracy of these jobs with all on time; none where that cannot be.
fn best_value(raw: &[Raw], kept: &[usize], chosen: &mut Vec<(usize, usize)>) -> Option<u64> {
    let Some((&at, others)) = kept.split_first() else {
        return on_time(raw, chosen).then_some(0);
    };
    (0..raw[at].ways.len())
        .filter_map(|way| {
            chosen.push((at, way));
            let rest = best_value(raw, others, chosen);
            chosen.pop();
            rest.map(|rest| rest + u64::from(raw[at].ways[way].1) * raw[at].inputs as u64)
        })
        .max()
}

fn value(raw: &[Raw], decision: &Decision) -> u64 {
    let values = decision.choices.iter().map(|choice| {
        let job = &raw[choice.job];
        u64::from(job.ways[choice.alternative].1) * job.inputs as u64
    });
    values.sum()
}

/// Every job once, one after the other on each executor, on time, for as long as chosen.
fn check(raw: &[Raw], decision: &Decision, executors: &[f64]) {
    let mut seen: Vec<usize> = decision.choices.iter().map(|choice| choice.job).collect();
    seen.extend(&decision.refused);
    seen.sort_unstable();
    assert_eq!(seen, (0..raw.len()).collect::<Vec<_>>());
    let mut free = executors.to_vec();
    for choice in &decision.choices {
        let job = &raw[choice.job];
        assert!((choice.start - free[choice.executor]).abs() < 1e-9);
        let time = f64::from(job.ways[choice.alternative].0) / 1e3;
        assert!((choice.end - choice.start - time).abs() < 1e-9);
        assert!(
            choice.end <= f64::from(job.deadline) / 1e3 + 1e-9,
            "late: {choice:?}"
        );
        free[choice.executor] = choice.end;
    }
}

fn plan(raw: &[Raw], executors: &[f64], exact_work_max: usize) -> Decision {
    let limits = Limits {
        exact_work_max,
        look_ahead: false,
        ..Limits::default()
    };
    let mut planner = Planner::new(limits).unwrap();
    planner.plan(0.0, &jobs(raw), executors).unwrap()
}

fn cheapest(raw: &Raw) -> u32 {
    raw.ways.iter().map(|way| way.0).min().unwrap()
}

/// Whether the jobs of a set are on time at their cheapest on `free` executors, by any division.
fn fits(raw: &[Raw], set: &[usize], free: &mut [u32]) -> bool {
    let Some((&at, others)) = set.split_first() else {
        return true;
    };
    (0..free.len()).any(|executor| {
        let before = free[executor];
        free[executor] += cheapest(&raw[at]);
        let fit = free[executor] <= raw[at].deadline && fits(raw, others, free);
        free[executor] = before;
        fit
    })
}

/// The largest number of jobs of a class that are on time together with `kept`.
fn most_kept(raw: &[Raw], class: i32, kept: &[usize], executors: usize) -> usize {
    let mut order: Vec<usize> = (0..raw.len()).collect();
    order.sort_by_key(|&at| raw[at].deadline);
    let joins = |at: usize, mask: u32| raw[at].priority == class && mask >> at & 1 == 1;
    let sets = (0_u32..1 << raw.len()).filter_map(|mask| {
        let set = order.iter().copied();
        let set: Vec<usize> = set
            .filter(|&at| joins(at, mask) || kept.contains(&at))
            .collect();
        fits(raw, &set, &mut vec![0; executors]).then(|| set.len() - kept.len())
    });
    sets.max().unwrap()
}

fn kept(decision: &Decision) -> Vec<usize> {
    decision.choices.iter().map(|choice| choice.job).collect()
}

#[test]
fn exact_plans_equal_brute_force_on_ten_thousand_queues() {
    let mut random = Random::new(1);
    for case in 0..10_000 {
        let count = 1 + random.below(6);
        let raw = queue(&mut random, count, 1);
        let decision = plan(&raw, &[0.0], usize::MAX);
        check(&raw, &decision, &[0.0]);
        assert!(decision.exact);
        let best = best_value(&raw, &kept(&decision), &mut Vec::new());
        assert_eq!(Some(value(&raw, &decision)), best, "case {case}: {raw:?}");
    }
}

#[test]
fn the_largest_number_is_kept_class_by_class() {
    let mut random = Random::new(2);
    let mut refusals = 0;
    for case in 0..5_000 {
        let count = 1 + random.below(8);
        let priorities = 1 + random.below(3);
        let mut raw = queue(&mut random, count, priorities);
        raw.iter_mut().for_each(|job| job.deadline /= 2);
        let decision = plan(&raw, &[0.0], 1000);
        check(&raw, &decision, &[0.0]);
        refusals += decision.refused.len();
        let mut above = Vec::new();
        for class in (0..3).rev() {
            let mut of_class = kept(&decision);
            of_class.retain(|&at| raw[at].priority == class);
            let most = most_kept(&raw, class, &above, 1);
            assert_eq!(of_class.len(), most, "case {case}: {raw:?}");
            above.extend(of_class);
        }
    }
    assert!(refusals > 1000);
}

#[test]
fn greedy_plans_are_on_time_and_close() {
    let mut random = Random::new(3);
    let (mut sum, mut worst, mut tight) = (0.0, 0.0_f64, 0);
    for _ in 0..3_000 {
        let count = 4 + random.below(10);
        let raw = queue(&mut random, count, 1);
        let greedy = plan(&raw, &[0.0], 0);
        check(&raw, &greedy, &[0.0]);
        let exact = plan(&raw, &[0.0], usize::MAX);
        assert_eq!(greedy.refused, exact.refused);
        let best = value(&raw, &exact) as f64;
        if greedy.exact || best == 0.0 {
            continue;
        }
        let gap = 1.0 - value(&raw, &greedy) as f64 / best;
        assert!(gap >= 0.0);
        sum += gap;
        worst = worst.max(gap);
        tight += 1;
    }
    let mean = sum / f64::from(tight);
    println!(
        "greedy against exact, {tight} queues: mean gap {:.3} %, largest {:.2} %",
        100.0 * mean,
        100.0 * worst
    );
    assert!(tight > 500);
    assert!(mean < 0.004 && worst < 0.15, "{mean} {worst}");
}

/// The highest summed accuracy with all jobs on time, over all divisions among the executors.
fn best_divided(raw: &[Raw], order: &[usize], free: &mut [u32]) -> Option<u64> {
    let Some((&at, others)) = order.split_first() else {
        return Some(0);
    };
    let mut best = None;
    for executor in 0..free.len() {
        for &(time, accuracy) in &raw[at].ways {
            let before = free[executor];
            free[executor] += time;
            if free[executor] <= raw[at].deadline
                && let Some(rest) = best_divided(raw, others, free)
            {
                best = best.max(Some(rest + u64::from(accuracy) * raw[at].inputs as u64));
            }
            free[executor] = before;
        }
    }
    best
}

#[test]
fn two_executors_are_used_well() {
    let mut random = Random::new(4);
    let (mut missed, mut most, mut sum, mut worst, mut compared) = (0, 0, 0.0, 0.0_f64, 0);
    for _ in 0..1_000 {
        let count = 1 + random.below(6);
        let mut raw = queue(&mut random, count, 1);
        raw.iter_mut().for_each(|job| job.deadline /= 3);
        let executors = [0.0, 0.0];
        let decision = plan(&raw, &executors, usize::MAX);
        check(&raw, &decision, &executors);
        let optimum = most_kept(&raw, 0, &[], 2);
        assert!(decision.choices.len() <= optimum);
        missed += optimum - decision.choices.len();
        most += optimum;
        let mut order = kept(&decision);
        order.sort_by_key(|&at| raw[at].deadline);
        let best = best_divided(&raw, &order, &mut [0, 0]).unwrap();
        let gap = if best == 0 {
            0.0
        } else {
            1.0 - value(&raw, &decision) as f64 / best as f64
        };
        assert!(gap == 0.0 || !decision.exact);
        sum += gap;
        worst = worst.max(gap);
        compared += 1;
    }
    let mean = sum / f64::from(compared);
    println!(
        "two executors: {missed} of {most} jobs fewer, mean gap {:.3} %, largest {:.2} %",
        100.0 * mean,
        100.0 * worst
    );
    assert!(missed * 50 <= most, "{missed} of {most}");
    assert!(mean < 0.02, "{mean} {worst}");
}

#[test]
fn accuracy_goes_to_the_higher_class_first() {
    let way = |priority| Raw {
        deadline: 30,
        inputs: 1,
        priority,
        ways: vec![(10, 500), (20, 900)],
    };
    let decision = plan(&[way(0), way(1)], &[0.0], 1000);
    let ways: Vec<(usize, usize)> = decision
        .choices
        .iter()
        .map(|c| (c.job, c.alternative))
        .collect();
    assert_eq!(ways, [(0, 0), (1, 1)]);
    assert!(decision.exact);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_fits_at_the_cheapest_is_kept(seed: u64, count in 1_usize..200, executors in 1_usize..4) {
        let mut random = Random::new(seed);
        let mut raw = queue(&mut random, count, 3);
        // Deadlines that the cheapest alternatives meet one after the other.
        let mut free = vec![0; executors];
        for job in &mut raw {
            let earliest = (0..executors).min_by_key(|&e| free[e]).unwrap();
            free[earliest] += cheapest(job);
            job.deadline = free[earliest] + random.below(20) as u32;
        }
        let executors = vec![0.0; executors];
        let decision = plan(&raw, &executors, 2000);
        check(&raw, &decision, &executors);
        if executors.len() == 1 {
            prop_assert_eq!(decision.refused.len(), 0);
        }
    }

    #[test]
    fn equal_queues_get_equal_plans(seed: u64, count in 1_usize..60) {
        let raw = queue(&mut Random::new(seed), count, 3);
        let executors = [0.0, 0.0];
        prop_assert_eq!(plan(&raw, &executors, 2000), plan(&raw, &executors, 2000));
    }
}

#[test]
fn upgrades_stop_while_time_is_dear() {
    let ways = Alternatives::new(&[(0.010, 0.7), (0.040, 0.9)]).unwrap();
    let mut planner = Planner::default();
    let mut lone = |id: u64, now: f64| {
        let job = Job::new(id, now, 1, ways.clone()).unwrap();
        let job = job.with_deadline(now + 1.0).unwrap();
        let decision = planner.plan(now, &[job], &[now]).unwrap();
        (decision.choices[0].alternative, decision.exact)
    };
    // As many jobs as there is time for at the cheapest: seen once there were enough of them.
    assert_eq!(lone(0, 0.0), (1, true));
    let later: Vec<_> = (1..40).map(|id| lone(id, 0.010 * id as f64)).collect();
    assert_eq!(later[38], (0, false));
    assert_eq!(lone(40, 100.0), (1, true));
}

#[test]
fn wrong_numbers_are_refused() {
    let ways = || Alternatives::new(&[(0.1, 0.9)]).unwrap();
    for pair in [
        (f64::NAN, 0.5),
        (0.0, 0.5),
        (-1.0, 0.5),
        (0.1, f64::NAN),
        (0.1, 1.5),
        (1e300, 0.5),
    ] {
        assert!(Alternatives::new(&[pair]).is_err());
    }
    assert!(Alternatives::new(&[]).is_err());
    assert!(Alternatives::new(&vec![(0.1, 0.5); 300]).is_err());
    assert!(Job::new(0, f64::NAN, 1, ways()).is_err());
    assert!(Job::new(0, 0.0, 0, ways()).is_err());
    let job = Job::new(0, 0.0, 1, ways()).unwrap();
    assert!(job.clone().with_deadline(f64::INFINITY).is_err());
    let mut planner = Planner::default();
    for now in [f64::NAN, f64::INFINITY] {
        assert!(
            planner
                .plan(now, std::slice::from_ref(&job), &[0.0])
                .is_err()
        );
    }
    assert!(planner.plan(0.0, std::slice::from_ref(&job), &[]).is_err());
    assert!(
        planner
            .plan(0.0, std::slice::from_ref(&job), &[f64::NAN])
            .is_err()
    );
    assert!(
        planner
            .plan(0.0, std::slice::from_ref(&job), &[1e300])
            .is_err()
    );
    for share in [f64::NAN, 0.0, -1.0, 2.0] {
        let limits = Limits {
            soft_share: share,
            ..Limits::default()
        };
        assert!(Planner::new(limits).is_err());
    }
}

#[test]
fn passed_and_extreme_deadlines_are_handled() {
    let ways = Alternatives::new(&[(0.1, 0.9)]).unwrap();
    let at = |deadline| {
        Job::new(0, 0.0, 1, ways.clone())
            .unwrap()
            .with_deadline(deadline)
            .unwrap()
    };
    let queue = [at(-1e300), at(1e300), at(0.05)];
    let decision = Planner::default().plan(0.0, &queue, &[-1e300]).unwrap();
    assert_eq!(decision.refused, [0, 2]);
    assert_eq!(decision.choices.len(), 1);
    let empty: [Job; 0] = [];
    assert!(
        Planner::default()
            .plan(0.0, &empty, &[0.0])
            .unwrap()
            .choices
            .is_empty()
    );
}
