use super::{NodeId, ids::NewIds, out_edges::OutEdges, patches::Patches};
use crate::{GraphStore, NodeIdKind};
use std::sync::{Arc, PoisonError, RwLock};

/// What all snapshots of a graph share.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) store: GraphStore,
    pub(super) out_edges: OutEdges,
    pub(super) new_ids: RwLock<NewIds>,
    /// Features of deleted nodes.
    pub(super) zeros: Arc<[f32]>,
}

/// A graph at one version. It never changes; a clone shares everything.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) base: Arc<Base>,
    pub(super) patches: Patches,
    pub(super) version: u64,
    pub(super) nodes: usize,
    pub(super) live_nodes: usize,
    pub(super) edges: usize,
}

impl Snapshot {
    /// The store as its files are.
    pub(super) fn of(store: GraphStore) -> Self {
        let base = Base {
            out_edges: OutEdges::of(&store),
            new_ids: RwLock::default(),
            zeros: vec![0.0; store.feature_width()].into(),
            store,
        };
        Self {
            version: 0,
            nodes: base.store.nodes(),
            live_nodes: base.store.nodes(),
            edges: base.store.edges(),
            patches: Patches::default(),
            base: Arc::new(base),
        }
    }

    /// The store's own files, without what was written since.
    pub fn base(&self) -> &GraphStore {
        &self.base.store
    }

    /// How many commits the graph is from its import.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of positions: those of the store, then those of inserted nodes; those of deleted nodes
    /// are among them.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Number of nodes.
    pub fn live_nodes(&self) -> usize {
        self.live_nodes
    }

    /// Number of directed edges.
    pub fn edges(&self) -> usize {
        self.edges
    }

    /// Whether no node differs from the store's.
    pub fn is_base(&self) -> bool {
        self.patches.is_empty()
    }

    /// Whether the graph is undirected: then in-neighbours are out-neighbours.
    pub fn is_undirected(&self) -> bool {
        self.base().manifest().undirected
    }

    /// Bytes that the differences from the store take in memory, about.
    pub fn patch_bytes(&self) -> u64 {
        self.patches.bytes()
    }

    /// Whether the node at this position was deleted. It has no edges, no label, and zeros as
    /// features.
    #[inline]
    pub fn is_deleted(&self, node: u32) -> bool {
        self.patches.get(node).is_some_and(|patch| patch.deleted)
    }

    /// Sources of the edges to `node`, ascending; one that stands twice has two edges.
    ///
    /// # Panics
    /// When there is no such position.
    #[inline]
    pub fn in_neighbors(&self, node: u32) -> &[u32] {
        match self
            .patches
            .get(node)
            .and_then(|patch| patch.in_edges.as_deref())
        {
            Some(sources) => sources,
            None if self.is_in_base(node) => self.base().topology().in_neighbors(node),
            None => &[],
        }
    }

    /// Targets of the edges from `node`, ascending; one that stands twice has two edges.
    ///
    /// # Panics
    /// When there is no such position.
    #[inline]
    pub fn out_neighbors(&self, node: u32) -> &[u32] {
        if self.is_undirected() {
            return self.in_neighbors(node);
        }
        match self
            .patches
            .get(node)
            .and_then(|patch| patch.out_edges.as_deref())
        {
            Some(targets) => targets,
            None if self.is_in_base(node) => self.base.out_edges.targets(self.base(), node),
            None => &[],
        }
    }

    /// Number of edges to `node`.
    ///
    /// # Panics
    /// When there is no such position.
    #[inline]
    pub fn in_degree(&self, node: u32) -> u32 {
        self.in_neighbors(node).len() as u32
    }

    /// Number of edges from `node`.
    ///
    /// # Panics
    /// When there is no such position.
    #[inline]
    pub fn out_degree(&self, node: u32) -> u32 {
        self.out_neighbors(node).len() as u32
    }

    /// Number of edges from `node` to itself.
    ///
    /// # Panics
    /// When there is no such position.
    pub fn self_loops(&self, node: u32) -> u32 {
        count(self.in_neighbors(node), node)
    }

    /// Features of a node that are not the store's own; of every inserted and every deleted node.
    #[inline]
    pub fn feature_patch(&self, node: u32) -> Option<&[f32]> {
        self.patches.get(node)?.features.as_deref()
    }

    /// Class label of a node; -1 = unknown.
    ///
    /// # Panics
    /// When there is no such position.
    pub fn label(&self, node: u32) -> i32 {
        match (
            self.patches.get(node).and_then(|patch| patch.label),
            self.base().labels(),
        ) {
            (Some(label), _) => label,
            (None, Some(labels)) if self.is_in_base(node) => labels[node as usize],
            (None, _) => -1,
        }
    }

    /// What the ids are.
    pub fn id_kind(&self) -> NodeIdKind {
        self.base().ids().kind()
    }

    /// Position of the node with that integer id (or at that position, where ids are positions).
    pub fn position_of_int(&self, id: i64) -> Option<u32> {
        let node = match self.id_kind() {
            NodeIdKind::Position => u32::try_from(id)
                .ok()
                .filter(|&node| (node as usize) < self.nodes),
            NodeIdKind::Int64 => {
                let new_ids = self
                    .base
                    .new_ids
                    .read()
                    .unwrap_or_else(PoisonError::into_inner);
                new_ids
                    .int(id, self.nodes)
                    .or_else(|| self.base().ids().position_of_int(id))
            }
            NodeIdKind::String => None,
        };
        node.filter(|&node| !self.is_deleted(node))
    }

    /// Position of the node with that string id; none where ids are no strings.
    pub fn position_of_text(&self, id: &str) -> Option<u32> {
        if self.id_kind() != NodeIdKind::String {
            return None;
        }
        let new_ids = self
            .base
            .new_ids
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        new_ids
            .text(id, self.nodes)
            .or_else(|| self.base().ids().position_of_str(id.as_bytes()))
            .filter(|&node| !self.is_deleted(node))
    }

    /// Position of the node with that id.
    pub fn position_of(&self, id: &NodeId) -> Option<u32> {
        match id {
            NodeId::Int(id) => self.position_of_int(*id),
            NodeId::Text(id) => self.position_of_text(id),
        }
    }

    /// The id of a node, also of a deleted one.
    ///
    /// # Panics
    /// When there is no such position.
    pub fn id_of(&self, node: u32) -> crate::NodeId<'_> {
        assert!((node as usize) < self.nodes, "no node {node}");
        match self.patches.get(node).and_then(|patch| patch.id.as_ref()) {
            Some(NodeId::Int(id)) => crate::NodeId::Int(*id),
            Some(NodeId::Text(id)) => crate::NodeId::Str(id),
            None if self.is_in_base(node) => self.base().ids().id_of(node),
            None => crate::NodeId::Int(i64::from(node)),
        }
    }

    fn is_in_base(&self, node: u32) -> bool {
        if (node as usize) < self.base().nodes() {
            return true;
        }
        assert!((node as usize) < self.nodes, "no node {node}");
        false
    }
}

/// How often `value` stands in an ascending list.
pub(super) fn count(list: &[u32], value: u32) -> u32 {
    let from = list.partition_point(|&other| other < value);
    list[from..].partition_point(|&other| other == value) as u32
}
