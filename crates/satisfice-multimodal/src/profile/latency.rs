//! How long batches take.

use super::{Latency, ProfileOptions};
use crate::{
    Dataset, MultimodalEngine, MultimodalError,
    batch::Batch,
    timing::{Steps, interpolate},
    way::Way,
};
use satisfice_core::Job;
use std::time::{Duration, Instant};

/// Inputs of the calibration set that are kept ready for timing.
const READY_MAX: usize = 256;
const REPEATS: usize = 25;
const REPEATS_QUICK: usize = 5;
/// No more repeats of one batch size than fit into this time, but some.
const BUDGET: Duration = Duration::from_secs(5);
const BUDGET_QUICK: Duration = Duration::from_secs(1);
const REPEATS_MIN: usize = 3;
const BATCH_MAX_QUICK: usize = 8;

/// Times of each of `ways`, by batch size: powers of two and the largest. Ways take turns, so that
/// whatever else the machine does meets all of them alike.
pub(super) fn measure(
    engine: &MultimodalEngine,
    data: &Dataset,
    ways: &[Way],
    options: &ProfileOptions<'_>,
) -> Result<Vec<Vec<Latency>>, MultimodalError> {
    let ready = ready(engine, data)?;
    let rows: Vec<(&Job, usize)> = ready
        .iter()
        .flat_map(|job| (0..job.inputs).map(move |row| (job, row)))
        .collect();
    let (repeats, budget, largest) = match options.quick {
        true => (REPEATS_QUICK, BUDGET_QUICK, BATCH_MAX_QUICK),
        false => (REPEATS, BUDGET, usize::MAX),
    };
    let sizes = sizes(engine.config().limits.batch_max.min(largest));
    let mut latencies = vec![Vec::new(); ways.len()];
    let mut next = 0;
    for (i, &size) in sizes.iter().enumerate() {
        (options.progress)("timing batches", i, sizes.len());
        engine.networks().prepare(size);
        let mut times = vec![Vec::new(); ways.len()];
        let start = Instant::now();
        // The first repeat warms up and does not count.
        for repeat in 0..=repeats {
            if repeat > REPEATS_MIN && start.elapsed() > budget {
                break;
            }
            let batch: Vec<(&Job, usize)> = (0..size)
                .map(|i| rows[(next + i * 7) % rows.len()])
                .collect();
            next += 1;
            for (way, times) in ways.iter().zip(&mut times) {
                let rows = batch.iter().map(|&(job, row)| (&job.request, row));
                let start = Instant::now();
                engine.execute(*way, Batch::new(rows))?;
                if repeat > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
        for (latency, mut times) in latencies.iter_mut().zip(times) {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
            let p50_seconds = at(0.5).max(f64::MIN_POSITIVE);
            latency.push(Latency {
                batch: size,
                p50_seconds,
                p90_seconds: at(0.9).max(f64::MIN_POSITIVE),
                planned_seconds: p50_seconds,
            });
        }
    }
    Ok(latencies)
}

/// What plans count with for a cascade of which each input is answered again with probability
/// `again`: the mean over how many are. `keeps` says whether the second step runs only what the first
/// did not.
pub(super) fn plan_cascade(
    cascade: &mut [Latency],
    first: &[Latency],
    then: &[Latency],
    again: f64,
    keeps: bool,
) {
    let batch_max = cascade.last().map_or(0, |last| last.batch);
    let seconds = |latency: &[Latency]| {
        let points: Vec<_> = latency.iter().map(|l| (l.batch, l.p50_seconds)).collect();
        interpolate(&points, batch_max)
    };
    let steps = Steps {
        first: &seconds(first),
        then: &seconds(then),
        keeps,
    };
    for latency in cascade {
        latency.planned_seconds = steps.mean_seconds(latency.batch, again);
    }
}

/// Powers of two up to the largest batch, and that.
fn sizes(batch_max: usize) -> Vec<usize> {
    let powers = (0..usize::BITS).map(|power| 1 << power);
    let mut sizes: Vec<usize> = powers.take_while(|&size| size < batch_max).collect();
    sizes.push(batch_max);
    sizes
}

/// Inputs from the whole file; what it holds raw is decoded whenever it is read, as in requests.
fn ready(engine: &MultimodalEngine, data: &Dataset) -> Result<Vec<Job>, MultimodalError> {
    let count = data.len().min(READY_MAX);
    let row = |i: usize| i * data.len() / count;
    let jobs = (0..count).map(|i| engine.job(data.request(row(i)..row(i) + 1)));
    jobs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_between_measured_ones() {
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(8), [1, 2, 4, 8]);
        assert_eq!(sizes(20), [1, 2, 4, 8, 16, 20]);
    }
}
