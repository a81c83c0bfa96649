use crate::{GraphStore, Topology};

/// Targets of the out-edges of every node of a store; four bytes an edge.
#[derive(Debug)]
pub(super) enum OutEdges {
    /// They are the sources of the in-edges.
    Undirected,
    /// In compressed sparse rows.
    Directed { indptr: Vec<u64>, indices: Vec<u32> },
}

impl OutEdges {
    pub(super) fn of(store: &GraphStore) -> Self {
        if store.manifest().undirected {
            return Self::Undirected;
        }
        let mut indptr = vec![0_u64; store.nodes() + 1];
        for (node, &degree) in store.out_degree().iter().enumerate() {
            indptr[node + 1] = indptr[node] + u64::from(degree);
        }
        let mut cursors = indptr.clone();
        let mut indices = vec![0_u32; store.edges()];
        let Topology { indptr: rows, .. } = store.topology();
        for target in 0..rows.len() as u32 - 1 {
            for &source in store.topology().in_neighbors(target) {
                let cursor = &mut cursors[source as usize];
                indices[*cursor as usize] = target;
                *cursor += 1;
            }
        }
        Self::Directed { indptr, indices }
    }

    /// Targets of the edges from `node`, ascending.
    pub(super) fn targets<'a>(&'a self, store: &'a GraphStore, node: u32) -> &'a [u32] {
        match self {
            Self::Undirected => store.topology().in_neighbors(node),
            Self::Directed { indptr, indices } => {
                let node = node as usize;
                &indices[indptr[node] as usize..indptr[node + 1] as usize]
            }
        }
    }
}
