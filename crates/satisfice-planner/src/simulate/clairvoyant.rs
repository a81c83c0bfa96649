//! What could have been had by who knew all arrivals beforehand.

use crate::{
    Error, Job,
    pareto::{State, merge},
    units::{self, Nanos},
};

/// Most jobs that an optimum is computed for: the time doubles with each.
const OPTIMUM_JOBS_MAX: usize = 14;

/// The highest summed accuracy of jobs on time that any schedule of one executor reaches, without
/// interrupting jobs: a programme over sets of jobs, with the undominated (time, value) of each.
///
/// # Errors
/// Where there are more than 14 jobs.
pub fn optimum(jobs: &[Job]) -> Result<f64, Error> {
    if jobs.len() > OPTIMUM_JOBS_MAX {
        return Err(Error::TooMany {
            what: "jobs for an optimum",
            given: jobs.len(),
            most: OPTIMUM_JOBS_MAX,
        });
    }
    let origin = jobs.iter().map(Job::arrival).fold(f64::INFINITY, f64::min);
    let mut sets: Vec<Vec<State>> = vec![Vec::new(); 1 << jobs.len()];
    sets[0].push(State::START);
    let mut merged = Vec::new();
    let mut best = 0;
    for set in 0..sets.len() {
        let states = std::mem::take(&mut sets[set]);
        best = best.max(states.last().map_or(0, |state| state.value));
        for (at, job) in jobs.iter().enumerate().filter(|(at, _)| set >> at & 1 == 0) {
            let arrival = units::nanos(job.arrival() - origin);
            let deadline = job
                .deadline()
                .map_or(Nanos::MAX, |time| units::nanos_left(time - origin));
            for step in job.alternatives().steps() {
                let added = states.iter().map(|state| State {
                    time: state.time.max(arrival) + step.time,
                    value: state.value + step.value * job.inputs() as u64,
                    ..State::START
                });
                let on_time = added.take_while(|state| state.time <= deadline);
                let with = &mut sets[set | 1 << at];
                merge(with, on_time, &mut merged);
                std::mem::swap(with, &mut merged);
            }
        }
    }
    Ok(units::share(best, 1))
}

/// A summed accuracy that no schedule of `executors` executors exceeds: work is divisible, and only
/// has to fit between the first arrival and the last deadline. No bound where a job has no deadline.
pub fn upper_bound(jobs: &[Job], executors: usize) -> f64 {
    let first = jobs.iter().map(Job::arrival).fold(f64::INFINITY, f64::min);
    let deadlines = jobs
        .iter()
        .map(|job| job.deadline().unwrap_or(f64::INFINITY));
    let last = deadlines.fold(f64::NEG_INFINITY, f64::max);
    // (value per time, time) of each corner against the one before it, the first against refusal.
    let mut gains: Vec<(f64, f64)> = Vec::new();
    for job in jobs {
        let patience = job.deadline().unwrap_or(f64::INFINITY) - job.arrival();
        let steps = job.alternatives().steps();
        let alone = steps.partition_point(|step| units::seconds(step.time) <= patience);
        let mut points = vec![(0, 0)];
        points.extend(steps[..alone].iter().map(|step| (step.time, step.value)));
        for pair in crate::pareto::hull(&points).windows(2) {
            let [(t0, v0), (t1, v1)] = [points[pair[0]], points[pair[1]]];
            let time = units::seconds(t1 - t0);
            gains.push((units::share(v1 - v0, 1) * job.inputs() as f64 / time, time));
        }
    }
    gains.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut left = (last - first).max(0.0) * executors as f64;
    let mut value = 0.0;
    for (gain, time) in gains {
        let used = time.min(left);
        value += gain * used;
        left -= used;
    }
    value
}
