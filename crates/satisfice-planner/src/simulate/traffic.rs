use super::Random;
use crate::{Alternatives, Error, Job, StrategyProfile};

/// How jobs arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// One by one, independently.
    Poisson,
    /// In groups of one to eight at once, the groups independently.
    Bursty,
}

/// Seeded jobs with three alternatives each: one that takes 4 to 12 ms with an accuracy of .75 to
/// .85, one of 1.5 to 2.5 times that time, and one of 3 to 5 times it, each more accurate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Number of jobs.
    pub jobs: usize,
    /// How they arrive.
    pub arrivals: Arrivals,
    /// Time of all jobs at their most accurate alternatives over the time in which they arrive.
    pub load: f64,
    /// The seed.
    pub seed: u64,
}

/// Mean time of the most accurate alternative, in seconds: 8 ms times 4.
const DEAREST_MEAN: f64 = 0.032;

/// Mean size of a group.
const GROUP_MEAN: f64 = 4.5;

impl Traffic {
    /// The jobs by arrival, from time 0, each with a deadline 1.2 to 6 times its most accurate
    /// alternative's time after its arrival.
    ///
    /// # Errors
    /// Where the load is not a number above 0.
    pub fn jobs(&self) -> Result<Vec<Job>, Error> {
        let mut random = Random::new(self.seed);
        let gap = DEAREST_MEAN / self.load;
        let (mut now, mut group) = (0.0, 0);
        let mut jobs = Vec::with_capacity(self.jobs);
        for id in 0..self.jobs {
            match self.arrivals {
                Arrivals::Poisson => now += random.exponential(gap),
                Arrivals::Bursty if group == 0 => {
                    group = random.below(8);
                    now += random.exponential(gap * GROUP_MEAN);
                }
                Arrivals::Bursty => group -= 1,
            }
            let alternatives = alternatives(&mut random)?;
            let patience = 0.032 * (1.2 + 4.8 * random.unit());
            let inputs = 1 + random.below(16);
            let job = Job::new(id as u64, now, inputs, alternatives)?;
            jobs.push(job.with_deadline(now + patience)?);
        }
        Ok(jobs)
    }
}

fn alternatives(random: &mut Random) -> Result<Alternatives, Error> {
    let cheapest = 0.004 + 0.008 * random.unit();
    let accuracy = 0.75 + 0.1 * random.unit();
    let middle = accuracy + 0.05 * random.unit();
    Alternatives::new(&[
        (cheapest, accuracy),
        (cheapest * (1.5 + random.unit()), middle),
        (
            cheapest * (3.0 + 2.0 * random.unit()),
            middle + 0.08 * random.unit(),
        ),
    ])
}

/// A queue of `count` jobs at time 0 whose deadlines can all be met, but only a part of them at the
/// most accurate alternatives: there is work to do for a planner.
///
/// # Errors
/// None for any seed: the numbers are in range.
pub fn contended_queue(count: usize, seed: u64) -> Result<Vec<Job>, Error> {
    let mut random = Random::new(seed);
    let mut end = 0.0;
    (0..count)
        .map(|id| {
            let alternatives = alternatives(&mut random)?;
            // Twice the time that the cheapest takes: everybody's middle alternative, about.
            end += 2.0 * alternatives.cheapest_seconds();
            let inputs = 1 + random.below(16);
            let job = Job::new(id as u64, 0.0, inputs, alternatives)?;
            job.with_deadline(end * (0.9 + 0.2 * random.unit()).max(0.95))
        })
        .collect()
}

/// The same jobs, each with one alternative alone: its most accurate one, or its cheapest. What a
/// server without a choice would do.
pub fn without_choice(jobs: &[Job], most_accurate: bool) -> Vec<Job> {
    jobs.iter()
        .map(|job| job.with_alternatives(job.alternatives().only(most_accurate)))
        .collect()
}

/// Profiles as subsets of modalities have them, for tables of any size: each dearer one has a
/// higher accuracy, and a batch costs a fixed time and one that grows with it, less than
/// proportionally.
///
/// # Errors
/// Where `batch_max` is 0 or beyond [`BATCH_MAX`](crate::BATCH_MAX).
pub fn profiles(
    strategies: usize,
    batch_max: usize,
    seed: u64,
) -> Result<Vec<StrategyProfile>, Error> {
    let mut random = Random::new(seed);
    (0..strategies)
        .map(|at| {
            let rank = (at + 1) as f64 / strategies as f64;
            let accuracy = 0.65 + 0.28 * rank.sqrt() + 0.01 * random.unit();
            let fixed = 0.0005 + 0.002 * rank * random.unit();
            let each = 0.0002 + 0.003 * rank * (0.7 + 0.6 * random.unit());
            let times = (1..=batch_max)
                .map(|b| fixed + each * (b as f64).powf(0.95) * (0.98 + 0.04 * random.unit()))
                .collect();
            StrategyProfile::new(accuracy, accuracy + 0.01, times)
        })
        .collect()
}
