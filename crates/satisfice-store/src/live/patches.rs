//! What is other at some nodes than in the store.

use super::{NodeId, NodeTable};
use std::sync::Arc;

/// What is other at one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct NodePatch {
    /// Sources of its in-edges, ascending.
    pub(super) in_edges: Option<Arc<[u32]>>,
    /// Targets of its out-edges, ascending; of a directed graph only.
    pub(super) out_edges: Option<Arc<[u32]>>,
    pub(super) features: Option<Arc<[f32]>>,
    pub(super) label: Option<i32>,
    /// The id of a node that the store has not.
    pub(super) id: Option<NodeId>,
    pub(super) deleted: bool,
}

impl NodePatch {
    /// Bytes that it takes in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let list =
            |list: &Option<Arc<[u32]>>| list.as_ref().map_or(0, |list| 16 + size_of_val(&**list));
        let text = match &self.id {
            Some(NodeId::Text(text)) => text.len(),
            _ => 0,
        };
        let features = self
            .features
            .as_ref()
            .map_or(0, |row| 16 + size_of_val(&**row));
        let lists = list(&self.in_edges) + list(&self.out_edges);
        (16 + size_of::<Self>() + lists + features + text) as u64
    }
}

/// Patches by node.
#[derive(Debug, Clone, Default)]
pub(super) struct Patches {
    nodes: NodeTable<NodePatch>,
    bytes: u64,
}

impl Patches {
    #[inline]
    pub(super) fn get(&self, node: u32) -> Option<&NodePatch> {
        self.nodes.get(node)
    }

    pub(super) fn set(&mut self, node: u32, patch: NodePatch) {
        self.bytes += patch.bytes();
        let old = self.nodes.set(node, Arc::new(patch));
        self.bytes -= old.map_or(0, |old| old.bytes());
    }

    /// Bytes of the patches in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}
