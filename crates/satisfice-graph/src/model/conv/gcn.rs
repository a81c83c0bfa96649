use super::{Convolution, Made, Needs, OwnRows, Place, Propagation, Reduction, SummedLinear};
use crate::{
    GraphError,
    model::{
        config::GcnConfig,
        config::Norm,
        linear::{Linear, add_bias},
        program::Program,
        weights::Weights,
    },
    run::DegreeScale,
};

/// `W Σ_s c_s c_t x_s + b`.
///
/// Source: Kipf and Welling (2017), as `GCNConv` of PyTorch Geometric and `GraphConv` of DGL.
#[derive(Debug)]
pub(crate) struct Gcn {
    propagation: Propagation,
    linear: SummedLinear,
    bias: Option<Vec<f32>>,
}

impl Gcn {
    pub(crate) fn pyg(
        weights: &Weights,
        tensors: &str,
        config: &GcnConfig,
        (inputs, out): (usize, usize),
        place: Place,
    ) -> Result<Self, GraphError> {
        let weight = weights.take(tensors, "lin.weight", &[out, inputs])?;
        Self::with_weight(weights, tensors, config, weight, (inputs, out), place)
    }

    pub(crate) fn dgl(
        weights: &Weights,
        tensors: &str,
        config: &GcnConfig,
        (inputs, out): (usize, usize),
        place: Place,
    ) -> Result<Self, GraphError> {
        let weight = weights.take_transposed(tensors, "weight", inputs, out)?;
        Self::with_weight(weights, tensors, config, weight, (inputs, out), place)
    }

    fn with_weight(
        weights: &Weights,
        tensors: &str,
        config: &GcnConfig,
        weight: Vec<f32>,
        (inputs, out): (usize, usize),
        place: Place,
    ) -> Result<Self, GraphError> {
        let bias = weights.take_if(config.bias, tensors, "bias", &[out])?;
        Ok(Self {
            propagation: propagation(config.norm, config.self_loops, config.self_loop_weight),
            linear: SummedLinear::new(Linear::new(weight, None, inputs, out), place),
            bias,
        })
    }
}

/// The weights of a normalised sum. PyG's layers add self-loops unless told not to.
pub(crate) fn propagation(norm: Norm, self_loops: Option<bool>, weight: f32) -> Propagation {
    let (source, target) = match norm {
        Norm::Symmetric if self_loops.unwrap_or(true) => {
            let scale = DegreeScale::WithSelfLoop { weight };
            return Propagation {
                source: Some(scale),
                target: Some(scale),
                self_loop: Some(weight),
            };
        }
        Norm::Symmetric => (
            Some(DegreeScale::InverseSqrtIn),
            Some(DegreeScale::InverseSqrtIn),
        ),
        Norm::Both => (
            Some(DegreeScale::ClampedInverseSqrtOut),
            Some(DegreeScale::ClampedInverseSqrtIn),
        ),
        Norm::Right => (None, Some(DegreeScale::ClampedInverseIn)),
        Norm::Left => (Some(DegreeScale::ClampedInverseOut), None),
        Norm::InDegree => (
            Some(DegreeScale::ClampedInverseSqrtIn),
            Some(DegreeScale::ClampedInverseSqrtIn),
        ),
        Norm::Average => {
            return Propagation {
                source: None,
                target: Some(DegreeScale::InverseWithSelfLoop),
                self_loop: Some(weight),
            };
        }
        Norm::OutDegree => {
            return Propagation {
                source: Some(DegreeScale::InverseSqrtOut),
                target: Some(DegreeScale::InverseSqrtOut),
                self_loop: Some(0.0),
            };
        }
        Norm::None => (None, None),
    };
    Propagation {
        source,
        target,
        self_loop: None,
    }
}

impl Convolution for Gcn {
    fn width(&self) -> usize {
        self.linear.outputs
    }

    fn message(&self) -> Option<&Program> {
        self.linear.message.as_ref()
    }

    fn propagation(&self) -> Option<&Propagation> {
        Some(&self.propagation)
    }

    fn reduction(&self) -> Reduction {
        self.propagation.reduction()
    }

    fn needs(&self) -> Needs {
        self.propagation.needs()
    }

    fn complete(&self, mut reduced: Vec<f32>, _: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        self.propagation.complete(&mut reduced, own);
        let mut out = self.linear.finish(reduced);
        if let Some(bias) = &self.bias {
            add_bias(bias, &mut out);
        }
        out
    }
}
