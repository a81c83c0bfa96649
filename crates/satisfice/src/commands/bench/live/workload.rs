//! Changes of a graph at random, and what the graph is after them.

use satisfice_store::{
    GraphStore,
    live::{NodeId, Operation},
};
use std::collections::HashMap;

/// Numbers that follow from a seed: xorshift.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Edges of a graph, each once; of an undirected one from the lesser position.
pub(super) fn edges(store: &GraphStore) -> Vec<(u32, u32)> {
    let mut edges = Vec::with_capacity(store.edges());
    for target in 0..store.nodes() as u32 {
        let sources = store.topology().in_neighbors(target).iter();
        let once = sources.filter(|&&source| !store.manifest().undirected || source <= target);
        edges.extend(once.map(|&source| (source, target)));
    }
    edges.dedup();
    edges
}

/// What one writer does: a third additions, a third deletions, a third changed features, of edges and nodes that no
/// other writer changes.
#[derive(Debug)]
pub(super) struct Workload<'a> {
    store: &'a GraphStore,
    random: Random,
    pub(super) present: Vec<(u32, u32)>,
    absent: Vec<(u32, u32)>,
    /// The writer's place among all, and how many there are.
    place: (usize, usize),
    /// Nodes whose features are now those that another had.
    pub(super) changed: HashMap<u32, u32>,
}

impl<'a> Workload<'a> {
    /// `present` and `absent` are the edges of all writers.
    pub(super) fn new(
        store: &'a GraphStore,
        present: &[(u32, u32)],
        absent: &[(u32, u32)],
        place: (usize, usize),
    ) -> Self {
        let own = |edges: &[(u32, u32)]| {
            edges
                .iter()
                .skip(place.0)
                .step_by(place.1)
                .copied()
                .collect()
        };
        Self {
            store,
            random: Random::new(place.0 as u64 + 7),
            present: own(present),
            absent: own(absent),
            place,
            changed: HashMap::new(),
        }
    }

    /// The next `count` operations.
    pub(super) fn operations(&mut self, count: usize) -> Vec<Operation> {
        (0..count).map(|_| self.operation()).collect()
    }

    fn operation(&mut self) -> Operation {
        match self.random.below(3) {
            0 if !self.absent.is_empty() => {
                let edge = self
                    .absent
                    .swap_remove(self.random.below(self.absent.len()));
                self.present.push(edge);
                let (source, target) = self.ends(edge);
                Operation::PutEdge { source, target }
            }
            1 if !self.present.is_empty() => {
                let edge = self
                    .present
                    .swap_remove(self.random.below(self.present.len()));
                self.absent.push(edge);
                let (source, target) = self.ends(edge);
                Operation::DeleteEdge { source, target }
            }
            _ => self.features(),
        }
    }

    fn features(&mut self) -> Operation {
        let (place, writers) = self.place;
        let own = (self.store.nodes() - place).div_ceil(writers);
        let node = (place + writers * self.random.below(own)) as u32;
        let like = self.random.below(self.store.nodes()) as u32;
        self.changed.insert(node, like);
        Operation::PutNode {
            id: id(self.store, node),
            x: Some(row(self.store, like).into()),
            label: None,
        }
    }

    fn ends(&self, (source, target): (u32, u32)) -> (NodeId, NodeId) {
        (id(self.store, source), id(self.store, target))
    }
}

pub(super) fn id(store: &GraphStore, node: u32) -> NodeId {
    match store.ids().id_of(node) {
        satisfice_store::NodeId::Int(id) => NodeId::Int(id),
        satisfice_store::NodeId::Str(id) => NodeId::Text(id.to_owned()),
    }
}

pub(super) fn row(store: &GraphStore, node: u32) -> Vec<f32> {
    let mut row = vec![0.0; store.feature_width()];
    store.features().read(node as usize, &mut row);
    row
}
