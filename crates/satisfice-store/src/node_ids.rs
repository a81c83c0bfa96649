use serde::{Deserialize, Serialize};
use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// Largest number of nodes in a store; `u32::MAX` marks an empty slot.
pub(crate) const NODES_MAX: usize = u32::MAX as usize - 1;

/// Marks an empty slot.
pub(crate) const EMPTY: u32 = u32::MAX;

/// What the ids of a store's nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeIdKind {
    /// A node's id is its position.
    Position,
    /// Integers.
    Int64,
    /// UTF-8 strings.
    String,
}

/// The id of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeId<'a> {
    /// An integer, or the node's position.
    Int(i64),
    /// A string.
    Str(&'a str),
}

impl fmt::Display for NodeId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(id) => id.fmt(f),
            Self::Str(id) => id.fmt(f),
        }
    }
}

/// The ids of a graph's nodes, each once, and a hash table from id to position.
#[derive(Debug, Clone, Copy)]
pub struct NodeIds<'a> {
    ids: Ids<'a>,
    /// Positions by hash, open addressing with linear probing; a power of two of them.
    slots: &'a [u32],
}

/// Ids by position.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ids<'a> {
    Position { nodes: usize },
    Int(&'a [i64]),
    Str(Strings<'a>),
}

/// UTF-8 strings, end to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strings<'a> {
    /// Where each begins and ends, `[strings + 1]`.
    pub offsets: &'a [u64],
    pub bytes: &'a [u8],
}

impl<'a> Strings<'a> {
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// What is wrong with the offsets or the strings, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let (Some(0), Some(&last)) = (self.offsets.first(), self.offsets.last()) else {
            return Some("the first offset is not 0".to_owned());
        };
        if let Some(at) =
            crate::parallel::find_first_index(self.len(), |i| self.offsets[i] > self.offsets[i + 1])
        {
            return Some(format!("offset {} is less than the one before it", at + 1));
        }
        if last != self.bytes.len() as u64 {
            return Some(format!(
                "the last offset is {last}, but there are {} bytes",
                self.bytes.len()
            ));
        }
        crate::parallel::find_first_index(self.len(), |i| std::str::from_utf8(self.get(i)).is_err())
            .map(|at| format!("string {at} is not UTF-8"))
    }
}

impl Ids<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Position { nodes } => *nodes,
            Self::Int(ids) => ids.len(),
            Self::Str(ids) => ids.len(),
        }
    }

    fn hash(&self, node: usize) -> u64 {
        match self {
            Self::Position { .. } => node as u64,
            Self::Int(ids) => xxh3_64(&ids[node].to_le_bytes()),
            Self::Str(ids) => xxh3_64(ids.get(node)),
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        match self {
            Self::Position { .. } => a == b,
            Self::Int(ids) => ids[a] == ids[b],
            Self::Str(ids) => ids.get(a) == ids.get(b),
        }
    }

    /// The id of a node, as text.
    pub(crate) fn text(&self, node: usize) -> Vec<u8> {
        match self {
            Self::Position { .. } => node.to_string().into_bytes(),
            Self::Int(ids) => ids[node].to_string().into_bytes(),
            Self::Str(ids) => ids.get(node).to_vec(),
        }
    }

    /// The hash table, at most half full.
    ///
    /// # Errors
    /// The positions of two nodes with the same id.
    pub(crate) fn slots(&self) -> Result<Vec<u32>, (usize, usize)> {
        let count = (self.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![EMPTY; count];
        for node in 0..self.len() {
            let mut at = self.hash(node) as usize & (count - 1);
            while slots[at] != EMPTY {
                if self.same(slots[at] as usize, node) {
                    return Err((slots[at] as usize, node));
                }
                at = (at + 1) & (count - 1);
            }
            slots[at] = node as u32;
        }
        Ok(slots)
    }
}

impl<'a> NodeIds<'a> {
    pub(crate) fn new(ids: Ids<'a>, slots: &'a [u32]) -> Self {
        Self { ids, slots }
    }

    /// What the ids are.
    pub fn kind(&self) -> NodeIdKind {
        match self.ids {
            Ids::Position { .. } => NodeIdKind::Position,
            Ids::Int(_) => NodeIdKind::Int64,
            Ids::Str(_) => NodeIdKind::String,
        }
    }

    /// Position of the node with that integer id (or at that position, where ids are positions).
    pub fn position_of_int(&self, id: i64) -> Option<u32> {
        match self.ids {
            Ids::Position { nodes } => u32::try_from(id)
                .ok()
                .filter(|&node| (node as usize) < nodes),
            Ids::Int(ids) => self.find(xxh3_64(&id.to_le_bytes()), |node| ids[node] == id),
            Ids::Str(_) => None,
        }
    }

    /// Position of the node with that string id; none where ids are no strings.
    pub fn position_of_str(&self, id: &[u8]) -> Option<u32> {
        match self.ids {
            Ids::Position { .. } | Ids::Int(_) => None,
            Ids::Str(ids) => self.find(xxh3_64(id), |node| ids.get(node) == id),
        }
    }

    /// The id of a node.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn id_of(&self, node: u32) -> NodeId<'a> {
        match self.ids {
            Ids::Position { nodes } => {
                assert!((node as usize) < nodes, "no node {node}");
                NodeId::Int(i64::from(node))
            }
            Ids::Int(ids) => NodeId::Int(ids[node as usize]),
            Ids::Str(ids) => NodeId::Str(
                std::str::from_utf8(ids.get(node as usize))
                    .expect("invariant: ids were checked to be UTF-8 when they were opened"),
            ),
        }
    }

    /// What is wrong with the hash table, if anything. Ids must have been checked.
    pub(crate) fn problem(&self) -> Option<String> {
        let nodes = self.ids.len();
        if !self.slots.len().is_power_of_two() || self.slots.len() <= nodes {
            return Some(format!("{} slots for {nodes} nodes", self.slots.len()));
        }
        let outside = |&slot: &u32| slot != EMPTY && slot as usize >= nodes;
        if let Some(at) = crate::parallel::find_first(self.slots, outside) {
            return Some(format!(
                "slot {at} names node {} of {nodes}",
                self.slots[at]
            ));
        }
        let lost = |node: usize| {
            self.find(self.ids.hash(node), |other| self.ids.same(node, other)) != Some(node as u32)
        };
        crate::parallel::find_first_index(nodes, lost)
            .map(|node| format!("the id of node {node} does not lead to it"))
    }

    fn find(&self, hash: u64, is: impl Fn(usize) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let start = hash as usize & mask;
        // No more steps than slots, so that a damaged table without an empty one ends too.
        (0..self.slots.len())
            .map(|step| self.slots[(start + step) & mask])
            .take_while(|&slot| slot != EMPTY)
            .find(|&slot| is(slot as usize))
    }
}
