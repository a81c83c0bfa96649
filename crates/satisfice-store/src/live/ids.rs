//! Positions of the nodes that were inserted, by their ids.

use super::NodeId;
use std::collections::HashMap;

/// Every position that an id was given to. A position's id never changes, so all snapshots share one
/// table: what is newer than a snapshot is beyond its positions.
#[derive(Debug, Default)]
pub(super) struct NewIds {
    ints: HashMap<i64, u32>,
    texts: HashMap<String, u32>,
    /// From a position to the one that its id had before.
    earlier: HashMap<u32, u32>,
}

impl NewIds {
    pub(super) fn insert(&mut self, id: NodeId, node: u32) {
        let earlier = match id {
            NodeId::Int(id) => self.ints.insert(id, node),
            NodeId::Text(id) => self.texts.insert(id, node),
        };
        if let Some(earlier) = earlier {
            self.earlier.insert(node, earlier);
        }
    }

    /// The last position below `nodes` that had this id.
    pub(super) fn int(&self, id: i64, nodes: usize) -> Option<u32> {
        self.below(nodes, self.ints.get(&id))
    }

    /// The last position below `nodes` that had this id.
    pub(super) fn text(&self, id: &str, nodes: usize) -> Option<u32> {
        self.below(nodes, self.texts.get(id))
    }

    fn below(&self, nodes: usize, last: Option<&u32>) -> Option<u32> {
        let mut node = *last?;
        while node as usize >= nodes {
            node = *self.earlier.get(&node)?;
        }
        Some(node)
    }
}
