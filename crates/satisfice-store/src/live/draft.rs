//! A snapshot in the making: what a group of writes does to the one before.

use super::{
    Applied, Changes, NodeId, Snapshot, patches::NodePatch, resolve::Effect, snapshot::count,
};
use crate::NodeIdKind;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
};

/// What becomes of a list of neighbours: all edits of a group are made at once when the group ends,
/// so that a hub's list is copied once a group.
#[derive(Debug, Default)]
struct ListEdits {
    /// Whether the list as it was counts no more.
    cleared: bool,
    /// Whether there is one edge with that neighbour, or none; over the list as it was.
    edits: BTreeMap<u32, bool>,
}

impl ListEdits {
    /// How many edges there are with `neighbor`.
    fn count(&self, before: &[u32], neighbor: u32) -> u32 {
        match self.edits.get(&neighbor) {
            Some(&there) => u32::from(there),
            None if self.cleared => 0,
            None => count(before, neighbor),
        }
    }

    fn set(&mut self, neighbor: u32, there: bool) {
        self.edits.insert(neighbor, there);
    }

    fn clear(&mut self) {
        self.cleared = true;
        self.edits.clear();
    }

    /// The list with the edits; `None` where that is the list as it was.
    fn merged(&self, before: &[u32]) -> Option<Vec<u32>> {
        let kept = if self.cleared { &[] } else { before };
        let mut merged = Vec::with_capacity(kept.len() + self.edits.len());
        let mut rest = kept;
        for (&neighbor, &there) in &self.edits {
            let (less, from) = rest.split_at(rest.partition_point(|&other| other < neighbor));
            merged.extend_from_slice(less);
            rest = &from[from.partition_point(|&other| other == neighbor)..];
            if there {
                merged.push(neighbor);
            }
        }
        merged.extend_from_slice(rest);
        (merged != before).then_some(merged)
    }
}

/// What becomes of a node.
#[derive(Debug, Default)]
struct NodeDraft {
    in_edges: ListEdits,
    /// Of a directed graph only.
    out_edges: ListEdits,
    features: Option<Arc<[f32]>>,
    label: Option<i32>,
    id: Option<NodeId>,
    deleted: Option<bool>,
}

/// A snapshot, and what is to become of it.
#[derive(Debug)]
pub(super) struct Draft {
    before: Arc<Snapshot>,
    undirected: bool,
    touched: HashMap<u32, NodeDraft>,
    /// Ids of nodes inserted here, with their last positions.
    ids: HashMap<NodeId, u32>,
    /// The same ids in the order of their insertion.
    inserted: Vec<(NodeId, u32)>,
    version: u64,
    nodes: usize,
    live_nodes: usize,
    edges: usize,
}

/// What a draft came to.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) snapshot: Snapshot,
    pub(super) changes: Changes,
    /// Ids of new positions, to be known before the snapshot is.
    inserted: Vec<(NodeId, u32)>,
}

impl Finished {
    /// Makes the ids of new positions known to all snapshots; those before have no such positions.
    pub(super) fn make_known(&self) {
        let new_ids = &self.snapshot.base.new_ids;
        let mut new_ids = new_ids.write().unwrap_or_else(PoisonError::into_inner);
        for (id, node) in &self.inserted {
            new_ids.insert(id.clone(), *node);
        }
    }
}

impl Draft {
    pub(super) fn new(before: Arc<Snapshot>) -> Self {
        Self {
            undirected: before.is_undirected(),
            touched: HashMap::new(),
            ids: HashMap::new(),
            inserted: Vec::new(),
            version: before.version,
            nodes: before.nodes,
            live_nodes: before.live_nodes,
            edges: before.edges,
            before,
        }
    }

    /// The snapshot that the draft changes.
    pub(super) fn before(&self) -> Arc<Snapshot> {
        self.before.clone()
    }

    /// Sets the version to which the next write is added.
    pub(super) fn begin_at(&mut self, version: u64) {
        self.version = version;
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(super) fn id_kind(&self) -> NodeIdKind {
        self.before.id_kind()
    }

    pub(super) fn position_of(&self, id: &NodeId) -> Option<u32> {
        let node = match (self.id_kind(), id) {
            (NodeIdKind::Position, &NodeId::Int(id)) => u32::try_from(id)
                .ok()
                .filter(|&node| (node as usize) < self.nodes),
            _ => self
                .ids
                .get(id)
                .copied()
                .or_else(|| self.before.position_of(id)),
        };
        node.filter(|&node| !self.is_deleted(node))
    }

    /// Does one write, as the next version.
    pub(super) fn apply(&mut self, effects: Vec<Effect>) -> Applied {
        let mut applied = Applied::default();
        for effect in effects {
            self.apply_one(effect, &mut applied);
        }
        self.version += 1;
        self.live_nodes = self.live_nodes + applied.nodes_added - applied.nodes_deleted;
        self.edges = self.edges + applied.edges_added - applied.edges_deleted;
        applied.version = self.version;
        applied
    }

    fn apply_one(&mut self, effect: Effect, applied: &mut Applied) {
        match effect {
            Effect::Insert { node, id, x, label } => {
                self.insert(node, id, x, label);
                applied.nodes_added += 1;
            }
            Effect::Replace { node, x, label } => {
                let draft = self.touched.entry(node).or_default();
                draft.features = x.or(draft.features.take());
                draft.label = label.or(draft.label);
            }
            Effect::DeleteNode(node) => {
                applied.edges_deleted += self.delete(node);
                applied.nodes_deleted += 1;
            }
            Effect::PutEdge(source, target) => {
                if self.edge_count(source, target) == 0 {
                    applied.edges_added += self.set_edge(source, target, true);
                }
            }
            Effect::DeleteEdge(source, target) => {
                let count = self.edge_count(source, target) as usize;
                if count > 0 {
                    let ways = self.set_edge(source, target, false);
                    applied.edges_deleted += count * ways;
                }
            }
        }
    }

    fn insert(&mut self, node: u32, id: NodeId, x: Arc<[f32]>, label: Option<i32>) {
        self.nodes = self.nodes.max(node as usize + 1);
        let has_id = self.id_kind() != NodeIdKind::Position;
        let draft = self.touched.entry(node).or_default();
        draft.features = Some(x);
        draft.label = Some(label.unwrap_or(-1));
        draft.deleted = Some(false);
        if has_id {
            draft.id = Some(id.clone());
            self.ids.insert(id.clone(), node);
            self.inserted.push((id, node));
        }
    }

    /// Returns how many edges go with the node.
    fn delete(&mut self, node: u32) -> usize {
        let sources = self.neighbors(node, |draft| &draft.in_edges, Snapshot::in_neighbors);
        let mut gone = sources.len();
        if self.undirected {
            gone = 2 * gone - count(&sources, node) as usize;
            for source in sources {
                self.in_edits(source).set(node, false);
            }
        } else {
            let targets = self.neighbors(node, |draft| &draft.out_edges, Snapshot::out_neighbors);
            gone += targets.len() - count(&targets, node) as usize;
            for source in sources {
                self.touched
                    .entry(source)
                    .or_default()
                    .out_edges
                    .set(node, false);
            }
            for target in targets {
                self.in_edits(target).set(node, false);
            }
        }
        let zeros = self.before.base.zeros.clone();
        let draft = self.touched.entry(node).or_default();
        draft.in_edges.clear();
        draft.out_edges.clear();
        draft.features = Some(zeros);
        draft.label = Some(-1);
        draft.deleted = Some(true);
        gone
    }

    /// Puts or deletes an edge; returns how many directed edges that is, where each is there once.
    fn set_edge(&mut self, source: u32, target: u32, there: bool) -> usize {
        self.in_edits(target).set(source, there);
        if !self.undirected {
            self.touched
                .entry(source)
                .or_default()
                .out_edges
                .set(target, there);
            return 1;
        }
        if source == target {
            return 1;
        }
        self.in_edits(source).set(target, there);
        2
    }

    fn in_edits(&mut self, node: u32) -> &mut ListEdits {
        &mut self.touched.entry(node).or_default().in_edges
    }

    fn edge_count(&self, source: u32, target: u32) -> u32 {
        let before = self.list_before(target, Snapshot::in_neighbors);
        match self.touched.get(&target) {
            Some(draft) => draft.in_edges.count(before, source),
            None => count(before, source),
        }
    }

    fn neighbors(
        &self,
        node: u32,
        edits: impl Fn(&NodeDraft) -> &ListEdits,
        list: impl Fn(&Snapshot, u32) -> &[u32],
    ) -> Vec<u32> {
        let before = self.list_before(node, list);
        let merged = self
            .touched
            .get(&node)
            .and_then(|draft| edits(draft).merged(before));
        merged.unwrap_or_else(|| before.to_vec())
    }

    fn list_before(&self, node: u32, list: impl Fn(&Snapshot, u32) -> &[u32]) -> &[u32] {
        if (node as usize) < self.before.nodes {
            list(&self.before, node)
        } else {
            &[]
        }
    }

    fn is_deleted(&self, node: u32) -> bool {
        match self.touched.get(&node).and_then(|draft| draft.deleted) {
            Some(deleted) => deleted,
            None => self.before.is_deleted(node),
        }
    }

    /// Makes the snapshot.
    pub(super) fn finish(mut self) -> Finished {
        let mut touched: Vec<(u32, NodeDraft)> = self.touched.drain().collect();
        touched.sort_unstable_by_key(|&(node, _)| node);
        let mut patches = self.before.patches.clone();
        let mut changes = Changes::default();
        for (node, draft) in touched {
            if let Some(patch) = self.patch(node, draft, &mut changes) {
                patches.set(node, patch);
            }
        }
        Finished {
            snapshot: Snapshot {
                base: self.before.base.clone(),
                patches,
                version: self.version,
                nodes: self.nodes,
                live_nodes: self.live_nodes,
                edges: self.edges,
            },
            changes,
            inserted: self.inserted,
        }
    }

    /// The patch of a node, unless it is as it was.
    fn patch(&self, node: u32, draft: NodeDraft, changes: &mut Changes) -> Option<NodePatch> {
        let old = self.before.patches.get(node);
        let sources = self.list_before(node, Snapshot::in_neighbors);
        let in_edges = draft.in_edges.merged(sources);
        let (targets, out_edges) = if self.undirected {
            (sources, None)
        } else {
            let targets = self.list_before(node, Snapshot::out_neighbors);
            (targets, draft.out_edges.merged(targets))
        };
        let new_targets = if self.undirected {
            &in_edges
        } else {
            &out_edges
        };
        if new_targets
            .as_ref()
            .is_some_and(|new| new.len() != targets.len())
        {
            changes.out_degree.push(node);
        }
        if in_edges.is_some() {
            changes.in_edges.push(node);
        }
        if draft.features.is_some() {
            changes.features.push(node);
        }
        let is_changed = in_edges.is_some()
            || out_edges.is_some()
            || draft.features.is_some()
            || draft.label.is_some();
        if !is_changed {
            return None;
        }
        let old = old.cloned().unwrap_or_default();
        Some(NodePatch {
            in_edges: in_edges.map(Arc::from).or(old.in_edges),
            out_edges: out_edges.map(Arc::from).or(old.out_edges),
            features: draft.features.or(old.features),
            label: draft.label.or(old.label),
            id: draft.id.or(old.id),
            deleted: draft.deleted.unwrap_or(old.deleted),
        })
    }
}
