//! Brief timing of networks, where no profile says how long they take.

use crate::{
    MultimodalError,
    layout::{Choice, Networks},
    network::Network,
    way::Way,
};
use std::time::Instant;

/// Batch sizes that are timed; larger batches are taken to cost as much an input as the largest.
const BATCHES: [usize; 4] = [1, 2, 4, 8];
const REPEATS: usize = 3;

/// Seconds of a batch of `i + 1` inputs by each of `ways`: the sum over its networks, without what
/// is done between them.
pub(crate) fn briefly(
    networks: &Networks,
    ways: &[Way],
    batch_max: usize,
) -> Result<Vec<Vec<f64>>, MultimodalError> {
    let mut timed: Vec<(&Network, Vec<f64>)> = Vec::new();
    for network in ways.iter().flat_map(|way| used(networks, *way)) {
        if !timed.iter().any(|(other, _)| std::ptr::eq(*other, network)) {
            timed.push((network, seconds(network, batch_max)?));
        }
    }
    let of = |way: &Way| {
        let mut sum = vec![0.0; batch_max];
        for network in used(networks, *way) {
            let found = timed
                .iter()
                .find(|(other, _)| std::ptr::eq(*other, network));
            for (sum, more) in sum.iter_mut().zip(found.iter().flat_map(|(_, s)| s)) {
                *sum += more;
            }
        }
        sum
    };
    Ok(ways.iter().map(of).collect())
}

/// The networks that a way runs at most: in a cascade, no input may be sure of its first answer.
fn used(networks: &Networks, way: Way) -> Vec<&Network> {
    let of = |choice: Choice| networks.used(choice);
    match way {
        Way::Single(choice) => of(choice),
        Way::Cascade(cascade) => {
            let mut all = of(cascade.first);
            let then = of(cascade.then);
            // Encoders that ran are not run again; the network that answers is.
            if let Some((answering, encoders)) = then.split_last() {
                for encoder in encoders {
                    if !all.iter().any(|other| std::ptr::eq(*other, *encoder)) {
                        all.push(encoder);
                    }
                }
                all.push(answering);
            }
            all
        }
    }
}

fn seconds(network: &Network, batch_max: usize) -> Result<Vec<f64>, MultimodalError> {
    let mut points = Vec::new();
    for batch in BATCHES.into_iter().filter(|&batch| batch <= batch_max) {
        network.run_zeros(batch)?;
        let mut least = f64::INFINITY;
        for _ in 0..REPEATS {
            let start = Instant::now();
            network.run_zeros(batch)?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        points.push((batch, least));
    }
    Ok(interpolate(&points, batch_max))
}

/// Seconds of every batch size from those of some, ascending and beginning with 1: linear between
/// them, in proportion beyond the last, never less than for a smaller batch.
pub(crate) fn interpolate(points: &[(usize, f64)], batch_max: usize) -> Vec<f64> {
    let Some(&(last, slowest)) = points.last() else {
        return Vec::new();
    };
    let at = |batch: usize| {
        let above = points.iter().position(|&(size, _)| size >= batch);
        match above {
            None => slowest * batch as f64 / last as f64,
            Some(0) => points[0].1,
            Some(above) => {
                let ((from, low), (to, high)) = (points[above - 1], points[above]);
                low + (high - low) * (batch - from) as f64 / (to - from) as f64
            }
        }
    };
    let mut largest = 0.0_f64;
    (1..=batch_max)
        .map(|batch| {
            largest = largest.max(at(batch));
            largest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_and_beyond_what_was_measured() {
        let seconds = interpolate(&[(1, 1.0), (2, 3.0), (4, 2.0)], 6);
        assert_eq!(seconds, [1.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
        let seconds = interpolate(&[(1, 1.0), (4, 4.0)], 8);
        assert_eq!(seconds, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }
}
