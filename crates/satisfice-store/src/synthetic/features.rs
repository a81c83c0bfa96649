//! Features: the centroid of a node's class, and noise.

use super::{Stream, SyntheticSpec};
use crate::{Progress, StoreError, TensorWriter, import::FeatureDType};
use bytemuck::cast_slice;
use half::f16;
use rand::distr::Distribution;
use rand_distr::StandardNormal;
use rayon::prelude::*;
use satisfice_kernels::quantize_row;

/// Nodes that share one stream of random numbers.
const PART: usize = 256;
/// Parts that are written at a time.
const PARTS: usize = 64;

/// The mean features of every class, `[classes, features]`.
#[derive(Debug)]
pub(crate) struct Centroids<'a> {
    spec: &'a SyntheticSpec,
    values: Vec<f32>,
}

impl<'a> Centroids<'a> {
    /// Draws centroids whose mean over all nodes is nought, as features are that were standardised.
    pub(crate) fn draw(spec: &'a SyntheticSpec, classes: &[u16]) -> Self {
        let mut rng = spec.rng(Stream::Centroids, 0);
        let mut value = || {
            let normal: f32 = StandardNormal.sample(&mut rng);
            normal * spec.signal as f32
        };
        let mut values: Vec<f32> = (0..spec.classes * spec.features).map(|_| value()).collect();
        let mut shares = vec![0.0_f64; spec.classes];
        for &class in classes {
            shares[usize::from(class)] += 1.0 / classes.len() as f64;
        }
        for feature in 0..spec.features {
            let of_feature = values.iter().skip(feature).step_by(spec.features);
            let terms = of_feature
                .zip(&shares)
                .map(|(&v, share)| f64::from(v) * share);
            let mean = terms.sum::<f64>() as f32;
            for value in values.iter_mut().skip(feature).step_by(spec.features) {
                *value -= mean;
            }
        }
        Self { spec, values }
    }

    /// Draws the features of nodes of these classes and appends them to the writer's tensor.
    /// `stream` tells apart nodes that are numbered from 0 each.
    pub(crate) fn write(
        &self,
        classes: &[u16],
        stream: u64,
        writer: &mut TensorWriter,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let width = self.spec.features;
        for (chunk, classes) in classes.chunks(PART * PARTS).enumerate() {
            let mut values = vec![0.0_f32; classes.len() * width];
            let parts = values
                .par_chunks_mut(PART * width)
                .zip(classes.par_chunks(PART));
            parts.enumerate().for_each(|(part, (values, classes))| {
                self.fill(
                    classes,
                    (stream << 32) + (chunk * PARTS + part) as u64,
                    values,
                );
            });
            match self.spec.feature_dtype {
                FeatureDType::F32 => writer.append(cast_slice(&values))?,
                FeatureDType::F16 => {
                    let halves: Vec<f16> = values.par_iter().map(|&v| f16::from_f32(v)).collect();
                    writer.append(cast_slice(&halves))?;
                }
                FeatureDType::Int8 => {
                    let mut bytes = Vec::new();
                    for row in values.chunks_exact(width) {
                        quantize_row(row, &mut bytes);
                    }
                    writer.append(cast_slice(&bytes))?;
                }
            }
            progress.advance(classes.len() as u64);
        }
        Ok(())
    }

    fn fill(&self, classes: &[u16], part: u64, values: &mut [f32]) {
        let width = self.spec.features;
        let mut rng = self.spec.rng(Stream::Features, part);
        for (row, &class) in values.chunks_exact_mut(width).zip(classes) {
            let centroid = &self.values[class as usize * width..][..width];
            for (value, mean) in row.iter_mut().zip(centroid) {
                let noise: f32 = StandardNormal.sample(&mut rng);
                *value = mean + noise;
            }
        }
    }
}
