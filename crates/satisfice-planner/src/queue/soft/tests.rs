//! Jobs without a deadline, on a virtual clock.

use crate::{Alternatives, Choice, Job, Limits, Planner, simulate::Random};
use std::collections::HashMap;

/// A job without a deadline.
fn patient(id: u64, arrival: f64) -> Job {
    let ways = Alternatives::new(&[(0.010, 0.7), (0.040, 0.9)]).unwrap();
    Job::new(id, arrival, 1, ways).unwrap()
}

#[test]
fn a_job_without_a_deadline_gives_way() {
    let mut planner = Planner::default();
    let ways = Alternatives::new(&[(0.010, 0.7), (0.040, 0.9)]).unwrap();
    let urgent = Job::new(1, 0.0, 1, ways)
        .unwrap()
        .with_deadline(0.045)
        .unwrap();
    let decision = planner
        .plan(0.0, &[patient(0, 0.0), urgent], &[0.0])
        .unwrap();
    let order: Vec<(usize, usize)> = decision
        .choices
        .iter()
        .map(|c| (c.job, c.alternative))
        .collect();
    assert_eq!(order, [(1, 1), (0, 1)]);
}

/// Serves deadline jobs that alone would take 1.5 times the time there is, with jobs without a
/// deadline arriving beside them. Returns when each of these was due, and when it was done.
fn overload(share: f64, seconds: f64) -> (Vec<(f64, f64)>, usize, f64) {
    let limits = Limits {
        soft_share: share,
        ..Limits::default()
    };
    let mut planner = Planner::new(limits).unwrap();
    let mut random = Random::new(5);
    let (mut now, mut id, mut next_hard, mut next_soft) = (0.0, 0, 0.0, 0.0);
    let mut queue: Vec<Job> = Vec::new();
    let mut done = Vec::new();
    let (mut served, mut soft_time) = (0, 0.0);
    // When a server with the share of one executor would be done with the jobs so far.
    let mut due: f64 = 0.0;
    let mut dues = HashMap::new();
    while now < seconds {
        while next_hard <= now {
            let ways = Alternatives::new(&[(0.015, 0.7), (0.030, 0.9)]).unwrap();
            let deadline = next_hard + 0.020 + 0.1 * random.unit();
            let hard = Job::new(id, next_hard, 1, ways)
                .unwrap()
                .with_deadline(deadline)
                .unwrap();
            queue.push(hard);
            id += 1;
            next_hard += 0.010;
        }
        while next_soft <= now {
            due = due.max(next_soft) + 0.040 / share;
            dues.insert(id, due);
            queue.push(patient(id, next_soft));
            id += 1;
            next_soft += 2.0;
        }
        let decision = planner.plan(now, &queue, &[now]).unwrap();
        let first: Option<Choice> = decision.choices.first().copied();
        let mut gone = decision.refused;
        match first {
            Some(choice) => {
                let job = &queue[choice.job];
                if let Some(deadline) = job.deadline() {
                    assert!(choice.end <= deadline + 1e-9);
                    served += 1;
                } else {
                    done.push((dues[&job.id()], choice.end));
                    soft_time += choice.end - choice.start;
                }
                now = choice.end;
                gone.push(choice.job);
            }
            None => now = next_hard.min(next_soft),
        }
        gone.sort_unstable_by(|a, b| b.cmp(a));
        gone.into_iter().for_each(|at| drop(queue.remove(at)));
    }
    (done, served, soft_time)
}

#[test]
fn jobs_without_a_deadline_get_their_share_under_permanent_overload() {
    let (done, served, soft_time) = overload(0.05, 200.0);
    assert!(done.len() > 95, "{}", done.len());
    for (due, end) in done {
        // Whatever runs when it falls due is not interrupted.
        assert!(end <= due + 0.030 + 1e-9, "due {due}, done {end}");
    }
    // And no more than their share: the rest is left to the deadlines.
    assert!(soft_time <= 0.05 * 200.0);
    assert!(served as f64 > 0.9 * 200.0 / 0.015 * 0.95, "{served}");
}
