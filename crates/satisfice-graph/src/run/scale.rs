//! Factors of a node that follow from its degree.

use satisfice_store::{Topology, live::Snapshot};

/// How a node's factor follows from its degrees. Source: `gcn_norm` of PyTorch Geometric;
/// `GraphConv` and `GCN2Conv` of DGL.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DegreeScale {
    /// `(in-degree without self-loops + w)^-1/2`: every node has one self-loop of weight `w`.
    WithSelfLoop {
        /// Weight of the self-loop.
        weight: f32,
    },
    /// `1 / (in-degree without self-loops + 1)`: every node has one self-loop.
    InverseWithSelfLoop,
    /// `in-degree^-1/2`, 0 for degree 0.
    InverseSqrtIn,
    /// `max(in-degree, 1)^-1/2`.
    ClampedInverseSqrtIn,
    /// `1 / max(in-degree, 1)`.
    ClampedInverseIn,
    /// `(out-degree without self-loops)^-1/2`, 0 for degree 0.
    InverseSqrtOut,
    /// `max(out-degree, 1)^-1/2`.
    ClampedInverseSqrtOut,
    /// `1 / max(out-degree, 1)`.
    ClampedInverseOut,
}

/// Degrees of a node as they are with the batch attached.
#[derive(Debug, Clone, Copy)]
pub struct Degrees {
    /// In-edges.
    pub incoming: u32,
    /// Out-edges.
    pub outgoing: u32,
    /// Self-loops among them.
    pub loops: u32,
}

impl DegreeScale {
    /// The factor of a node with these degrees.
    pub fn of(self, degrees: Degrees) -> f32 {
        let incoming = degrees.incoming as f32;
        let outgoing = degrees.outgoing as f32;
        match self {
            Self::WithSelfLoop { weight } => {
                inverse_sqrt((degrees.incoming - degrees.loops) as f32 + weight)
            }
            Self::InverseWithSelfLoop => 1.0 / ((degrees.incoming - degrees.loops) as f32 + 1.0),
            Self::InverseSqrtIn => inverse_sqrt(incoming),
            Self::ClampedInverseSqrtIn => inverse_sqrt(incoming.max(1.0)),
            Self::ClampedInverseIn => 1.0 / incoming.max(1.0),
            Self::InverseSqrtOut => inverse_sqrt((degrees.outgoing - degrees.loops) as f32),
            Self::ClampedInverseSqrtOut => inverse_sqrt(outgoing.max(1.0)),
            Self::ClampedInverseOut => 1.0 / outgoing.max(1.0),
        }
    }

    /// Whether new out-edges change it; otherwise new in-edges do.
    pub fn follows_out_degree(self) -> bool {
        matches!(
            self,
            Self::InverseSqrtOut | Self::ClampedInverseSqrtOut | Self::ClampedInverseOut
        )
    }
}

fn inverse_sqrt(degree: f32) -> f32 {
    if degree > 0.0 {
        1.0 / degree.sqrt()
    } else {
        0.0
    }
}

/// Edges to a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neighbors<'a> {
    /// Where they come from, ascending; a source that stands twice has two edges.
    pub ids: &'a [u32],
}

/// The stored graph, with what its edges say of each node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GraphView<'a> {
    topology: Topology<'a>,
    out_degree: &'a [u32],
    /// Nodes with self-loops, ascending, and how many.
    loops: &'a [(u32, u32)],
    /// What a living graph is now, in place of all that.
    live: Option<&'a Snapshot>,
}

impl<'a> GraphView<'a> {
    /// A graph at rest: its in-edges, the number of out-edges of each node, and the nodes with self-loops, ascending,
    /// with how many. Where degrees alone are looked at, `topology` needs no ids.
    pub(crate) fn new(
        topology: Topology<'a>,
        out_degree: &'a [u32],
        loops: &'a [(u32, u32)],
    ) -> Self {
        Self {
            topology,
            out_degree,
            loops,
            live: None,
        }
    }

    /// A living graph as it is in a snapshot.
    pub(crate) fn live(snapshot: &'a Snapshot) -> Self {
        Self {
            topology: snapshot.base().topology(),
            out_degree: &[],
            loops: &[],
            live: Some(snapshot),
        }
    }

    /// Number of positions of nodes.
    pub(crate) fn nodes(self) -> usize {
        self.live.map_or(self.topology.nodes(), Snapshot::nodes)
    }

    /// Number of directed edges.
    pub(crate) fn edges(self) -> usize {
        self.live.map_or(self.topology.edges(), Snapshot::edges)
    }

    #[inline]
    pub(crate) fn in_neighbors(self, node: u32) -> Neighbors<'a> {
        let ids = match self.live {
            None => self.topology.in_neighbors(node),
            Some(live) => live.in_neighbors(node),
        };
        Neighbors { ids }
    }

    #[inline]
    pub(crate) fn in_degree(self, node: u32) -> u32 {
        match self.live {
            None => self.topology.in_degree(node),
            Some(live) => live.in_degree(node),
        }
    }

    #[inline]
    pub(crate) fn out_degree(self, node: u32) -> u32 {
        match self.live {
            None => self.out_degree[node as usize],
            Some(live) => live.out_degree(node),
        }
    }

    pub(crate) fn self_loops(self, node: u32) -> u32 {
        if let Some(live) = self.live {
            return live.self_loops(node);
        }
        match self.loops.binary_search_by_key(&node, |&(node, _)| node) {
            Ok(at) => self.loops[at].1,
            Err(_) => 0,
        }
    }

    pub(crate) fn degrees(self, node: u32) -> Degrees {
        Degrees {
            incoming: self.in_degree(node),
            outgoing: self.out_degree(node),
            loops: self.self_loops(node),
        }
    }

    /// The factor of every stored node, without a batch, `[nodes]`.
    pub(crate) fn scales(self, scale: DegreeScale) -> Vec<f32> {
        (0..self.nodes() as u32)
            .map(|node| scale.of(self.degrees(node)))
            .collect()
    }
}
