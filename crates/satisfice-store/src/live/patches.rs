//! What is other at some nodes than in the store, in a table that is cheap to copy: pages of chunks
//! of nodes, of which a copy shares all that is not written.

use super::NodeId;
use std::sync::Arc;

/// Nodes of a chunk, and chunks of a page.
const FAN: usize = 64;

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

type Chunk = [Option<Arc<NodePatch>>; FAN];
type Page = [Option<Arc<Chunk>>; FAN];

/// Patches by node.
#[derive(Debug, Clone, Default)]
pub(super) struct Patches {
    pages: Vec<Option<Arc<Page>>>,
    bytes: u64,
}

impl Patches {
    #[inline]
    pub(super) fn get(&self, node: u32) -> Option<&NodePatch> {
        let node = node as usize;
        let page = self.pages.get(node / (FAN * FAN))?.as_ref()?;
        let chunk = page[node / FAN % FAN].as_ref()?;
        chunk[node % FAN].as_deref()
    }

    pub(super) fn set(&mut self, node: u32, patch: NodePatch) {
        let node = node as usize;
        let page = node / (FAN * FAN);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Arc::new([const { None }; FAN]));
        let chunk = Arc::make_mut(page)[node / FAN % FAN]
            .get_or_insert_with(|| Arc::new([const { None }; FAN]));
        let place = &mut Arc::make_mut(chunk)[node % FAN];
        self.bytes += patch.bytes();
        self.bytes -= place.as_ref().map_or(0, |old| old.bytes());
        *place = Some(Arc::new(patch));
    }

    /// Bytes of the patches in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}
