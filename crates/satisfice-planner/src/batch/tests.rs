//! Batches on a virtual clock.

use super::{Batch, Batcher, Next, Part};
use crate::{StrategyProfile, simulate::Random};
use proptest::prelude::*;

/// Batch times that need not be concave.
fn strategies(random: &mut Random) -> Vec<StrategyProfile> {
    (0..=random.below(3))
        .map(|_| {
            let (fixed, each) = (0.001 * random.unit(), 0.001 * random.unit() + 1e-5);
            let times = (1..2 + random.below(8))
                .map(|b| fixed + each * b as f64 * (0.8 + 0.4 * random.unit()))
                .collect();
            StrategyProfile::new(0.9, 0.9, times).unwrap()
        })
        .collect()
}

fn parts(random: &mut Random, strategies: usize) -> Vec<Part> {
    (0..random.below(12))
        .map(|_| Part {
            strategy: random.below(strategies),
            inputs: 1 + random.below(12),
            deadline: (random.below(4) > 0).then(|| 0.03 * random.unit()),
            ready: 0.0,
        })
        .collect()
}

/// When each part is done if the executor runs what `take` says, from `now`, without arrivals.
fn run(now: f64, mut parts: Vec<(usize, Part)>, take: impl Fn(f64, &[Part]) -> Next) -> Vec<f64> {
    let mut done = vec![0.0; parts.len()];
    let mut now = now;
    while !parts.is_empty() {
        let waiting: Vec<Part> = parts.iter().map(|(_, part)| *part).collect();
        match take(now, &waiting) {
            Next::Idle => panic!("idle with parts waiting"),
            Next::WaitUntil(until) => {
                assert!(until > now);
                now = until;
            }
            Next::Run(batch) => {
                now += batch.seconds;
                for member in &batch.members {
                    let (id, part) = &mut parts[member.part];
                    assert!(member.inputs > 0 && member.inputs <= part.inputs);
                    part.inputs -= member.inputs;
                    done[*id] = now;
                }
                parts.retain(|(_, part)| part.inputs > 0);
            }
        }
    }
    done
}

fn size(batch: &Batch) -> usize {
    batch.members.iter().map(|member| member.inputs).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nobody_is_late_who_would_be_on_time_without_batches(seed: u64) {
        let mut random = Random::new(seed);
        let strategies = strategies(&mut random);
        let parts = parts(&mut random, strategies.len());
        let delay = if random.below(2) == 0 { 0.0 } else { 0.01 * random.unit() };
        let batcher = Batcher::new(&strategies, delay, 1).unwrap();
        let numbered: Vec<(usize, Part)> = parts.iter().copied().enumerate().collect();
        // Each part by itself, in order.
        let alone = run(0.0, numbered.clone(), |now, parts| batcher.next(now, &parts[..1]).map(|next| match next {
            Next::WaitUntil(_) => Batcher::new(&strategies, 0.0, 1).unwrap().next(now, &parts[..1]).unwrap(),
            next => next,
        }).unwrap());
        let batched = run(0.0, numbered, |now, parts| batcher.next(now, parts).unwrap());
        for (at, part) in parts.iter().enumerate() {
            if let Some(deadline) = part.deadline && alone[at] <= deadline {
                prop_assert!(batched[at] <= deadline + 1e-6, "part {}: {} alone, {} batched, due {}", at, alone[at], batched[at], deadline);
            }
        }
    }

    #[test]
    fn batches_are_bounded_and_of_one_strategy(seed: u64) {
        let mut random = Random::new(seed);
        let strategies = strategies(&mut random);
        let parts = parts(&mut random, strategies.len());
        let executors = 1 + random.below(3);
        let batcher = Batcher::new(&strategies, 0.0, executors).unwrap();
        match batcher.next(0.0, &parts).unwrap() {
            // Without a delay a free executor never waits.
            Next::WaitUntil(_) => prop_assert!(false),
            Next::Idle => prop_assert!(parts.is_empty()),
            Next::Run(batch) => {
                let profile = &strategies[batch.strategy];
                prop_assert!((1..=profile.batch_max()).contains(&size(&batch)));
                prop_assert!((batch.seconds - profile.seconds()[size(&batch) - 1]).abs() < 1e-8);
                prop_assert_eq!(batch.members[0].part, 0);
                for pair in batch.members.windows(2) {
                    prop_assert!(pair[0].part < pair[1].part);
                }
                for member in &batch.members[1..] {
                    let part = &parts[member.part];
                    prop_assert_eq!(part.strategy, batch.strategy);
                    prop_assert!(part.deadline.is_none_or(|due| batch.seconds <= due + 1e-9));
                }
            }
        }
    }
}

fn one(times: &[f64], delay: f64) -> Batcher {
    let profile = StrategyProfile::new(0.9, 0.9, times.to_vec()).unwrap();
    Batcher::new(&[profile], delay, 1).unwrap()
}

fn part(inputs: usize, deadline: Option<f64>) -> Part {
    Part {
        strategy: 0,
        inputs,
        deadline,
        ready: 0.0,
    }
}

fn members(next: Next) -> Vec<(usize, usize)> {
    let Next::Run(batch) = next else {
        panic!("{next:?}")
    };
    batch.members.iter().map(|m| (m.part, m.inputs)).collect()
}

#[test]
fn parts_join_until_the_batch_is_full_or_somebody_would_be_late() {
    let batcher = one(&[0.010, 0.011, 0.012, 0.013], 0.0);
    let free = [part(2, None), part(1, None), part(3, None)];
    assert_eq!(
        members(batcher.next(0.0, &free).unwrap()),
        [(0, 2), (1, 1), (2, 1)]
    );
    let tight = [part(2, Some(0.0115)), part(1, None)];
    assert_eq!(members(batcher.next(0.0, &tight).unwrap()), [(0, 2)]);
    let between = Part {
        strategy: 0,
        ..part(4, Some(0.0245))
    };
    // The middle part does not fit whole; letting the last one in would make the rest of it late.
    let queue = [part(2, None), between, part(1, None)];
    assert_eq!(
        members(batcher.next(0.0, &queue).unwrap()),
        [(0, 2), (1, 2)]
    );
}

#[test]
fn a_batch_waits_for_more_while_everyone_stays_on_time() {
    let batcher = one(&[0.010, 0.011, 0.012, 0.013], 0.005);
    let until = |parts: &[Part]| match batcher.next(0.0, parts).unwrap() {
        Next::WaitUntil(until) => Some(until),
        _ => None,
    };
    assert_eq!(until(&[part(2, None)]), Some(0.005));
    let tight = until(&[part(2, Some(0.013))]).unwrap();
    assert!((tight - 0.002).abs() < 2e-6);
    assert_eq!(until(&[part(4, None)]), None);
    assert_eq!(until(&[part(2, Some(0.001))]), None);
    assert_eq!(
        batcher.next(0.005, &[part(2, None)]).map(members),
        Ok(vec![(0, 2)])
    );
}

#[test]
fn wrong_parts_are_refused() {
    let batcher = one(&[0.01], 0.0);
    let good = part(1, None);
    for bad in [
        Part {
            strategy: 1,
            ..good
        },
        Part { inputs: 0, ..good },
        Part {
            inputs: usize::MAX,
            ..good
        },
        Part {
            deadline: Some(f64::NAN),
            ..good
        },
        Part {
            ready: f64::INFINITY,
            ..good
        },
    ] {
        assert!(batcher.next(0.0, &[good, bad]).is_err());
    }
    assert!(batcher.next(f64::NAN, &[good]).is_err());
    let extreme = Part {
        deadline: Some(-1e300),
        inputs: 1 << 24,
        ..good
    };
    assert_eq!(members(batcher.next(1e300, &[extreme]).unwrap()), [(0, 1)]);
    let profile = StrategyProfile::new(0.9, 0.9, vec![0.01]).unwrap();
    assert!(Batcher::new(&[], 0.0, 1).is_err());
    assert!(Batcher::new(std::slice::from_ref(&profile), -1.0, 1).is_err());
    assert!(Batcher::new(std::slice::from_ref(&profile), 0.0, 0).is_err());
    assert!(Batcher::new(&[profile], f64::NAN, 1).is_err());
}
