/// What differs between two snapshots: node positions, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Nodes whose features are others: replaced ones, all new nodes, and deleted ones, whose
    /// features are zeros from then on.
    pub features: Vec<u32>,
    /// Nodes that have other in-edges than before.
    pub in_edges: Vec<u32>,
    /// Nodes that have another number of out-edges than before.
    pub out_degree: Vec<u32>,
}

impl Changes {
    /// Whether nothing has changed that a model reads.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty() && self.in_edges.is_empty() && self.out_degree.is_empty()
    }

    /// Adds what changed thereafter.
    pub(super) fn extend(&mut self, later: &Self) {
        union(&mut self.features, &later.features);
        union(&mut self.in_edges, &later.in_edges);
        union(&mut self.out_degree, &later.out_degree);
    }
}

fn union(all: &mut Vec<u32>, more: &[u32]) {
    all.extend_from_slice(more);
    all.sort_unstable();
    all.dedup();
}
