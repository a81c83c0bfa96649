//! Classes and degree weights of the nodes.

use super::{Stream, SyntheticSpec};
use rand::distr::Distribution;
use rand_distr::{Gamma, Pareto, weighted::WeightedAliasIndex};
use rayon::prelude::*;
use std::ops::Range;

/// Largest degree weight: no node has edges to most others.
const DEGREE_WEIGHT_MAX: f64 = 200.0;
/// Shape of the Gamma distribution that class sizes follow, in proportion: sizes differ by a few times.
const CLASS_SIZE_SHAPE: f64 = 2.0;
/// Nodes that share one stream of random numbers.
const PART: usize = 1 << 14;

/// All nodes, stored ones first.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// `[nodes]`
    pub classes: Vec<u16>,
    /// `[nodes]`
    pub weights: Vec<f32>,
}

impl Nodes {
    pub(crate) fn draw(spec: &SyntheticSpec) -> Self {
        let sizes = class_sizes(spec);
        let tail = Pareto::new(1.0, spec.degree_exponent).expect("invariant: the spec was checked");
        let mut classes = vec![0; spec.nodes];
        let mut weights = vec![0.0; spec.nodes];
        let parts = classes
            .par_chunks_mut(PART)
            .zip(weights.par_chunks_mut(PART));
        parts.enumerate().for_each(|(part, (classes, weights))| {
            let mut rng = spec.rng(Stream::Nodes, part as u64);
            for (class, weight) in classes.iter_mut().zip(weights) {
                *class = sizes.sample(&mut rng) as u16;
                let drawn: f64 = tail.sample(&mut rng) - 1.0 + spec.degree_weight_min;
                *weight = drawn.min(DEGREE_WEIGHT_MAX) as f32;
            }
        });
        Self { classes, weights }
    }

    /// Labels of some nodes, as a store has them.
    pub(crate) fn labels(&self, range: Range<usize>) -> Vec<i32> {
        let classes = self.classes[range].iter();
        classes.map(|&class| i32::from(class)).collect()
    }
}

fn class_sizes(spec: &SyntheticSpec) -> WeightedAliasIndex<f32> {
    let gamma = Gamma::new(CLASS_SIZE_SHAPE, 1.0).expect("invariant: shape and scale are positive");
    let mut rng = spec.rng(Stream::Classes, 0);
    // A class that came out as nothing would have no members to draw.
    let sizes = (0..spec.classes).map(|_| (gamma.sample(&mut rng) as f32).max(0.05));
    WeightedAliasIndex::new(sizes.collect()).expect("invariant: sizes are positive and finite")
}
