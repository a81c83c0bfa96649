//! Trained models: the sidecar, the weights and the layers made of them.

mod build;
mod config;
mod conv;
mod linear;
mod lstm;
mod program;
mod row_op;
mod split;
mod weights;

pub use config::{Framework, ModelConfig, RequestLimits};
pub(crate) use conv::Convolution;
pub use conv::{OwnRows, Reduction};
pub(crate) use linear::Linear;
pub use split::SplitLayer;

use crate::{
    GraphError,
    run::{DegreeScale, LayerInput, Sources, TargetRows, reduce},
};
use build::Builder;
use conv::{Made, Needs};
use program::Program;
use std::{borrow::Cow, ops::Range, path::Path};
use weights::Weights;

/// One message-passing layer with the row operations before and after it.
#[derive(Debug)]
pub(crate) struct Layer {
    pub conv: Box<dyn Convolution>,
    /// Whether it reads level 0 instead of the level below.
    reads_initial: bool,
    /// What the convolution reads, from the level that the layer reads.
    before: Program,
    /// The layer's value, from what the convolution makes, the level below and level 0.
    after: Program,
    message_width: usize,
}

/// Where what follows a layer finds the level below, and level 0.
const BELOW: usize = 1;
const INITIAL: usize = 2;

impl Layer {
    /// Values per row that the layer leaves.
    pub(crate) fn width(&self) -> usize {
        self.after.width()
    }

    /// Whether it reads level 0 instead of the level below.
    pub(crate) fn reads_initial(&self) -> bool {
        self.reads_initial
    }

    /// What it reads of a target besides what the sources were reduced to.
    pub(crate) fn needs(&self) -> Needs {
        let needs = self.conv.needs();
        Needs {
            below: self.after.reads(BELOW),
            initial: needs.initial || self.after.reads(INITIAL),
            ..needs
        }
    }

    /// Whether the convolution reads the level below as it is.
    pub(crate) fn reads_below(&self) -> bool {
        self.before.is_empty() && !self.reads_initial
    }

    /// What the convolution reads of nodes, `[rows, width]`, from the level that the layer reads.
    pub(crate) fn read<'a>(&self, rows: impl Into<Cow<'a, [f32]>>) -> Vec<f32> {
        self.before.run(rows.into(), &[])
    }

    /// Whether what a source sends is not what the layer reads of it.
    pub(crate) fn makes_messages(&self) -> bool {
        !self.before.is_empty() || self.conv.message().is_some()
    }

    /// What nodes send, `[rows, message width]`, from the level that the layer reads.
    pub(crate) fn messages<'a>(&self, rows: impl Into<Cow<'a, [f32]>>) -> Vec<f32> {
        let rows = match self.before.is_empty() {
            true => rows.into(),
            false => Cow::Owned(self.read(rows)),
        };
        match self.conv.message() {
            Some(message) => message.run(rows, &[]),
            None => rows.into_owned(),
        }
    }

    /// Values per row of what its sources send.
    pub(crate) fn message_width(&self) -> usize {
        self.message_width
    }

    /// Rows of some targets, `[targets, width]`. `sources` is space to work in.
    pub(crate) fn compute(
        &self,
        input: &LayerInput<'_>,
        range: Range<usize>,
        sources: &mut Sources,
    ) -> Vec<f32> {
        let rows = TargetRows::read(self, input, range.clone());
        let own = rows.view();
        let made = Made {
            mapped: match self.conv.own() {
                Some(linear) => input.mapped_own(self, linear, range.clone()),
                None => Vec::new(),
            },
            terms: self.conv.terms(own.values, own.messages),
        };
        let reduced = reduce(self, input, range, &made.terms, sources);
        self.complete(reduced, &made, &own)
    }

    /// Rows of some targets, `[targets, width]`, from what all their sources were reduced to.
    fn complete(&self, reduced: Vec<f32>, made: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        let rows = self.conv.complete(reduced, made, own);
        self.after.run(Cow::Owned(rows), &[own.below, own.initial])
    }
}

/// A trained graph neural network.
#[derive(Debug)]
pub struct GnnModel {
    /// Level 0, from the features.
    input: Program,
    pub(crate) layers: Vec<Layer>,
    /// The answer, from level K and then all levels, 0 .. K.
    head: Program,
    features: usize,
}

impl GnnModel {
    /// Reads the weights of a model that `config` describes.
    ///
    /// # Errors
    /// [`GraphError::Weights`] names the tensor that is missing, left over or misshapen;
    /// [`GraphError::Config`] the layers that do not fit together.
    pub fn load(config: &ModelConfig, weights_path: &Path) -> Result<Self, GraphError> {
        let weights = Weights::open(weights_path)?;
        let builder = Builder {
            config,
            weights: &weights,
            weights_path,
        };
        let model = builder.build()?;
        weights.finish()?;
        Ok(model)
    }

    /// Width of the features that the model reads.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Width of the model's answer.
    pub fn outputs(&self) -> usize {
        self.head.width()
    }

    /// Number of message-passing layers, K.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Whether the values of level 0 are not the features themselves.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Width of the values of a level, 0 .. K.
    pub fn level_width(&self, level: usize) -> usize {
        match level.checked_sub(1) {
            None => self.input.width(),
            Some(layer) => self.layers[layer].width(),
        }
    }

    /// Width of the messages of a layer, 1 .. K.
    pub fn message_width(&self, layer: usize) -> usize {
        self.layers[layer - 1].message_width()
    }

    /// Width of what the sources of a layer, 1 .. K, are reduced to.
    pub fn reduction_width(&self, layer: usize) -> usize {
        let reduction = self.layers[layer - 1].conv.reduction();
        reduction.width(self.message_width(layer))
    }

    /// The linear map of each stored node's own value that the first layer adds, where keeping it
    /// mapped is no wider than the value.
    pub(crate) fn kept_own(&self) -> Option<&Linear> {
        let conv = &self.layers[0].conv;
        let narrow = |linear: &&Linear| linear.outputs() <= linear.inputs();
        conv.own().filter(narrow)
    }

    /// The level that a layer (from 0) reads.
    pub fn level_read(&self, layer: usize) -> usize {
        match self.layers[layer].reads_initial {
            true => 0,
            false => layer,
        }
    }

    /// Values of level 0, `[rows, width]`, from features.
    pub fn apply_input(&self, x: Vec<f32>) -> Vec<f32> {
        self.input.run(Cow::Owned(x), &[])
    }

    /// Whether the answer reads other levels than the last.
    pub fn joins_levels(&self) -> bool {
        (1..=self.layers.len() + 1).any(|level| self.head.reads(level))
    }

    /// The answer from the values of all levels, 0 .. K, or of the last one where the answer reads no other;
    /// each `[rows, width]`.
    pub fn finish(&self, mut values: Vec<Vec<f32>>) -> Vec<f32> {
        let nothing: &[f32] = &[];
        let mut levels = vec![nothing; self.layers.len() + 1];
        if !self.joins_levels() {
            let last = values.pop().unwrap_or_default();
            return self.head.run(Cow::Owned(last), &levels);
        }
        levels.clear();
        levels.extend(values.iter().map(|values| &values[..]));
        let last = levels.last().copied().unwrap_or_default();
        self.head.run(Cow::Borrowed(last), &levels)
    }

    /// The different degree scales that its layers use.
    pub fn scales(&self) -> Vec<DegreeScale> {
        let mut scales: Vec<DegreeScale> = Vec::new();
        for layer in &self.layers {
            let (source, target) = layer.conv.scales();
            for scale in [source, target].into_iter().flatten() {
                if !scales.contains(&scale) {
                    scales.push(scale);
                }
            }
        }
        scales
    }
}
