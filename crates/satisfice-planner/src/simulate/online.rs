use crate::{Error, Job, Planner};

/// What became of some traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Jobs that were on time.
    pub served: usize,
    /// Jobs that were refused.
    pub refused: usize,
    /// Summed accuracy over the inputs of those that were on time.
    pub value: f64,
}

/// Serves `jobs`, given by arrival, on a virtual clock: plans at every arrival and whenever an
/// executor is done, and starts what is first on each free executor. Everything takes exactly as
/// long as predicted.
///
/// # Errors
/// As for [`Planner::plan`].
pub fn serve(planner: &mut Planner, jobs: &[Job], executors: usize) -> Result<Outcome, Error> {
    let mut free = vec![0.0_f64; executors];
    let mut queue: Vec<&Job> = Vec::new();
    let mut arriving = jobs.iter().peekable();
    let mut outcome = Outcome::default();
    let mut now = 0.0_f64;
    loop {
        while let Some(job) = arriving.next_if(|job| job.arrival() <= now) {
            queue.push(job);
        }
        let decision = planner.plan(now, &queue, &free)?;
        outcome.refused += decision.refused.len();
        let mut gone = decision.refused;
        for choice in decision.choices {
            if choice.start <= now && free[choice.executor] <= now {
                let job = queue[choice.job];
                free[choice.executor] = choice.end;
                outcome.served += 1;
                outcome.value +=
                    job.inputs() as f64 * job.alternatives().accuracy(choice.alternative);
                gone.push(choice.job);
            }
        }
        gone.sort_unstable_by(|a, b| b.cmp(a));
        for at in gone {
            queue.remove(at);
        }
        let arrival = arriving.peek().map(|job| job.arrival());
        let done = free
            .iter()
            .copied()
            .filter(|&end| end > now && !queue.is_empty());
        match arrival.into_iter().chain(done).min_by(f64::total_cmp) {
            Some(next) => now = next,
            None => return Ok(outcome),
        }
    }
}
