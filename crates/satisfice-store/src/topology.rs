use crate::parallel::find_first_index;

/// In-edges of every node, in compressed sparse rows.
#[derive(Debug, Clone, Copy)]
pub struct Topology<'a> {
    /// Where each node's in-edges begin and end in `indices`, `[nodes + 1]`.
    pub indptr: &'a [u64],
    /// Sources of the in-edges, ascending for each node, `[edges]`.
    pub indices: &'a [u32],
}

impl<'a> Topology<'a> {
    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    /// Number of directed edges.
    pub fn edges(&self) -> usize {
        self.indptr.last().map_or(0, |&edges| edges as usize)
    }

    /// Sources of the edges to `node`, ascending; one that stands twice has two edges.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn in_neighbors(&self, node: u32) -> &'a [u32] {
        let node = node as usize;
        &self.indices[self.indptr[node] as usize..self.indptr[node + 1] as usize]
    }

    /// Number of edges to `node`.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn in_degree(&self, node: u32) -> u32 {
        let node = node as usize;
        (self.indptr[node + 1] - self.indptr[node]) as u32
    }

    /// An edge (source, target) of an undirected graph whose weight is not that of its reverse, if there is one.
    pub(crate) fn find_uneven(&self, weights: &[f32]) -> Option<(u32, u32)> {
        let weight = |source: u32, target: u32| {
            let at = self.in_neighbors(target).binary_search(&source).ok()?;
            Some(weights[self.indptr[target as usize] as usize + at])
        };
        let uneven = |node: u32| {
            let mut sources = self.in_neighbors(node).iter().copied();
            sources.find(|&source| weight(source, node) != weight(node, source))
        };
        let target = find_first_index(self.nodes(), |node| uneven(node as u32).is_some())? as u32;
        Some((uneven(target)?, target))
    }
}
