use super::array::Array;
use crate::{Progress, StoreError};

/// Edges converted at a time.
const CHUNK: usize = 1 << 18;

/// The edges of a graph, read from the source as often as they are needed.
#[derive(Debug)]
pub(crate) struct EdgeList {
    /// Integers `[2, edges]`: sources, targets.
    array: Array,
    edges: usize,
    nodes: usize,
}

impl EdgeList {
    /// # Errors
    /// The array is no `[2, edges]` of integers.
    pub(crate) fn new(array: Array, nodes: usize) -> Result<Self, StoreError> {
        array.expect_integers()?;
        match array.shape[..] {
            [2, edges] => Ok(Self {
                array,
                edges,
                nodes,
            }),
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

    /// Gives `each` all edges (source, target), in order.
    ///
    /// # Errors
    /// An edge names a node that is not there.
    pub(crate) fn for_each(
        &self,
        task: &str,
        progress: &dyn Progress,
        mut each: impl FnMut(u32, u32),
    ) -> Result<(), StoreError> {
        let mut sources = vec![0; CHUNK.min(self.edges)];
        let mut targets = sources.clone();
        progress.start(task, Some(self.edges as u64));
        for start in (0..self.edges).step_by(CHUNK) {
            let count = CHUNK.min(self.edges - start);
            let (sources, targets) = (&mut sources[..count], &mut targets[..count]);
            self.array
                .read_integers(self.array.along_row(0, start), sources);
            self.array
                .read_integers(self.array.along_row(1, start), targets);
            for (edge, (&source, &target)) in sources.iter().zip(targets.iter()).enumerate() {
                let (source, target) = (source as u64, target as u64);
                // A negative position is a huge one here.
                if source.max(target) >= self.nodes as u64 {
                    return Err(self.out_of_range(start + edge, source, target));
                }
                each(source as u32, target as u32);
            }
            progress.advance(count as u64);
        }
        progress.finish();
        Ok(())
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
