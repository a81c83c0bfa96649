use super::{
    Convolution, Made, Needs, OwnRows, Propagation, Reduce, Reduction, finish_reduce,
    message_reduction,
};

/// `reduce_s(x_s)`, or a weighted sum of them: a layer without tensors, as steps of other layers take it.
#[derive(Debug)]
pub(crate) struct Propagate {
    pub reduce: Reduce,
    /// Of a sum.
    pub propagation: Propagation,
    pub width: usize,
}

impl Convolution for Propagate {
    fn width(&self) -> usize {
        self.width
    }

    fn propagation(&self) -> Option<&Propagation> {
        (self.reduce == Reduce::Sum).then_some(&self.propagation)
    }

    fn reduction(&self) -> Reduction {
        match self.propagation() {
            Some(propagation) => propagation.reduction(),
            None => message_reduction(self.reduce),
        }
    }

    fn needs(&self) -> Needs {
        self.propagation()
            .map_or(Needs::default(), Propagation::needs)
    }

    fn complete(&self, mut reduced: Vec<f32>, _: &Made, own: &OwnRows<'_>) -> Vec<f32> {
        match self.propagation() {
            Some(propagation) => propagation.complete(&mut reduced, own),
            None => finish_reduce(self.reduce, &mut reduced, own),
        }
        reduced
    }
}
