use super::array::{Array, Strided};
use crate::{Progress, StoreError};

/// Edges converted at a time.
const CHUNK: usize = 1 << 18;

/// The edges of a graph, read from the source as often as they are needed.
#[derive(Debug)]
pub(crate) struct EdgeList {
    /// Integers `[2, edges]`: sources, targets.
    array: Array,
    /// Numbers `[edges]` or `[edges, 1]`.
    weights: Option<Array>,
    edges: usize,
    nodes: usize,
}

impl EdgeList {
    /// # Errors
    /// The array is no `[2, edges]` of integers, or there are not as many weights.
    pub(crate) fn new(
        array: Array,
        weights: Option<Array>,
        nodes: usize,
    ) -> Result<Self, StoreError> {
        array.expect_integers()?;
        match array.shape[..] {
            [2, edges] => {
                if let Some(weights) = &weights {
                    check_weights(weights, edges)?;
                }
                Ok(Self {
                    array,
                    weights,
                    edges,
                    nodes,
                })
            }
            [_, 2] => Err(array.malformed(format!(
                "shape {:?}, but edges are [2, edges]: transpose it",
                array.shape
            ))),
            _ => Err(array.malformed(format!("shape {:?}, but edges are [2, edges]", array.shape))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.edges
    }

    /// Whether each edge has a weight.
    pub(crate) fn weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// Gives `each` all edges (source, target, weight), in order; the weight is 1 where edges have none.
    ///
    /// # Errors
    /// An edge names a node that is not there, or its weight is not finite.
    pub(crate) fn for_each(
        &self,
        task: &str,
        progress: &dyn Progress,
        mut each: impl FnMut(u32, u32, f32),
    ) -> Result<(), StoreError> {
        let mut sources = vec![0; CHUNK.min(self.edges)];
        let mut targets = sources.clone();
        let mut weights = vec![1.0; sources.len()];
        progress.start(task, Some(self.edges as u64));
        for start in (0..self.edges).step_by(CHUNK) {
            let count = CHUNK.min(self.edges - start);
            let (sources, targets) = (&mut sources[..count], &mut targets[..count]);
            self.array
                .read_integers(self.array.along_row(0, start), sources);
            self.array
                .read_integers(self.array.along_row(1, start), targets);
            self.read_weights(start, &mut weights[..count])?;
            let pairs = sources.iter().zip(targets.iter()).zip(&weights);
            for (edge, ((&source, &target), &weight)) in pairs.enumerate() {
                let (source, target) = (source as u64, target as u64);
                // A negative position is a huge one here.
                if source.max(target) >= self.nodes as u64 {
                    return Err(self.out_of_range(start + edge, source, target));
                }
                each(source as u32, target as u32, weight);
            }
            progress.advance(count as u64);
        }
        progress.finish();
        Ok(())
    }

    fn read_weights(&self, start: usize, out: &mut [f32]) -> Result<(), StoreError> {
        let Some(array) = &self.weights else {
            return Ok(());
        };
        array.read_floats(Strided { start, stride: 1 }, out);
        match out.iter().position(|weight| !weight.is_finite()) {
            Some(at) => Err(array.malformed(format!(
                "the weight of edge {} is not a finite 32-bit float; fill it in, or leave the edge out",
                start + at
            ))),
            None => Ok(()),
        }
    }

    fn out_of_range(&self, edge: usize, source: u64, target: u64) -> StoreError {
        let wrong = if source >= self.nodes as u64 {
            source
        } else {
            target
        };
        StoreError::EdgeOutOfRange {
            path: self.array.path.clone(),
            edge: edge as u64,
            node: wrong as i64,
            nodes: self.nodes,
        }
    }

    pub(crate) fn malformed(&self, message: impl AsRef<str>) -> StoreError {
        self.array.malformed(message)
    }
}

fn check_weights(weights: &Array, edges: usize) -> Result<(), StoreError> {
    if weights.shape == [edges] || weights.shape == [edges, 1] {
        return Ok(());
    }
    Err(weights.malformed(format!(
        "shape {:?}, but there are {edges} edges, and each has one weight, [{edges}]",
        weights.shape
    )))
}
