//! A graph that is written to, in maps, as the reference of living graphs; and writes at random.

use super::{EXPORT, Graph, PLAIN, Workshop, export_tensors, safetensors, string_ids};
use proptest::prelude::*;
use satisfice_store::{
    FeatureDType, ImportOptions, NodeIdKind, Source,
    live::{Applied, NodeId, Operation, Snapshot},
};
use std::{collections::BTreeMap, path::PathBuf};

/// What a store is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) ids: NodeIdKind,
    pub(crate) undirected: bool,
    pub(crate) dtype: FeatureDType,
}

pub(crate) fn kinds() -> impl Strategy<Value = Kind> {
    let ids = [NodeIdKind::Position, NodeIdKind::Int64, NodeIdKind::String];
    let dtypes = [FeatureDType::F32, FeatureDType::F16, FeatureDType::Int8];
    (0..3_usize, any::<bool>(), 0..3_usize).prop_map(move |(id, undirected, dtype)| Kind {
        ids: ids[id],
        undirected,
        dtype: dtypes[dtype],
    })
}

impl Kind {
    pub(crate) fn id(self, node: u32) -> NodeId {
        match self.ids {
            NodeIdKind::Position => NodeId::Int(i64::from(node)),
            NodeIdKind::Int64 => NodeId::Int(i64::from(node) * 1000 - 3000),
            NodeIdKind::String => NodeId::Text(format!("node {node}")),
        }
    }

    /// Imports the sample graph.
    pub(crate) fn import(self, workshop: &Workshop) -> PathBuf {
        let graph = Graph::sample();
        let mut tensors = export_tensors(&graph);
        let names: Vec<String> = (0..7).map(|node| self.id(node).to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match self.ids {
            NodeIdKind::Position => {}
            NodeIdKind::Int64 => {
                let ids: Vec<i64> = (0..7).map(|node| node * 1000 - 3000).collect();
                tensors.push((
                    "ids",
                    satisfice_store::DType::I64,
                    vec![7],
                    super::bytes_of(&ids),
                ));
            }
            NodeIdKind::String => tensors.extend(string_ids(&names)),
        }
        let path = workshop.path("graph.safetensors");
        safetensors(&path, &tensors, &[EXPORT]);
        let options = ImportOptions {
            undirected: self.undirected,
            feature_dtype: Some(self.dtype),
            ..PLAIN
        };
        workshop.import(&Source::Export(path), &options).unwrap().0
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelNode {
    /// What was put; the store keeps it in its own precision.
    pub(crate) x: Vec<f32>,
    pub(crate) label: i32,
}

/// A graph by ids, each edge with how often it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    rules: Rules,
    pub(crate) nodes: BTreeMap<NodeId, ModelNode>,
    pub(crate) edges: BTreeMap<(NodeId, NodeId), usize>,
}

/// What a model must know of its store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rules {
    undirected: bool,
    /// The positions given out, where ids are positions.
    positions: Option<i64>,
}

impl Model {
    pub(crate) fn sample(kind: Kind) -> Self {
        let graph = Graph::sample();
        let mut model = Self {
            rules: Rules {
                undirected: kind.undirected,
                positions: (kind.ids == NodeIdKind::Position).then_some(7),
            },
            nodes: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        for (node, x) in graph.x.iter().enumerate() {
            let label = graph.y[node] as i32;
            let x = x.clone();
            model
                .nodes
                .insert(kind.id(node as u32), ModelNode { x, label });
        }
        for &(source, target) in &graph.edges {
            let (source, target) = (kind.id(source), kind.id(target));
            if kind.undirected {
                model.edges.insert((target.clone(), source.clone()), 1);
                model.edges.insert((source, target), 1);
            } else {
                *model.edges.entry((source, target)).or_default() += 1;
            }
        }
        model
    }

    fn edge_total(&self) -> usize {
        self.edges.values().sum()
    }

    /// Does the operations, or none of them; `None` where they must be refused.
    pub(crate) fn apply(&mut self, operations: &[Operation]) -> Option<Applied> {
        let mut after = self.clone();
        let mut applied = Applied::default();
        for operation in operations {
            let edges = after.edge_total();
            after.apply_one(operation, &mut applied)?;
            applied.edges_added += after.edge_total().saturating_sub(edges);
            applied.edges_deleted += edges.saturating_sub(after.edge_total());
        }
        *self = after;
        Some(applied)
    }

    fn apply_one(&mut self, operation: &Operation, applied: &mut Applied) -> Option<()> {
        match operation {
            Operation::PutNode { id, x, label } => {
                if let Some(node) = self.nodes.get_mut(id) {
                    if x.is_none() && label.is_none() {
                        return None;
                    }
                    if let Some(x) = x {
                        node.x = x.to_vec();
                    }
                    node.label = label.unwrap_or(node.label);
                    return Some(());
                }
                let x = x.as_ref()?.to_vec();
                if let (Some(positions), NodeId::Int(id)) = (&mut self.rules.positions, id) {
                    if id > positions || *id < 0 {
                        return None;
                    }
                    *positions = (*positions).max(id + 1);
                }
                let label = label.unwrap_or(-1);
                self.nodes.insert(id.clone(), ModelNode { x, label });
                applied.nodes_added += 1;
            }
            Operation::DeleteNode { id } => {
                self.nodes.remove(id)?;
                self.edges
                    .retain(|(source, target), _| source != id && target != id);
                applied.nodes_deleted += 1;
            }
            Operation::PutEdge { source, target } => {
                self.both(source, target)?;
                for edge in self.ways(source, target) {
                    self.edges.entry(edge).or_insert(1);
                }
            }
            Operation::DeleteEdge { source, target } => {
                self.both(source, target)?;
                for edge in self.ways(source, target) {
                    self.edges.remove(&edge);
                }
            }
        }
        Some(())
    }

    fn both(&self, source: &NodeId, target: &NodeId) -> Option<()> {
        (self.nodes.contains_key(source) && self.nodes.contains_key(target)).then_some(())
    }

    fn ways(&self, source: &NodeId, target: &NodeId) -> Vec<(NodeId, NodeId)> {
        let forth = (source.clone(), target.clone());
        let back = (target.clone(), source.clone());
        if self.rules.undirected {
            vec![forth, back]
        } else {
            vec![forth]
        }
    }

    fn neighbors(&self, id: &NodeId, of_target: bool) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        for ((source, target), &times) in &self.edges {
            let (own, other) = if of_target {
                (target, source)
            } else {
                (source, target)
            };
            if own == id {
                found.extend(std::iter::repeat_n(other.clone(), times));
            }
        }
        found.sort();
        found
    }

    /// Compares everything that a snapshot says.
    pub(crate) fn check(&self, snapshot: &Snapshot) {
        assert_eq!(snapshot.live_nodes(), self.nodes.len());
        assert_eq!(snapshot.edges(), self.edge_total());
        let live: Vec<u32> = (0..snapshot.nodes() as u32)
            .filter(|&v| !snapshot.is_deleted(v))
            .collect();
        assert_eq!(live.len(), self.nodes.len());
        for (id, expected) in &self.nodes {
            let node = snapshot
                .position_of(id)
                .unwrap_or_else(|| panic!("{id} is lost"));
            assert_eq!(owned(snapshot.id_of(node)), *id);
            assert!(live.contains(&node));
            assert_eq!(snapshot.label(node), expected.label, "label of {id}");
            for (row, wanted) in features(snapshot, node).iter().zip(&expected.x) {
                // The coarsest precision is 8-bit integers with one scale a row.
                let scale = expected.x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                assert!(
                    (row - wanted).abs() <= scale / 127.0,
                    "{row} is not {wanted}"
                );
            }
            let ids = |list: &[u32]| {
                assert!(list.is_sorted(), "{list:?}");
                let mut ids: Vec<NodeId> = list.iter().map(|&v| owned(snapshot.id_of(v))).collect();
                ids.sort();
                ids
            };
            assert_eq!(
                ids(snapshot.in_neighbors(node)),
                self.neighbors(id, true),
                "to {id}"
            );
            assert_eq!(
                ids(snapshot.out_neighbors(node)),
                self.neighbors(id, false),
                "from {id}"
            );
            assert_eq!(
                snapshot.in_degree(node) as usize,
                self.neighbors(id, true).len()
            );
            assert_eq!(
                snapshot.out_degree(node) as usize,
                self.neighbors(id, false).len()
            );
            let loops = self
                .edges
                .get(&(id.clone(), id.clone()))
                .copied()
                .unwrap_or(0);
            assert_eq!(snapshot.self_loops(node) as usize, loops);
        }
        for node in (0..snapshot.nodes() as u32).filter(|&v| snapshot.is_deleted(v)) {
            assert_eq!(snapshot.in_degree(node) + snapshot.out_degree(node), 0);
            assert_eq!(snapshot.label(node), -1);
            assert!(features(snapshot, node).iter().all(|&x| x == 0.0));
        }
    }
}

pub(crate) fn owned(id: satisfice_store::NodeId<'_>) -> NodeId {
    match id {
        satisfice_store::NodeId::Int(id) => NodeId::Int(id),
        satisfice_store::NodeId::Str(id) => NodeId::Text(id.to_owned()),
    }
}

/// Features of a node as a reader finds them.
pub(crate) fn features(snapshot: &Snapshot, node: u32) -> Vec<f32> {
    snapshot.feature_patch(node).map_or_else(
        || {
            let mut row = vec![0.0; snapshot.base().feature_width()];
            snapshot.base().features().read(node as usize, &mut row);
            row
        },
        <[f32]>::to_vec,
    )
}

/// Everything of a snapshot, by position, bit for bit.
pub(crate) fn dump(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = vec![format!(
        "version {} nodes {} live {} edges {}",
        snapshot.version(),
        snapshot.nodes(),
        snapshot.live_nodes(),
        snapshot.edges()
    )];
    for node in 0..snapshot.nodes() as u32 {
        let bits: Vec<u32> = features(snapshot, node)
            .iter()
            .map(|x| x.to_bits())
            .collect();
        lines.push(format!(
            "{} {} {:?} {:?} {} {bits:?}",
            snapshot.id_of(node),
            snapshot.is_deleted(node),
            snapshot.in_neighbors(node),
            snapshot.out_neighbors(node),
            snapshot.label(node),
        ));
    }
    lines
}

/// Writes at random on a dozen ids, of which many are refused.
pub(crate) fn writes(kind: Kind) -> impl Strategy<Value = Vec<Vec<Operation>>> {
    let operation =
        (0..10_u8, 0..12_u32, 0..12_u32, -50..50_i32).prop_map(move |(what, a, b, v)| {
            let (id, other) = (kind.id(a), kind.id(b));
            let x = || Some([v as f32 * 0.37, 1.5, -(v as f32)].into());
            match what {
                0..2 => Operation::PutNode {
                    id,
                    x: x(),
                    label: Some(v.rem_euclid(4) - 1),
                },
                2 => Operation::PutNode {
                    id,
                    x: x(),
                    label: None,
                },
                3 => Operation::PutNode {
                    id,
                    x: None,
                    label: Some(2),
                },
                4 => Operation::DeleteNode { id },
                5 | 6 => Operation::DeleteEdge {
                    source: id,
                    target: other,
                },
                _ => Operation::PutEdge {
                    source: id,
                    target: other,
                },
            }
        });
    prop::collection::vec(prop::collection::vec(operation, 0..6), 1..24)
}
